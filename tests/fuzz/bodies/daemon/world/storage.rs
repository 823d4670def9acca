//! The storage, played: what changes are made of it, and what readings find.

use marathon_acme::certs_scan::{ForeignFile, Found, Look};
use marathon_acme::machine::{Change, Input, Inventory, Load, Loaded, StoreError, StoreErrorKind};
use marathon_acme::pki::Bundle;
use marathon_acme::secret::Secret;

use super::World;
use crate::bodies::daemon::{Script, kind};
use crate::bodies::keys::KEY_PEM;

impl World {
    /// The oldest change is made, or not.
    pub fn stored(&mut self, error: Option<StoreErrorKind>) {
        let Some((write, change)) = self.writes.pop_front() else { return };
        let result = match error {
            Some(kind) => Err(failure(kind)),
            None => {
                self.apply(change);
                Ok(())
            }
        };
        self.tell(Input::Stored(write, result));
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::AccountKey(_) => self.has_key = true,
            Change::Certificate(name, pem) => {
                self.files.insert(name, pem.expose().to_string());
            }
            Change::Archive(name) => drop(self.files.remove(&name)),
            Change::State(bytes) => self.state = Some(bytes),
            Change::Publish { token, key_authorization } => {
                self.tokens.insert(token, key_authorization);
            }
            Change::Withdraw { token } => drop(self.tokens.remove(&token)),
            Change::ArchiveState => self.state = None,
            Change::Fallback(_)
            | Change::Reject { .. }
            | Change::ReplaceArchived { .. }
            | Change::Heartbeat
            | Change::TakeOver { .. }
            | Change::Release => {}
        }
    }

    /// The oldest reading is answered: well, with something odd, or with an error.
    pub fn loaded(&mut self, which: usize, script: &mut Script<'_>) {
        let Some(load) = self.loads.pop_front() else { return };
        let error = failure(kind(which / 2));
        let loaded = match (load, which.is_multiple_of(2)) {
            (load, true) => self.found(load),
            (Load::Storage, false) if which < 4 => {
                let state = script.text().to_vec();
                let challenges = vec!["old".into()];
                Loaded::Storage(Ok(Inventory {
                    state: Some(state),
                    challenges,
                    ..self.inventory()
                }))
            }
            (Load::Storage, false) => Loaded::Storage(Err(error)),
            (Load::Certificate(name), false) if which < 4 => {
                let text = String::from_utf8_lossy(script.text()).into_owned();
                Loaded::Certificate(name, Ok(Secret::new(text)))
            }
            (Load::Certificate(name), false) => Loaded::Certificate(name, Err(error)),
            (Load::Challenge(conn, token), false) => Loaded::Challenge(conn, token, None),
            (Load::Challenges, false) => Loaded::Challenges(Vec::new()),
            (Load::Guard(_), false) if which < 4 => {
                let found = Found::File(Secret::new("-----BEGIN ".into()));
                let file = String::from_utf8_lossy(script.text()).into_owned();
                let foreign = ForeignFile { file, found };
                let ours: Vec<_> = self.files.keys().cloned().collect();
                let (changed, foreign_files) = (ours.clone(), vec![foreign]);
                Loaded::Guard(Ok(Look { ours, changed, foreign_files, more: which }))
            }
            (Load::Guard(_), false) => Loaded::Guard(Err(error)),
            (Load::Archive { after: None }, false) if which < 4 => {
                let file = String::from_utf8_lossy(script.text()).into_owned();
                Loaded::Archive(Ok(vec![format!("{file}.pem")]))
            }
            (Load::Archive { .. }, false) => Loaded::Archive(Err(error)),
            (Load::Archived(file), false) if which < 4 => {
                let text = String::from_utf8_lossy(script.text()).into_owned();
                Loaded::Archived(file, Ok(Secret::new(text)))
            }
            (Load::Archived(file), false) => Loaded::Archived(file, Err(error)),
            (Load::Token(_), false) => Loaded::Token(Err(error)),
            (Load::NameService, false) => {
                let (resolv_conf, hosts) = (script.text().to_vec(), script.text().to_vec());
                Loaded::NameService { resolv_conf, hosts }
            }
        };
        self.tell(Input::Loaded(loaded));
    }

    pub(super) fn found(&self, load: Load) -> Loaded {
        match load {
            Load::Storage => Loaded::Storage(Ok(self.inventory())),
            Load::Certificate(name) => {
                let file = self.files.get(&name).map(|pem| Secret::new(pem.clone()));
                let file = file.ok_or_else(|| failure(StoreErrorKind::Missing));
                Loaded::Certificate(name, file)
            }
            Load::Challenge(conn, token) => {
                let found = self.tokens.get(&token).cloned();
                Loaded::Challenge(conn, token, found)
            }
            Load::Challenges => Loaded::Challenges(self.tokens.keys().cloned().collect()),
            Load::Guard(_) => {
                let ours = self.files.keys().cloned().collect();
                Loaded::Guard(Ok(Look { ours, ..Look::default() }))
            }
            Load::Archive { .. } => Loaded::Archive(Ok(Vec::new())),
            Load::Archived(file) => Loaded::Archived(file, Err(failure(StoreErrorKind::Missing))),
            Load::Token(_) => Loaded::Token(Ok(Secret::new("eyJ0.eyJ1.c2ln".into()))),
            Load::NameService => Loaded::NameService {
                resolv_conf: b"nameserver 10.0.0.1\nsearch mesos\n".to_vec(),
                hosts: b"10.0.0.2 ca\n10.0.0.3 marathon.mesos\n10.0.0.4 lb\n".to_vec(),
            },
        }
    }

    fn inventory(&self) -> Inventory {
        Inventory {
            account_key: self.has_key.then(|| Secret::new(KEY_PEM.into())),
            has_fallback: self.inventory & 4 != 0,
            state: self.state.clone(),
            certificates: self.files.keys().cloned().collect(),
            challenges: self.tokens.keys().cloned().collect(),
            leased: self.inventory & 8 != 0,
            ..Inventory::default()
        }
    }
}

/// Nothing that is not whole ever gets into the storage. `together`: a file may be for other names of
/// its label, when its own has failed.
pub(super) fn check(change: &Change, together: bool) {
    match change {
        Change::Certificate(name, pem) => {
            let bundle = Bundle::parse(pem.expose()).expect("a whole file");
            bundle.key_matches().expect("key and certificate match");
            let is_for = bundle.covers(std::slice::from_ref(name));
            assert!(together || is_for.is_ok(), "{name}: {is_for:?}");
        }
        // Whether it reads the same is another target's.
        Change::State(bytes) => assert!(bytes.starts_with(b"{") && bytes.ends_with(b"}\n")),
        Change::Publish { token, key_authorization } => {
            assert!(key_authorization.starts_with(&format!("{token}.")));
        }
        _ => {}
    }
}

fn failure(kind: StoreErrorKind) -> StoreError {
    StoreError { kind, path: "x".into(), detail: "the disk's words".into() }
}
