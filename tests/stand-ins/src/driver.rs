//! Runs a [`Peer`] on real sockets, for the demo and the end-to-end tests: moves bytes, tells the
//! time, dials where the peer wants to, and decides nothing.
//!
//! One thread accepts, one keeps the time, one reads each connection; a lock around the peer makes
//! their reports come one after the other. Everything ends when the driver is dropped.

mod link;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;

use crate::peer::{Action, DialError, FIRST_DIALED, Peer, Time};
use link::Link;

/// A write that takes longer means that the client does not read any more.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
const DIAL_PATIENCE: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 16 * 1024;

/// Finds the address for a host name and a port that a peer wants to dial.
pub type Route = Box<dyn Fn(&str, u16) -> Option<SocketAddr> + Send + Sync>;

/// What a driver needs besides the peer.
#[derive(Default)]
pub struct Options {
    /// TLS for accepted connections; plain TCP without it.
    pub tls: Option<Arc<ServerConfig>>,
    /// Where dialed connections go; without it every host is unknown.
    pub route: Option<Route>,
}

/// A peer on a real socket.
pub struct Driver<P: Peer + Send + 'static> {
    shared: Arc<Shared<P>>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<P> {
    core: Mutex<Core<P>>,
    /// The peer's next deadline may have changed, or the end has come.
    changed: Condvar,
    options: Options,
    started: Instant,
}

struct Core<P> {
    peer: P,
    links: BTreeMap<u64, Link>,
    accepted_count: u64,
    dials: Vec<(u64, String, u16)>,
    readers: Vec<JoinHandle<()>>,
    stopped: bool,
}

impl<P: Peer + Send + 'static> Driver<P> {
    /// Starts to serve a listener.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn start(listener: TcpListener, peer: P, options: Options) -> std::io::Result<Driver<P>> {
        let address = listener.local_addr()?;
        let core = Core {
            peer,
            links: BTreeMap::new(),
            accepted_count: 0,
            dials: Vec::new(),
            readers: Vec::new(),
            stopped: false,
        };
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            changed: Condvar::new(),
            options,
            started: Instant::now(),
        });
        let acceptor = Arc::clone(&shared);
        let timer = Arc::clone(&shared);
        let threads = vec![
            thread::spawn(move || acceptor.accept(&listener)),
            thread::spawn(move || timer.keep_time()),
        ];
        Ok(Driver { shared, address, threads })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks at the peer or does something to it; what the peer then wants done is done before this
    /// returns.
    pub fn with<R>(&self, act: impl FnOnce(&mut P, Time) -> R) -> R {
        self.shared.step(act)
    }
}

impl<P: Peer + Send + 'static> Drop for Driver<P> {
    fn drop(&mut self) {
        let readers = {
            let mut core = self.shared.lock();
            core.stopped = true;
            core.links.values().for_each(Link::cut);
            std::mem::take(&mut core.readers)
        };
        self.shared.changed.notify_all();
        // Wakes the acceptor, which then sees the end.
        let _ = TcpStream::connect_timeout(&self.address, DIAL_PATIENCE);
        for thread in self.threads.drain(..).chain(readers) {
            let _ = thread.join();
        }
    }
}

/// The time by a monotonic clock that started at `started`, and by the calendar.
fn time_since(started: Instant) -> Time {
    let mono_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { mono_ms, unix_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX) }
}

/// The time as a driver that starts now sees it, for a peer that is made before its driver.
pub fn time_now() -> Time {
    time_since(Instant::now())
}

impl<P: Peer + Send + 'static> Shared<P> {
    fn lock(&self) -> MutexGuard<'_, Core<P>> {
        // A test that panicked in `with` must not hide behind a second panic.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the peer something and does what it wants.
    fn step<R>(self: &Arc<Self>, act: impl FnOnce(&mut P, Time) -> R) -> R {
        let mut core = self.lock();
        let now = time_since(self.started);
        let result = act(&mut core.peer, now);
        core.obey(now);
        for (conn, host, port) in std::mem::take(&mut core.dials) {
            let shared = Arc::clone(self);
            core.readers.push(thread::spawn(move || shared.dial(conn, &host, port)));
        }
        core.readers.retain(|reader| !reader.is_finished());
        drop(core);
        self.changed.notify_all();
        result
    }

    fn keep_time(self: &Arc<Self>) {
        let mut core = self.lock();
        while !core.stopped {
            let now = time_since(self.started);
            let wait_ms = core.peer.next_timeout().map(|due| due.saturating_sub(now.mono_ms));
            match wait_ms {
                Some(0) => {
                    drop(core);
                    self.step(|peer, now| peer.timeout(now));
                    core = self.lock();
                }
                wait_ms => {
                    let wait = Duration::from_millis(wait_ms.unwrap_or(60_000));
                    let waited = self.changed.wait_timeout(core, wait);
                    core = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            let mut core = self.lock();
            if core.stopped {
                return;
            }
            let Ok(stream) = stream else { continue };
            let conn = core.accepted_count;
            let tls = self.options.tls.as_ref();
            let Ok(link) = Link::accepted(&stream, tls, WRITE_PATIENCE) else { continue };
            core.accepted_count += 1;
            core.links.insert(conn, link);
            drop(core);
            self.step(|peer, now| peer.accepted(now, conn));
            let shared = Arc::clone(self);
            let reader = thread::spawn(move || shared.read(conn, stream));
            self.lock().readers.push(reader);
        }
    }

    fn dial(self: &Arc<Self>, conn: u64, host: &str, port: u16) {
        let found = self.options.route.as_ref().and_then(|route| route(host, port));
        let result = match found {
            None => Err(DialError::UnknownHost),
            Some(address) => TcpStream::connect_timeout(&address, DIAL_PATIENCE).map_err(|error| {
                match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => DialError::Refused,
                    _ => DialError::Unreachable,
                }
            }),
        };
        let linked = result.and_then(|stream| {
            let link = Link::accepted(&stream, None, WRITE_PATIENCE);
            Ok((link.map_err(|_| DialError::Unreachable)?, stream))
        });
        match linked {
            Ok((link, stream)) => {
                let mut core = self.lock();
                if core.stopped {
                    return;
                }
                core.links.insert(conn, link);
                drop(core);
                self.step(|peer, now| peer.dialed(now, conn, Ok(())));
                self.read(conn, stream);
            }
            Err(error) => self.step(|peer, now| peer.dialed(now, conn, Err(error))),
        }
    }

    /// Reads a connection to its end.
    fn read(self: &Arc<Self>, conn: u64, mut stream: TcpStream) {
        let mut buffer = [0; READ_BYTES];
        loop {
            let count = stream.read(&mut buffer).unwrap_or(0);
            let mut core = self.lock();
            let Some(link) = core.links.get_mut(&conn) else { break };
            let opened = link.opened(&buffer[..count]);
            let (plain, ended) = match opened {
                Ok(plain) => (plain, count == 0),
                Err(_) => (Vec::new(), true),
            };
            drop(core);
            self.step(|peer, now| {
                if !plain.is_empty() {
                    peer.received(now, conn, &plain);
                }
                if ended {
                    peer.closed(now, conn);
                }
            });
            if ended {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
        self.lock().links.remove(&conn);
    }
}

impl<P: Peer> Core<P> {
    /// Does what the peer wants, except for dialing, which takes time.
    fn obey(&mut self, now: Time) {
        while let Some(action) = self.peer.poll() {
            match action {
                Action::Send { conn, bytes } => {
                    let Some(link) = self.links.get_mut(&conn) else { continue };
                    if link.send(&bytes).is_err() {
                        link.cut();
                        self.peer.closed(now, conn);
                    }
                }
                Action::Close { conn } => {
                    if let Some(link) = self.links.get_mut(&conn) {
                        link.finish();
                    }
                }
                Action::Dial { conn, host, port } => {
                    debug_assert!(conn >= FIRST_DIALED, "an accepted connection is not dialed");
                    self.dials.push((conn, host, port));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
