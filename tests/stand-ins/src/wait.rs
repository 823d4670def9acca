//! Waiting for what another process does by its effect, for tests and benchmarks alike. Never by the clock
//! alone: that only says when to give up.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until something is there; `what` says what was missing.
///
/// # Errors
/// It was not there within [`PATIENCE`].
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("not within {} s: {what}", PATIENCE.as_secs()));
        }
        thread::sleep(LOOK);
    }
}

/// Waits until somebody listens there.
///
/// # Errors
/// Nobody did within [`PATIENCE`].
pub fn wait_for_port(what: &str, port: u16) -> Result<(), String> {
    let address = local(port);
    wait_until(&format!("{what} listens on {port}"), || TcpStream::connect(address).ok())?;
    Ok(())
}

/// A port of this machine.
#[must_use]
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
