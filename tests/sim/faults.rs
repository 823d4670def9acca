//! Every fault that the simulated world can have: its name, whether a run may use it, and how often
//! it fired. A fault that no run ever fired proves nothing, so that a summary has them all.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;

use stand_ins::random::Random;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault { $($(#[$doc])* $fault,)* }

        impl Fault {
            /// All of them.
            pub(crate) const ALL: &[Fault] = &[$(Fault::$fault,)*];

            /// By this name it is switched.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name,)* }
            }
        }
    };
}

faults! {
    /// A connection is refused.
    Refused = "net-refused",
    /// A connection is reset instead of bringing its bytes.
    Reset = "net-reset",
    /// What was sent arrives in several pieces.
    Split = "net-split",
    /// A question to the name server, or its answer, is lost.
    DnsLost = "dns-lost",
    /// The disk is full.
    DiskFull = "disk-full",
    /// A call to the disk fails.
    DiskError = "disk-error",
    /// Nothing can be written.
    DiskReadOnly = "disk-read-only",
    /// Only some of the bytes were written.
    DiskHalfWritten = "disk-half-written",
    /// A call to the disk takes long.
    DiskSlow = "disk-slow",
    /// A power cut left some of a file that was not flushed.
    ContentTorn = "disk-torn-content",
    /// A power cut left nothing of a file that was not flushed.
    ContentLost = "disk-lost-content",
    /// A power cut took back a name that was not flushed.
    NamesLost = "disk-lost-names",
    /// The process was killed between two outputs.
    Killed = "process-killed",
    /// The process was killed between two calls of one change or read.
    KilledInside = "process-killed-inside",
    /// The power was cut, between two outputs or two calls.
    PowerCut = "process-power-cut",
    /// The process was told to end, and started again.
    Stopped = "process-stopped",
    /// The process was not scheduled for a while.
    Paused = "process-paused",
    /// A second instance stood by and took over.
    TakenOver = "process-taken-over",
    /// The wall clock was wrong by an hour.
    ClockHour = "clock-hour",
    /// The wall clock was wrong by a month.
    ClockMonth = "clock-month",
    /// The wall clock showed 1970.
    Clock1970 = "clock-1970",
    /// The wall clock showed 2040.
    Clock2040 = "clock-2040",
}

/// How often each fault fired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Toll(BTreeMap<Fault, u64>);

impl Toll {
    /// It fired.
    pub(crate) fn count(&mut self, fault: Fault) {
        self.add_times(fault, 1);
    }

    /// It fired so often.
    pub(crate) fn add_times(&mut self, fault: Fault, times: u64) {
        if times > 0 {
            *self.0.entry(fault).or_default() += times;
        }
    }

    /// Adds what another one counted.
    pub(crate) fn add(&mut self, other: &Toll) {
        other.0.iter().for_each(|(fault, times)| self.add_times(*fault, *times));
    }

    /// How often it fired.
    pub(crate) fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or_default()
    }

    /// The faults of `expected` that never fired.
    pub(crate) fn missing(&self, expected: &Switches) -> Vec<&'static str> {
        let never = |fault: &&Fault| expected.are_on(**fault) && self.of(**fault) == 0;
        Fault::ALL.iter().filter(never).map(|fault| fault.name()).collect()
    }
}

/// A line a fault.
impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Fault::ALL
            .iter()
            .try_for_each(|fault| writeln!(f, "  {:<24} {:>12}", fault.name(), self.of(*fault)))
    }
}

/// Which faults a run may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Switches(BTreeSet<Fault>);

impl Switches {
    /// Those that the environment leaves on: `FAULTS=dns-lost,disk-full` only these, `FAULTS=` none,
    /// `WITHOUT=net-reset` all but these.
    pub(crate) fn from_environment() -> Switches {
        let only = names_in("FAULTS").unwrap_or_else(|| Fault::ALL.iter().copied().collect());
        let without = names_in("WITHOUT").unwrap_or_default();
        Switches(only.difference(&without).copied().collect())
    }

    /// Whether this fault may be used.
    pub(crate) fn are_on(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// Those that one seed uses: each with an even chance, so that every fault is met together with
    /// every other and without it.
    pub(crate) fn draw(&self, chance: &mut Random) -> Switches {
        let mut drawn = BTreeSet::new();
        // Asked for each fault there is, so that a seed's other choices do not hang on what is on.
        for fault in Fault::ALL {
            if chance.chance(50) && self.are_on(*fault) {
                drawn.insert(*fault);
            }
        }
        Switches(drawn)
    }
}

fn names_in(variable: &str) -> Option<BTreeSet<Fault>> {
    let text = env::var(variable).ok()?;
    let parse = |name: &str| {
        let found = Fault::ALL.iter().copied().find(|fault| fault.name() == name);
        found.unwrap_or_else(|| panic!("{variable}: there is no fault {name}"))
    };
    Some(text.split(',').filter(|name| !name.is_empty()).map(parse).collect())
}
