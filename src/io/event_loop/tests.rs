//! The loop on real sockets, with a machine of a few lines above it.

mod securing;
mod strangers;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener as StdListener, TcpStream as StdStream, UdpSocket as StdUdp};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection};
use stand_ins::driver::time_now;
use stand_ins::pki::Pki;
use stand_ins::tls::server_config;

use super::*;
use crate::config::{Config, Listen, LogFormat};
use crate::io::keys::RingKeys;
use crate::io::listener::listen_on;
use crate::log::Level;
use crate::machine::{StoreErrorKind, Trust};
use crate::time::Now;
use crate::url::Host;

/// What a test's machine says to an input.
type Reaction = Box<dyn FnMut(&Input<'_>) -> Vec<Output>>;

/// A machine that does what a test wants and never waits for a time unless told so.
struct Scripted {
    react: Reaction,
    outputs: VecDeque<Output>,
}

impl Machine for Scripted {
    fn handle_input(&mut self, _now: Now, input: Input<'_>, _keys: &mut dyn Keys) {
        self.outputs.extend((self.react)(&input));
    }

    fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or(Output::Wait(None))
    }
}

/// A storage that takes everything but archives.
struct Shelf;

impl Disk for Shelf {
    fn change(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::Archive(name) => {
                let (path, detail) = (name.to_string(), "no".to_string());
                Err(StoreError { kind: StoreErrorKind::Io, path, detail })
            }
            _ => Ok(()),
        }
    }

    fn load(&mut self, _load: Load) -> Loaded {
        Loaded::NameService { resolv_conf: b"here".to_vec(), hosts: Vec::new() }
    }
}

/// Runs a loop until its machine exits; peers must play in threads of their own.
fn run(acme_ca: Option<&std::path::Path>, react: Reaction) -> u8 {
    run_with(Descriptors::claim(), acme_ca, react)
}

fn run_with(descriptors: Descriptors, acme_ca: Option<&std::path::Path>, react: Reaction) -> u8 {
    let listen = Listen { ip: Some(Ipv4Addr::LOCALHOST.into()), port: 0 };
    let config = Config { listen, acme_ca: acme_ca.map(Into::into), ..crate::testing::config() };
    let parts = Parts {
        admin: None,
        listener: Some(listen_on("listen", config.listen).unwrap()),
        descriptors,
        signals: Signals::install().unwrap(),
        tls: TlsClients::new(&config).unwrap(),
        disk: Shelf,
        keys: RingKeys::new(),
        logger: Logger::new(Level::Critical, LogFormat::Text).unwrap(),
        notifier: Notifier::default(),
    };
    let mut machine = Scripted { react, outputs: VecDeque::new() };
    EventLoop::new(parts).unwrap().run(&mut machine).unwrap()
}

/// Plays a peer in a thread of its own.
fn peer<T: Send + 'static>(play: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().spawn(play).unwrap()
}

const CONN: ConnId = ConnId::Dialed(0);

fn connect(to: SocketAddr, tls: Option<Tls>) -> Vec<Output> {
    vec![Output::Connect { conn: CONN, to, tls }]
}

fn tls(name: &str) -> Option<Tls> {
    Some(Tls { server: Host::Name(name.into()), trust: Trust::Acme })
}

/// How a connection to `to` ends.
fn end_of(to: SocketAddr, tls: Option<Tls>, acme_ca: Option<&std::path::Path>) -> CloseReason {
    let (sender, receiver) = mpsc::channel();
    let mut tls = tls;
    run(
        acme_ca,
        Box::new(move |input| match input {
            Input::Started { .. } => connect(to, tls.take()),
            Input::Connected(conn) => {
                vec![Output::Send { conn: *conn, bytes: b"hello".to_vec().into() }]
            }
            Input::Closed(_, reason) => {
                sender.send(reason.clone()).unwrap();
                vec![Output::Exit(0)]
            }
            _ => Vec::new(),
        }),
    );
    receiver.recv().expect("it ends")
}

/// A listener, and a thread that plays with the first connection.
fn listening<T: Send + 'static>(
    play: impl FnOnce(StdStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (address, peer(move || play(listener.accept().unwrap().0)))
}

/// Tells a loop that its peer is done.
fn done(address: SocketAddr) {
    StdStream::connect(address).unwrap().write_all(b"done").unwrap();
}

/// A machine that exits when a peer is done, tells its address, and else reacts.
fn until_done(
    address: mpsc::Sender<SocketAddr>,
    mut react: impl FnMut(&Input<'_>) -> Vec<Output> + 'static,
) -> Reaction {
    Box::new(move |input| match input {
        Input::Started { listening } => {
            address.send(*listening).unwrap();
            react(input)
        }
        Input::Received(_, b"done") => vec![Output::Exit(0)],
        input => react(input),
    })
}

#[test]
fn an_answer_reaches_a_peer_that_reads_late_in_full() {
    // More than any socket buffer.
    const ANSWER_BYTES: usize = 8 * 1024 * 1024;
    let (sender, address) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        let mut stream = StdStream::connect(address).unwrap();
        stream.write_all(b"question").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        done(address);
        answer
    });
    let mut closed = None;
    run(
        None,
        until_done(sender, move |input| match input {
            Input::Received(conn, bytes) => {
                assert_eq!((*bytes, closed), (&b"question"[..], None));
                closed = Some(*conn);
                let bytes = vec![b'x'; ANSWER_BYTES].into();
                vec![
                    Output::Send { conn: *conn, bytes },
                    Output::Close { conn: *conn, peer_is_done: false },
                ]
            }
            Input::Closed(conn, _) => panic!("{conn:?} was closed by us, it is silent"),
            _ => Vec::new(),
        }),
    );
    let answer = client.join().unwrap();
    assert!(answer == vec![b'x'; ANSWER_BYTES], "{} bytes", answer.len());
}

#[test]
fn a_peer_that_closes_is_said_once() {
    let (sender, address) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        drop(StdStream::connect(address).unwrap());
        address
    });
    let mut ends = Vec::new();
    let (found_sender, found) = mpsc::channel();
    run(
        None,
        Box::new(move |input| match input {
            Input::Started { listening } => {
                sender.send(*listening).unwrap();
                Vec::new()
            }
            Input::Finished(conn) => {
                ends.push(*conn);
                // Had it a second end to say, it would say it before this comes.
                vec![Output::Load(Load::NameService)]
            }
            Input::Loaded(_) => {
                found_sender.send(ends.clone()).unwrap();
                vec![Output::Exit(3)]
            }
            _ => Vec::new(),
        }),
    );
    client.join().unwrap();
    let ends = found.recv().unwrap();
    assert_eq!(ends, [ConnId::Accepted(0)]);
}

#[test]
fn storage_answers_come_in_the_order_of_what_was_wanted() {
    let change = |write, change| Output::Store { write: WriteId(write), change };
    let (sender, heard) = mpsc::channel();
    let status = run(
        None,
        Box::new(move |input| match input {
            Input::Started { .. } => vec![
                change(1, Change::State(Vec::new())),
                change(2, Change::Archive(crate::domain::Domain::parse("a.org").unwrap())),
                Output::Load(Load::NameService),
            ],
            Input::Stored(WriteId(write), result) => {
                sender.send((*write, result.is_ok())).unwrap();
                Vec::new()
            }
            Input::Loaded(Loaded::NameService { resolv_conf, .. }) => {
                assert_eq!(resolv_conf, b"here");
                vec![Output::Exit(7)]
            }
            other => panic!("{other:?}"),
        }),
    );
    assert_eq!(status, 7);
    assert_eq!(heard.iter().collect::<Vec<_>>(), [(1, true), (2, false)]);
}

#[test]
fn a_deadline_is_told_and_not_before_its_time() {
    let begin = std::time::Instant::now();
    let pause = Duration::from_millis(30);
    run(
        None,
        Box::new(move |input| match input {
            Input::Started { .. } => vec![Output::Wait(Some(Instant::START + pause))],
            Input::Timeout => vec![Output::Exit(0)],
            other => panic!("{other:?}"),
        }),
    );
    assert!(begin.elapsed() >= pause);
}

#[test]
fn datagrams_go_and_come_from_one_port() {
    let server = StdUdp::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = server.local_addr().unwrap();
    let answering = peer(move || {
        let mut buffer = [0; 64];
        let mut from = Vec::new();
        for _ in 0..2 {
            let (length, asker) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], asker).unwrap();
            from.push(asker);
        }
        from
    });
    let ask = move |text: &str| {
        let socket = SocketId(5);
        vec![Output::Datagram { socket, to, bytes: text.into() }]
    };
    run(
        None,
        Box::new(move |input| match input {
            Input::Started { .. } => ask("one"),
            Input::Datagram(SocketId(5), from, b"one") if *from == to => ask("two"),
            Input::Datagram(SocketId(5), _, b"two") => {
                vec![Output::CloseSocket { socket: SocketId(5) }, Output::Exit(0)]
            }
            other => panic!("{other:?}"),
        }),
    );
    let from = answering.join().unwrap();
    assert_eq!(from[0], from[1]);
}

#[test]
fn nobody_but_who_was_asked_is_heard_by_datagram() {
    let server = StdUdp::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = server.local_addr().unwrap();
    let answering = peer(move || {
        let mut buffer = [0; 64];
        let (_, asker) = server.recv_from(&mut buffer).unwrap();
        let stranger = StdUdp::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..100 {
            stranger.send_to(b"stray", asker).unwrap();
        }
        server.send_to(b"answer", asker).unwrap();
    });
    let socket = SocketId(0);
    let (sender, heard) = mpsc::channel();
    run(
        None,
        Box::new(move |input| match input {
            Input::Started { .. } => {
                vec![Output::Datagram { socket, to, bytes: b"question".to_vec() }]
            }
            Input::Datagram(_, from, bytes) => {
                sender.send((*from, bytes.to_vec())).unwrap();
                if *from == to { vec![Output::Exit(0)] } else { Vec::new() }
            }
            other => panic!("{other:?}"),
        }),
    );
    answering.join().unwrap();
    assert_eq!(heard.iter().collect::<Vec<_>>(), [(to, b"answer".to_vec())]);
}

#[test]
fn a_refused_datagram_is_reported() {
    let nobody = StdUdp::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = nobody.local_addr().unwrap();
    drop(nobody);
    let socket = SocketId(3);
    let ask = vec![Output::Datagram { socket, to, bytes: b"question".to_vec() }];
    assert_eq!(failure_of(ask), (socket, CloseReason::Refused));
}

#[test]
fn a_datagram_that_cannot_be_sent_is_reported_unless_its_socket_is_closed() {
    // A link-local address without its zone (RFC 4007 section 6).
    let to = "[fe80::1]:53".parse().unwrap();
    let ask = |socket| Output::Datagram { socket, to, bytes: b"question".to_vec() };
    let (closed, socket) = (SocketId(3), SocketId(4));
    let outputs = vec![ask(closed), Output::CloseSocket { socket: closed }, ask(socket)];
    assert_eq!(failure_of(outputs).0, socket);
}

/// Which socket fails first, and why.
fn failure_of(outputs: Vec<Output>) -> (SocketId, CloseReason) {
    let (sender, failed) = mpsc::channel();
    let mut outputs = Some(outputs);
    run(
        None,
        Box::new(move |input| match input {
            Input::Started { .. } => outputs.take().unwrap(),
            Input::SocketFailed(socket, reason) => {
                sender.send((*socket, reason.clone())).unwrap();
                vec![Output::Exit(0)]
            }
            other => panic!("{other:?}"),
        }),
    );
    failed.recv().unwrap()
}

#[test]
fn nobody_there_is_refused() {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(end_of(address, None, None), CloseReason::Refused);
}

/// A certificate authority of a test, with its root in a file.
struct Authority {
    pki: Pki,
    root: tempfile::NamedTempFile,
}

impl Authority {
    fn new(seed: u64) -> Authority {
        let pki = Pki::new(seed, "Loop", time_now());
        let mut root = tempfile::NamedTempFile::new().unwrap();
        root.write_all(pki.root_pem().as_bytes()).unwrap();
        Authority { pki, root }
    }

    fn server(&mut self, name: &str) -> Arc<ServerConfig> {
        server_config(&self.pki.identity(&[name], time_now()).unwrap()).unwrap()
    }
}

/// Shakes hands and reads what the client says, then ends as told.
fn serve(mut stream: StdStream, config: Arc<ServerConfig>, with_notify: bool) -> Vec<u8> {
    let mut session = ServerConnection::new(config).unwrap();
    let mut heard = vec![0; 5];
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    if tls.read_exact(&mut heard).is_err() {
        return Vec::new();
    }
    if with_notify {
        session.send_close_notify();
        session.write_tls(&mut stream).unwrap();
    }
    heard
}

#[test]
fn tls_ends_in_order_or_cut_short() {
    let mut authority = Authority::new(1);
    let config = authority.server("ca.example");
    for (with_notify, end) in [(true, CloseReason::Finished), (false, CloseReason::Truncated)] {
        let config = Arc::clone(&config);
        let (address, server) = listening(move |stream| serve(stream, config, with_notify));
        assert_eq!(end_of(address, tls("ca.example"), Some(authority.root.path())), end);
        assert_eq!(server.join().unwrap(), b"hello");
    }
}

#[test]
fn a_tls_peer_must_be_who_it_should_be() {
    let (mut authority, stranger) = (Authority::new(1), Authority::new(2));
    let config = authority.server("ca.example");
    let cases = [("other.example", &authority), ("ca.example", &stranger)];
    for (name, trusted) in cases {
        let config = Arc::clone(&config);
        let (address, server) = listening(move |stream| serve(stream, config, true));
        let end = end_of(address, tls(name), Some(trusted.root.path()));
        assert!(matches!(&end, CloseReason::Tls(text) if text.contains("certificate")), "{end:?}");
        assert_eq!(server.join().unwrap(), b"", "nothing was said to it");
    }
}

#[test]
fn a_peer_that_speaks_no_tls_is_told_apart() {
    let (address, server) = listening(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        // A reset after our answer is an end as well.
        let _ = stream.read_to_end(&mut rest);
    });
    let end = end_of(address, tls("ca.example"), None);
    assert!(matches!(end, CloseReason::Tls(_)), "{end:?}");
    server.join().unwrap();
}
