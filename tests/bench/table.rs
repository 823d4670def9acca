//! The table that the benchmark prints: a line for each figure, as soon as it is there, beside that of a
//! peer. Never judges, and never prints a number that was not measured.

use crate::process::Outcome;

/// Which program a peer is, and the Debian package that has it.
pub(crate) const PEERS: &[(&str, &str)] = &[
    ("haproxy", "haproxy"),
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("curl", "curl"),
    ("pebble", "pebble"),
    ("lego", "lego"),
    ("uacme", "uacme"),
    ("valgrind", "valgrind"),
    ("hyperfine", "hyperfine"),
];

/// Says which subject comes now.
pub(crate) fn subject(name: &str) {
    println!("\n{name}");
    line("what", "ours", "peer", "ratio");
    println!("{}", "-".repeat(110));
}

/// A figure beside that of `name`. Of a peer that is missing it says so, of one that failed it says why.
pub(crate) fn row(what: &str, unit: &str, ours: f64, name: &str, peer: &Outcome<f64>) {
    let ours_text = format!("{} {unit}", number(ours));
    match peer {
        Ok(peer) if *peer > 0.0 => {
            let ratio = number(ours / peer);
            line(what, &ours_text, &format!("{name} {} {unit}", number(*peer)), &ratio);
        }
        Ok(peer) => line(what, &ours_text, &format!("{name} {} {unit}", number(*peer)), "-"),
        Err(error) => line(what, &ours_text, &format!("{name}: {error}"), "-"),
    }
}

/// A figure for which there is no peer.
pub(crate) fn alone(what: &str, unit: &str, ours: f64) {
    line(what, &format!("{} {unit}", number(ours)), "-", "-");
}

/// A figure that could not be had.
pub(crate) fn missing(what: &str, why: &str) {
    line(what, "-", why, "-");
}

fn line(what: &str, ours: &str, peer: &str, ratio: &str) {
    println!("{what:<48} {ours:>20} | {peer:>28} | {ratio:>7}");
}

/// Three or four digits that mean something, with thousands apart.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut apart = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && whole.len() > 4 {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart + rest
}
