//! The socket on which challenges are answered.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;

use mio::net::TcpListener;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt,
};

use crate::config::Listen;
use crate::hint::Hint;

/// Connections that wait to be accepted: who finds no room comes again a second later (RFC 6298), too
/// late for some.
const BACKLOG: i32 = 4096;
/// What the system buffers for a connection in each direction, in bytes (it allows itself twice as much,
/// socket(7)). Requests and answers are small, and clients should not have more of the system's memory.
const SYSTEM_BUFFER_BYTES: usize = 64 * 1024;

/// The port cannot be had.
#[derive(Debug)]
pub struct BindError {
    /// The long name of the option that wants it.
    pub option: &'static str,
    /// The address that was wanted.
    pub address: SocketAddr,
    /// Why not.
    pub error: io::Error,
}

/// Listens where an option says. Without an address on every interface, IPv6 and IPv4; where the system
/// has no IPv6, or lets nobody use it, on IPv4 alone.
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub fn listen_on(option: &'static str, wanted: Listen) -> Result<TcpListener, BindError> {
    let refused = |address| move |error| BindError { option, address, error };
    let every_v6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), wanted.port);
    let every_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), wanted.port);
    let bound = match wanted.ip {
        Some(ip) => {
            let address = SocketAddr::new(ip, wanted.port);
            listen_at(address).map_err(refused(address))
        }
        None => match socket_for(&every_v6) {
            Ok(socket) => listen_by(socket, every_v6).or_else(|error| match error.kind() {
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => {
                    Err(refused(every_v6)(error))
                }
                // Any other failure means that there is no IPv6 here.
                _ => listen_at(every_v4).map_err(refused(every_v4)),
            }),
            // Whatever the reason: a sandbox refuses the family as if a right were missing.
            Err(_) => listen_at(every_v4).map_err(refused(every_v4)),
        },
    }?;
    Ok(TcpListener::from_std(bound))
}

fn listen_at(address: SocketAddr) -> io::Result<StdListener> {
    listen_by(socket_for(&address)?, address)
}

/// A socket of the address's family.
fn socket_for(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if address.is_ipv6() {
        // An unspecified address takes IPv4 in, too; any other is itself alone.
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    Ok(socket)
}

fn listen_by(socket: OwnedFd, address: SocketAddr) -> io::Result<StdListener> {
    sockopt::set_socket_reuseaddr(&socket, true)?;
    furnish(&socket)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    acknowledge_by_answer(&socket);
    Ok(StdListener::from(socket))
}

/// Every accepted socket is like this one.
fn furnish(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_recv_buffer_size(socket, SYSTEM_BUFFER_BYTES)?;
    sockopt::set_socket_send_buffer_size(socket, SYSTEM_BUFFER_BYTES)?;
    Ok(())
}

/// What is asked is answered at once, and the answer acknowledges the question: that saves a packet. Where
/// it takes longer, the system acknowledges by itself a little later. Every accepted socket is like this one,
/// which forgets it when it begins to listen.
fn acknowledge_by_answer(listening: &OwnedFd) {
    // A system that refuses it still works.
    let _ = sockopt::set_tcp_quickack(listening, false);
}

/// Makes a listening TCP socket that somebody else has bound as ours are. Its backlog is his.
pub(super) fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    furnish(&socket)?;
    acknowledge_by_answer(&socket);
    let listener = StdListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener))
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}; ", self.address, self.error)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => Hint::PortTaken.fmt(f)?,
            _ => f.write_str("choose another")?,
        }
        write!(f, " with --{}", self.option)
    }
}

impl std::error::Error for BindError {}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn every_interface_is_both_families() {
        let listener = listen_on("listen", Listen { ip: None, port: 0 }).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if listener.local_addr().unwrap().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn an_accepted_connection_acknowledges_by_its_answers() {
        let ours =
            listen_on("listen", Listen { ip: Some(Ipv4Addr::LOCALHOST.into()), port: 0 }).unwrap();
        let handed_over = adopt(StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().into());
        for listener in [ours, handed_over.unwrap()] {
            let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            // Its connect has come back, so it is there.
            let (accepted, _) = listener.accept().unwrap();
            assert!(!sockopt::tcp_quickack(&accepted).unwrap());
        }
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it_and_its_option() {
        let ip = Some(IpAddr::from(Ipv4Addr::LOCALHOST));
        let first = listen_on("listen", Listen { ip, port: 0 }).unwrap();
        let port = first.local_addr().unwrap().port();
        for option in ["listen", "admin-listen"] {
            let error = listen_on(option, Listen { ip, port }).expect_err("taken").to_string();
            assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
            assert!(error.ends_with(&format!("or choose another with --{option}")), "{error}");
        }
        // An address of nobody's machine (RFC 5737).
        let elsewhere = Listen { ip: Some(Ipv4Addr::new(192, 0, 2, 1).into()), port };
        let error = listen_on("admin-listen", elsewhere).expect_err("not ours").to_string();
        assert!(error.ends_with("; choose another with --admin-listen"), "{error}");
    }
}
