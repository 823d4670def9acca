//! Who sent a request: the client returns it with each event of that request, and `mod.rs`
//! dispatches by it. Never holds anything else about the request.

use std::net::IpAddr;

/// The part that sent a request, and which of its requests it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The watcher.
    Watcher(WatcherRequest),
    /// The routes.
    Routes(RouteRequest),
    /// The reloader.
    Reloader(LbRequest),
    /// The issuer.
    Issuer(CallId),
}

/// A request to Marathon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatcherRequest {
    /// The event stream.
    Stream,
    /// The list of apps.
    Sync,
}

/// A request of the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteRequest {
    /// A lookup of the load balancers' addresses.
    Balancers,
    /// A step with one domain.
    Step,
}

/// A request that is about a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbRequest {
    /// The index of its `--lb` URL.
    pub target: usize,
    /// The load balancer's address; `None` for a lookup of the addresses.
    pub address: Option<IpAddr>,
}

/// Names a call on its way to the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);
