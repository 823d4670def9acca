//! What is known of one stored certificate, from its issue to its successor: its dates, who issued
//! it, what the CA advises, and the moment chosen for its renewal. Asks nobody and draws no chance of
//! its own.

use std::time::Duration;

use crate::acme::renewal_info::{ASK_AGAIN_MAX, NoSuggestion, Suggestion, Window, cert_id, pause};
use crate::domain::Domain;
use crate::keys::{Keys, jittered};
use crate::log::{Level, Record, message};
use crate::pki::leaf::renewal_by_lifetime;
use crate::pki::{Bundle, Fingerprint};
use crate::time::UnixTime;

/// A certificate that the clock shows less time of than this part of its lifetime, as soon as it was
/// issued, is none that any CA issues: the clock is ahead.
const USABLE_PART: u32 = 50;
/// No rollback to a certificate with less than a twentieth of its lifetime left: a new certificate that one
/// load balancer does not serve is worth more than one that is about to expire …
const ROLLBACK_PART: u32 = 20;
/// … and a certificate with this much time left always qualifies.
const ROLLBACK_LEFT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The names it is for, sorted; those that are no [`Domain`] are left out.
    pub names: Vec<Domain>,
    /// `notBefore`.
    pub not_before: UnixTime,
    /// `notAfter`.
    pub not_after: UnixTime,
    /// The common name of the issuer, empty when it has none.
    pub issuer: String,
    /// What names it to the CA (RFC 9773 section 4.1), when it has all that takes.
    pub cert_id: Option<String>,
    /// The serial number in hexadecimal, which tells it from every other of its issuer.
    pub serial: String,
    /// What tells it from every other certificate.
    pub leaf: Fingerprint,
    /// Whether a handshake can show whether a load balancer serves it.
    pub can_be_seen: bool,
}

/// What is remembered of a stored certificate; it goes when the certificate goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRecord {
    /// [`Stored::serial`] of the certificate that this is about.
    pub serial: String,
    /// The directory of the CA that issued it; unknown for one that we found.
    pub directory: Option<String>,
    /// When it was issued, by our clock; unknown for one that we found.
    pub issued: Option<UnixTime>,
    /// When it is to be renewed. Drawn once, and kept until the CA's window changes.
    pub renewal: UnixTime,
    /// What the CA said about that.
    pub advice: RenewalInfo,
}

/// The CA's advice (RFC 9773) on one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenewalInfo {
    /// The suggested window, when the CA has one.
    pub window: Option<Window>,
    /// When to ask next; never asked yet.
    pub ask_at: Option<UnixTime>,
    /// Questions without a usable answer since the last one that had one.
    pub failures: u32,
    /// A page about the window, for the operator.
    pub explanation: Option<String>,
    /// The window has changed since the first one: the CA wants something of us.
    pub moved: bool,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Only when to ask next.
    Nothing,
    /// The window, and the moment chosen in it.
    Window,
}

impl Stored {
    /// What a whole file says.
    pub(crate) fn of(bundle: &Bundle) -> Stored {
        let leaf = bundle.leaf();
        Stored {
            names: bundle.domains(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issuer: leaf.issuer_common_name.clone().unwrap_or_default(),
            cert_id: cert_id(leaf),
            serial: leaf.serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            leaf: Fingerprint::of(bundle.leaf_der()),
            can_be_seen: bundle.can_be_seen(),
        }
    }

    /// From beginning to end.
    pub fn lifetime(&self) -> Duration {
        self.not_after.since(self.not_before)
    }

    /// The time in which it serves: from its issue by our clock, where that is known, to its expiry. A CA
    /// may date a certificate back so far that most of its lifetime is over when it is issued.
    pub(crate) fn usable(&self, issued: Option<UnixTime>) -> Duration {
        let from = issued.map_or(self.not_before, |issued| issued.max(self.not_before));
        match self.not_after.since(from) {
            // By this clock it has expired before it was issued.
            Duration::ZERO => self.lifetime(),
            usable => usable.max(self.lifetime() / USABLE_PART),
        }
    }

    /// Whether a rollback to it makes sense at `now`.
    pub(crate) fn lasts(&self, life: Option<&CertificateRecord>, now: UnixTime) -> bool {
        let part = self.usable(life.and_then(|life| life.issued)) / ROLLBACK_PART;
        self.not_after > now.plus(part.min(ROLLBACK_LEFT_MAX))
    }

    /// Whether it is for that name.
    pub fn is_for(&self, name: &Domain) -> bool {
        self.names.binary_search(name).is_ok()
    }

    /// When to renew without advice of the CA: by the lifetime, at a moment of chance within one
    /// hundredth of it before that.
    pub fn fallback_renewal(&self, chance: u64) -> UnixTime {
        let spread_ms = u64::try_from(self.lifetime().as_millis() / 100).unwrap_or(u64::MAX).max(1);
        let latest = renewal_by_lifetime(self.not_before, self.not_after);
        latest.minus(Duration::from_millis(chance % spread_ms))
    }
}

impl CertificateRecord {
    /// The life of a certificate that was found, or that was issued just now by the CA of `directory`.
    pub(crate) fn begin(
        stored: &Stored,
        issued: Option<(UnixTime, &str)>,
        keys: &mut dyn Keys,
    ) -> CertificateRecord {
        CertificateRecord {
            serial: stored.serial.clone(),
            directory: issued.map(|(_, directory)| directory.to_string()),
            issued: issued.map(|(at, _)| at),
            renewal: stored.fallback_renewal(keys.random()),
            advice: RenewalInfo::default(),
        }
    }

    /// Whether the CA of `directory` may know the certificate.
    pub(crate) fn may_be_of(&self, directory: &str) -> bool {
        self.directory.as_ref().is_none_or(|of| of == directory)
    }

    /// Whether the CA of `directory` knows it: it issued it, or has advised on it.
    pub(crate) fn is_of(&self, directory: &str) -> bool {
        self.directory.as_deref() == Some(directory)
            || (self.directory.is_none() && self.advice.window.is_some())
    }

    /// Whether a renewal at `now` is within the window that the CA suggests. One that comes later, as all do
    /// whose window was moved into the past, counts like any other (Boulder, `SuggestedWindow.IsWithin`).
    pub(crate) fn is_advised(&self, now: UnixTime) -> bool {
        self.advice.window.is_some_and(|window| window.start <= now && now < window.end)
    }

    /// When it is renewed: never later than a fifth of its time before its expiry, whatever was planned.
    /// Soon after its issue only when the CA has changed its mind: a clock that runs ahead must not make
    /// every new certificate look old. Of one with little time from the start half is enough.
    pub(crate) fn renewal(&self, stored: &Stored) -> UnixTime {
        let planned = self.renewal.min(self.latest_renewal(stored));
        match self.issued {
            Some(issued) if !self.advice.moved => {
                let half = stored.usable(self.issued) / 2;
                planned.max(issued.plus(half.min(stored.lifetime() / 4)))
            }
            _ => planned,
        }
    }

    fn latest_renewal(&self, stored: &Stored) -> UnixTime {
        stored.not_after.minus(stored.usable(self.issued) / 5)
    }

    /// Takes in the CA's suggestion. A window that leaves too little time is cut: no advice may let a
    /// certificate expire.
    pub(crate) fn advised(
        &mut self,
        now: UnixTime,
        stored: &Stored,
        suggestion: Suggestion,
        keys: &mut dyn Keys,
    ) -> Change {
        let Suggestion { window, explanation, ask_again } = suggestion;
        let advice = &mut self.advice;
        advice.ask_at = Some(now.plus(ask_again));
        advice.failures = 0;
        let before = advice.window.replace(window);
        if before == Some(window) {
            return Change::Nothing;
        }
        advice.moved |= before.is_some();
        advice.explanation = explanation;
        self.renewal = window.choose(keys.random()).min(self.latest_renewal(stored));
        Change::Window
    }

    /// Takes in that there was no usable answer; the last window stands.
    pub(crate) fn unadvised(&mut self, now: UnixTime, error: &NoSuggestion, keys: &mut dyn Keys) {
        self.advice.failures = self.advice.failures.saturating_add(1);
        let asked = error.retry_after.unwrap_or_default().min(ASK_AGAIN_MAX);
        let pause = jittered(keys, pause(error, self.advice.failures)).max(asked);
        self.advice.ask_at = Some(now.plus(pause));
    }

    /// The line that says so. One window for each certificate is nothing new; one that has moved is, and
    /// so is one that the CA has a page about.
    pub(crate) fn window_line(&self, name: &Domain, stored: &Stored) -> Record {
        let level = match (self.advice.moved, &self.advice.explanation) {
            (true, _) => Level::Warn,
            (false, Some(_)) => Level::Info,
            (false, None) => Level::Debug,
        };
        let message = if self.advice.moved {
            message::WINDOW_MOVED
        } else {
            "the CA suggests a renewal window"
        };
        let mut line = Record::new(level, "renewal", message).with("name", name);
        if let Some(window) = &self.advice.window {
            line = line.with("start", window.start).with("end", window.end);
        }
        line = line.with("renewal", self.renewal(stored));
        match &self.advice.explanation {
            Some(page) => line.with("explanation", page),
            None => line,
        }
    }

    /// The line that says that there was no answer; only the first of a row is more than a detail.
    pub(crate) fn unadvised_line(&self, name: &Domain, error: &NoSuggestion) -> Record {
        let level = if self.advice.failures == 1 { Level::Warn } else { Level::Debug };
        let line = Record::new(level, "renewal", message::WINDOW_UNKNOWN);
        let line = line.with("name", name).with("error", error);
        match self.advice.ask_at {
            Some(at) => line.with("next_try", at),
            None => line,
        }
    }

    /// The wall clock may have been set back since: no question waits longer than a day, and when the
    /// certificate was issued is not known where that clock was ahead.
    pub(crate) fn clamp(&mut self, now: UnixTime) {
        let latest = now.plus(ASK_AGAIN_MAX);
        self.advice.ask_at = self.advice.ask_at.map(|at| at.min(latest));
        self.issued = self.issued.filter(|issued| *issued <= now);
    }
}
