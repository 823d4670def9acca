//! A site whose CA and load balancer are the real ones, for tests of the daemon between the two.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::process::{Outcome, Process, free_port};
use crate::real::{Environment, HaProxy, Pebble};
use crate::site::Site;

/// Marathon alone is a stand-in: challenges go from Pebble through HAProxy to the daemon.
pub(crate) struct RealSite {
    pub(crate) haproxy: HaProxy,
    pub(crate) pebble: Pebble,
    /// The words that start the daemon.
    pub(crate) arguments: Vec<String>,
    /// Trusts what Pebble issues.
    pub(crate) trust: Arc<ClientConfig>,
    /// The last to go: the others have files in its folder.
    pub(crate) site: Site,
}

impl RealSite {
    /// Starts all of it, and a first daemon that has its account then. `pebble` are further members of
    /// Pebble's configuration.
    pub(crate) fn start(
        environment: Environment<'_>,
        pebble: &serde_json::Value,
        more: &[&str],
    ) -> Outcome<(RealSite, Process)> {
        let site = Site::new()?;
        let http_port = free_port()?;
        let pebble = Pebble::start_with(site.folder(), http_port, environment, pebble)?;
        let mut arguments = site.arguments(&pebble.directory(), &pebble.root_file);
        arguments.extend(more.iter().map(ToString::to_string));
        let mut daemon = site.daemon("daemon", &arguments, &[])?;
        let control = site.lb.clone();
        let haproxy =
            HaProxy::start(site.folder(), &site.storage, http_port, &[site.port], control)?;
        let trust = pebble.issued_root()?;
        daemon.wait_until_registered(site.port)?;
        Ok((RealSite { site, pebble, haproxy, arguments, trust }, daemon))
    }
}
