//! Files as operators and tools leave them, by a number each: whole ones, and ones that are spoilt in
//! their sections, lines or bytes. Where versions of OpenSSL differ, none is made: a key that cannot be
//! read before one that can, a label of another form of key, a NUL.

use stand_ins::random::Random;

macro_rules! fixtures {
    ($($name:literal),*) => {
        [$(include_str!(concat!("../../fixtures/pem/", $name, ".pem"))),*]
    };
}

/// A key and its certificates each.
const SITES: [&str; 15] = fixtures![
    "rsa-2048",
    "chain",
    "p-224",
    "brainpool",
    "ed25519",
    "ed448",
    "rsa-pss",
    "trusted",
    "self-signed-sha1",
    "dsa",
    "rsa-1024",
    "p-192",
    "sha1",
    "encrypted-pkcs1",
    "encrypted-pkcs8"
];
const PARAMETERS: &str = include_str!("../../fixtures/pem/dsa-parameters.pem");

/// The file of that number.
pub(super) fn file(number: u64) -> Vec<u8> {
    let random = &mut Random::new(number);
    let mut sections = sections(random);
    for _ in 0..below(random, 3) {
        rearrange(random, &mut sections);
    }
    // Of several keys the first one stays as it is.
    let may_spoil = sections.iter().filter(|section| is_key(section)).count() < 2;
    for _ in 0..if may_spoil { below(random, 3) } else { 0 } {
        let place = below(random, sections.len());
        if let Some(section) = sections.get_mut(place) {
            *section = reshaped(random, section);
        }
    }
    let mut text = if may_spoil { joined(random, &sections) } else { sections.concat() };
    if random.chance(10) {
        text = format!("\u{feff}{text}");
    }
    if random.chance(15) {
        text = text.replace('\n', "\r\n");
    }
    let mut bytes = text.into_bytes();
    if random.chance(15) {
        bytes.truncate(below(random, bytes.len() + 1));
    }
    if may_spoil && random.chance(10) {
        damage(random, &mut bytes);
    }
    bytes
}

fn is_key(section: &str) -> bool {
    section.contains("PRIVATE KEY")
}

fn below(random: &mut Random, limit: usize) -> usize {
    usize::try_from(random.below(limit as u64)).unwrap_or_default()
}

fn pick<'a, T: ?Sized>(random: &mut Random, all: &[&'a T]) -> &'a T {
    all[below(random, all.len())]
}

/// Of one site, or of one and another.
fn sections(random: &mut Random) -> Vec<String> {
    // The first ones load, and are most.
    let site = if random.chance(70) { &SITES[..9] } else { &SITES[..] };
    let mut all = split(pick(random, site));
    if random.chance(20) {
        all.extend(split(pick(random, &SITES)));
    }
    if random.chance(10) {
        all.insert(below(random, all.len() + 1), PARAMETERS.into());
    }
    all
}

fn split(text: &str) -> Vec<String> {
    text.split_inclusive("-----\n").collect::<Vec<_>>().chunks(2).map(<[&str]>::concat).collect()
}

fn rearrange(random: &mut Random, sections: &mut Vec<String>) {
    let (one, other) = (below(random, sections.len()), below(random, sections.len()));
    if sections.is_empty() {
        return;
    }
    match random.below(5) {
        0 => drop(sections.remove(one)),
        1 if !is_key(&sections[other]) => sections.insert(one, sections[other].clone()),
        2 if !is_key(&sections[one]) => sections.insert(0, sections[one].clone()),
        3 => sections.insert(
            one,
            section(pick(random, &["X509 CRL", "CERTIFICATE REQUEST", "FOO"]), "QUJD"),
        ),
        _ => sections.swap(one, other),
    }
}

fn section(label: &str, text: &str) -> String {
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// One section with one thing changed.
fn reshaped(random: &mut Random, section: &str) -> String {
    let mut lines: Vec<&str> = section.lines().collect();
    let line = below(random, lines.len());
    let base64 = || section.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let label =
        section.split(['-', '\n']).find(|part| part.starts_with("BEGIN ")).unwrap_or("BEGIN ");
    let label = label.trim_start_matches("BEGIN ");
    let wide = |width: usize| -> String {
        let text = base64();
        let lines = text.as_bytes().chunks(width).map(String::from_utf8_lossy);
        lines.collect::<Vec<_>>().join("\n")
    };
    match random.below(19) {
        0 => self::section(label, &wide(1)),
        1 => self::section(label, &wide(76)),
        2 => self::section(label, &wide(253)),
        3 => self::section(label, &wide(5000)),
        4 if !is_key(section) => self::section("X509 CERTIFICATE", &wide(64)),
        5 if !is_key(section) => self::section("TRUSTED CERTIFICATE", &wide(64)),
        6 => self::section(label, ""),
        7 => self::section(label, pick(random, &["AAAA", "MAA=", "MIIB", "!"])),
        8 => {
            lines.insert(line, "");
            lines.join("\n") + "\n"
        }
        9 => {
            lines.insert(
                line,
                pick(random, &["Comment: x", "-----BEGIN CERTIFICATE-----", "\u{e9}", " ", "-"]),
            );
            lines.join("\n") + "\n"
        }
        10 => {
            lines.remove(line);
            lines.join("\n") + "\n"
        }
        11 => section.replace(
            "-----\n",
            &format!("-----{}\n", pick(random, &[" ", "\t ", "\r", "x", "\u{e9}", "-"])),
        ),
        12 => section.replace(
            "\n-----END",
            pick(random, &["-----END", "\n\n-----END", "\n -----END", "\n-----end"]),
        ),
        13 => section.replace(
            "-----BEGIN",
            pick(random, &[" -----BEGIN", "----BEGIN", "x-----BEGIN", "\u{feff}-----BEGIN"]),
        ),
        14 => section.trim_end().into(),
        15 => section.replacen("-----\n", "-----\n\n", 1),
        16 => section.replacen("-----\n", "-----\nProc-Type: 4,CLEAR\n\n", 1),
        17 => format!("Bag Attributes\n    friendlyName: x\nsubject=CN = x\n{section}"),
        _ => self::section(label, &(wide(64) + pick(random, &["=", "AAAA", "\n====", "-", " "]))),
    }
}

fn joined(random: &mut Random, sections: &[String]) -> String {
    let mut text = String::new();
    for section in sections {
        text += section;
        if random.chance(8) {
            text.truncate(text.trim_end().len());
        } else if random.chance(10) {
            text +=
                pick(random, &["\n", "\n\n\n", "garbage\n", "\u{feff}", "\r\n", "-----BEGIN x\n"]);
        }
    }
    text
}

/// Changes, adds or removes a byte.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let place = below(random, bytes.len());
    let byte = pick(random, &[&b'=', &b'-', &b'\n', &b' ', &0xff, &b'*', &b':']);
    match random.below(3) {
        0 => bytes[place] = *byte,
        1 => bytes.insert(place, *byte),
        _ => drop(bytes.remove(place)),
    }
}
