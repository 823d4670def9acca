//! Port 80 of a load balancer or of any other server: what it does with a challenge, and what it was asked.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::process::{Outcome, local};
use crate::site::{exchange, text};

/// What port 80 of a load balancer does with a challenge.
#[derive(Clone, Debug)]
pub(crate) enum ListenerKind {
    /// Sends it on to this port.
    Daemon(u16),
    /// Answers it itself, with this head.
    Itself(String),
    /// Redirects it to this URL, with the last segment of the path for `{token}`.
    Redirect(String),
}

/// Port 80 of a load balancer.
pub(crate) struct Frontend {
    address: SocketAddr,
    door: Arc<Mutex<ListenerKind>>,
    asked: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Frontend {
    pub(crate) fn start(address: Ipv4Addr, door: ListenerKind) -> Outcome<Frontend> {
        let listener = TcpListener::bind((address, 80)).map_err(text)?;
        let address = listener.local_addr().map_err(text)?;
        let (door, ended) = (Arc::new(Mutex::new(door)), Arc::new(AtomicBool::new(false)));
        let (shared, over) = (Arc::clone(&door), Arc::clone(&ended));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let door = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Whoever goes away in the middle is not served.
                let _ = serve(stream, &door, &heard);
            }
        });
        Ok(Frontend { address, door, asked, ended, thread: Some(thread) })
    }

    /// The heads of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn open(&self, door: ListenerKind) {
        *self.door.lock().unwrap_or_else(PoisonError::into_inner) = door;
    }
}

impl Drop for Frontend {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener, which sees the end then.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, door: &ListenerKind, asked: &Mutex<Vec<String>>) -> Outcome {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).map_err(text)?;
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let token = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let itself = |head: &str| format!("{head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
    let answer = match door {
        ListenerKind::Itself(head) => itself(head),
        ListenerKind::Redirect(to) => {
            itself(&format!("HTTP/1.1 302 Found\r\nLocation: {}", to.replace("{token}", token)))
        }
        ListenerKind::Daemon(port) => match TcpStream::connect(local(*port)) {
            Ok(mut daemon) => {
                // As marathon-lb does it.
                let fields = "\r\nX-Forwarded-For: 192.0.2.1\r\n";
                exchange(&mut daemon, &head.replacen("\r\n", fields, 1))?
            }
            Err(_) => "HTTP/1.0 503 Service Unavailable\r\n\r\n".into(),
        },
    };
    stream.write_all(answer.as_bytes()).map_err(text)
}
