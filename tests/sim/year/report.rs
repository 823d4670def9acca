//! What a year was like, in numbers: a fault that is never met proves nothing.

use std::fmt;

/// The counters of one year, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Certificates that were issued.
    pub(crate) certificates: u64,
    /// Of them, those that followed one of the same name.
    pub(crate) renewals: u64,
    /// Orders that the CA took.
    pub(crate) orders: u64,
    /// Processes that were killed.
    pub(crate) kills: u64,
    /// Processes that ended in order.
    pub(crate) graceful_stops: u64,
    /// Processes that started.
    pub(crate) starts: u64,
    /// Jumps of the wall clock by an hour.
    pub(crate) wall_steps: u64,
    /// Jumps of the wall clock by a month.
    pub(crate) clock_months: u64,
    /// Apps that were deployed, changed or removed.
    pub(crate) labels: u64,
    /// Domains whose route was broken.
    pub(crate) broken_routes: u64,
    /// Validations that failed.
    pub(crate) failed_validations: u64,
    /// Outages of the CA.
    pub(crate) ca_outages: u64,
    /// Outages of Marathon.
    pub(crate) marathon_outages: u64,
    /// Outages of a load balancer.
    pub(crate) lb_outages: u64,
    /// Times of a bad disk.
    pub(crate) disk_outages: u64,
    /// Changes that the disk refused.
    pub(crate) disk_faults: u64,
    /// Requests that the CA answered with 500.
    pub(crate) server_errors: u64,
    /// Connections refused, dropped or cut.
    pub(crate) network_faults: u64,
    /// Certificates that the CA wanted renewed at once.
    pub(crate) hastened: u64,
    /// Of them, those that were wanted and were renewed in time.
    pub(crate) hastened_renewals: u64,
    /// Files that went to the archive.
    pub(crate) archived: u64,
    /// Orders that the daemon held back by its own budget, as its log says.
    pub(crate) budget_holds: u64,
    /// Reloads of load balancers.
    pub(crate) reloads: u64,
    /// Lines of the log at info and above.
    pub(crate) log_lines: u64,
    /// Things that happened.
    pub(crate) steps: u64,
    /// Folds every byte that left the daemon; of several years, all of them.
    pub(crate) digest: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Report {
    /// Adds another year.
    pub(crate) fn add(&mut self, other: &Report) {
        self.certificates += other.certificates;
        self.renewals += other.renewals;
        self.orders += other.orders;
        self.kills += other.kills;
        self.graceful_stops += other.graceful_stops;
        self.starts += other.starts;
        self.wall_steps += other.wall_steps;
        self.clock_months += other.clock_months;
        self.labels += other.labels;
        self.broken_routes += other.broken_routes;
        self.failed_validations += other.failed_validations;
        self.ca_outages += other.ca_outages;
        self.marathon_outages += other.marathon_outages;
        self.lb_outages += other.lb_outages;
        self.disk_outages += other.disk_outages;
        self.disk_faults += other.disk_faults;
        self.server_errors += other.server_errors;
        self.network_faults += other.network_faults;
        self.hastened += other.hastened;
        self.hastened_renewals += other.hastened_renewals;
        self.archived += other.archived;
        self.budget_holds += other.budget_holds;
        self.reloads += other.reloads;
        self.log_lines += other.log_lines;
        self.steps += other.steps;
        self.digest ^= other.digest;
    }

    /// Whether everything that can happen has happened.
    pub(crate) fn all_faults_met(&self) -> bool {
        [
            self.renewals,
            self.kills,
            self.graceful_stops,
            self.wall_steps,
            self.clock_months,
            self.labels,
            self.broken_routes,
            self.failed_validations,
            self.ca_outages,
            self.marathon_outages,
            self.lb_outages,
            self.disk_outages,
            self.disk_faults,
            self.server_errors,
            self.network_faults,
            self.hastened_renewals,
            self.archived,
            self.budget_holds,
        ]
        .iter()
        .all(|count| *count > 0)
    }
}
