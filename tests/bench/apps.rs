//! `/v2/apps` of ten thousand apps: how fast it is split, beside the plainest walk over the same JSON, and
//! how memory grows while it streams in, beside reading it whole. Never holds the answer where memory is
//! measured.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use marathon_acme::marathon::{App as Ours, AppsParser};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cluster::Cluster;
use crate::process::Outcome;
use crate::{Bench, table, usage};

/// The word by which the benchmark is started again to have its memory measured.
pub(crate) const CHILD: &str = "memory-of-apps";
const APPS: [usize; 2] = [1_000, 10_000];
const ROUNDS: usize = 5;
/// A piece of an answer, as it comes off a socket.
const PIECE_BYTES: usize = 16 * 1024;

/// As a program reads it that takes the whole answer.
#[derive(Deserialize)]
struct Whole {
    apps: Vec<App>,
}

#[derive(Deserialize)]
struct App {
    id: String,
    version: String,
    labels: BTreeMap<String, String>,
}

pub(crate) fn measure(_: &Bench) -> Outcome {
    table::subject("apps");
    speed()?;
    for count in APPS {
        let what = format!("peak memory for {count} apps");
        table::row(&what, "KiB", child("ours", count)?, "whole, serde", &child("whole", count));
    }
    Ok(())
}

fn speed() -> Outcome {
    let json = Cluster::answer(APPS[1]);
    let ours = best(|| {
        let mut parser = AppsParser::new();
        let mut found = Vec::new();
        for piece in json.chunks(PIECE_BYTES) {
            parser.feed(piece, &mut |app| found.push(app.and_then(Ours::parse)))?;
            black_box(&found);
            found.clear();
        }
        Ok(parser.finish()?)
    })?;
    let ignored = best(|| {
        black_box(serde_json::from_slice::<IgnoredAny>(&json)?);
        Ok(())
    })?;
    let whole = best(|| {
        black_box(serde_json::from_slice::<Whole>(&json)?.apps.len());
        Ok(())
    })?;
    let megabytes = json.len() as f64 / 1e6;
    let what = format!("{} apps, {megabytes:.0} MB", APPS[1]);
    let rate = |time: Duration| megabytes / time.as_secs_f64();
    table::row(&what, "MB/s", rate(ours), "IgnoredAny", &Ok(rate(ignored)));
    table::row(&what, "MB/s", rate(ours), "whole, serde", &Ok(rate(whole)));
    Ok(())
}

/// The best of some rounds: what disturbs only ever makes it slower.
fn best(mut run: impl FnMut() -> Outcome) -> Outcome<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        run()?;
        best = best.min(begin.elapsed());
    }
    Ok(best)
}

/// By how many KiB the peak grows of a process that reads so many apps.
fn child(manner: &str, count: usize) -> Outcome<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args([CHILD, manner, &count.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?)
}

/// What the child does.
pub(crate) fn be_measured(words: &[String]) -> Outcome {
    let [manner, count] = words else { return Err("MANNER COUNT".into()) };
    let count: usize = count.parse()?;
    // What the writing of apps needs is not counted.
    (0..50).for_each(|number| drop(black_box(Cluster::new().app(number))));
    let before = usage::status("self", "VmHWM")?;
    let mut cluster = Cluster::new();
    if manner == "whole" {
        let mut all = Vec::new();
        stream(count, &mut cluster, |piece| {
            all.extend_from_slice(piece);
            Ok(())
        })?;
        let whole: Whole = serde_json::from_slice(&all)?;
        let of = |app: &App| app.id.len() + app.version.len() + app.labels.len();
        black_box(whole.apps.iter().map(of).sum::<usize>());
    } else {
        let (mut parser, mut found) = (AppsParser::new(), Vec::new());
        stream(count, &mut cluster, |piece| {
            parser.feed(piece, &mut |app| found.push(app.and_then(Ours::parse)))?;
            found.clear();
            Ok(())
        })?;
        parser.finish()?;
    }
    println!("{}", usage::status("self", "VmHWM")? - before);
    Ok(())
}

/// Hands out the answer in pieces and holds no more than one of it.
fn stream(count: usize, cluster: &mut Cluster, mut take: impl FnMut(&[u8]) -> Outcome) -> Outcome {
    let mut text = String::from(r#"{"apps":["#);
    for number in 0..count {
        text += &cluster.app(number);
        text += if number + 1 < count { "," } else { "]}" };
        if text.len() >= PIECE_BYTES || number + 1 == count {
            take(text.as_bytes())?;
            text.clear();
        }
    }
    Ok(())
}
