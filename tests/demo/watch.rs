//! Turns what the stand-ins remember, and what the program writes, into lines on the screen, each
//! once and in the order in which it happened.

use std::collections::BTreeMap;

use stand_ins::ca::{AcmeRequest, Ca, Checked};
use stand_ins::driver::{Driver, time_now};
use stand_ins::front::TlsFront;
use stand_ins::http::Seen;
use stand_ins::marathon::Published;

use crate::program::Program;
use crate::screen::{Actor, Screen, request};
use crate::stage::{Authority, Server, Stage};

/// How far everything was shown already.
#[derive(Default)]
pub(crate) struct Watch {
    asked_of_marathon: usize,
    published: usize,
    asked_of_ca: usize,
    checked: usize,
    asked_of_lb: usize,
    reloads: usize,
    files: BTreeMap<String, u64>,
    waiting: Vec<Line>,
}

/// A line, and when it happened, in milliseconds since 1970.
type Line = (i64, Actor, String);

/// The program's lines take a moment to get here: so long everything waits for its place.
const PATIENCE_MS: i64 = 40;

impl Watch {
    /// Shows what is new and a moment old, and lets the load balancer read its files again when it
    /// reloaded; says whether it did.
    pub(crate) fn look(
        &mut self,
        screen: &Screen,
        stage: &Stage,
        program: Option<&Program>,
    ) -> bool {
        let reloads = self.reloads;
        let mut lines = std::mem::take(&mut self.waiting);
        self.marathon(stage, &mut lines);
        self.ca(stage, &mut lines);
        self.lb(stage, &mut lines);
        self.storage(stage, &mut lines);
        for line in program.into_iter().flat_map(Program::lines) {
            let (at_ms, text) = log_line(&line);
            lines.push((at_ms, Actor::Log, text.to_string()));
        }
        self.waiting = lines;
        self.show(screen, now_ms() - PATIENCE_MS);
        self.reloads > reloads
    }

    /// Shows the rest.
    pub(crate) fn finish(&mut self, screen: &Screen) {
        self.show(screen, i64::MAX);
    }

    fn show(&mut self, screen: &Screen, until_ms: i64) {
        // Stable: what happened in the same millisecond stays in the order of the looks.
        self.waiting.sort_by_key(|(at_ms, ..)| *at_ms);
        let count = self.waiting.partition_point(|(at_ms, ..)| *at_ms <= until_ms);
        for (at_ms, actor, text) in self.waiting.drain(..count) {
            screen.line_at(at_ms, actor, &text);
        }
    }

    fn marathon(&mut self, stage: &Stage, lines: &mut Vec<Line>) {
        type News = (Vec<Seen>, Vec<Published>, usize);
        let (seen, published, apps): News = stage.marathon.with(|peer, _| {
            let seen = peer.seen()[self.asked_of_marathon..].to_vec();
            (seen, peer.published()[self.published..].to_vec(), peer.apps().len())
        });
        self.asked_of_marathon += seen.len();
        self.published += published.len();
        for seen in seen {
            let path = seen.target.split('?').next().unwrap_or_default();
            let note = match path {
                "/v2/apps" if apps == 1 => "1 app".to_string(),
                "/v2/apps" => format!("{apps} apps"),
                "/v2/events" => "the stream opens".to_string(),
                _ => String::new(),
            };
            let text = request(&seen.method, path, seen.status, &note);
            lines.push((seen.at.unix_ms, Actor::Marathon, text));
        }
        for event in published {
            lines.push((event.at.unix_ms, Actor::Marathon, format!("sends {}", event.name)));
        }
    }

    fn ca(&mut self, stage: &Stage, lines: &mut Vec<Line>) {
        match &stage.authority {
            Authority::StandIn { ca, .. } => self.stand_in(ca, lines),
            Authority::Pebble(pebble) => {
                let seen = pebble.requests().split_off(self.asked_of_ca);
                self.asked_of_ca += seen.len();
                lines.extend(seen.into_iter().map(|text| (now_ms(), Actor::Ca, text)));
            }
        }
    }

    fn stand_in(&mut self, ca: &Driver<Ca>, lines: &mut Vec<Line>) {
        let (seen, checked): (Vec<AcmeRequest>, Vec<Checked>) = ca.with(|ca, _| {
            (ca.seen()[self.asked_of_ca..].to_vec(), ca.checked()[self.checked..].to_vec())
        });
        self.asked_of_ca += seen.len();
        self.checked += checked.len();
        for AcmeRequest { at, method, path, status, problem, note, .. } in seen {
            let note = match problem {
                Some(kind) => format!("{kind}: {note}"),
                None => note,
            };
            lines.push((at.unix_ms, Actor::Ca, request(&method, &path, status, &note)));
        }
        for Checked { at, name, error, .. } in checked {
            let text = match error {
                None => format!("fetched the challenge of {name}: right"),
                Some(problem) => format!("fetched the challenge of {name}: {}", problem.detail),
            };
            lines.push((at.unix_ms, Actor::Ca, text));
        }
    }

    fn lb(&mut self, stage: &Stage, lines: &mut Vec<Line>) {
        let (seen, reloads) = stage.lb.with(|lb, _| {
            (lb.seen()[self.asked_of_lb..].to_vec(), lb.reloads()[self.reloads..].to_vec())
        });
        self.asked_of_lb += seen.len();
        self.reloads += reloads.len();
        for Seen { at, method, target, status, .. } in seen {
            lines.push((at.unix_ms, Actor::Lb, request(&method, &target, status, "")));
        }
        for at in reloads {
            let text = match &stage.front {
                Server::StandIn(front) => reloaded(front),
                Server::HaProxy(_) => "HAProxy reloads".to_string(),
                Server::Closed => "HAProxy is not there yet".to_string(),
            };
            lines.push((at.unix_ms, Actor::Lb, text));
        }
    }

    fn storage(&mut self, stage: &Stage, lines: &mut Vec<Line>) {
        for (name, bytes) in stage.certificates() {
            if self.files.insert(name.clone(), bytes) != Some(bytes) {
                let text = format!("certs/{name} stored, {bytes} bytes");
                lines.push((now_ms(), Actor::Storage, text));
            }
        }
    }
}

/// Lets the stand-in of port 443 read its files again; what came of it.
fn reloaded(front: &TlsFront) -> String {
    match front.reload() {
        Ok(1) => "reloaded, serves the fallback only".to_string(),
        Ok(2) => "reloaded, serves 1 certificate and the fallback".to_string(),
        Ok(count) => format!("reloaded, serves {} certificates and the fallback", count - 1),
        Err(error) => format!("could not reload: {error}"),
    }
}

/// Splits a line of the program's log into its time and the rest; a line without a time is of now.
fn log_line(line: &str) -> (i64, &str) {
    let now_ms = now_ms();
    let Some((time, text)) = line.split_once(' ') else { return (now_ms, line) };
    let Some(day_ms) = time.split_once('T').and_then(|(_, clock)| milliseconds(clock)) else {
        return (now_ms, line);
    };
    // The line is younger than a day, so its time of day is enough.
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    (now_ms - (now_ms - day_ms).rem_euclid(DAY_MS), text)
}

/// `17:00:00.123Z` in milliseconds since midnight.
fn milliseconds(clock: &str) -> Option<i64> {
    let numbers: Option<Vec<i64>> =
        clock.strip_suffix('Z')?.split([':', '.']).map(|number| number.parse().ok()).collect();
    match numbers?.as_slice() {
        [hour, minute, second, ms] => Some(((hour * 60 + minute) * 60 + second) * 1000 + ms),
        _ => None,
    }
}

fn now_ms() -> i64 {
    time_now().unix_ms
}
