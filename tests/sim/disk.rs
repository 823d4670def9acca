//! The simulated storage directory: files by path. Every change is whole or refused.

use std::collections::BTreeMap;

use marathon_acme::domain::Domain;
use marathon_acme::seam::{Change, Inventory, Load, Loaded, StoreError, StoreErrorKind};
use marathon_acme::secret::Secret;
use stand_ins::random::Random;

use crate::faults::{Fault, Toll};

/// Where the simulated name server listens.
pub(crate) const RESOLV_CONF: &str = "nameserver 10.0.0.53\noptions timeout:1 attempts:3\n";

/// The files, and how the disk behaves.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Path relative to the storage directory, and content.
    pub(crate) files: BTreeMap<String, String>,
    /// Simulated time of the last change of a file that load balancers read, in milliseconds.
    pub(crate) last_write_ms: u64,
    /// How many writes of a hundred fail.
    pub(crate) fault_percent: u8,
    /// Which faults fired so far.
    pub(crate) toll: Toll,
    archived: usize,
    chance: Random,
}

impl Disk {
    /// An empty directory.
    pub(crate) fn new(chance: Random) -> Disk {
        let files = BTreeMap::new();
        Disk {
            files,
            last_write_ms: 0,
            fault_percent: 0,
            toll: Toll::default(),
            archived: 0,
            chance,
        }
    }

    /// Carries out a change.
    pub(crate) fn change(&mut self, now_ms: u64, change: Change) -> Result<(), StoreError> {
        if self.chance.chance(self.fault_percent) {
            self.toll.count(Fault::DiskFull);
            return Err(error(StoreErrorKind::Full, "storage", "no space left on device"));
        }
        match change {
            Change::AccountKey(pem) => {
                if self.files.contains_key("client.key") {
                    return Err(error(StoreErrorKind::Exists, "client.key", "file exists"));
                }
                self.put("client.key", pem.expose());
            }
            Change::Fallback(pem) => {
                self.files.entry("default.pem".into()).or_insert(pem.expose().into());
                self.last_write_ms = now_ms;
            }
            Change::Certificate(name, pem) => {
                self.put(&format!("certs/{name}.pem"), pem.expose());
                self.last_write_ms = now_ms;
            }
            Change::Archive(name) => {
                let pem = self.files.remove(&format!("certs/{name}.pem"));
                self.archived += 1;
                self.put(
                    &format!("archive/{name}.{}.pem", self.archived),
                    &pem.unwrap_or_default(),
                );
            }
            Change::ArchiveState => {
                let text = self.files.remove("state.json");
                self.archived += 1;
                let path = format!("archive/state.{}.json", self.archived);
                self.put(&path, &text.unwrap_or_default());
            }
            Change::State(bytes) => {
                let text = String::from_utf8(bytes).expect("state.json is text");
                self.put("state.json", &text);
            }
            Change::Publish { token, key_authorization } => {
                self.put(&format!("challenges/{token}"), &key_authorization);
            }
            Change::Withdraw { token } => {
                self.files.remove(&format!("challenges/{token}"));
            }
            // There is one instance here, which never loses its lock.
            Change::Beat | Change::TakeOver { .. } | Change::Release => {}
        }
        Ok(())
    }

    /// Reads.
    pub(crate) fn load(&mut self, load: Load) -> Loaded {
        match load {
            Load::Storage => Loaded::Storage(Ok(self.inventory())),
            Load::Certificate(name) => {
                let found = self.files.get(&format!("certs/{name}.pem"));
                let missing = || error(StoreErrorKind::Missing, "certs", "no such file");
                let pem = found.map(|text| Secret::new(text.clone())).ok_or_else(missing);
                Loaded::Certificate(name, pem)
            }
            Load::Challenge(conn, token) => {
                let found = self.files.get(&format!("challenges/{token}")).cloned();
                Loaded::Challenge(conn, token, found)
            }
            Load::NameService => Loaded::NameService {
                resolv_conf: RESOLV_CONF.into(),
                hosts: b"127.0.0.1 localhost\n".to_vec(),
            },
        }
    }

    /// The names in a folder.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        self.inside(folder).map(|(name, _)| name.to_string()).collect()
    }

    /// The names in a folder, each with its content.
    pub(crate) fn inside<'a>(
        &'a self,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let from = self.files.range(folder.to_string()..);
        from.map_while(move |(path, text)| Some((path.strip_prefix(folder)?, text.as_str())))
    }

    fn inventory(&self) -> Inventory {
        let name = |file: String| Domain::parse(file.strip_suffix(".pem")?).ok();
        Inventory {
            account_key: self.files.get("client.key").map(|pem| Secret::new(pem.clone())),
            has_fallback: self.files.contains_key("default.pem"),
            state: self.files.get("state.json").map(|text| text.clone().into_bytes()),
            certificates: self.names("certs/").into_iter().filter_map(name).collect(),
            challenges: self.names("challenges/"),
            ..Inventory::default()
        }
    }

    fn put(&mut self, path: &str, content: &str) {
        self.files.insert(path.to_string(), content.to_string());
    }
}

fn error(kind: StoreErrorKind, path: &str, detail: &str) -> StoreError {
    StoreError { kind, path: path.into(), detail: detail.into() }
}
