//! What a file in `certs/` is said to do, against what a real HAProxy does with it: every kind of key and
//! certificate, and files that chance has spoilt.

mod shapes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use marathon_acme::certs_scan::{ForeignFile, Found};
use marathon_acme::pki::guard::{Verdict, judge};
use marathon_acme::secret::Secret;
use marathon_acme::time::UnixTime;

use crate::process::{Outcome, expect};
use crate::site::text;
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] =
    &[("what_is_said_of_ten_thousand_files_is_what_haproxy_does", &[Tool::HaProxy], ten_thousand)];

const FILES: u64 = 10_000;
/// HAProxy checks so many files at once: it stops at 50 errors.
const AT_ONCE: usize = 49;
/// Lines of the configuration before the first file's.
const LINES_BEFORE: usize = 4;

/// Every file is made by a number, which is said when the two differ.
fn ten_thousand() -> Outcome {
    let folder = tempfile::tempdir().map_err(text)?;
    let numbers: Vec<u64> = (0..FILES).collect();
    let (mut blocked, mut differ) = (0, Vec::new());
    for numbers in numbers.chunks(AT_ONCE) {
        let files: Vec<Vec<u8>> = numbers.iter().map(|number| shapes::file(*number)).collect();
        let refused = refused(folder.path(), &files)?;
        for ((number, file), refused) in numbers.iter().zip(&files).zip(refused) {
            let (verdict, reason) = verdict(file);
            blocked += u64::from(verdict == Verdict::Blocks);
            if (verdict == Verdict::Blocks) != refused.is_some() {
                let refused = refused.unwrap_or_else(|| "it loads".into());
                differ.push(format!("{number}: {verdict:?}: {reason}; HAProxy: {refused}"));
            }
        }
    }
    // Some of each, or nothing was compared.
    expect((FILES / 10..FILES - FILES / 10).contains(&blocked), || format!("{blocked} block"))?;
    expect(differ.is_empty(), || format!("{} differ:\n{}", differ.len(), differ.join("\n")))
}

fn verdict(file: &[u8]) -> (Verdict, String) {
    let found = Found::File(Secret::from_bytes(file.to_vec()));
    let stranger = ForeignFile { file: "x.pem".into(), found };
    let now = UnixTime::from_seconds(1_800_000_000);
    let judgement = judge(&[stranger], std::iter::empty(), now).pop().expect("one of one");
    (judgement.verdict, judgement.reason)
}

/// Of each file, why HAProxy refuses it, if it does.
fn refused(folder: &Path, files: &[Vec<u8>]) -> Outcome<Vec<Option<String>>> {
    let mut lines = "defaults\n  mode http\n  timeout client 1s\nfrontend f\n".to_string();
    for (place, file) in files.iter().enumerate() {
        let path: PathBuf = folder.join(format!("{place}.pem"));
        fs::write(&path, file).map_err(text)?;
        lines += &format!("  bind 127.0.0.1:{} ssl crt {}\n", place + 1, path.display());
    }
    let configuration = folder.join("haproxy.cfg");
    fs::write(&configuration, lines).map_err(text)?;
    let check = Command::new("haproxy").arg("-c").arg("-f").arg(&configuration).output();
    let said = String::from_utf8_lossy(&check.map_err(text)?.stderr).into_owned();

    let mut refused = vec![None; files.len()];
    for line in said.lines() {
        let Some((_, rest)) = line.split_once("haproxy.cfg:") else { continue };
        let Some((number, reason)) = rest.split_once(']') else { continue };
        let place = number.parse::<usize>().map_err(text)?.checked_sub(LINES_BEFORE + 1);
        let slot =
            place.and_then(|place| refused.get_mut(place)).ok_or_else(|| line.to_string())?;
        *slot = Some(reason.to_string());
    }
    Ok(refused)
}
