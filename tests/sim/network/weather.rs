//! How bad the network is: how often each of its faults strikes.

use std::collections::BTreeMap;

use stand_ins::random::Random;

use crate::faults::{Fault, Switches};

/// The faults of the network, each with the thousandths of its occasions in which it strikes in the
/// worst weather. The occasion of a fault is a connection, a piece of what is sent, or a question to
/// the name server.
const WORST_PERMILLE: &[(Fault, u64)] = &[
    // Connections.
    (Fault::Refused, 200),
    (Fault::Unreachable, 60),
    (Fault::NoAnswer, 60),
    (Fault::SynLost, 150),
    (Fault::Latency, 60),
    (Fault::Loss, 150),
    (Fault::BlackHole, 80),
    (Fault::HalfOpen, 80),
    (Fault::EveryByte, 60),
    (Fault::NoDescriptor, 60),
    (Fault::LateAccept, 100),
    // Pieces; of `TlsFailed` connections, too.
    (Fault::Reset, 20),
    (Fault::Cut, 20),
    (Fault::Truncated, 20),
    (Fault::TlsFailed, 20),
    (Fault::Split, 1000),
    // Questions.
    (Fault::DnsLost, 200),
    (Fault::DnsLate, 100),
    (Fault::DnsNoSuchName, 60),
    (Fault::DnsFailure, 100),
    (Fault::DnsTruncated, 200),
    (Fault::DnsWrongId, 100),
    (Fault::DnsWrongQuestion, 100),
    (Fault::DnsWrongSource, 100),
    (Fault::DnsGarbage, 100),
    (Fault::DnsEmpty, 60),
    (Fault::DnsAlias, 300),
    (Fault::DnsDeadAddress, 500),
    (Fault::DnsNoRoute, 300),
];

/// How bad the network is.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Latency of a piece, in milliseconds.
    pub(crate) latency_ms: (u64, u64),
    /// Of so many occasions in a thousand, for each fault that strikes at all.
    permille: BTreeMap<Fault, u64>,
}

impl Weather {
    /// Quick and faultless, but still split.
    pub(crate) fn fine() -> Weather {
        let weather = Weather { latency_ms: (1, 5), permille: BTreeMap::new() };
        weather.with(Fault::Split, 200)
    }

    /// As bad as the seed says.
    pub(crate) fn bad(chance: &mut Random, faults: &Switches) -> Weather {
        let mut weather = Weather::fine().with(Fault::Split, 0);
        weather.latency_ms.1 = chance.between(2, 400);
        for (fault, worst) in WORST_PERMILLE {
            // Drawn and then dropped, so that the rest of a seed does not hang on what is on.
            let drawn = chance.between(1, *worst);
            weather = weather.with(*fault, if faults.are_on(*fault) { drawn } else { 0 });
        }
        weather
    }

    /// The same, but for one fault.
    pub(crate) fn with(mut self, fault: Fault, permille: u64) -> Weather {
        self.permille.remove(&fault);
        if permille > 0 {
            self.permille.insert(fault, permille);
        }
        self
    }

    /// Whether a fault strikes on this occasion. One that never does draws nothing.
    pub(super) fn strikes(&self, fault: Fault, chance: &mut Random) -> bool {
        self.permille.get(&fault).is_some_and(|permille| chance.below(1000) < *permille)
    }
}
