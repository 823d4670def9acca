//! Every fault that the simulated world can have: its name, whether a run may use it, and how often
//! it fired. A fault that no run ever fired proves nothing, so that a summary has them all.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;

use stand_ins::random::Random;

use crate::scenario::Cell;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault {
            $($(#[$doc])* $fault,)*
            /// The CA does something wrong at one step of the protocol.
            Ca(Cell),
        }

        impl Fault {
            /// Those with a name of their own.
            const NAMED: &[Fault] = &[$(Fault::$fault,)*];

            /// By this name it is switched.
            pub(crate) fn name(self) -> String {
                match self {
                    $(Fault::$fault => $name.to_string(),)*
                    Fault::Ca(cell) => cell.name(),
                }
            }
        }
    };
}

faults! {
    /// A connection is refused.
    Refused = "net-refused",
    /// There is no way to an address.
    Unreachable = "net-unreachable",
    /// Nothing answers a connection attempt, not even with a refusal.
    NoAnswer = "net-no-answer",
    /// The first packet of a connection is lost, so that it stands seconds later.
    SynLost = "net-syn-lost",
    /// A connection is slow: each piece takes up to some seconds.
    Latency = "net-latency",
    /// A piece is lost and comes again after a time that doubles.
    Loss = "net-loss",
    /// A connection is reset instead of bringing its bytes.
    Reset = "net-reset",
    /// A connection ends in order, before all of its bytes have come.
    Cut = "net-cut",
    /// From a moment on nothing passes, in neither direction, and nobody is told.
    BlackHole = "net-black-hole",
    /// One side is gone and the other has not heard of it.
    HalfOpen = "net-half-open",
    /// What was sent arrives in several pieces.
    Split = "net-split",
    /// What was sent arrives byte by byte.
    EveryByte = "net-every-byte",
    /// The bytes of a TLS connection end without its last word.
    Truncated = "tls-truncated",
    /// A TLS handshake fails, or a record does.
    TlsFailed = "tls-failed",
    /// The daemon has no descriptor left for a connection that it wants to make.
    NoDescriptor = "fd-connect",
    /// The daemon has none for a connection that waits to be accepted.
    LateAccept = "fd-accept",
    /// A stranger sends what is no HTTP.
    StrangerGarbage = "stranger-garbage",
    /// A stranger sends a byte now and then.
    StrangerDrip = "stranger-drip",
    /// A stranger asks a lot and never reads.
    StrangerDeaf = "stranger-deaf",
    /// A stranger says nothing.
    StrangerSilent = "stranger-silent",
    /// A question to the name server, or its answer, is lost.
    DnsLost = "dns-lost",
    /// The name server answers when nobody waits any more.
    DnsLate = "dns-late",
    /// It denies that there is the name.
    DnsNoSuchName = "dns-nxdomain",
    /// It says that it failed.
    DnsFailure = "dns-servfail",
    /// Its answer does not fit into a datagram.
    DnsTruncated = "dns-truncated",
    /// An answer with another id, which lies.
    DnsWrongId = "dns-wrong-id",
    /// An answer to another question, which lies.
    DnsWrongQuestion = "dns-wrong-question",
    /// An answer from another address, which lies.
    DnsWrongSource = "dns-wrong-source",
    /// An answer that cannot be read.
    DnsGarbage = "dns-garbage",
    /// An answer without addresses.
    DnsEmpty = "dns-empty",
    /// The name is an alias of an alias.
    DnsAlias = "dns-alias",
    /// One of the addresses leads to nobody.
    DnsDeadAddress = "dns-dead-address",
    /// One of the addresses is of a family for which there is no way.
    DnsNoRoute = "dns-no-route",
    /// A peer moves to another address, and nobody is at the old one.
    DnsMoved = "dns-moved",
    /// A load balancer cannot be reached.
    LbDown = "lb-down",
    /// It stays away for more than an hour.
    LbLongDown = "lb-down-an-hour",
    /// It answers a signal 500.
    LbFailure = "lb-500",
    /// It answers with a page of whatever stands before it.
    LbHtml = "lb-html",
    /// It answers 200 and reloads nothing.
    LbSwallowed = "lb-swallowed",
    /// It is slow to answer.
    LbSlow = "lb-slow",
    /// It does not say its process ids.
    LbNoPids = "lb-no-pids",
    /// What it says there are no process ids.
    LbGarbledPids = "lb-garbled-pids",
    /// Its name has one more load balancer.
    LbAppears = "lb-appears",
    /// Its name has one load balancer less.
    LbGone = "lb-gone",
    /// A load balancer reloads and serves what its directory was before.
    LbOldDirectory = "lb-old-directory",
    /// A load balancer says 200 and never loads what is new.
    LbRefuses = "lb-refuses-file",
    /// A load balancer ends when it loads what is new.
    LbCrash = "lb-crash",
    /// A load balancer is started again with what its directory was long ago.
    LbStale = "lb-restart-stale",
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
    /// The file system has no locks: the lease alone tells instances apart.
    DiskNoLocks = "disk-no-locks",
    /// The file system has no hard links.
    DiskNoLinks = "disk-no-links",
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
    /// Another Marathon leads; event streams end, the others send clients of streams to it.
    LeaderChange = "marathon-leader-change",
    /// There is no leader for a while: 502.
    NoLeader = "marathon-no-leader",
    /// Marathon answers 503.
    MarathonUnavailable = "marathon-503",
    /// Marathon answers 401 for a while.
    MarathonUnauthorized = "marathon-401",
    /// The list of apps ends anywhere, its head included.
    AppsCut = "marathon-apps-cut",
    /// An event stream ends within an event.
    StreamCut = "marathon-stream-cut",
    /// The list of apps has no body.
    AppsNothing = "marathon-empty-body",
    /// The list of apps is well-formed and has no app: a fresh leader that has not loaded them.
    AppsEmpty = "marathon-empty-list",
    /// The list of apps is that of some minutes ago.
    AppsStale = "marathon-stale-list",
    /// The list of apps is a page of HTML, with status 200.
    AppsHtml = "marathon-html",
    /// The list of apps is compressed.
    AppsGzip = "marathon-gzip",
    /// Some apps in the list are odd JSON.
    AppsOdd = "marathon-odd-app",
    /// The list has 2,000 apps.
    AppsMany = "marathon-2000-apps",
    /// One app is larger than any that is read.
    AppHuge = "marathon-huge-app",
    /// Events come twice.
    EventsTwice = "marathon-duplicate-events",
    /// A change that no event tells of.
    EventMissing = "marathon-missing-event",
    /// 10,000 events within a second.
    EventFlood = "marathon-event-flood",
    /// An event stream without heartbeats, until it is given up.
    StreamSilent = "marathon-silent-stream",
    /// An event stream that ends as soon as it began.
    StreamCloses = "marathon-stream-closes",
    /// An event stream that is a page of HTML.
    StreamHtml = "marathon-stream-html",
    /// A `Retry-After` in seconds comes with an error.
    RetryAfterSeconds = "ca-retry-after-seconds",
    /// A `Retry-After` as a date comes with an error.
    RetryAfterDate = "ca-retry-after-date",
    /// The CA has forgotten the account.
    AccountForgotten = "ca-account-forgotten",
    /// The account is deactivated, until a person has that undone.
    AccountDeactivated = "ca-account-deactivated",
    /// Orders stay `processing`.
    OrdersProcess = "ca-orders-process",
    /// Challenges are never looked at.
    ChallengesProcess = "ca-challenges-process",
    /// The directory names other URLs, and the old ones lead nowhere.
    DirectoryMoves = "ca-directory-moves",
    /// The directory lacks a member.
    DirectoryLacks = "ca-directory-lacks",
    /// A CAA record turns out to forbid a name.
    CaaForbids = "ca-caa-forbids",
    /// A name is paused, until a person ends that.
    NamePaused = "ca-name-paused",
    /// A validation fails.
    Unproved = "ca-validation-fails",
    /// A validation fails from one place of several.
    UnprovedOnce = "ca-validation-fails-somewhere",
    /// An order becomes invalid by itself.
    OrderInvalid = "ca-order-invalid",
    /// An authorization has no challenge that is known.
    ChallengesUnknown = "ca-challenges-unknown",
    /// A chain that is no PEM.
    ChainGarbage = "ca-chain-garbage",
    /// A chain whose second certificate did not issue the first.
    ChainUnlinked = "ca-chain-unlinked",
    /// The chain of another certificate.
    ChainOfAnother = "ca-chain-of-another",
    /// A leaf for other names.
    LeafNames = "ca-leaf-names",
    /// A leaf for another key.
    LeafKey = "ca-leaf-key",
    /// A leaf that has expired.
    LeafExpired = "ca-leaf-expired",
    /// A leaf that is not valid yet.
    LeafFuture = "ca-leaf-future",
}

impl Fault {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Fault> {
        Fault::NAMED.iter().copied().chain(Cell::all().into_iter().map(Fault::Ca))
    }

    /// Whether a run of some hundred seeds meets it; a cell of the CA's matrix takes more.
    pub(crate) fn is_common(self) -> bool {
        !matches!(self, Fault::Ca(_))
    }
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
    pub(crate) fn missing(&self, expected: &Switches) -> Vec<Fault> {
        let never = |fault: &Fault| expected.are_on(*fault) && self.of(*fault) == 0;
        Fault::all().filter(never).collect()
    }
}

/// A line a fault.
impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Fault::all()
            .try_for_each(|fault| writeln!(f, "  {:<44} {:>12}", fault.name(), self.of(fault)))
    }
}

/// Which faults a run may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Switches(BTreeSet<Fault>);

impl Switches {
    /// Those that the environment leaves on: `FAULTS=dns-lost,disk-full` only these, `FAULTS=` none,
    /// `WITHOUT=net-reset` all but these.
    pub(crate) fn from_environment() -> Switches {
        let only = names_in("FAULTS").unwrap_or_else(|| Fault::all().collect());
        let without = names_in("WITHOUT").unwrap_or_default();
        Switches(only.difference(&without).copied().collect())
    }

    /// These alone.
    pub(crate) fn only(faults: &[Fault]) -> Switches {
        Switches(faults.iter().copied().collect())
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
        for fault in Fault::all() {
            if chance.chance(50) && self.are_on(fault) {
                drawn.insert(fault);
            }
        }
        Switches(drawn)
    }
}

fn names_in(variable: &str) -> Option<BTreeSet<Fault>> {
    let text = env::var(variable).ok()?;
    let parse = |name: &str| {
        let found = Fault::all().find(|fault| fault.name() == name);
        found.unwrap_or_else(|| panic!("{variable}: there is no fault {name}"))
    };
    Some(text.split(',').filter(|name| !name.is_empty()).map(parse).collect())
}
