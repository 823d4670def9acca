//! An order with more names than the CA accepts: what it accepts is learned from its refusal, and what is
//! wanted is split by that. Part of the scheduler's machine; never splits names itself, which the watcher
//! does.

use std::time::Duration;

use crate::context::Context;
use crate::daemon::model::{OrderError, Urgency};
use crate::domain::Domain;
use crate::hint::Complaint;
use crate::log::{Record, message};

use super::entry::Step;
use super::held::Held;
use super::schedule::Why;
use super::{Certificates, CertificatesOutput};

/// Where nobody can say at once how the names are split, the same order is not made again before.
const SPLIT_PAUSE: Duration = Duration::from_secs(60);

impl Certificates {
    /// Whether an order failed for having too many names. That is no failure of the names: they are ordered
    /// in several certificates, as soon as they are split.
    pub(super) fn has_too_many_names(
        &mut self,
        cx: &mut Context<'_>,
        name: &Domain,
        names: &[Domain],
        error: &OrderError,
    ) -> bool {
        let Some(max) = error.names_max(names.len()) else { return false };
        let Some(entry) = self.entries.get_mut(name) else { return false };
        let line = Record::warn("order", message::FEWER_NAMES);
        let line = line.with("name", name).with("domains", names.len()).with("accepted", max);
        cx.log(line.with("error", error));
        self.order_counts.failed += 1;
        entry.memory.attempt = None;
        let until = cx.now.wall.plus(SPLIT_PAUSE);
        let reason = format!("names in one certificate (the CA accepts {max})");
        let reason = Complaint::from(reason);
        // What is wanted may have been split meanwhile, by what another order has learned.
        let is_split = entry.desired.as_ref().is_none_or(|desired| desired.names.len() <= max);
        entry.held = (!is_split).then(|| Box::new(Held::new(until, reason, Why::TooManyNames)));
        self.unsaved = Some(Urgency::Now);
        self.outputs.push_back(CertificatesOutput::NamesMax(max));
        self.step(name, Step::Resting);
        true
    }
}
