//! One domain: where its challenge is asked for, and what came of it so far. Sums the answers
//! up; asks nobody.

use std::net::IpAddr;

use crate::domain::Domain;
use crate::hint::Hint;
use crate::url::Url;

use super::finding::{Finding, Outcome, Place};

/// The domain, and what is known.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) domain: Domain,
    /// What is asked for.
    pub(super) url: Url,
    /// Where.
    pub(super) asked: Vec<IpAddr>,
    /// What has not come to its end; the lookups are one thing.
    pub(super) open: usize,
    /// We answer at an IPv4 address of the domain.
    works_by_ipv4: bool,
    findings: Vec<Finding>,
}

impl Way {
    pub(super) fn new(domain: &Domain, url: Url) -> Way {
        let (asked, findings) = (Vec::new(), Vec::new());
        Way { domain: domain.clone(), url, asked, open: 1, works_by_ipv4: false, findings }
    }

    /// Takes in what came of a question, or of the lookup, which is about no address.
    pub(super) fn note(&mut self, place: Place, address: Option<IpAddr>, outcome: Outcome) {
        let (complaint, said) = match outcome {
            Outcome::Untold => return,
            Outcome::Ours => {
                let four = address.is_some_and(|address| address.is_ipv4());
                self.works_by_ipv4 |= four && place == Place::Domain;
                return;
            }
            Outcome::Amiss(complaint) => (complaint, false),
            Outcome::Said(complaint) => (complaint, true),
        };
        let same =
            |it: &&mut Finding| (it.place, it.said) == (place, said) && it.complaint == complaint;
        if let Some(finding) = self.findings.iter_mut().find(same) {
            return finding.addresses.extend(address);
        }
        let (domain, addresses) = (self.domain.clone(), address.into_iter().collect());
        self.findings.push(Finding { domain, place, addresses, complaint, said });
    }

    /// All that was found, at its own addresses first; asked once. What is amiss at IPv6 addresses alone is
    /// their own fault.
    pub(super) fn conclude(&mut self) -> Vec<Finding> {
        let found = std::mem::take(&mut self.findings).into_iter();
        let (mut findings, others): (Vec<Finding>, Vec<Finding>) =
            found.partition(|finding| finding.place == Place::Domain);
        findings.extend(others);
        for finding in &mut findings {
            let six = finding.addresses.iter().all(IpAddr::is_ipv6);
            if six && !finding.addresses.is_empty() && self.works_by_ipv4 {
                finding.complaint.hint = Some(Hint::StrayIpv6);
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::route;
    use crate::hint::Complaint;

    fn amiss(text: &str) -> Outcome {
        Outcome::Amiss(Complaint::new(text, Some(Hint::PortClosed)))
    }

    fn concluded(notes: &[(&str, Place, Outcome)]) -> Vec<(String, Place, Option<Hint>)> {
        let url = route::url("a.example.com", "token").unwrap();
        let mut way = Way::new(&Domain::parse("a.example.com").unwrap(), url);
        for (address, place, outcome) in notes {
            way.note(*place, address.parse().ok(), outcome.clone());
        }
        let findings = way.conclude();
        assert!(way.conclude().is_empty(), "it is told once");
        findings.into_iter().map(|it| (it.listed(), it.place, it.complaint.hint)).collect()
    }

    #[test]
    fn what_is_the_same_at_several_addresses_is_one_finding() {
        use Place::{Balancer, Domain};
        let closed = Some(Hint::PortClosed);
        let found = concluded(&[
            ("10.0.0.1", Domain, amiss("x")),
            ("10.0.0.2", Domain, Outcome::Ours),
            ("10.0.0.3", Balancer, amiss("x")),
            ("2001:db8::1", Domain, amiss("x")),
            ("10.0.0.4", Domain, amiss("y")),
            ("10.0.0.5", Domain, Outcome::Untold),
            ("", Domain, amiss("z")),
        ]);
        let expected = [
            ("10.0.0.1,2001:db8::1", Domain, closed),
            ("10.0.0.4", Domain, closed),
            ("", Domain, closed),
            ("10.0.0.3", Balancer, closed),
        ];
        assert_eq!(found, expected.map(|(at, place, hint)| (at.to_string(), place, hint)));
    }

    #[test]
    fn an_ipv6_address_that_leads_elsewhere_than_the_ipv4_ones_is_a_stray_record() {
        let both = [("10.0.0.1", Place::Domain, Outcome::Ours), ("::2", Place::Domain, amiss("x"))];
        let stray = Some(Hint::StrayIpv6);
        assert_eq!(concluded(&both), [("::2".into(), Place::Domain, stray)]);
        // Where nothing works, it is not the record.
        let closed = Some(Hint::PortClosed);
        assert_eq!(concluded(&both[1..]), [("::2".into(), Place::Domain, closed)]);
    }
}
