//! Names and addresses: a small name server on a loopback address of its own, with the daemon in a
//! mount namespace whose `/etc/resolv.conf` points there.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use stand_ins::ca::Settings;
use stand_ins::driver::{Driver, Options, time_now};
use stand_ins::lb::LoadBalancer;

use crate::process::{Outcome, Process, expect, wait_until};
use crate::routes::in_network_with;
use crate::site::{PROGRAM, Site, StandInCa, bare, text};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("every_address_of_every_name_is_used", &[Tool::Namespaces], addresses),
    ("hosts_and_literals_need_no_name_server", &[Tool::Namespaces], no_server),
    ("a_link_local_name_server_is_asked", &[Tool::Namespaces, Tool::Networks], link_local),
    ("name_servers_are_asked_by_tcp_alone", &[Tool::Namespaces], tcp_alone),
    ("dead_name_servers_do_not_hide_a_live_one", &[Tool::Namespaces], dead_servers),
];

const A: u16 = 1;

/// A name server of fixed answers.
struct NameServer {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Serves A records at an address that nobody else uses.
    fn start(
        address: SocketAddr,
        records: &'static [(&'static str, &'static [Ipv4Addr])],
    ) -> Outcome<NameServer> {
        let socket = UdpSocket::bind(address).map_err(text)?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).map_err(text)?;
        let ended = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut query = [0; 512];
            while !over.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                if let Some(answer) = answer(&query[..length], records) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(NameServer { address, ended, thread: Some(thread) })
    }
}

impl NameServer {
    /// Serves A records by TCP alone (RFC 1035 section 4.2.2), one query for each connection.
    fn start_tcp(
        address: SocketAddr,
        records: &'static [(&'static str, &'static [Ipv4Addr])],
    ) -> Outcome<NameServer> {
        let listener = TcpListener::bind(address).map_err(text)?;
        listener.set_nonblocking(true).map_err(text)?;
        let ended = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(serve_tcp(stream, records)),
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Ok(NameServer { address, ended, thread: Some(thread) })
    }
}

fn serve_tcp(mut stream: TcpStream, records: &[(&str, &[Ipv4Addr])]) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query)?;
    let answer = answer(&query, records).unwrap_or_default();
    let length = u16::try_from(answer.len()).expect("a short answer").to_be_bytes();
    stream.write_all(&[&length[..], &answer].concat())
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The answer to a query of one question (RFC 1035 section 4.1).
fn answer(query: &[u8], records: &[(&str, &[Ipv4Addr])]) -> Option<Vec<u8>> {
    let (mut name, mut at) = (Vec::new(), 12);
    while let length @ 1.. = usize::from(*query.get(at)?) {
        name.push(String::from_utf8(query.get(at + 1..at + 1 + length)?.to_vec()).ok()?);
        at += 1 + length;
    }
    let question = query.get(12..at + 5)?;
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let found = records.iter().find(|(known, _)| *known == name.join(".").to_lowercase());
    let addresses = found.map(|(_, addresses)| *addresses).filter(|_| kind == A).unwrap_or(&[]);
    let code = if found.is_some() { 0 } else { 3 };
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question);
    for address in addresses {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

/// A daemon that reads these files for `/etc/resolv.conf` and `/etc/hosts`.
fn daemon(site: &Site, resolv_conf: &str, hosts: &str, arguments: &[String]) -> Outcome<Process> {
    daemon_with_files(site, resolv_conf, hosts, &[], arguments)
}

/// The same, with variables.
pub(crate) fn daemon_with_files(
    site: &Site,
    resolv_conf: &str,
    hosts: &str,
    variables: &[(&str, &str)],
    arguments: &[String],
) -> Outcome<Process> {
    let file = |name: &str, content: &str| {
        let path = site.folder().join(name);
        std::fs::write(&path, content).map(|()| path).map_err(text)
    };
    let (resolv_conf, hosts) = (file("resolv.conf", resolv_conf)?, file("hosts", hosts)?);
    let script = "mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/hosts && shift 2 \
                  && exec \"$@\"";
    let mut command: Command = bare("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(resolv_conf).arg(hosts);
    command.arg(PROGRAM).args(arguments).envs(variables.iter().copied());
    Process::start(site.folder(), "daemon", &mut command)
}

/// Two load balancers at two addresses of one port.
fn two_load_balancers() -> Outcome<(Driver<LoadBalancer>, Driver<LoadBalancer>, u16)> {
    let start = |address: [u8; 4], port: u16| -> Outcome<(Driver<LoadBalancer>, u16)> {
        let listener = TcpListener::bind(SocketAddr::from((address, port))).map_err(text)?;
        let port = listener.local_addr().map_err(text)?.port();
        let peer = LoadBalancer::new(time_now(), Default::default());
        Ok((Driver::start(listener, peer, Options::default()).map_err(text)?, port))
    };
    let (first, port) = start([127, 53, 7, 2], 0)?;
    let (second, _) = start([127, 53, 7, 3], port)?;
    Ok((first, second, port))
}

fn addresses() -> Outcome {
    const RECORDS: &[(&str, &[Ipv4Addr])] = &[
        ("lb.test", &[Ipv4Addr::new(127, 53, 7, 2), Ipv4Addr::new(127, 53, 7, 3)]),
        // Nobody listens at the first.
        ("marathon.site.test", &[Ipv4Addr::new(127, 53, 7, 9), Ipv4Addr::LOCALHOST]),
    ];
    let site = Site::new()?;
    let names = NameServer::start(([127, 53, 7, 1], 53).into(), RECORDS)?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    let (first, second, port) = two_load_balancers()?;
    site.deploy("/a", "a.example.com");
    let mut arguments = site.arguments(&ca.directory, &ca.root);
    arguments.push(format!("--lb=http://LB.test:{port}"));
    arguments.push(format!("--marathon=http://marathon:{}", site.marathon.address().port()));
    let resolv_conf = format!("nameserver {}\nsearch site.test\n", names.address.ip());
    let daemon = daemon(&site, &resolv_conf, "127.0.0.1 localhost\n", &arguments)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    for lb in [&first, &second] {
        wait_until("both addresses reload", || {
            lb.with(|lb, _| (!lb.reloads().is_empty()).then_some(()))
        })?;
    }
    expect(IpAddr::from(RECORDS[0].1[0]) == first.address().ip(), || "another address".into())
}

fn no_server() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    site.deploy("/a", "a.example.com");
    let mut arguments = site.arguments(&ca.directory, &ca.root);
    arguments.push(format!("--marathon=http://marathon.mesos:{}", site.marathon.address().port()));
    // Asking that name server would take longer than a test has patience.
    let resolv_conf = "nameserver 127.53.7.8\noptions timeout:30 attempts:5\n";
    let hosts = "127.0.0.1 localhost\n127.0.0.1 leader marathon.mesos # Marathon\n";
    let mut daemon = daemon(&site, resolv_conf, hosts, &arguments)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.wait_until_reloaded(site.port, 1)
}

/// The first name server refuses datagrams (ECONNREFUSED), the second does not answer, the third does.
/// All three are asked before the request to Marathon times out, and the daemon names Marathon's host.
fn dead_servers() -> Outcome {
    const RECORDS: &[(&str, &[Ipv4Addr])] = &[("marathon.site.test", &[Ipv4Addr::LOCALHOST])];
    let site = Site::new()?;
    let refusing = "127.53.7.21";
    let silent = UdpSocket::bind(("127.53.7.22", 53)).map_err(text)?;
    let live = NameServer::start(([127, 53, 7, 23], 53).into(), RECORDS)?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    site.deploy("/a", "a.example.com");
    let mut arguments = site.arguments(&ca.directory, &ca.root);
    arguments.push(format!("--marathon=http://marathon:{}", site.marathon.address().port()));
    // With these settings the dead servers alone would use up the time of a request to Marathon.
    let resolv_conf = format!(
        "nameserver {refusing}\nnameserver {}\nnameserver {}\nsearch site.test\n\
         options timeout:5 attempts:2\n",
        silent.local_addr().map_err(text)?.ip(),
        live.address.ip(),
    );
    let daemon = daemon(&site, &resolv_conf, "127.0.0.1 localhost\n", &arguments)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let mut query = [0; 512];
    silent.set_read_timeout(Some(Duration::from_secs(1))).map_err(text)?;
    expect(silent.recv(&mut query).is_ok(), || "the silent name server was not asked".into())
}

/// The zone of a name server is the name of an interface (RFC 4007 section 11). The variable of the
/// environment replaces the search domain of the file.
fn link_local() -> Outcome {
    const RECORDS: &[(&str, &[Ipv4Addr])] = &[("marathon.site.test", &[Ipv4Addr::LOCALHOST])];
    in_network_with("link-local", &["fe80::53/64".into()], || {
        let site = Site::new()?;
        let address = "fe80::53".parse().map_err(text)?;
        // The loopback interface is the first of each network namespace.
        let names = NameServer::start(SocketAddrV6::new(address, 53, 0, 1).into(), RECORDS)?;
        let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
        site.deploy("/a", "a.example.com");
        let mut arguments = site.arguments(&ca.directory, &ca.root);
        arguments.push(format!("--marathon=http://marathon:{}", site.marathon.address().port()));
        let resolv_conf = "nameserver fe80::53%lo\nsearch other.test\n";
        let hosts = "127.0.0.1 localhost\n";
        let variables = [("LOCALDOMAIN", "site.test")];
        let daemon = daemon_with_files(&site, resolv_conf, hosts, &variables, &arguments)?;
        site.wait_for_certificate(&daemon, "a.example.com")?;
        drop(names);
        Ok(())
    })
}

/// `use-vc`: the name server has no UDP port at all. The other options change the queries.
fn tcp_alone() -> Outcome {
    const RECORDS: &[(&str, &[Ipv4Addr])] = &[("marathon.site.test", &[Ipv4Addr::LOCALHOST])];
    let site = Site::new()?;
    let names = NameServer::start_tcp(([127, 53, 7, 24], 53).into(), RECORDS)?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    site.deploy("/a", "a.example.com");
    let mut arguments = site.arguments(&ca.directory, &ca.root);
    arguments.push(format!("--marathon=http://marathon:{}", site.marathon.address().port()));
    let resolv_conf = format!(
        "nameserver {}\nsearch site.test\noptions use-vc edns0 single-request rotate\n",
        names.address.ip()
    );
    let daemon = daemon(&site, &resolv_conf, "127.0.0.1 localhost\n", &arguments)?;
    site.wait_for_certificate(&daemon, "a.example.com")
}
