//! The storage as the daemon sees it: opened (again and again until it can be), every change named,
//! what failed noticed. Never decides what is written.
//!
//! `Opening ⇄ Pausing → Open ⇄ Doubtful (a write failed; opened again until it works)`

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::backoff::Backoff;
use crate::domain::Domain;
use crate::log::Record;
use crate::seam::{Change, Inventory, Load, Output, StoreError, StoreErrorKind, WriteId};
use crate::time::Instant;
use crate::turn::Turn;

/// A standby instance asks this often whether the active one has ended.
const STANDBY_PAUSE: Duration = Duration::from_secs(2);

/// What a change was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `client.key`.
    AccountKey,
    /// `default.pem`.
    Fallback,
    /// `certs/NAME.pem`.
    Certificate(Domain),
    /// `certs/NAME.pem`, into `archive/`.
    Archive(Domain),
    /// `state.json`, into `archive/`.
    ArchiveState,
    /// `state.json`; which writing of it.
    State(u64),
    /// `challenges/TOKEN`, written or removed.
    Challenge,
}

/// The storage can be used.
#[derive(Debug)]
pub struct Opened {
    /// For the first time: this instance is the active one from now on.
    pub activated: bool,
    /// What is there. Changes that failed before are not in it.
    pub inventory: Inventory,
}

/// Access to the storage.
#[derive(Debug)]
pub struct Storekeeper {
    state: State,
    backoff: Backoff,
    writes: BTreeMap<WriteId, Purpose>,
    writes_made: u64,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum State {
    /// Not asked for yet, or the answer is on its way.
    Opening { trouble: Option<StoreError> },
    /// It could not be opened; again at this time.
    Pausing { until: Instant, trouble: StoreError },
    /// This instance is the active one and the last write worked.
    Open,
    /// This instance is the active one, but a write failed; tried again at this time.
    Doubtful { until: Instant, trouble: StoreError },
    /// As `Doubtful`, and the answer is on its way.
    Reopening { trouble: StoreError },
}

impl Default for Storekeeper {
    fn default() -> Storekeeper {
        Storekeeper {
            state: State::Opening { trouble: None },
            backoff: Backoff::default(),
            writes: BTreeMap::new(),
            writes_made: 0,
            outputs: VecDeque::new(),
        }
    }
}

impl Storekeeper {
    /// Asks for the storage for the first time.
    pub fn start(&mut self) {
        self.outputs.push_back(Output::Load(Load::Storage));
    }

    /// Takes in the answer to [`Load::Storage`]: what is there, and whether this makes us active.
    pub fn opened(
        &mut self,
        turn: &mut Turn<'_>,
        result: Result<Inventory, StoreError>,
    ) -> Option<Opened> {
        match result {
            Ok(inventory) => {
                let activated = !self.is_active();
                if let Some(trouble) = self.trouble() {
                    let line = Record::info("storage", "usable again");
                    turn.log(line.with("was", trouble));
                }
                self.state = State::Open;
                self.backoff.reset();
                Some(Opened { activated, inventory })
            }
            Err(trouble) => {
                self.refused(turn, trouble);
                None
            }
        }
    }

    fn refused(&mut self, turn: &mut Turn<'_>, trouble: StoreError) {
        let standby = trouble.kind == StoreErrorKind::Locked;
        let pause = if standby { STANDBY_PAUSE } else { self.backoff.pause(turn.keys) };
        let until = turn.now.mono + pause;
        let known = self.trouble().is_some_and(|known| known.kind == trouble.kind);
        if standby && !known {
            turn.log(Record::info("storage", "another instance is active, standing by"));
        } else if !standby {
            let line = Record::error("storage", "not usable").with("error", &trouble);
            turn.log(line.with("next_try", turn.now.wall.plus(pause)));
        }
        self.state = if self.is_active() {
            State::Doubtful { until, trouble }
        } else {
            State::Pausing { until, trouble }
        };
    }

    /// Makes a change; its outcome comes back with the purpose from [`Storekeeper::stored`].
    pub fn store(&mut self, purpose: Purpose, change: Change) {
        let write = WriteId(self.writes_made);
        self.writes_made += 1;
        self.writes.insert(write, purpose);
        self.outputs.push_back(Output::Store { write, change });
    }

    /// Reads something.
    pub fn load(&mut self, load: Load) {
        self.outputs.push_back(Output::Load(load));
    }

    /// Takes in the outcome of a change; what it was for.
    pub fn stored(
        &mut self,
        turn: &mut Turn<'_>,
        write: WriteId,
        result: &Result<(), StoreError>,
    ) -> Option<Purpose> {
        let purpose = self.writes.remove(&write)?;
        match result {
            Ok(()) => {}
            Err(error) if is_disk_trouble(error.kind) => {
                if matches!(self.state, State::Open) {
                    let until = turn.now.mono + self.backoff.pause(turn.keys);
                    self.state = State::Doubtful { until, trouble: error.clone() };
                }
            }
            Err(error) => {
                let line = Record::warn("storage", "a change was not made");
                turn.log(line.with("error", error));
            }
        }
        Some(purpose)
    }

    /// Whether this instance holds the lock.
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Open | State::Doubtful { .. } | State::Reopening { .. })
    }

    /// Changes whose outcome is not known yet.
    pub fn writes_under_way(&self) -> usize {
        self.writes.len()
    }

    /// How often in a row it could not be opened or written.
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// What is wrong with the storage, when something is.
    pub fn trouble(&self) -> Option<&StoreError> {
        match &self.state {
            State::Open => None,
            State::Opening { trouble } => trouble.as_ref(),
            State::Pausing { trouble, .. }
            | State::Doubtful { trouble, .. }
            | State::Reopening { trouble } => Some(trouble),
        }
    }

    /// What keeps the storage from being written; standing by is no trouble.
    pub fn write_trouble(&self) -> Option<&StoreError> {
        self.trouble().filter(|trouble| trouble.kind != StoreErrorKind::Locked)
    }

    /// Tries again when it is time.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        if self.poll_timeout().is_none_or(|until| until > turn.now.mono) {
            return;
        }
        let state = std::mem::replace(&mut self.state, State::Opening { trouble: None });
        self.state = match state {
            State::Doubtful { trouble, .. } => State::Reopening { trouble },
            State::Pausing { trouble, .. } => State::Opening { trouble: Some(trouble) },
            other => other,
        };
        self.outputs.push_back(Output::Load(Load::Storage));
    }

    /// When it is tried again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Pausing { until, .. } | State::Doubtful { until, .. } => Some(until),
            State::Opening { .. } | State::Open | State::Reopening { .. } => None,
        }
    }

    /// What to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// Whether an error means that the storage as a whole does not work.
fn is_disk_trouble(kind: StoreErrorKind) -> bool {
    match kind {
        StoreErrorKind::Exists | StoreErrorKind::Missing | StoreErrorKind::Malformed => false,
        StoreErrorKind::Locked
        | StoreErrorKind::NotADirectory
        | StoreErrorKind::NotWritable
        | StoreErrorKind::Full
        | StoreErrorKind::Io => true,
    }
}

#[cfg(test)]
mod tests;
