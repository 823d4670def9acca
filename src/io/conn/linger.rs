//! The end of a connection that we have closed: what was sent leaves, what comes is dropped, until the peer
//! has ended it, too, or has had its time. That is longer for a peer that takes a long answer slowly.

use std::io::{ErrorKind, Read as _};
use std::net::Shutdown;
use std::time::Duration;

use crate::machine::CloseReason;
use crate::time::Instant;

use super::{Conn, Pause, State, Wire, reason};

/// Connections that linger at once at most; what more come push others out. An answer that has left for
/// the peer reaches it without that, unless the peer goes on sending.
pub(in super::super) const LINGERING_MAX: usize = 64;
/// How long a connection that we have closed may take to take the rest and to say its last words.
pub(in super::super) const LINGER: Duration = Duration::from_secs(5);
/// How much longer where a part of the rest has left and another has not. The system takes more only when
/// a third of its buffer is free, which a slow peer needs some seconds for.
const LINGER_ON: Duration = Duration::from_secs(10);
/// However much leaves, no longer than this: 2.4 MB, the report on ten thousand domains, take two minutes
/// at 20 KB a second.
const LINGER_MAX: Duration = Duration::from_secs(150);
/// Last words that are read and dropped, in bytes.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// How far a connection is that lingers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linger {
    until: Instant,
    /// However much leaves.
    last: Instant,
    /// Something has left since the time was set.
    moved: bool,
    peer_is_done: bool,
    dropped: usize,
    finished: bool,
}

impl Conn {
    /// We are done with it: it says nothing more to the daemon, and lingers until the time returned.
    pub(in super::super) fn close(&mut self, now: Instant, peer_is_done: bool) -> Instant {
        if let Wire::Tls(tls) = &mut self.wire {
            tls.send_close_notify();
        }
        let (until, last) = (now + LINGER, now + LINGER_MAX);
        let peer_is_done = peer_is_done || self.ended;
        let (moved, dropped, finished) = (false, 0, false);
        self.state =
            State::Lingering(Linger { until, last, moved, peer_is_done, dropped, finished });
        until
    }

    /// When a connection that lingers is dropped.
    pub(in super::super) fn linger_until(&self) -> Option<Instant> {
        match self.state {
            State::Lingering(Linger { until, .. }) => Some(until),
            _ => None,
        }
    }

    /// Has a connection linger on whose time has come, where what was sent still leaves; until when.
    pub(in super::super) fn linger_on(&mut self, now: Instant) -> Option<Instant> {
        let unsent = self.has_unsent();
        match &mut self.state {
            State::Lingering(linger) if unsent && linger.moved && now < linger.last => {
                linger.moved = false;
                linger.until = linger.last.min(now + LINGER_ON);
                Some(linger.until)
            }
            _ => None,
        }
    }

    /// Says that we are done, then waits for the peer's end: a socket that is closed with unread bytes
    /// sends a reset, which can destroy the last answer on its way, and so does one to which the peer
    /// sends more once it is closed. Neither is to be feared of a peer that is done and was heard out, once
    /// its answer has left: a peer that is not done after all, if only by an empty line, would destroy one
    /// that the system still holds back for the end.
    pub(super) fn linger(&mut self, has_sent: bool) -> Result<Pause, CloseReason> {
        let unsent = self.has_unsent();
        let State::Lingering(linger) = &mut self.state else {
            return Ok(Pause::Gone);
        };
        linger.moved |= has_sent;
        let is_over = !unsent && linger.peer_is_done && self.drained;
        if !unsent && !linger.finished && (has_sent || !is_over) {
            linger.finished = true;
            self.stream.shutdown(Shutdown::Write).map_err(|error| reason(&error))?;
        }
        if is_over {
            return Ok(Pause::Gone);
        }
        let mut buffer = [0; 2 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(if unsent { Pause::Ready } else { Pause::Gone }),
                Ok(length) => linger.dropped += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Pause::Ready),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(reason(&error)),
            }
            if linger.dropped > LINGER_BYTES_MAX {
                return Ok(Pause::Gone);
            }
        }
    }
}
