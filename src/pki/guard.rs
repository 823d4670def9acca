//! What an entry of `certs/` that is not ours does to HAProxy, which loads every file there whatever its
//! name: it may keep HAProxy from starting and reloading, or be served in place of one of ours. Judges
//! what others have looked at, by the rules of HAProxy 2.0, which marathon-lb's image has: later ones
//! pass over dot files (2.6) and `.key` (2.2). Looks at nothing itself.

mod companions;

use std::collections::BTreeMap;
use std::fmt;

use crate::certs_scan::{FOREIGN_FILE_BYTES_MAX, ForeignFile, Found};
use crate::domain::Domain;
use crate::printable::printable;
use crate::time::UnixTime;

use super::bundle::{Bundle, BundleError};
use super::leaf::subject_common_name;
use super::pem::PemError;
use companions::CertificateFiles;

/// So many names of a certificate are named.
const NAMED_MAX: usize = 3;

/// What it does; the worst of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// With it HAProxy neither starts nor reloads.
    Blocks,
    /// It is served in place of one of ours.
    Shadows,
    /// What it does cannot be told: it is a link, which HAProxy follows and we do not.
    Unknown,
    /// It is served, and has expired.
    Expired,
    /// Nothing.
    Harmless,
}

impl Verdict {
    /// All there are.
    pub const ALL: [Verdict; 5] =
        [Verdict::Blocks, Verdict::Shadows, Verdict::Unknown, Verdict::Expired, Verdict::Harmless];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Blocks => "blocks",
            Verdict::Shadows => "shadows",
            Verdict::Unknown => "unknown",
            Verdict::Expired => "expired",
            Verdict::Harmless => "harmless",
        }
    }
}

/// What is thought of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignFileReport {
    /// Its name, fit for a terminal.
    pub file: String,
    /// What it does.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: String,
    /// The names for which it is served in place of ours.
    pub shadowed: Vec<Domain>,
}

impl fmt::Display for ForeignFileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        match self.verdict {
            Verdict::Blocks => write!(f, "certs/{file} keeps HAProxy from reloading"),
            Verdict::Shadows => write!(f, "certs/{file} is served in place of ours"),
            Verdict::Unknown | Verdict::Expired | Verdict::Harmless => write!(f, "certs/{file}"),
        }?;
        write!(f, ": {}", self.reason)
    }
}

/// A certificate that HAProxy loads.
struct Loaded {
    names: Vec<String>,
    not_after: UnixTime,
    /// Where HAProxy stops to read its chain.
    cut: Option<PemError>,
}

/// Judges all that was found. `ours` are our files by the name that each bears, and what they are for.
pub fn judge<'a>(
    foreign_files: &[ForeignFile],
    ours: impl Iterator<Item = (&'a Domain, &'a [Domain])> + Clone,
    now: UnixTime,
) -> Vec<ForeignFileReport> {
    let certificates = CertificateFiles::new(ours.clone().map(|(owner, _)| owner), foreign_files);
    let looked = foreign_files.iter().map(|foreign| (foreign, look(foreign, &certificates)));
    let looked: Vec<(&ForeignFile, Result<Loaded, ForeignFileReport>)> = looked.collect();
    let shadows = shadows(&looked, ours);
    let judged = looked.into_iter().enumerate().map(|(place, (foreign, found))| match found {
        Err(judgement) => judgement,
        Ok(loaded) => judgement(foreign, &loaded, shadows.get(&place), now),
    });
    judged.collect()
}

/// What HAProxy makes of an entry by itself.
fn look(
    foreign: &ForeignFile,
    certificates: &CertificateFiles<'_>,
) -> Result<Loaded, ForeignFileReport> {
    let of = |verdict, reason: String| ForeignFileReport {
        file: printable(&foreign.file),
        verdict,
        reason,
        shadowed: Vec::new(),
    };
    let blocks = |reason: String| Err(of(Verdict::Blocks, reason));
    if companions::ENDINGS.iter().any(|ending| foreign.file.ends_with(ending)) {
        return match certificates.trouble(foreign) {
            Some(reason) => blocks(printable(&reason)),
            None => Err(of(
                Verdict::Harmless,
                "HAProxy loads no certificate from files of that ending".into(),
            )),
        };
    }
    if matches!(foreign.found, Found::Other) {
        return Err(of(Verdict::Harmless, "HAProxy passes over what is no file".into()));
    }
    match &foreign.found {
        Found::Link => Err(of(
            Verdict::Unknown,
            "it is a symbolic link, which HAProxy follows and marathon-acme does not".into(),
        )),
        Found::Unreadable(detail) => blocks(format!("it cannot be read: {}", printable(detail))),
        Found::File(text) if text.expose().is_empty() => blocks("it is empty".into()),
        Found::File(text) => match load(whole_sections(text.expose())) {
            Ok(loaded) => Ok(loaded),
            Err(BundleError::NoKey) if !text.expose().contains("-----BEGIN ") => {
                blocks("it holds neither a private key nor a certificate".into())
            }
            Err(error) => blocks(error.to_string()),
        },
        Found::Other => Err(of(Verdict::Harmless, String::new())),
    }
}

/// Of a text that was too long to be read to its end, the sections that are whole.
fn whole_sections(text: &str) -> &str {
    if text.len() as u64 <= FOREIGN_FILE_BYTES_MAX {
        return text;
    }
    let end = text.rfind("-----END ").and_then(|at| Some(at + text[at..].find('\n')?));
    end.map_or(text, |end| &text[..=end])
}

fn load(text: &str) -> Result<Loaded, BundleError> {
    let bundle = Bundle::as_haproxy_reads(text)?;
    bundle.can_be_loaded()?;
    // HAProxy serves a certificate also for what its subject says.
    let subject = subject_common_name(bundle.leaf_der()).map(|name| name.to_ascii_lowercase());
    let mut names = bundle.leaf().names.clone();
    names.extend(subject.filter(|name| !bundle.leaf().names.contains(name)));
    Ok(Loaded { names, not_after: bundle.leaf().not_after, cut: bundle.cut().cloned() })
}

/// For each that has a name of ours, by its place, which file of ours is not served then, and for which
/// names: of two files with one name in them HAProxy serves the one whose own name comes first, byte for
/// byte.
fn shadows<'a>(
    looked: &[(&ForeignFile, Result<Loaded, ForeignFileReport>)],
    ours: impl Iterator<Item = (&'a Domain, &'a [Domain])>,
) -> BTreeMap<usize, (&'a Domain, Vec<&'a Domain>)> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, (_, found)) in looked.iter().enumerate() {
        for name in found.iter().flat_map(|loaded| &loaded.names) {
            by_name.entry(name).or_default().push(place);
        }
    }
    let mut shadows = BTreeMap::new();
    if by_name.is_empty() {
        return shadows;
    }
    for (owner, names) in ours {
        let file = format!("{owner}.pem");
        for name in names {
            let places = by_name.get(name.as_str()).into_iter().flatten();
            for place in places.filter(|place| looked[**place].0.file < file) {
                let (_, shadowed) = shadows.entry(*place).or_insert((owner, Vec::new()));
                shadowed.push(name);
            }
        }
    }
    shadows
}

fn judgement(
    foreign: &ForeignFile,
    loaded: &Loaded,
    shadowed: Option<&(&Domain, Vec<&Domain>)>,
    now: UnixTime,
) -> ForeignFileReport {
    let expired =
        (loaded.not_after < now).then(|| format!("it has expired at {}", loaded.not_after));
    let (verdict, reason) = match (shadowed, expired) {
        (Some((owner, names)), expired) => {
            let names = listed(names.iter().map(|name| name.as_str()), names.len());
            let also = expired.map_or(String::new(), |expired| format!(", and {expired}"));
            let reason = format!("its name comes before {owner}.pem, and it is for {names}{also}");
            (Verdict::Shadows, reason)
        }
        (None, Some(expired)) => (Verdict::Expired, expired),
        (None, None) => {
            let names = listed(loaded.names.iter().map(String::as_str), loaded.names.len());
            let cut = loaded.cut.as_ref().map_or(String::new(), |cut| {
                format!("; {cut}, so that its chain is cut there, and HAProxy after 2.6 refuses it")
            });
            (Verdict::Harmless, format!("HAProxy loads it too, for {names}{cut}"))
        }
    };
    let shadowed = shadowed.map(|(_, names)| names.iter().map(|name| (*name).clone()).collect());
    let file = printable(&foreign.file);
    ForeignFileReport { file, verdict, reason, shadowed: shadowed.unwrap_or_default() }
}

/// The first of them, and how many more there are.
fn listed<'a>(names: impl Iterator<Item = &'a str>, count: usize) -> String {
    let first: Vec<&str> = names.take(NAMED_MAX).collect();
    match count.saturating_sub(NAMED_MAX) {
        0 if count == 0 => "no name".into(),
        0 => printable(&first.join(", ")),
        more => printable(&format!("{} and {more} more", first.join(", "))),
    }
}

#[cfg(test)]
mod tests;
