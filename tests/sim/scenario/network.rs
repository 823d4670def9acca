//! What a seed does to the network: its weather, addresses that lead nowhere or change, strangers at the
//! listener. And the bounds on what the daemon may hold open meanwhile.

use std::net::{IpAddr, SocketAddr};

use marathon_acme::client::IDLE_MAX;
use marathon_acme::machine::ConnId;
use stand_ins::random::Random;

use super::load_balancers;
use super::{MINUTE, SECOND};
use crate::faults::{Fault, Switches};
use crate::machine::MACHINES_MAX;
use crate::network::{Grave, Nanos, PeerId, Strangers, Weather};
use crate::world::World;

/// After the last trouble everything rests so long.
pub(super) const QUIET: Nanos = 30 * MINUTE;
/// Then nothing is open that was opened so long ago, but for the event stream.
const LASTING: Nanos = 15 * MINUTE;
/// And the event stream is one that is heard of: `sse_timeout`, and what it takes to notice.
const SILENCE_MAX: Nanos = MINUTE + 5 * SECOND;
/// Requests to the CA at once at most: one for each of ten orders, the account's, one for advice.
const CALLS_MAX: usize = 12;
/// Connections that the daemons let in at once at most, each with the one that pushes another one out.
/// What comes to one that stands still is more than its share, and less than another's.
const ACCEPTED_MAX: usize = MACHINES_MAX * (512 + 1);
/// Bytes on their way on one connection at most: what a peer that does not read is owed before
/// nothing more is taken from it, and the answers to the last that was taken.
const UNHEARD_MAX: usize = 128 * 1024;
/// Datagrams that one lookup needs at most, where each try fails at once: two families, three tries.
const DATAGRAMS_PER_LOOKUP: u64 = 6;

/// The network's troubles of one run.
pub(super) struct Ways {
    moves: bool,
    names: Vec<(String, u16)>,
    next: Nanos,
    chance: Random,
}

impl Ways {
    /// They begin at once.
    pub(super) fn new(world: &mut World, faults: &Switches, chance: &mut Random) -> Ways {
        world.network.weather = Weather::bad(chance, faults);
        world.peers.strangers = Strangers::come(chance.fork(), faults);
        let marathons =
            (0..world.peers.marathons.len()).map(|i| (format!("marathon{i}.mesos"), 8080));
        let lbs = ["lb0.mesos", "lb1.mesos"].map(|name| (name.to_string(), load_balancers::PORT));
        let names: Vec<(String, u16)> =
            marathons.chain([("ca.example".to_string(), 14000)]).chain(lbs).collect();
        let mut ways =
            Ways { moves: faults.are_on(Fault::DnsMoved), names, next: 0, chance: chance.fork() };
        for (name, port) in ways.names.clone() {
            ways.add_dead(world, &name, port);
        }
        if ways.chance.chance(30) {
            ways.give_ipv6(world);
        }
        ways
    }

    /// Addresses that a name has now and then and that lead nowhere.
    fn add_dead(&mut self, world: &mut World, name: &str, port: u16) {
        let graves = [Grave::Refuses, Grave::Swallows, Grave::NoRoute];
        let grave = graves[self.chance.below(graves.len() as u64) as usize];
        for (ipv4, grave, fault) in
            [(true, grave, Fault::DnsDeadAddress), (false, Grave::NoRoute, Fault::DnsNoRoute)]
        {
            let address = world.new_address(ipv4);
            world.network.bury(0, SocketAddr::new(address, port), grave, fault);
            world.peers.names.add_dead(name, address);
        }
    }

    /// The second load balancer has an IPv6 address instead.
    fn give_ipv6(&mut self, world: &mut World) {
        let mut addresses = world.peers.names.of("lb0.mesos").to_vec();
        self.move_to(world, &mut addresses, 1, load_balancers::PORT, false);
        world.peers.names.set("lb0.mesos", &addresses);
    }

    fn move_to(
        &mut self,
        world: &mut World,
        addresses: &mut [IpAddr],
        place: usize,
        port: u16,
        ipv4: bool,
    ) {
        let old = SocketAddr::new(addresses[place], port);
        let Some(peer) = world.network.peer_at(old) else { return };
        let new = world.new_address(ipv4);
        let grave = [Grave::Refuses, Grave::Swallows][self.chance.below(2) as usize];
        world.network.bury(world.now(), old, grave, Fault::DnsMoved);
        world.network.listen(SocketAddr::new(new, port), peer);
        addresses[place] = new;
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Nanos {
        self.next
    }

    /// A peer moves, if it is time.
    pub(super) fn stir(&mut self, world: &mut World) {
        if world.now() < self.next {
            return;
        }
        self.next = world.now() + self.chance.between(20, 300) * SECOND;
        let place = self.chance.below(self.names.len() as u64) as usize;
        let (name, port) = self.names[place].clone();
        let mut addresses = world.peers.names.of(&name).to_vec();
        if self.moves && !addresses.is_empty() {
            let place = self.chance.below(addresses.len() as u64) as usize;
            let ipv4 = addresses[place].is_ipv4();
            self.move_to(world, &mut addresses, place, port, ipv4);
            world.peers.names.set(&name, &addresses);
        }
    }

    /// All is well again.
    pub(super) fn heal(&mut self, world: &mut World) {
        world.network.weather = Weather::fine();
        world.peers.strangers.stay_away();
    }
}

/// What held at every moment of the run.
///
/// A request is at one connection at a time, or has two questions under way: of the daemon's requests
/// there are for each Marathon an event stream and a list of apps, the calls to the CA, and for each
/// load balancer's address a signal and for its name a lookup. To these come the kept connections.
pub(super) fn check_bounds(world: &World) -> Result<(), String> {
    let requests = 2 * world.peers.marathons.len() + CALLS_MAX + world.peers.lbs.len() + 4;
    let most = world.network.books.most;
    let bounds = [
        ("dialed connections", most.dialed, 2 * requests + IDLE_MAX),
        ("accepted connections", most.accepted, ACCEPTED_MAX),
        ("bytes on their way on one connection", most.unheard, UNHEARD_MAX),
    ];
    for (what, most, bound) in bounds {
        if most > bound {
            return Err(format!("{most} {what}, where {bound} are allowed"));
        }
    }
    let (most, bound) = (most.asked, DATAGRAMS_PER_LOOKUP * requests as u64);
    match most > bound {
        true => Err(format!("{most} questions in a second, where {bound} are allowed")),
        false => Ok(()),
    }
}

/// What holds when everything rests: only event streams are open for long.
pub(super) fn check_quiet(world: &World) -> Result<(), String> {
    let books = &world.network.books;
    let mut streams = 0;
    for conn in books.conns_since(world.now() - LASTING) {
        match (conn, world.network.peer_of(conn)) {
            (ConnId::Dialed(_), Some((PeerId::Marathon(_), _))) => {
                let heard = world.network.last_heard(conn).unwrap_or_default();
                if world.now() > heard + SILENCE_MAX {
                    let seconds = (world.now() - heard) / SECOND;
                    return Err(format!("an event stream is kept that is silent for {seconds} s"));
                }
                streams += 1;
            }
            (_, peer) => return Err(format!("{conn:?} to {peer:?} is left open")),
        }
    }
    if streams > 1 {
        return Err(format!("{streams} event streams are open"));
    }
    match books.sockets_since(world.now() - MINUTE) {
        0 => Ok(()),
        count => Err(format!("{count} sockets are left open")),
    }
}
