//! One verification of a load balancer: the reload signals sent for a generation, the processes that came
//! of them, and what is left to be seen; or, without a generation, one probe of the drift watch. Decides
//! when the signal is repeated and what counts as evidence against a file. Sends nothing.

use std::time::Duration;

use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::hint::Complaint;
use crate::pki::Fingerprint;
use crate::time::Instant;

use super::processes::{Pids, Shown};
use super::sighting::{Left, Sighting};

/// A reload after which the wrong certificate persists is repeated after 2, 4, 8, 8, … seconds: storage that
/// shows a new file late is served within ten seconds of showing it.
const WRONG_PAUSE: Duration = Duration::from_secs(2);
const WRONG_PAUSE_MAX: Duration = Duration::from_secs(8);
/// A signal after which no new process appears is repeated after 3, 6, 12, 24, … seconds.
const NO_PROCESS_PAUSE: Duration = Duration::from_secs(3);
/// The process that checks HAProxy's configuration before a reload is gone after this time.
const PERSISTENCE: Duration = Duration::from_secs(1);
/// Shared storage is up to date within this time (the attribute caches of NFS last a minute). Afterwards the
/// pauses grow with the time that has passed.
const CONVERGENCE: Duration = Duration::from_secs(120);
/// The longest pause between two signals.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Nothing that is seen so long after a signal is told.
const UNSEEN_AFTER: Duration = Duration::from_secs(5);
/// Names found wrong from one look at the process ids to the next.
const PASS: usize = 8;
/// A load balancer that acknowledged a signal is lost after this many requests that did not reach it.
const UNREACHABLE_MAX: u32 = 3;

/// Files by their names, and their leaf certificates.
type Files = FlatMap<Domain, Fingerprint>;

/// What is known so far.
#[derive(Debug)]
pub(super) struct Verification {
    /// What is acknowledged at its end; `None`: it is a probe of the drift watch.
    pub(super) generation: Option<u64>,
    /// The process ids before the last signal, where they are shown.
    pub(super) before: Option<Pids>,
    /// The last answer shows none.
    pub(super) hides_pids: bool,
    /// Process ids that were new at the last look, and when that was.
    new: Pids,
    counted_at: Option<Instant>,
    /// A process appeared after the last signal and persists.
    pub(super) reloaded: bool,
    /// Everything left was probed since.
    is_judged: bool,
    pub(super) began_at: Instant,
    /// A signal was acknowledged with 200 before.
    pub(super) is_repeated: bool,
    signaled_at: Instant,
    /// Signals in a row after which no process appeared.
    ignored: u32,
    /// Reloads in a row after which something was wrong.
    failed_reloads: u32,
    /// What is not seen yet.
    pub(super) left: Left,
    /// Names found wrong in this pass.
    misses: usize,
    /// Another name, whose file is not new. A new file is the cause of a failure only where the reload still
    /// serves this name.
    pub(super) reference: Option<Domain>,
    /// The last reload serves it.
    serves_reference: bool,
    /// What was seen in place of the right certificate, the last time.
    pub(super) seen: Option<Sighting>,
    /// What was served before the first signal, where that was a certificate of ours.
    pub(super) worked: Files,
    /// Names for which the last reload fails the TLS handshake.
    rejecting: Files,
    /// Names for which the reload before it did so.
    rejecting_before: Files,
    /// Names for which two reloads in a row did so.
    pub(super) rejected: Vec<Domain>,
    /// Requests in a row that did not reach the load balancer since it acknowledged a signal.
    unreachable: u32,
}

/// What is next when a pass has found something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is probed again.
    Probe,
    /// It is signaled again.
    Signal,
    /// Likewise; the last signal started no process.
    SignalIgnored,
    /// Likewise; it did reload, and an earlier certificate persists: it sees the storage late.
    SignalLate,
    /// Likewise; it did reload, and something else is wrong.
    SignalWrong,
}

impl Verification {
    pub(super) fn new(now: Instant, generation: Option<u64>, shown: Shown) -> Verification {
        Verification {
            generation,
            hides_pids: matches!(shown, Shown::Nothing),
            before: shown.pids(),
            new: Pids::new(),
            counted_at: None,
            reloaded: false,
            is_judged: false,
            began_at: now,
            is_repeated: false,
            signaled_at: now,
            ignored: 0,
            failed_reloads: 0,
            left: Left::new(),
            misses: 0,
            reference: None,
            serves_reference: false,
            seen: None,
            worked: Files::new(),
            rejecting: Files::new(),
            rejecting_before: Files::new(),
            rejected: Vec::new(),
            unreachable: 0,
        }
    }

    /// A signal was acknowledged with 200.
    pub(super) fn signaled(&mut self, now: Instant) {
        (self.signaled_at, self.is_repeated) = (now, true);
        (self.new, self.reloaded, self.counted_at) = (Pids::new(), false, None);
        (self.is_judged, self.serves_reference) = (false, false);
        self.rejecting.clear();
        self.misses = 0;
    }

    /// Records the process ids that are shown; the first ones are those before the next signal. A process
    /// persists when it is still there after [`PERSISTENCE`].
    pub(super) fn count(&mut self, now: Instant, shown: &Pids) {
        if self.counted_at.is_some_and(|at| now < at + PERSISTENCE) {
            return;
        }
        self.counted_at = Some(now);
        let before = self.before.get_or_insert_with(|| shown.clone());
        let new: Pids = shown.iter().filter(|pid| !before.contains(*pid)).copied().collect();
        self.reloaded |= new.iter().any(|pid| self.new.contains(pid));
        self.new = new;
    }

    /// Whether the next probe comes soon: the last signal is less than a second old, and most reloads take
    /// less; or a reload was seen since the last probe.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        let fresh = now < self.signaled_at + PERSISTENCE;
        self.generation.is_some() && (fresh || (self.reloaded && !self.is_judged))
    }

    /// Process ids that appeared after the last signal.
    pub(super) fn new_pids(&self) -> impl Iterator<Item = u32> {
        self.new.iter().copied()
    }

    /// The front of what is left was seen to be right.
    pub(super) fn right(&mut self) {
        if let Some((name, _)) = self.left.pop_front() {
            self.rejecting.remove(&name);
            self.serves_reference |= self.reference.as_ref() == Some(&name);
        }
    }

    /// Removes the reference if it is the front of what is left: the drift watch reports what is wrong
    /// with it.
    fn skip_reference(&mut self) -> bool {
        let asked = self.left.front().map(|(name, _)| name);
        let skips = asked.is_some() && asked == self.reference.as_ref();
        if skips {
            self.left.pop_front();
        }
        skips
    }

    /// The front of what is left was seen to be wrong: the others are probed first. Another certificate is
    /// no evidence against a file: HAProxy loads every file that it sees, or none of them.
    pub(super) fn wrong(&mut self, seen: Sighting) {
        if self.skip_reference() {
            return;
        }
        self.seen = Some(seen);
        self.misses += 1;
        self.left.rotate_left(1);
    }

    /// No TLS handshake succeeds: what is left is not probed in this pass. `fails`: the port was connected
    /// to, and the certificate failed. Where it was not, no file is the cause: HAProxy shows its process ids,
    /// so that it runs and has loaded its configuration, with every port of that.
    pub(super) fn failed(
        &mut self,
        (seen, fails): (Sighting, bool),
        file: impl Fn(&Domain) -> Option<Fingerprint>,
    ) {
        self.skip_reference();
        self.seen = Some(seen);
        self.misses = PASS;
        if !fails {
            return self.rejecting.clear();
        }
        let names: Vec<Domain> = self.left.iter().map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.reject(name, file(name)));
    }

    fn reject(&mut self, name: &Domain, file: Option<Fingerprint>) {
        if let Some(file) = file
            && self.reloaded
            && self.worked.contains_key(name)
        {
            self.rejecting.insert(name.clone(), file);
        }
    }

    /// Whether the pass is over: everything left was probed, or enough of it.
    pub(super) fn is_pass_over(&self) -> bool {
        self.misses >= self.left.len().min(PASS)
    }

    /// Ends a pass and decides what is next; `pending` is the latest generation.
    pub(super) fn next(&mut self, now: Instant, pending: u64) -> Next {
        self.misses = 0;
        let signaled_at = self.signaled_at;
        let due = |pause| now >= signaled_at + pause;
        if self.before.is_some() && !self.reloaded {
            if self.is_ignored(now) {
                return Next::SignalIgnored;
            }
        } else if !std::mem::replace(&mut self.is_judged, true) {
            let place = self.left.front().map(|(_, place)| *place);
            let reference = self.reference.clone().zip(place);
            reference.into_iter().for_each(|reference| self.left.push_front(reference));
            return Next::Probe;
        } else if due(self.wrong_pause(now)) {
            self.ignored = 0;
            self.fail_reload();
            let late = self.rejecting_before.is_empty() && self.is_another_seen();
            return if late { Next::SignalLate } else { Next::SignalWrong };
        }
        if self.is_overtaken(now, pending) { Next::Signal } else { Next::Probe }
    }

    fn is_another_seen(&self) -> bool {
        matches!(self.seen, Some(Sighting::Another { .. }))
    }

    /// A reload with a new process failed for what is left. It is evidence if it serves the reference and is
    /// the second in a row.
    fn fail_reload(&mut self) {
        if !self.serves_reference {
            self.rejecting.clear();
        }
        self.failed_reloads = self.failed_reloads.saturating_add(1);
        let before =
            std::mem::replace(&mut self.rejecting_before, std::mem::take(&mut self.rejecting));
        let both =
            self.rejecting_before.iter().filter(|(name, file)| before.get(*name) == Some(*file));
        self.rejected = both.map(|(name, _)| name.clone()).collect();
    }

    /// The next signal is for this generation: what is new has its own time.
    pub(super) fn aim(&mut self, now: Instant, generation: u64) {
        if self.generation != Some(generation) {
            (self.began_at, self.ignored, self.failed_reloads) = (now, 0, 0);
        }
        self.generation = Some(generation);
    }

    /// Ends a pass without a decision.
    pub(super) fn end_pass(&mut self) {
        self.misses = 0;
    }

    /// Whether the load balancer is lost, by what came of a request; a connection may fail while it reloads.
    pub(super) fn is_lost(&mut self, reached: bool) -> bool {
        self.unreachable = if reached { 0 } else { self.unreachable + 1 };
        self.unreachable >= UNREACHABLE_MAX
    }

    /// Where nothing was seen and the last signal is not of this moment: HAProxy may refuse a connection
    /// while it reloads.
    pub(super) fn unseen(&self, now: Instant) -> Option<Complaint> {
        let seen = self.seen.as_ref().filter(|seen| matches!(seen, Sighting::Nothing { .. }))?;
        (now >= self.signaled_at + UNSEEN_AFTER).then(|| seen.complaint())
    }

    fn ignored_pause(&self) -> Duration {
        (NO_PROCESS_PAUSE * 2u32.pow(self.ignored.min(6))).min(PAUSE_MAX)
    }

    fn wrong_pause(&self, now: Instant) -> Duration {
        let passed = now.since(self.began_at);
        if passed >= CONVERGENCE {
            return (passed / 4).min(PAUSE_MAX);
        }
        if self.failed_reloads > 1 && matches!(self.seen, Some(Sighting::Nothing { .. })) {
            // Where two reloads have shown nothing, no third one will: the probe does not get there.
            return (WRONG_PAUSE * 2u32.pow(self.failed_reloads.min(6))).min(PAUSE_MAX);
        }
        (WRONG_PAUSE * 2u32.pow(self.failed_reloads.min(2))).min(WRONG_PAUSE_MAX)
    }

    /// Whether a later generation than that of the last signal is pending, and the next one may be sent.
    pub(super) fn is_overtaken(&self, now: Instant, pending: u64) -> bool {
        self.generation.is_some_and(|of| of < pending) && now >= self.signaled_at + WRONG_PAUSE
    }

    /// Whether the last signal started no process in time, and is to be repeated; counts it then. One that
    /// has appeared may persist.
    pub(super) fn is_ignored(&mut self, now: Instant) -> bool {
        let due =
            !self.reloaded && self.new.is_empty() && now >= self.signaled_at + self.ignored_pause();
        if due {
            self.ignored = self.ignored.saturating_add(1);
        }
        due
    }
}
