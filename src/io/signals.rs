//! Signals as bytes in a socket that the loop watches. Handlers are set from the first line of the
//! program on: process 1 ignores SIGTERM without one.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream as StdStream;

use mio::net::UnixStream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::machine::Signal;

/// The signals that the daemon heeds. The socket's other end is written by the handler.
#[derive(Debug)]
pub struct Signals {
    stop: UnixStream,
    reload: UnixStream,
}

impl Signals {
    /// Sets the handlers.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn install() -> io::Result<Signals> {
        Ok(Signals { stop: catch(&[SIGTERM, SIGINT])?, reload: catch(&[SIGHUP])? })
    }

    /// The two ends to watch: one for each signal.
    pub(super) fn sources(&mut self) -> [(&mut UnixStream, Signal); 2] {
        [(&mut self.stop, Signal::Stop), (&mut self.reload, Signal::Reload)]
    }

    /// Whether that signal came since it was last asked.
    pub(super) fn take(&mut self, signal: Signal) -> bool {
        let stream = match signal {
            Signal::Stop => &mut self.stop,
            Signal::Reload => &mut self.reload,
        };
        let mut came = false;
        let mut bytes = [0; 64];
        while matches!(stream.read(&mut bytes), Ok(1..)) {
            came = true;
        }
        came
    }
}

fn catch(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = StdStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(UnixStream::from_std(read))
}
