//! A small HTTP proxy on loopback for these tests: makes tunnels, passes requests on, counts both, and
//! knows every name as this machine. It speaks only as much HTTP as the daemon does.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::process::{Outcome, local};
use crate::site::text;

/// What the proxy does with CONNECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manner {
    #[default]
    Tunnels,
    /// Says this and closes.
    Says(&'static str),
    /// Says it first, then makes the tunnel all the same.
    SaysBefore(&'static str),
}

/// What may change while it runs, and what it has seen.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// What `Proxy-Authorization` must be.
    pub(super) wanted: Option<String>,
    pub(super) manner: Manner,
    /// The first line of each request that was let through.
    pub(super) passed: Vec<String>,
    /// The first line of each that was not.
    pub(super) refused: Vec<String>,
    /// All that clients have said inside of tunnels.
    pub(super) inside: Vec<u8>,
    /// How many bytes of answers went back through tunnels.
    pub(super) answered: usize,
    /// Connections that are open, for the end of the test.
    open: Vec<TcpStream>,
}

/// The proxy; it ends with its last connection when it goes out of scope.
pub(super) struct Proxy {
    pub(super) port: u16,
    books: Arc<Mutex<Books>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(super) fn start() -> Outcome<Proxy> {
        let listener = TcpListener::bind(local(0)).map_err(text)?;
        let port = listener.local_addr().map_err(text)?.port();
        let (books, ended) = (Arc::new(Mutex::new(Books::default())), Arc::default());
        let (shared, over) = (Arc::clone(&books), Arc::clone(&ended));
        let thread = thread::spawn(move || accept(&listener, &shared, &over));
        Ok(Proxy { port, books, ended, thread: Some(thread) })
    }

    /// Looks into the books, or changes what is to come.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Books) -> R) -> R {
        act(&mut open(&self.books))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes whoever accepts.
        let _ = TcpStream::connect(local(self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, books: &Arc<Mutex<Books>>, ended: &AtomicBool) {
    let mut threads = Vec::new();
    for client in listener.incoming() {
        if ended.load(Ordering::SeqCst) {
            break;
        }
        let Ok(client) = client else { continue };
        let books = Arc::clone(books);
        // A connection that breaks has ended.
        threads.push(thread::spawn(move || drop(serve(client, &books))));
    }
    for stream in std::mem::take(&mut open(books).open) {
        let _ = stream.shutdown(Shutdown::Both);
    }
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

/// One connection, which carries one request or one tunnel.
fn serve(mut client: TcpStream, books: &Mutex<Books>) -> std::io::Result<()> {
    open(books).open.push(client.try_clone()?);
    let head = read_head(&mut client)?;
    let line = head.lines().next().unwrap_or_default().to_string();
    let field = |name: &str| {
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    };
    let (allowed, manner) = {
        let mut books = open(books);
        let allowed =
            books.wanted.as_deref().is_none_or(|it| field("Proxy-Authorization") == Some(it));
        if allowed { &mut books.passed } else { &mut books.refused }.push(line.clone());
        (allowed, books.manner)
    };
    if !allowed {
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic \
                      realm=\"test\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        client.write_all(answer.as_bytes())?;
        return client.shutdown(Shutdown::Both);
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, _] = words[..] else { return client.shutdown(Shutdown::Both) };
    if method == "CONNECT" {
        match manner {
            Manner::Tunnels => {}
            Manner::Says(answer) => {
                client.write_all(answer.as_bytes())?;
                return client.shutdown(Shutdown::Both);
            }
            Manner::SaysBefore(answer) => client.write_all(answer.as_bytes())?,
        }
        let Some(server) = dial(target, books)? else { return client.shutdown(Shutdown::Both) };
        if manner == Manner::Tunnels {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        }
        return splice(client, server, Some(books));
    }
    let (authority, path) = split(target);
    let Some(mut server) = dial(authority, books)? else { return client.shutdown(Shutdown::Both) };
    let fields = head.lines().skip(1).filter(|line| !line.starts_with("Proxy-Authorization"));
    let fields: String = fields.map(|line| format!("{line}\r\n")).collect();
    server.write_all(format!("{method} {path} HTTP/1.1\r\n{fields}").as_bytes())?;
    splice(client, server, None)
}

/// Host with port, and path, of an absolute target.
fn split(target: &str) -> (&str, &str) {
    let rest = target.strip_prefix("http://").unwrap_or(target);
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

/// Every name is at home here.
fn dial(authority: &str, books: &Mutex<Books>) -> std::io::Result<Option<TcpStream>> {
    let port = authority.rsplit(':').next().and_then(|port| port.parse().ok());
    let Some(port) = port else { return Ok(None) };
    let server = TcpStream::connect(local(port))?;
    open(books).open.push(server.try_clone()?);
    Ok(Some(server))
}

/// A head with its empty line, and no byte more.
fn read_head(client: &mut TcpStream) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Carries bytes both ways until both are done; a tunnel's are noted.
pub(crate) fn splice(
    client: TcpStream,
    server: TcpStream,
    tunnel: Option<&Mutex<Books>>,
) -> std::io::Result<()> {
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    thread::scope(|scope| {
        scope.spawn(move || {
            carry(from_client, to_server, |bytes| {
                if let Some(books) = tunnel {
                    open(books).inside.extend_from_slice(bytes);
                }
            });
        });
        carry(server, client, |bytes| {
            if let Some(books) = tunnel {
                open(books).answered += bytes.len();
            }
        });
    });
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream, note: impl Fn(&[u8])) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        note(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other way may still have something to say.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
