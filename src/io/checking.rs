//! Runs a machine that only looks: no port is bound or taken over, no lock taken, and the service
//! manager hears nothing, so that a daemon may be at work beside it.

use std::io;

use crate::config::Config;
use crate::keys::Keys as _;
use crate::machine::Machine;
use crate::survey::Survey;

use super::descriptors::Descriptors;
use super::event_loop::{EventLoop, Parts};
use super::keys::RingKeys;
use super::log::Logger;
use super::notify::Notifier;
use super::signals::Signals;
use super::storage::{Storage, survey};
use super::tls::TlsClients;
use super::{StartError, hardening, user};

/// Surveys the storage and runs the machine that is made of what was found, until it ends; its exit
/// status. All of it as the user that the daemon would be.
///
/// # Errors
/// It cannot start: a bundle cannot be read, the user cannot be switched to; or the system failed later
/// on.
pub fn run_check<M: Machine>(
    config: &Config,
    signals: Signals,
    make: impl FnOnce(Survey) -> M,
) -> Result<u8, StartError> {
    let failed = |text: String| StartError { status: 1, text };
    let tls = TlsClients::new(config)
        .map_err(|error| StartError { status: 2, text: error.to_string() })?;
    // What the system forbids is told by a daemon.
    let _ = hardening::give_up_new_privileges();
    if let Some(user) = &config.user {
        user::become_user(user).map_err(|error| failed(error.to_string()))?;
        let _ = hardening::keep_memory_private();
    }
    let mut machine = make(survey(&config.storage_dir, config.cert_mode));
    let mut keys = RingKeys::new();
    // It reads the configuration of the name service, too, which is all that it is asked for.
    let disk = Storage::new(config.storage_dir.clone(), config.cert_mode, keys.random());
    let run = || -> io::Result<u8> {
        let logger = Logger::new(config.log_level, config.log_format)?;
        let (descriptors, notifier) = (Descriptors::claim(), Notifier::default());
        let (listener, admin) = (None, None);
        let parts =
            Parts { listener, admin, descriptors, signals, tls, disk, keys, logger, notifier };
        EventLoop::new(parts)?.run(&mut machine)
    };
    run().map_err(|error| failed(format!("the system failed: {error}")))
}
