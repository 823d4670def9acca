//! `--list`: what lies in the storage, as a table or as JSON. Pure, and shows no key; what a
//! certificate or a peer says reaches the terminal without control characters.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::LogFormat;
use crate::domain::Domain;
use crate::machine::StoreError;
use crate::pki::bundle::Bundle;
use crate::pki::leaf::renewal_by_lifetime;
use crate::printable::printable;
use crate::secret::Secret;
use crate::time::UnixTime;

/// How much of a certificate's domains the table shows, in characters; JSON has them all.
const DOMAINS_CHARS_MAX: usize = 60;
/// How much of an issuer's name the table shows, in characters (RFC 5280 appendix A.1 allows 64).
const ISSUER_CHARS_MAX: usize = 64;
const COLUMNS: [&str; 6] = ["NAME", "DOMAINS", "ISSUER", "NOT AFTER", "NEXT RENEWAL", "LAST ERROR"];
/// What stands between two columns.
const GAP: &str = "  ";
/// What stands for a thing that is not known.
const UNKNOWN: &str = "-";

/// What the memory says of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// When it is to be renewed, when that was decided already.
    pub renewal: Option<UnixTime>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When the next attempt is made after a failed one.
    pub next_try: Option<UnixTime>,
}

/// One certificate, or one that could not be had so far.
#[derive(Debug)]
struct Row {
    name: String,
    /// None where there is no certificate, or none that can be read.
    domains: Vec<String>,
    issuer: Option<String>,
    not_after: Option<UnixTime>,
    next_renewal: Option<UnixTime>,
    last_error: Option<String>,
}

/// The text for standard output: a line for each certificate under a header, by name, or one array of
/// objects. What is remembered to have failed is there also when it has no certificate.
pub fn list(
    now: UnixTime,
    certificates: &[(Domain, Result<Secret, StoreError>)],
    memory: &BTreeMap<Domain, Remembered>,
    format: LogFormat,
) -> String {
    let failed = memory.iter().filter(|(_, remembered)| remembered.error.is_some());
    let mut found = BTreeMap::new();
    found.extend(failed.map(|(name, _)| (name, None)));
    // These come last, so that they take the place of the others.
    found.extend(certificates.iter().map(|(name, file)| (name, Some(file))));
    let rows = found.into_iter().map(|(name, file)| Row::new(name, file, memory.get(name)));
    let rows: Vec<Row> = rows.collect();
    match format {
        LogFormat::Text => table(now, &rows),
        LogFormat::Json => array(&rows),
    }
}

impl Row {
    fn new(
        name: &Domain,
        file: Option<&Result<Secret, StoreError>>,
        remembered: Option<&Remembered>,
    ) -> Row {
        let remembered = remembered.cloned().unwrap_or_default();
        let (bundle, damage) = match file {
            None => (None, None),
            Some(Err(error)) => (None, Some(error.to_string())),
            Some(Ok(text)) => match Bundle::as_haproxy_reads(text.expose()) {
                Ok(bundle) => {
                    let damage = bundle.can_be_loaded().err();
                    (Some(bundle), damage.map(|error| error.to_string()))
                }
                Err(error) => (None, Some(error.to_string())),
            },
        };
        let leaf = bundle.as_ref().map(Bundle::leaf);
        let issuer = leaf.and_then(|leaf| leaf.issuer_common_name.as_deref());
        let planned = remembered.next_try.or(remembered.renewal);
        Row {
            name: name.to_string(),
            domains: leaf
                .map_or_else(Vec::new, |leaf| leaf.names.iter().map(|it| printable(it)).collect()),
            issuer: issuer.map(printable),
            not_after: leaf.map(|leaf| leaf.not_after),
            next_renewal: planned
                .or_else(|| leaf.map(|leaf| renewal_by_lifetime(leaf.not_before, leaf.not_after))),
            last_error: damage.or(remembered.error).as_deref().map(printable),
        }
    }

    /// The columns of the table.
    fn cells(&self, now: UnixTime) -> [String; COLUMNS.len()] {
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_string());
        let date = |date: UnixTime, past: &str| match date <= now {
            true => format!("{date} {past}"),
            false => date.to_string(),
        };
        [
            self.name.clone(),
            or_unknown((!self.domains.is_empty()).then(|| shown(&self.domains))),
            or_unknown(self.issuer.as_ref().map(|issuer| shorten(issuer, ISSUER_CHARS_MAX))),
            or_unknown(self.not_after.map(|at| date(at, "(expired)"))),
            or_unknown(self.next_renewal.map(|at| date(at, "(due)"))),
            or_unknown(self.last_error.clone()),
        ]
    }

    fn object(&self) -> Value {
        let date = |date: Option<UnixTime>| date.map(|date| date.to_string());
        json!({
            "name": self.name,
            "domains": self.domains,
            "issuer": self.issuer,
            "not_after": date(self.not_after),
            "next_renewal": date(self.next_renewal),
            "last_error": self.last_error,
        })
    }
}

fn array(rows: &[Row]) -> String {
    let objects: Vec<Value> = rows.iter().map(Row::object).collect();
    // The alternate form has a line for each member.
    format!("{:#}\n", Value::Array(objects))
}

fn table(now: UnixTime, rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no certificates\n".to_string();
    }
    let mut lines = vec![COLUMNS.map(str::to_string)];
    lines.extend(rows.iter().map(|row| row.cells(now)));
    let mut widths = [0; COLUMNS.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let cells: Vec<String> = cells.collect();
        text.push_str(cells.join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// As many domains as there is room for, at least one, and how many more there are.
fn shown(domains: &[String]) -> String {
    let mut text = String::new();
    for (index, domain) in domains.iter().enumerate() {
        if index > 0 && text.len() + 1 + domain.len() > DOMAINS_CHARS_MAX {
            return format!("{text} +{}", domains.len() - index);
        }
        text.push_str(if index == 0 { "" } else { "," });
        text.push_str(domain);
    }
    text
}

fn shorten(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;
    use crate::machine::StoreErrorKind;
    use crate::testing::{ODD_CERTIFICATE, ODD_KEY};

    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

    type File = Result<Secret, StoreError>;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn day(month: u8, day: u8) -> UnixTime {
        UnixTime::from_rfc3339(&format!("2026-{month:02}-{day:02}T00:00:00Z")).unwrap()
    }

    /// A certificate that is good from the first of October to that day.
    fn certificate(name: &str, issuer: &str, until: (u8, u8)) -> (Domain, File) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        params.not_before = date_time_ymd(2026, 10, 1);
        params.not_after = date_time_ymd(2026, until.0, until.1);
        params.distinguished_name.push(DnType::CommonName, issuer);
        let leaf = params.self_signed(&key).unwrap();
        (domain(name), Ok(Secret::new(format!("{}{}", key.serialize_pem(), leaf.pem()))))
    }

    fn unreadable(name: &str) -> (Domain, File) {
        let path = format!("certs/{name}.pem");
        let detail = "Permission denied".to_string();
        (domain(name), Err(StoreError { kind: StoreErrorKind::NotWritable, path, detail }))
    }

    fn objects(certificates: &[(Domain, File)], memory: &BTreeMap<Domain, Remembered>) -> Value {
        let text = list(day(11, 23), certificates, memory, LogFormat::Json);
        serde_json::from_str(&text).unwrap()
    }

    fn remembered(entries: &[(&str, Remembered)]) -> BTreeMap<Domain, Remembered> {
        entries.iter().map(|(name, it)| (domain(name), it.clone())).collect()
    }

    fn failure(error: &str, next_try: Option<UnixTime>) -> Remembered {
        Remembered { error: Some(error.into()), next_try, ..Remembered::default() }
    }

    #[test]
    fn a_table_in_columns_by_name() {
        let files = [
            certificate("www.example.com", "CA", (12, 30)),
            unreadable("z.org"),
            certificate("b.org", "A longer name", (11, 1)),
        ];
        let memory = remembered(&[("new.org", failure("no route", Some(day(11, 24))))]);
        let text = list(day(11, 23), &files, &memory, LogFormat::Text);
        let renewal = "2026-11-30T00:00:00Z";
        let old = ["2026-11-01T00:00:00Z (expired)", "2026-10-21T16:00:00Z (due)"];
        let refused = "certs/z.org.pem: Permission denied";
        let expected = [
            COLUMNS,
            ["b.org", "b.org", "A longer name", old[0], old[1], "-"],
            ["new.org", "-", "-", "-", "2026-11-24T00:00:00Z", "no route"],
            ["www.example.com", "www.example.com", "CA", "2026-12-30T00:00:00Z", renewal, "-"],
            ["z.org", "-", "-", "-", "-", refused],
        ];
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{text}");
        for (line, cells) in lines.iter().zip(expected) {
            for (column, cell) in COLUMNS.iter().zip(cells) {
                let place = lines[0].find(column).unwrap();
                assert!(line[place..].starts_with(cell), "{cell:?} at {place}\n{text}");
            }
            assert_eq!(line.split("  ").filter(|cell| !cell.is_empty()).count(), cells.len());
            assert!(!line.ends_with(' '));
        }
    }

    #[test]
    fn json_says_the_same() {
        let files = [certificate("a.org", "Test CA", (10, 11)), unreadable("b.org")];
        let renewal = Some(day(12, 1));
        let plan = Remembered { renewal, ..Remembered::default() };
        let found =
            objects(&files, &remembered(&[("a.org", plan), ("gone.org", Remembered::default())]));
        let expected = json!([
            {"name": "a.org", "domains": ["a.org"], "issuer": "Test CA",
                "not_after": "2026-10-11T00:00:00Z", "next_renewal": "2026-12-01T00:00:00Z",
                "last_error": null},
            {"name": "b.org", "domains": [], "issuer": null, "not_after": null,
                "next_renewal": null, "last_error": "certs/b.org.pem: Permission denied"},
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn an_empty_storage() {
        let memory = BTreeMap::new();
        assert_eq!(list(day(11, 23), &[], &memory, LogFormat::Text), "no certificates\n");
        assert_eq!(objects(&[], &memory), json!([]));
    }

    #[test]
    fn without_a_plan_the_fallback_is_shown_and_a_failed_one_is_tried_when_it_is_said() {
        let files = [
            certificate("ninety.org", "CA", (12, 30)),
            certificate("ten.org", "CA", (10, 11)),
            certificate("eleven.org", "CA", (10, 12)),
        ];
        let found = objects(&files, &BTreeMap::new());
        let begin = day(10, 1);
        let expected = [begin.plus(DAY * 22 / 3), begin.plus(DAY * 60), begin.plus(DAY * 5)];
        for (object, at) in found.as_array().unwrap().iter().zip(expected) {
            assert_eq!(object["next_renewal"], json!(at.to_string()), "{object}");
        }
        let failed = Remembered { renewal: Some(day(11, 1)), ..failure("x", Some(day(11, 25))) };
        let found = objects(&files[..1], &remembered(&[("ninety.org", failed)]));
        assert_eq!(found[0]["next_renewal"], json!("2026-11-25T00:00:00Z"));
        assert_eq!(found[0]["last_error"], json!("x"));
    }

    #[test]
    fn damage_is_an_error_of_its_row() {
        let (name, file) = certificate("a.org", "CA", (12, 30));
        let text = file.unwrap();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let leaf = &text.expose()[text.expose().find("-----BEGIN CERT").unwrap()..];
        let memory = remembered(&[("a.org", failure("older", None))]);
        for (text, issuer, error) in [
            (String::new(), Value::Null, "it holds no private key"),
            (format!("{other}{leaf}"), json!("CA"), "the private key is not that of the first"),
        ] {
            let found = objects(&[(name.clone(), Ok(Secret::new(text)))], &memory);
            assert_eq!(found[0]["issuer"], issuer);
            let said = found[0]["last_error"].as_str().unwrap();
            assert!(said.starts_with(error), "{said}");
        }
    }

    #[test]
    fn what_haproxy_loads_is_no_damage() {
        let (_, file) = certificate("b.org", "CA", (12, 30));
        let (first, second) = (file.unwrap(), KeyPair::generate().unwrap().serialize_pem());
        let keys = format!("{ODD_KEY}{second}{ODD_CERTIFICATE}");
        let long = format!("{}{}", first.expose(), ODD_CERTIFICATE.repeat(20));
        for text in [keys, long] {
            let found = objects(&[(domain("a.org"), Ok(Secret::new(text)))], &BTreeMap::new());
            assert_eq!(found[0]["last_error"], Value::Null);
            assert_ne!(found[0]["not_after"], Value::Null);
        }
    }

    #[test]
    fn nothing_moves_the_terminal_and_no_key_is_shown() {
        let files = [certificate("a.org", "\u{1b}[2J\u{202e}CA\n\u{9b}31m", (12, 30))];
        let memory =
            remembered(&[("b.org", failure("\u{1b}]0;x\u{7}\r\nb.org  forged\u{85}", None))]);
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = list(day(11, 23), &files, &memory, format);
            let odd = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(odd) && !text.contains("PRIVATE"), "{text:?}");
        }
        let table = list(day(11, 23), &files, &memory, LogFormat::Text);
        assert_eq!(table.lines().count(), 3);
    }

    #[test]
    fn what_is_too_wide_is_cut() {
        let many: Vec<String> = (10..99).map(|number| format!("n{number}.example.com")).collect();
        assert_eq!(shown(&many), "n10.example.com,n11.example.com,n12.example.com +86");
        assert_eq!(shown(&["x".repeat(250)]), "x".repeat(250));
        assert_eq!(shorten("äöü", 2), "äö...");
        assert_eq!(shorten("äö", 2), "äö");
    }
}
