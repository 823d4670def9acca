//! The load balancer's port 443: serves a page over TLS with the certificates that lay in a
//! directory when it last reloaded, as `bind … ssl crt DIR crt FILE` makes HAProxy do. One bad file
//! and the reload fails as a whole; what was served before goes on being served.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::tls;

const PATIENCE: Duration = Duration::from_secs(5);

/// A TLS server that picks its certificate by SNI.
pub struct TlsFront {
    address: SocketAddr,
    storage: PathBuf,
    served: Arc<Served>,
    stopped: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

/// Why a reload failed; nothing changed.
#[derive(Debug)]
pub struct ReloadError {
    /// The file or directory that is to blame.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for ReloadError {}

#[derive(Debug, Default)]
struct Served(RwLock<Certificates>);

#[derive(Debug, Default)]
struct Certificates {
    by_name: BTreeMap<String, Arc<CertifiedKey>>,
    /// For no or an unknown name: the first of all files.
    first: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let named = hello.server_name().and_then(|name| served.by_name.get(name));
        named.or(served.first.as_ref()).cloned()
    }
}

impl TlsFront {
    /// Serves a listener from `STORAGE/certs/` and `STORAGE/default.pem`, with no certificate
    /// before the first [`TlsFront::reload`].
    ///
    /// # Errors
    /// The listener has no address, or the TLS library refuses its own defaults.
    pub fn start(listener: TcpListener, storage: &Path) -> io::Result<TlsFront> {
        let served = Arc::new(Served::default());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&served) as Arc<dyn ResolvesServerCert>);
        let (config, address) = (Arc::new(config), listener.local_addr()?);
        let stopped = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stopped);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let config = Arc::clone(&config);
                if let Ok(stream) = stream {
                    // A client that fails the handshake is its own affair.
                    thread::spawn(move || drop(serve(stream, config)));
                }
            }
        });
        let storage = storage.to_path_buf();
        Ok(TlsFront { address, storage, served, stopped, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads the files again, and says how many certificates are served now.
    ///
    /// # Errors
    /// The first file that is not one key with its certificate; nothing changed.
    pub fn reload(&self) -> Result<usize, ReloadError> {
        let mut fresh = Certificates::default();
        let files = self.files()?;
        for path in &files {
            let (key, names) = load(path)
                .map_err(|reason| ReloadError { path: path.clone(), reason: reason.to_string() })?;
            let key = Arc::new(key);
            for name in names {
                fresh.by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            fresh.first.get_or_insert(key);
        }
        *self.served.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(files.len())
    }

    /// Every file of `certs/` whatever its name, in order of names, and then the fallback.
    fn files(&self) -> Result<Vec<PathBuf>, ReloadError> {
        let directory = self.storage.join("certs");
        let blame =
            |error: io::Error| ReloadError { path: directory.clone(), reason: error.to_string() };
        let entries = fs::read_dir(&directory).map_err(blame)?;
        let paths: io::Result<Vec<PathBuf>> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut paths = paths.map_err(blame)?;
        paths.retain(|path| !path.is_dir());
        paths.sort();
        paths.push(self.storage.join("default.pem"));
        Ok(paths)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// A key with its chain, in any order of the blocks, and the names of its leaf.
fn load(path: &Path) -> io::Result<(CertifiedKey, Vec<String>)> {
    let pem = fs::read(path)?;
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(io::Error::other)?;
    let leaf = chain.first().ok_or(io::Error::other("there is no certificate in it"))?;
    let names = tls::read_leaf(leaf, chain.len())?.names;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(io::Error::other)?;
    // Also checks that the key is the certificate's.
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
    Ok((key.map_err(io::Error::other)?, names))
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8 * 1024 {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let name = stream.conn.server_name().unwrap_or("nobody in particular").to_string();
    let page = format!("This is {name}.\n");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
    let response = format!("{head}Content-Length: {}\r\n\r\n{page}", page.len());
    stream.write_all(response.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

#[cfg(test)]
mod tests;
