//! Instructions by `valgrind --tool=callgrind`: figures that a loaded machine does not change. The benchmark
//! is started again under valgrind, once to prepare alone and once to do the work as well; the difference
//! is the work's. Beside each is the least that the same could be done with. Never says anything about time.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use marathon_acme::acme::jws::{Identity, sign};
use marathon_acme::http::{ServerConnection, SseParser};
use marathon_acme::keys::Keys as _;
use marathon_acme::marathon::{App, AppsParser};
use marathon_acme::pki::Bundle;
use serde::de::IgnoredAny;

use crate::cluster::Cluster;
use crate::daemon_parts::{Scheduler, Turns};
use crate::process::{Outcome, find};
use crate::{Bench, stored, table};

/// The word by which the benchmark is started again to have its instructions counted.
pub(crate) const CHILD: &str = "instructions-of";
/// The least of so many runs counts: now and then one does a little more, as where memory lies decides.
const RUNS: usize = 3;
const APPS: usize = 200;
const EVENTS: usize = 1_000;
const REQUESTS: usize = 1_000;
const SIGNATURES: usize = 100;
const BUNDLES: usize = 200;
const SYNCED: usize = 1_000;
/// So many that what differs by chance between two preparations does not count.
const SYNCS: usize = 100;

const EVENT: &[u8] = b"event: status_update_event\r\n\
data: {\"slaveId\":\"20260909-054127-177048842-5050-1494-0\",\"taskId\":\"app_0-1396592784349\",\
\"taskStatus\":\"TASK_RUNNING\",\"appId\":\"/my-app\",\"host\":\"agent.local\",\"ports\":[31372],\
\"version\":\"2026-04-04T06:26:23.051Z\",\"eventType\":\"status_update_event\"}\r\n\r\n";
const REQUEST: &[u8] =
    b"GET /.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA \
HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: Mozilla/5.0 (compatible; validation server)\r\n\
Accept: */*\r\nX-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n";

/// What is done, by its name; with `false` it is only prepared.
type Work = fn(&Bench, bool) -> Outcome;

/// A figure: its name and how much of what is one, ours, and the peer's name and work.
struct Figure {
    what: &'static str,
    count: usize,
    ours: (&'static str, Work),
    peer: Option<(&'static str, &'static str, Work)>,
}

const FIGURES: &[Figure] = &[
    Figure {
        what: "an app of /v2/apps",
        count: APPS,
        ours: ("apps", apps),
        peer: Some(("IgnoredAny", "apps-ignored", apps_ignored)),
    },
    Figure { what: "an event of the stream", count: EVENTS, ours: ("events", events), peer: None },
    Figure {
        what: "a request to the listener, parsed",
        count: REQUESTS,
        ours: ("requests", requests),
        peer: Some(("httparse", "requests-httparse", requests_httparse)),
    },
    Figure {
        what: "a signed request to the CA",
        count: SIGNATURES,
        ours: ("jws", jws),
        peer: Some(("signature alone", "jws-signature", signature)),
    },
    Figure {
        what: "a certificate file, key matched",
        count: BUNDLES,
        ours: ("bundles", bundles),
        peer: None,
    },
    Figure { what: "a domain in a sync", count: SYNCED * SYNCS, ours: ("sync", sync), peer: None },
];

pub(crate) fn measure(_: &Bench) -> Outcome {
    table::subject("instructions");
    let Some(valgrind) = find("valgrind") else {
        table::missing("instructions", "valgrind missing");
        return Ok(());
    };
    let counted = |name: &str, count: usize| -> Outcome<f64> {
        Ok(counted(&valgrind, &[CHILD, name])? / count as f64)
    };
    for figure in FIGURES {
        let ours = counted(figure.ours.0, figure.count)?;
        match figure.peer {
            Some((name, work, _)) => {
                table::row(figure.what, "", ours, name, &counted(work, figure.count));
            }
            None => table::alone(figure.what, "", ours),
        }
    }
    Ok(())
}

/// The instructions of the work that the benchmark does when it is started with these words.
pub(crate) fn counted(valgrind: &Path, words: &[&str]) -> Outcome<f64> {
    let once = |work: &str| -> Outcome<f64> {
        let mut command = Command::new(valgrind);
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        let output = command.arg(std::env::current_exe()?).args(words).arg(work).output()?;
        collected(&String::from_utf8_lossy(&output.stderr))
    };
    let least = |work: &str| -> Outcome<f64> {
        (0..RUNS).try_fold(f64::MAX, |least, _| Ok(once(work)?.min(least)))
    };
    Ok(least("work")? - least("prepare")?)
}

/// The instructions of a run, from what callgrind says at its end.
fn collected(said: &str) -> Outcome<f64> {
    let count = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = count.ok_or_else(|| format!("callgrind said: {said}"))?;
    Ok(count.trim().parse()?)
}

/// What the child does.
pub(crate) fn be_measured(bench: &Bench, words: &[String]) -> Outcome {
    let [name, work] = words else { return Err("NAME work|prepare".into()) };
    let peers = FIGURES.iter().filter_map(|figure| figure.peer.map(|(_, name, work)| (name, work)));
    let works: BTreeMap<&str, Work> =
        FIGURES.iter().map(|figure| figure.ours).chain(peers).collect();
    works.get(name.as_str()).ok_or("no such work")?(bench, work == "work")
}

fn apps(_: &Bench, work: bool) -> Outcome {
    let json = Cluster::answer(APPS);
    if work {
        let (mut parser, mut found) = (AppsParser::new(), Vec::new());
        parser.feed(&json, &mut |app| found.push(app.and_then(App::parse)))?;
        parser.finish()?;
        black_box(found.len());
    }
    Ok(())
}

fn apps_ignored(_: &Bench, work: bool) -> Outcome {
    let json = Cluster::answer(APPS);
    if work {
        black_box(serde_json::from_slice::<IgnoredAny>(&json)?);
    }
    Ok(())
}

fn events(_: &Bench, work: bool) -> Outcome {
    let (mut parser, mut found) = (SseParser::new(), Vec::new());
    for _ in 0..if work { EVENTS } else { 0 } {
        parser.receive(black_box(EVENT), &mut found);
        found.clear();
    }
    Ok(())
}

fn requests(_: &Bench, work: bool) -> Outcome {
    for _ in 0..if work { REQUESTS } else { 0 } {
        let mut connection = ServerConnection::new();
        connection.receive(black_box(REQUEST));
        while black_box(connection.poll()).is_some() {}
    }
    Ok(())
}

fn requests_httparse(_: &Bench, work: bool) -> Outcome {
    for _ in 0..if work { REQUESTS } else { 0 } {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        black_box(request.parse(black_box(REQUEST))?);
    }
    Ok(())
}

fn jws(_: &Bench, work: bool) -> Outcome {
    let mut turns = Turns::new();
    let pem = turns.keys.new_account_key()?;
    let key = turns.keys.read_account_key(&pem)?;
    for _ in 0..if work { SIGNATURES } else { 0 } {
        let identity = Identity::Kid("https://ca.test/account/1");
        let (nonce, url) = ("oFvnlFP1wIhRlYS2jTaXbA", "https://ca.test/authz/PAniVnsZcis");
        black_box(sign(&mut turns.keys, &key, identity, nonce, url, "")?);
    }
    Ok(())
}

fn signature(_: &Bench, work: bool) -> Outcome {
    let mut turns = Turns::new();
    let pem = turns.keys.new_account_key()?;
    let key = turns.keys.read_account_key(&pem)?;
    for _ in 0..if work { SIGNATURES } else { 0 } {
        black_box(turns.keys.sign(&key, &[7; 300])?);
    }
    Ok(())
}

fn bundles(bench: &Bench, work: bool) -> Outcome {
    let storage = stored::storage(bench.folder.path(), 1)?;
    let pem = std::fs::read_to_string(storage.join(format!("certs/{}.pem", stored::name(0))))?;
    for _ in 0..if work { BUNDLES } else { 0 } {
        let bundle = Bundle::parse(black_box(&pem)).map_err(|error| error.to_string())?;
        bundle.key_matches().map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn sync(bench: &Bench, work: bool) -> Outcome {
    let storage = stored::storage(bench.folder.path(), SYNCED)?;
    let mut turns = Turns::new();
    let mut scheduler = Scheduler::of(&storage, SYNCED, &mut turns)?;
    for _ in 0..if work { SYNCS } else { 0 } {
        scheduler.sync(&mut turns);
    }
    Ok(())
}
