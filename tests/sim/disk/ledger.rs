//! What the storage has promised, and whether the disk keeps it. Looked at whenever a name outside
//! `tmp/` changes and after every power cut: a file there is whole, in `certs/` lies nothing but
//! certificates with their keys, and what was acknowledged stays.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use marathon_acme::domain::Domain;
use marathon_acme::machine::Change;
use marathon_acme::pki::Bundle;
use marathon_acme::time::UnixTime;

use super::tree::{File, Place, Tree};

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// `notBefore`.
    pub(crate) not_before: UnixTime,
    /// `notAfter`.
    pub(crate) not_after: UnixTime,
}

/// What a change is about to touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    AccountKey,
    Certificate(Domain),
    Archive(Domain),
    State,
    Lock,
    Other,
}

impl Subject {
    pub(super) fn of(change: &Change) -> Subject {
        match change {
            Change::AccountKey(_) => Subject::AccountKey,
            Change::Certificate(name, _) => Subject::Certificate(name.clone()),
            Change::Archive(name) => Subject::Archive(name.clone()),
            Change::State(_) => Subject::State,
            Change::ArchiveState => panic!("state.json is taken for damaged"),
            Change::Heartbeat | Change::TakeOver { .. } | Change::Release => Subject::Lock,
            Change::Fallback(_)
            | Change::Reject { .. }
            | Change::ReplaceArchived { .. }
            | Change::Publish { .. }
            | Change::Withdraw { .. } => Subject::Other,
        }
    }
}

/// What was acknowledged, by the numbers of files: one with a higher number is newer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    account_key: Option<Rc<Vec<u8>>>,
    certificates: BTreeMap<Domain, u64>,
    /// Of them, those that may have gone to the archive.
    archived: BTreeSet<Domain>,
    /// Files in `archive/` that were there from the start.
    planted: BTreeSet<String>,
    state: Option<u64>,
}

impl Ledger {
    /// A file is in `archive/` from the start.
    pub(super) fn planted(&mut self, name: &str) {
        self.planted.insert(name.to_string());
    }

    /// A change begins; until it has worked, nobody knows.
    pub(super) fn begin(&mut self, subject: &Subject) {
        if let Subject::Archive(name) = subject {
            self.archived.insert(name.clone());
        }
    }

    /// It was acknowledged.
    pub(super) fn acknowledged(&mut self, subject: &Subject, tree: &Tree) {
        let file = |folder: &str, name: &str| {
            let place = (folder.to_string(), name.to_string());
            let file = tree.file(&place);
            file.unwrap_or_else(|| panic!("{place:?} was stored and is not there")).borrow()
        };
        match subject {
            Subject::AccountKey => {
                self.account_key = Some(Rc::clone(&file("", "client.key").content));
            }
            Subject::Certificate(name) => {
                let number = file("certs", &format!("{name}.pem")).number;
                self.certificates.insert(name.clone(), number);
                self.archived.remove(name);
            }
            Subject::Archive(name) => {
                self.certificates.remove(name);
                self.archived.remove(name);
            }
            Subject::State => self.state = Some(file("", "state.json").number),
            Subject::Lock | Subject::Other => {}
        }
    }

    /// A name has got this file, or none.
    ///
    /// # Panics
    /// That must not be.
    pub(super) fn look(&self, place: &Place, file: Option<&File>) {
        let (folder, name) = (place.0.as_str(), place.1.as_str());
        match file {
            _ if folder == "tmp" || name == "lock" => {}
            Some(file) => self.look_at(folder, name, file),
            None if folder == "certs" => {
                let domain = domain(name);
                let promised = self.certificates.contains_key(&domain);
                let archived = self.archived.contains(&domain);
                assert!(!promised || archived, "{name} vanished from certs/");
            }
            None => {
                let lost = folder.is_empty() && name == "client.key" && self.account_key.is_some();
                assert!(!lost, "client.key vanished");
                assert!(name != "state.json", "state.json vanished");
                assert!(folder != "archive", "{name} vanished from archive/");
            }
        }
    }

    fn look_at(&self, folder: &str, name: &str, file: &File) {
        let mut file = file.borrow_mut();
        assert!(file.whole, "{folder}/{name} is not whole");
        match (folder, name) {
            ("archive", name) if self.planted.contains(name) => {
                let text = String::from_utf8_lossy(&file.content);
                assert!(text.contains("BEGIN CERTIFICATE"), "archive/{name} lost its certificate");
            }
            ("certs", name) => {
                let domain = domain(name);
                if file.validity.is_none() {
                    file.validity = Some(validity(&domain, &file.content));
                }
                let promised = self.certificates.get(&domain).copied().unwrap_or_default();
                assert!(file.number >= promised, "{name} is an older certificate again");
            }
            ("", "client.key") => {
                let same = self.account_key.as_ref().is_none_or(|known| *known == file.content);
                assert!(same, "client.key has changed");
            }
            ("", "state.json") => {
                let acknowledged = self.state.unwrap_or_default();
                assert!(file.number >= acknowledged, "state.json is an older one again");
            }
            _ => {}
        }
    }

    /// Looks at everything, as after a power cut.
    ///
    /// # Panics
    /// Something is lost.
    pub(super) fn look_at_all(&self, tree: &Tree) {
        tree.all().for_each(|(place, file)| self.look(place, Some(file)));
        let there = |folder: &str, name: &str| tree.file(&(folder.into(), name.into())).is_some();
        assert!(self.account_key.is_none() || there("", "client.key"), "client.key is lost");
        assert!(self.state.is_none() || there("", "state.json"), "state.json is lost");
        let planted = self.planted.iter().all(|name| there("archive", name));
        assert!(planted, "a file in archive/ is lost");
        for (name, number) in &self.certificates {
            let archived = self.archived.contains(name)
                && tree.inside("archive").any(|(_, file)| file.borrow().number >= *number);
            let there = there("certs", &format!("{name}.pem"));
            assert!(there || archived, "the certificate of {name} is lost");
        }
    }
}

/// Whose certificate a file in `certs/` is: HAProxy loads whatever lies there.
fn domain(name: &str) -> Domain {
    let domain = name.strip_suffix(".pem").and_then(|name| Domain::parse(name).ok());
    domain.unwrap_or_else(|| panic!("certs/{name} is no certificate by its name"))
}

fn validity(name: &Domain, content: &[u8]) -> Validity {
    let text = std::str::from_utf8(content).expect("PEM is text");
    let bundle = Bundle::parse(text).expect("a whole file");
    bundle.key_matches().expect("key and certificate match");
    bundle.covers(std::slice::from_ref(name)).expect("it is for its name");
    let leaf = bundle.leaf();
    Validity { not_before: leaf.not_before, not_after: leaf.not_after }
}
