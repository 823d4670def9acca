//! The loop: sockets, TLS, disk, clocks, signals, randomness. Decides nothing.
//!
//! [`run`] puts the parts together for the real program; [`event_loop::EventLoop`] is what it runs.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::config::{Config, Listen};
use crate::hint::Hint;
use crate::keys::Keys as _;
use crate::log::{Record, message};
use crate::machine::{Change, Load, Loaded, Machine, StoreError};
use crate::secret::Secret;

pub mod activation;
mod checking;
pub mod clock;
mod conn;
pub mod descriptors;
pub mod event_loop;
pub mod hardening;
pub mod keys;
pub mod listener;
pub mod log;
pub mod notify;
mod pins;
mod provider;
pub mod signals;
pub mod storage;
pub mod tls;
mod usage;
pub mod user;

use activation::HandedOver;
pub use checking::run_check;
use clock::Clock;
use descriptors::Descriptors;
use event_loop::{Disk, EventLoop, Parts};
use keys::RingKeys;
use log::Logger;
use notify::Notifier;
use signals::Signals;
use storage::Storage;
use tls::TlsClients;

/// The largest file of a secret that is read at the start, in bytes. It may be a pipe, as a shell makes
/// one in the place of a file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The program cannot start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// The exit status: 2 when the command line is wrong, else 1.
    pub status: u8,
    /// One line for the operator.
    pub text: String,
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError { status: 1, text: error.to_string() }
    }
}

impl Disk for Storage {
    fn change(&mut self, change: Change) -> Result<(), StoreError> {
        Storage::change(self, change)
    }

    fn load(&mut self, load: Load) -> Loaded {
        Storage::load(self, load)
    }
}

/// Runs a machine as the configuration says, until it ends; its exit status.
///
/// The port is bound before the user is switched, or taken over from the service manager, and the
/// storage is touched only after that.
///
/// # Errors
/// It cannot start: the storage is no directory, a bundle cannot be read, the port cannot be had, the user
/// cannot be switched to; or the system failed later on.
pub fn run(config: &Config, signals: Signals, machine: &mut dyn Machine) -> Result<u8, StartError> {
    let usage = |text: String| StartError { status: 2, text };
    let failed = |text: String| StartError { status: 1, text };
    check_storage(&config.storage_dir).map_err(usage)?;
    let tls = TlsClients::new(config).map_err(|error| usage(error.to_string()))?;
    let handed = activation::handed_over().map_err(|error| failed(error.to_string()))?;
    let (listener, remark) = match handed {
        Some(HandedOver { listener, remark }) => (listener, Some(remark)),
        None => {
            // A socket that is handed over need not be where the option says.
            check_places(config.listen, config.admin_listen).map_err(usage)?;
            let bound = listener::listen_on("listen", config.listen);
            (bound.map_err(|error| failed(error.to_string()))?, None)
        }
    };
    let admin = config.admin_listen.map(|admin| listener::listen_on("admin-listen", admin));
    let admin = admin.transpose();
    let admin = admin.map_err(|error| failed(error.to_string()))?;
    // The ports are bound.
    let bound = hardening::give_up_new_privileges();
    if let Some(user) = &config.user {
        user::become_user(user).map_err(|error| failed(error.to_string()))?;
        // What the system forbids was said at the start.
        let _ = hardening::keep_memory_private();
    }
    let mut keys = RingKeys::new();
    let disk = Storage::new(config.storage_dir.clone(), config.cert_mode, keys.random());
    let run = || -> io::Result<u8> {
        let mut logger = Logger::new(config.log_level, config.log_format)?;
        if let Some(remark) = remark {
            logger.write(Clock::start().now(), remark);
        }
        if let Some(admin) = &admin {
            let line = Record::info("main", message::OPERATOR_LISTENING);
            logger.write(Clock::start().now(), line.with("address", admin.local_addr()?));
        }
        if let Err(error) = bound {
            let line = Record::warn("main", "cannot give up new privileges").with("error", error);
            logger.write(Clock::start().now(), line);
        }
        let descriptors = Descriptors::claim();
        let notifier = Notifier::from_environment();
        let listener = Some(listener);
        let parts =
            Parts { listener, admin, descriptors, signals, tls, disk, keys, logger, notifier };
        EventLoop::new(parts)?.run(machine)
    };
    run().map_err(|error| failed(format!("the system failed: {error}")))
}

/// Reads the file of a secret that an option names.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn read_secret(option: &str, path: &Path) -> Result<Secret, StartError> {
    let file = File::open(path);
    let text = file.and_then(|file| storage::files::read_all(file, SECRET_BYTES_MAX));
    let text = text.and_then(|mut bytes| {
        let text = String::from_utf8(std::mem::take(&mut bytes));
        text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
    });
    text.map(Secret::new).map_err(|error| {
        let text = format!("--{option} {}: {error}; name the file", path.display());
        StartError { status: 2, text }
    })
}

/// Refuses two options that name one place, of which the second could not be had.
fn check_places(listen: Listen, admin_listen: Option<Listen>) -> Result<(), String> {
    match admin_listen.filter(|admin| admin.overlaps(listen)) {
        Some(admin) => Err(format!(
            "--listen {listen} and --admin-listen {admin} take the same port; give one of them another"
        )),
        None => Ok(()),
    }
}

/// Whether a storage can be used: the directory is there, and everything in it that is ours is what it has to
/// be. Changes nothing.
///
/// # Errors
/// What is wrong and what to do, in one line.
pub fn check_storage(dir: &Path) -> Result<(), String> {
    Storage::check(dir).map_err(|error| {
        format!("STORAGE-DIR {error}; {}", Hint::of_storage_directory(error.kind))
    })?;
    // Nothing is written, so neither the mode of what is written nor by whom matters.
    Storage::new(dir.into(), 0, 0).check_layout().map_err(|error| {
        format!("STORAGE-DIR {}: {error}; {}", dir.display(), Hint::StorageOdd.text())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_options_with_one_place_are_refused() {
        let listen = |text: &str| match text.parse::<std::net::SocketAddr>() {
            Ok(address) => Listen { ip: Some(address.ip()), port: address.port() },
            Err(_) => Listen { ip: None, port: text.trim_start_matches(':').parse().unwrap() },
        };
        for (one, other) in [
            (":80", ":80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            (":80", "127.0.0.1:80"),
            (":80", "[::1]:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "0.0.0.0:80"),
        ] {
            for (listens, admin) in [(one, other), (other, one)] {
                let error = check_places(listen(listens), Some(listen(admin))).unwrap_err();
                let names =
                    format!("--listen {listens} and --admin-listen {admin} take the same port");
                assert!(error.starts_with(&names) && error.contains("give one"), "{error}");
            }
        }
        for (one, other) in [
            (":80", ":81"),
            (":0", ":0"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("127.0.0.1:80", "[::1]:80"),
            ("0.0.0.0:80", "[::1]:80"),
        ] {
            for (listens, admin) in [(one, other), (other, one)] {
                assert_eq!(
                    check_places(listen(listens), Some(listen(admin))),
                    Ok(()),
                    "{one} {other}"
                );
            }
        }
        assert_eq!(check_places(listen(":80"), None), Ok(()));
    }
}
