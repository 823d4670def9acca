//! Whether every name that was given resolves, and to how many addresses. Asks nobody but name servers.

use std::net::IpAddr;

use crate::client::{Client, ClientEvent, RequestId};
use crate::config::{Config, Place};
use crate::context::Context;
use crate::url::Host;

use super::Part;
use super::open::Open;
use super::report::Finding;

const SUBJECT: &str = "name";

/// The lookups, and what they found.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each name once, in the order in which they were given, with what it is for.
    wanted: Vec<(String, &'static str)>,
    /// Names that a proxy resolves, with the proxy.
    proxied: Vec<(String, String)>,
    open: Open<String>,
    found: Vec<(String, Result<Vec<IpAddr>, String>)>,
}

impl Names {
    /// Looks all of them up.
    pub(super) fn start(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        config: &Config,
    ) {
        for url in std::iter::once(&config.acme).chain(&config.marathon) {
            let option = if *url == config.acme { "--acme" } else { "--marathon" };
            match config.proxies.choose(url.origin()) {
                None => self.want(&url.origin().host, option),
                Some(proxy) => {
                    self.proxied.push((url.origin().host.to_string(), proxy.to_string()));
                    self.want(&proxy.host, "the proxy's variable");
                }
            }
        }
        config.lb.iter().for_each(|url| self.want(&url.origin().host, "--lb"));
        for (_, place) in &config.lb_verify.elsewhere {
            if let Place::Host(host, _) = place {
                self.want(host, "--lb-verify");
            }
        }
        for (name, _) in &self.wanted {
            let host = Host::Name(name.clone());
            self.open.insert(client.resolve(cx, Part::Names, &host), name.clone());
        }
    }

    /// An address is its own answer.
    fn want(&mut self, host: &Host, option: &'static str) {
        if let Host::Name(name) = host
            && self.wanted.iter().all(|(known, _)| known != name)
        {
            self.wanted.push((name.clone(), option));
        }
    }

    pub(super) fn handle_event(&mut self, request: RequestId, event: ClientEvent) {
        let Some(name) = self.open.take(request) else { return };
        let found = match event {
            ClientEvent::Addresses(addresses) => Ok(addresses),
            ClientEvent::Failed(error) => Err(error.fault.to_string()),
            _ => return,
        };
        self.found.push((name, found));
    }

    pub(super) fn is_done(&self) -> bool {
        self.open.len() == 0
    }

    pub(super) fn give_up(&mut self, reason: &str) {
        for name in self.open.take_all() {
            self.found.push((name, Err(reason.into())));
        }
    }

    /// A host's addresses; `None` while they are looked for.
    pub(super) fn addresses(&self, host: &Host) -> Option<Vec<IpAddr>> {
        match host {
            Host::Ip(address) => Some(vec![*address]),
            Host::Name(name) => self.found(name).map(|it| it.clone().unwrap_or_default()),
        }
    }

    fn found(&self, name: &str) -> Option<&Result<Vec<IpAddr>, String>> {
        self.found.iter().find(|(known, _)| known == name).map(|(_, found)| found)
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let proxied = self.proxied.iter().map(|(name, proxy)| {
            Finding::ok(SUBJECT, format!("{name}: left to the proxy {proxy}"))
        });
        let looked_up = self.wanted.iter().filter_map(|(name, option)| {
            Some(match self.found(name)? {
                Ok(addresses) => {
                    let count = addresses.len() as u64;
                    let addresses = if count == 1 { "address" } else { "addresses" };
                    Finding::ok(SUBJECT, format!("{name}: {count} {addresses}"))
                }
                Err(problem) => {
                    let remedy = format!("check the name in {option}, and /etc/resolv.conf");
                    Finding::fail(SUBJECT, format!("{name}: {problem}"), remedy)
                }
            })
        });
        proxied.chain(looked_up).collect()
    }
}
