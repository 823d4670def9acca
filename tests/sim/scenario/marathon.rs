//! What a seed lets go wrong at the Marathons. Counts what really happened: an answer that was given,
//! a stream that was open.

use serde_json::json;
use stand_ins::marathon::{AppsAnswer, Marathon, Role, Settings, StreamAnswer};
use stand_ins::random::Random;

use super::{SECOND, pass};
use crate::faults::{Fault, Switches, Toll};
use crate::network::{MILLISECOND, Nanos};
use crate::world::World;

/// Events of a flood, in batches of which one comes every hundredth of a second.
const FLOOD_BATCHES: usize = 100;
const FLOOD_BATCH: usize = 100;
/// Apps of a large list.
const MANY_APPS: usize = 2_000;
/// Larger than any app that is read.
const HUGE_BYTES: usize = 4 * 1024 * 1024 + 1;

/// What one Marathon can be made to do, until something else comes.
const STATES: [Fault; 16] = [
    Fault::MarathonUnavailable,
    Fault::MarathonUnauthorized,
    Fault::AppsCut,
    Fault::AppsNothing,
    Fault::AppsEmpty,
    Fault::AppsStale,
    Fault::AppsHtml,
    Fault::AppsGzip,
    Fault::AppsOdd,
    Fault::AppsMany,
    Fault::AppHuge,
    Fault::StreamSilent,
    Fault::StreamCloses,
    Fault::StreamHtml,
    Fault::NoLeader,
    Fault::LeaderChange,
];
/// What happens at once.
const ACTS: [Fault; 3] = [Fault::StreamCut, Fault::EventsTwice, Fault::EventFlood];

/// When whole, well-formed lists were given that lacked an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BadLists {
    /// Lists of some minutes ago.
    pub(crate) stale: Vec<Nanos>,
    /// Lists without any app.
    pub(crate) empty: Vec<Nanos>,
}

/// The Marathons' troubles in one run.
pub(crate) struct MarathonTroubles {
    states: Vec<Fault>,
    acts: Vec<Fault>,
    silent_changes: bool,
    /// What each does now, and how many of its requests were looked through.
    now: Vec<(Option<Fault>, usize)>,
    /// The list of apps as it was.
    lists: Vec<String>,
    /// The lists that may tell the daemon that a domain is wanted no longer.
    pub(crate) bad_lists: BadLists,
    pub(crate) toll: Toll,
}

impl MarathonTroubles {
    /// Chooses.
    pub(crate) fn plan(switches: &Switches, marathons: usize) -> MarathonTroubles {
        let on = |faults: &[Fault]| {
            let on = faults.iter().copied().filter(|fault| switches.are_on(*fault));
            on.filter(|fault| *fault != Fault::LeaderChange || marathons > 1).collect()
        };
        MarathonTroubles {
            states: on(&STATES),
            acts: on(&ACTS),
            silent_changes: switches.are_on(Fault::EventMissing),
            now: vec![(None, 0); marathons],
            lists: Vec::new(),
            bad_lists: BadLists::default(),
            toll: Toll::default(),
        }
    }

    /// Whether the next change is one that no event tells of.
    pub(crate) fn hides_change(&mut self, chance: &mut Random) -> bool {
        let hides = chance.chance(30) && self.silent_changes;
        if hides {
            self.toll.count(Fault::EventMissing);
        }
        hides
    }

    /// Something goes wrong, or is fixed; the steps that it took.
    pub(crate) fn go_on(&mut self, world: &mut World, chance: &mut Random) -> Result<u64, String> {
        self.count(world);
        let index = chance.below(self.now.len() as u64) as usize;
        let calm = chance.chance(30) || self.states.is_empty();
        let state = chance.below(self.states.len().max(1) as u64) as usize;
        let state = if calm { None } else { Some(self.states[state]) };
        mend(&mut world.peers.marathons);
        self.now.iter_mut().for_each(|(fault, _)| *fault = None);
        if let Some(fault) = state {
            self.begin(world, chance, fault, index);
        }
        self.lists.push(world.peers.marathons[index].list());
        if chance.chance(40) {
            world.peers.marathons[index].drop_streams();
        }
        world.drain_peers();
        let act = chance.below(self.acts.len().max(1) as u64) as usize;
        let acts = chance.chance(15) && !self.acts.is_empty();
        if acts { self.act(world, chance, self.acts[act], index) } else { Ok(0) }
    }

    fn begin(&mut self, world: &mut World, chance: &mut Random, fault: Fault, index: usize) {
        let marathons = &mut world.peers.marathons;
        match fault {
            Fault::NoLeader | Fault::LeaderChange => {
                let leader = format!("http://marathon{index}.mesos:8080");
                for (other, marathon) in marathons.iter_mut().enumerate() {
                    marathon.settings.role = match fault {
                        Fault::NoLeader => Role::NoLeader,
                        _ if other == index => Role::Leader,
                        _ => Role::Standby { leader: leader.clone() },
                    };
                    marathon.drop_streams();
                }
                self.now.iter_mut().for_each(|(state, _)| *state = Some(fault));
            }
            _ => {
                let before = self.lists.first().cloned();
                self.now[index].0 = Some(fault);
                spoil(&mut marathons[index], chance, fault, before);
            }
        }
    }

    fn act(
        &mut self,
        world: &mut World,
        chance: &mut Random,
        fault: Fault,
        index: usize,
    ) -> Result<u64, String> {
        let marathon = &mut world.peers.marathons[index];
        if marathon.stream_count() > 0 {
            self.toll.count(fault);
        }
        let data = r#"{"groupId":"/","eventType":"group_change_success"}"#;
        match fault {
            Fault::StreamCut => {
                marathon.cut_streams("group_change_success", data, chance.below(90) as usize);
            }
            Fault::EventsTwice => {
                for name in ["api_post_event", "group_change_success"] {
                    (0..2).for_each(|_| marathon.publish(name, data));
                }
            }
            _ => return flood(world, chance, index),
        }
        world.drain_peers();
        Ok(0)
    }

    /// Everything is as it should be from now on.
    pub(crate) fn heal(&mut self, world: &mut World) {
        self.count(world);
        mend(&mut world.peers.marathons);
        self.now.iter_mut().for_each(|(fault, _)| *fault = None);
    }

    /// Counts what was answered since the last time.
    fn count(&mut self, world: &World) {
        for (marathon, (fault, looked_at)) in world.peers.marathons.iter().zip(&mut self.now) {
            let seen = &marathon.seen()[*looked_at..];
            *looked_at = marathon.seen().len();
            let Some(fault) = *fault else { continue };
            let (path, status) = match fault {
                Fault::MarathonUnavailable => ("/v2/", 503),
                Fault::MarathonUnauthorized => ("/v2/", 401),
                Fault::NoLeader => ("/v2/", 502),
                Fault::LeaderChange => ("/v2/events", 302),
                Fault::StreamSilent | Fault::StreamCloses | Fault::StreamHtml => {
                    ("/v2/events", 200)
                }
                _ => ("/v2/apps", 200),
            };
            let fits = seen.iter().filter(|it| it.target.starts_with(path) && it.status == status);
            let times: Vec<Nanos> = fits.map(|it| it.at.mono_ms * MILLISECOND).collect();
            self.toll.add_times(fault, times.len() as u64);
            match fault {
                Fault::AppsStale => self.bad_lists.stale.extend(times),
                Fault::AppsEmpty => self.bad_lists.empty.extend(times),
                _ => {}
            }
        }
    }
}

/// Lets one Marathon do something.
fn spoil(marathon: &mut Marathon, chance: &mut Random, fault: Fault, before: Option<String>) {
    let list = marathon.list();
    let settings = &mut marathon.settings;
    match fault {
        Fault::MarathonUnavailable => settings.unavailable = true,
        Fault::MarathonUnauthorized => settings.basic_auth = Some(("ops".into(), "secret".into())),
        // The shortest head has more than 60 bytes, so that something is always missing.
        Fault::AppsCut => {
            let length = chance.below(list.len() as u64 + 60) as usize;
            settings.apps = AppsAnswer::CutAnywhere(length);
        }
        Fault::AppsNothing => settings.apps = AppsAnswer::Empty,
        Fault::AppsEmpty => settings.apps = AppsAnswer::Text(r#"{"apps":[]}"#.into()),
        Fault::AppsStale => {
            let stale = before.unwrap_or(list);
            settings.apps = AppsAnswer::Text(stale);
        }
        Fault::AppsHtml => settings.apps = AppsAnswer::Html(200),
        Fault::AppsGzip => settings.apps = AppsAnswer::Gzip,
        Fault::AppsOdd => settings.strange_apps = odd_apps(),
        Fault::AppsMany => {
            let app = |index| json!({"id": format!("/many/app{index}"), "ports": [0]}).to_string();
            settings.strange_apps = (0..MANY_APPS).map(app).collect();
        }
        Fault::AppHuge => {
            let app = json!({"id": "/huge", "env": {"BLOB": "x".repeat(HUGE_BYTES)}});
            settings.strange_apps = vec![app.to_string()];
        }
        Fault::StreamSilent => {
            settings.heartbeats = false;
            settings.events = StreamAnswer::Silent;
        }
        Fault::StreamCloses => settings.events = StreamAnswer::CloseAtOnce,
        Fault::StreamHtml => settings.events = StreamAnswer::Html,
        other => unreachable!("{other:?} is no state of one Marathon"),
    }
    if matches!(fault, Fault::StreamSilent | Fault::StreamCloses | Fault::StreamHtml) {
        marathon.drop_streams();
    }
}

fn odd_apps() -> Vec<String> {
    let odd = [
        json!({"id": 7, "labels": "none"}),
        json!({"labels": {"HAPROXY_GROUP": "external"}}),
        json!({"id": "/x", "labels": {"HAPROXY_GROUP": ["external"], "MARATHON_ACME_0_DOMAIN": 7}}),
        json!({"id": "/y", "ports": "many", "portDefinitions": {"port": -1}}),
        json!(null),
        json!("app"),
        json!([[[]]]),
    ];
    odd.iter().map(ToString::to_string).collect()
}

fn mend(marathons: &mut [Marathon]) {
    for marathon in marathons {
        marathon.settings = Settings::default();
    }
}

/// 10,000 events within a second, among them such as lead to a sync at once where they come alone.
pub(crate) fn flood(world: &mut World, chance: &mut Random, index: usize) -> Result<u64, String> {
    const NAMES: [&str; 5] = [
        "group_change_success",
        "api_post_event",
        "event_stream_attached",
        "deployment_success",
        "status_update_event",
    ];
    let (mut steps, begin) = (0, world.now());
    let together = chance.chance(50);
    for batch in 0..FLOOD_BATCHES {
        let marathon = &mut world.peers.marathons[index];
        let mut bytes = Vec::new();
        for _ in 0..FLOOD_BATCH {
            let name = NAMES[chance.below(NAMES.len() as u64) as usize];
            let data = format!(r#"{{"eventType":"{name}","timestamp":"now"}}"#);
            if together {
                bytes.extend(format!("event: {name}\r\ndata: {data}\r\n\r\n").into_bytes());
            } else {
                marathon.publish(name, &data);
            }
        }
        marathon.emit(&bytes);
        world.drain_peers();
        let until: Nanos = begin + (batch as u64 + 1) * (SECOND / FLOOD_BATCHES as u64);
        steps += pass(world, until.max(world.now() + MILLISECOND))?;
    }
    Ok(steps)
}
