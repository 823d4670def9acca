//! What a run was like: the counts that a summary adds up and prints. Judges nothing.

use std::fmt;

use stand_ins::ca::AcmeRequest;

use crate::faults::Toll;
use crate::network::Most;
use crate::world::World;

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) certificates: u64,
    pub(crate) acme_requests: u64,
    pub(crate) bad_nonces: u64,
    pub(crate) server_errors: u64,
    pub(crate) reloads: u64,
    pub(crate) renewals: u64,
    pub(crate) failed_validations: u64,
    pub(crate) log_lines: u64,
    pub(crate) steps: u64,
    /// How often a `Retry-After` could have been ignored.
    pub(crate) waits_kept: u64,
    /// The most lists of apps that were asked for in one second.
    pub(crate) syncs_in_a_second: usize,
    /// How often a domain was wanted no longer.
    pub(crate) unwanted: u64,
    /// What the daemon held open at most.
    pub(crate) most: Most,
    /// Folds every byte that left the daemon; of several runs, all of them.
    pub(crate) digest: u64,
    pub(crate) faults: Toll,
}

impl Report {
    /// What the records of a world say, with so many certificates before the renewals.
    pub(super) fn of(world: &World, before_renewal: u64, steps: u64) -> Report {
        let (seen, checked) = (world.peers.ca.seen(), world.peers.ca.checked());
        let count = |fits: &dyn Fn(&AcmeRequest) -> bool| seen.iter().filter(|it| fits(it)).count();
        let certificates = world.peers.ca.issued().len() as u64;
        Report {
            certificates,
            acme_requests: seen.len() as u64,
            bad_nonces: count(&|it| it.problem == Some("badNonce")) as u64,
            server_errors: count(&|it| it.status == 500) as u64,
            reloads: world.peers.lbs.iter().map(|lb| lb.reloads().len() as u64).sum(),
            renewals: certificates - before_renewal,
            failed_validations: checked.iter().filter(|checked| checked.error.is_some()).count()
                as u64,
            log_lines: world.log.len() as u64,
            steps,
            waits_kept: 0,
            syncs_in_a_second: 0,
            unwanted: 0,
            digest: world.digest,
            most: world.network.books.most,
            faults: world.toll(),
        }
    }

    pub(crate) fn add(&mut self, other: &Report) {
        self.certificates += other.certificates;
        self.acme_requests += other.acme_requests;
        self.bad_nonces += other.bad_nonces;
        self.server_errors += other.server_errors;
        self.reloads += other.reloads;
        self.renewals += other.renewals;
        self.failed_validations += other.failed_validations;
        self.log_lines += other.log_lines;
        self.steps += other.steps;
        self.waits_kept += other.waits_kept;
        self.syncs_in_a_second = self.syncs_in_a_second.max(other.syncs_in_a_second);
        self.unwanted += other.unwanted;
        self.most = self.most.max(other.most);
        self.digest ^= other.digest;
        self.faults.add(&other.faults);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { certificates, acme_requests, renewals, reloads, log_lines, steps, .. } = self;
        let Most { dialed, accepted, asked, unheard } = self.most;
        write!(f, "{certificates} certificates, {renewals} of them renewals, ")?;
        write!(f, "{} failed validations, ", self.failed_validations)?;
        write!(f, "{acme_requests} ACME requests, {reloads} reloads, {log_lines} log lines, ")?;
        let Report { waits_kept, syncs_in_a_second, unwanted, .. } = self;
        write!(f, "{steps} steps, {waits_kept} times a Retry-After was kept, ")?;
        write!(f, "{unwanted} times a domain was wanted no longer; at most ")?;
        write!(f, "{syncs_in_a_second} lists of apps in a second, ")?;
        write!(f, "{dialed} dialed and {accepted} accepted connections, ")?;
        write!(f, "{asked} questions in a second, {unheard} bytes on their way; ")?;
        write!(f, "faults that fired:\n{}", self.faults)
    }
}
