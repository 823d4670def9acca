//! A site with the strict CA, for tests of a certificate's life: the daemon started again and again on
//! one storage, and what it leaves there, as others than the daemon read it.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use stand_ins::ca::{Ca, Settings};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::process::{Outcome, Process, Signal, wait_until};
use crate::site::{Site, StandInCa, text};

/// How long the contract lets the daemon take to end.
const STOP: Duration = Duration::from_secs(2);

/// The site and its CA.
pub(crate) struct Stand {
    pub(crate) site: Site,
    pub(crate) ca: StandInCa,
}

/// What a file in `certs/` holds.
pub(crate) struct File {
    /// PKCS#8 DER.
    pub(crate) key: Vec<u8>,
    /// Leaf first, DER.
    pub(crate) chain: Vec<Vec<u8>>,
    /// The leaf's subject alternative names, sorted.
    pub(crate) names: Vec<String>,
}

impl Stand {
    pub(crate) fn new(settings: Settings) -> Outcome<Stand> {
        let site = Site::new()?;
        let ca = StandInCa::start(site.folder(), site.port, settings)?;
        Ok(Stand { site, ca })
    }

    /// The words that start the daemon, for a test that does so itself.
    pub(crate) fn arguments(&self) -> Vec<String> {
        self.site.arguments(&self.ca.directory, &self.ca.root)
    }

    /// Starts the daemon.
    pub(crate) fn start(&self, name: &str, more: &[&str]) -> Outcome<Process> {
        self.site.daemon(name, &self.arguments(), more)
    }

    /// Looks at the CA, or does something to it.
    pub(crate) fn with_ca<R>(&self, act: impl FnOnce(&mut Ca) -> R) -> R {
        self.ca.ca.with(|ca, _| act(ca))
    }

    /// How many requests of this kind the CA had.
    pub(crate) fn count(&self, method: &str, path: &str, status: u16) -> usize {
        self.with_ca(|ca| ca.count(method, path, status))
    }

    /// How many certificates the CA has issued.
    pub(crate) fn issued(&self) -> usize {
        self.with_ca(|ca| ca.issued().len())
    }

    /// Waits until the CA has issued so many.
    pub(crate) fn wait_for_issued(&self, daemon: &Process, count: usize) -> Outcome {
        let enough = || (self.issued() >= count).then_some(());
        wait_until(&format!("{count} certificates"), enough)
            .map_err(|error| format!("{error}\n{}", daemon.output()))
    }

    /// Waits until the CA has answered this many requests for authorizations with status 500.
    pub(crate) fn wait_for_refusals(&self, count: usize) -> Outcome {
        let enough = || (self.count("POST", "/authz", 500) >= count).then_some(());
        wait_until(&format!("{count} refused requests for authorizations"), enough)
    }

    /// `state.json` as it is.
    pub(crate) fn state(&self) -> Outcome<Value> {
        let bytes = fs::read(self.site.storage.join("state.json")).map_err(text)?;
        serde_json::from_slice(&bytes).map_err(text)
    }

    /// What `state.json` knows of a certificate.
    pub(crate) fn remembered(&self, name: &str) -> Outcome<Value> {
        Ok(self.state()?["certificates"][name].clone())
    }

    /// Waits until `state.json` knows something of a certificate, by its JSON pointer.
    pub(crate) fn wait_for_memory(&self, name: &str, pointer: &str) -> Outcome<Value> {
        wait_until(&format!("{pointer} of {name} in state.json"), || {
            self.remembered(name).ok()?.pointer(pointer).cloned()
        })
    }

    /// Changes `state.json` while no daemon runs.
    pub(crate) fn change_state(&self, change: impl FnOnce(&mut Value)) -> Outcome {
        let mut state = self.state()?;
        change(&mut state);
        fs::write(self.site.storage.join("state.json"), state.to_string()).map_err(text)
    }

    /// Removes the key of the certificate that is being issued from `state.json`.
    pub(crate) fn forget_key(&self, name: &str) -> Outcome {
        self.change_state(|state| {
            if let Some(attempt) = state["certificates"][name]["attempt"].as_object_mut() {
                attempt.remove("key");
            }
        })
    }

    /// Makes a daemon that is started next ask about every renewal at once.
    pub(crate) fn forget_when_to_ask(&self) -> Outcome {
        self.change_state(|state| {
            let certificates = state["certificates"].as_object_mut();
            for certificate in certificates.into_iter().flat_map(|them| them.values_mut()) {
                if let Some(advice) = certificate["life"]["advice"].as_object_mut() {
                    advice.remove("ask_at");
                }
            }
        })
    }

    /// What is stored for a name.
    pub(crate) fn file(&self, name: &str) -> Outcome<File> {
        let bytes = fs::read(self.site.certificate(name)).map_err(text)?;
        let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(&bytes).collect();
        let mut blocks = blocks.map_err(text)?.into_iter().map(|block| block.contents);
        let key = blocks.next().ok_or("an empty file")?;
        let chain: Vec<Vec<u8>> = blocks.collect();
        let names = names(chain.first().ok_or("no certificate in the file")?)?;
        Ok(File { key, chain, names })
    }

    /// Waits until a stored certificate is for exactly these names.
    pub(crate) fn wait_for_names(&self, daemon: &Process, names: &[&str]) -> Outcome<File> {
        let first = names.first().ok_or("no names")?;
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        let fits = || self.file(first).ok().filter(|file| file.names == sorted);
        wait_until(&format!("a certificate for {names:?}"), fits)
            .map_err(|error| format!("{error}\n{}", daemon.output()))
    }

    /// How many files are in `certs/`.
    pub(crate) fn files(&self) -> usize {
        fs::read_dir(self.site.storage.join("certs")).map_or(0, Iterator::count)
    }

    /// Lets a desired certificate come and be served that has nothing to do with the test, so that
    /// whatever the daemon was going to do for the others has had its time.
    pub(crate) fn let_time_pass(&self, daemon: &Process, label: &str) -> Outcome {
        let name = format!("{label}.example.net");
        self.site.deploy(&format!("/{label}"), &name);
        self.site.wait_for_certificate(daemon, &name)
    }
}

/// Ends the daemon in order.
pub(crate) fn stop(daemon: &mut Process) -> Outcome {
    daemon.signal(Signal::TERM)?;
    let status = daemon.wait(STOP)?;
    if status.success() { Ok(()) } else { Err(format!("{status}:\n{}", daemon.output())) }
}

/// Ends it as a machine would that loses its power.
pub(crate) fn kill(daemon: &mut Process) -> Outcome {
    daemon.signal(Signal::KILL)?;
    daemon.wait(STOP).map(|_| ())
}

/// The subject alternative names of a certificate, sorted.
pub(crate) fn names(der: &[u8]) -> Outcome<Vec<String>> {
    let (_, leaf) = X509Certificate::from_der(der).map_err(text)?;
    let found = leaf.subject_alternative_name().map_err(text)?.ok_or("no alternative names")?;
    let names = found.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        _ => None,
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}
