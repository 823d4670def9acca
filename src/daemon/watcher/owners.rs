//! Which app has which domain, and which domains have no place. An app keeps a domain that it has; of a
//! domain that no app has, the first app by id gets it. Pure, and the same in whatever order Marathon
//! lists the apps. Never takes a domain away from the app that has it, as long as that app asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::daemon::model::{DesiredCertificate, DesiredCertificates};
use crate::domain::Domain;
use crate::hint::Hint;
use crate::printable::printable;

use super::parsed_app::{NAMED_MAX, Said};
use super::{Oddity, SkippedCounts};

/// The certificates of the last list that counted, or of the run before: by them an app has its domains.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// By their first names.
    certificates: Arc<DesiredCertificates>,
    /// By every other name.
    others: BTreeMap<Domain, Arc<DesiredCertificate>>,
}

impl Holders {
    pub(super) fn of(certificates: Arc<DesiredCertificates>) -> Holders {
        let mut others = BTreeMap::new();
        for desired in certificates.values().filter(|desired| desired.names.len() > 1) {
            others
                .extend(desired.names[1..].iter().map(|name| (name.clone(), Arc::clone(desired))));
        }
        Holders { certificates, others }
    }

    /// The certificate by which an app has a domain.
    fn desired_of(&self, name: &Domain) -> Option<&Arc<DesiredCertificate>> {
        self.certificates.get(name).or_else(|| self.others.get(name))
    }

    /// The id of the app that has a domain.
    pub(super) fn app_of(&self, name: &Domain) -> Option<&str> {
        self.desired_of(name).map(|desired| desired.source.app.as_str())
    }

    /// The same certificates, but in the same memory where nothing has changed.
    pub(super) fn share(&self, certificates: &mut DesiredCertificates) {
        for (name, desired) in certificates {
            if let Some(known) = self.certificates.get(name).filter(|known| *known == desired) {
                *desired = Arc::clone(known);
            }
        }
    }
}

/// A domain that an app asks for.
struct Owner<'a> {
    app: &'a str,
    /// By this certificate an app has it already: this one, or one that asks for it no more.
    held: Option<&'a Arc<DesiredCertificate>>,
    /// Whether it has a place, once that is decided.
    is_placed: Option<bool>,
}

/// The owner of each domain that is asked for.
pub(super) struct Owners<'a>(BTreeMap<&'a Domain, Owner<'a>>);

impl<'a> Owners<'a> {
    /// Decides which of the apps, which are in order, gets each domain.
    pub(super) fn of(apps: &[&'a Said], holders: &'a Holders) -> Owners<'a> {
        let mut owners: BTreeMap<&Domain, Owner<'_>> = BTreeMap::new();
        for app in apps {
            for name in app.labels.iter().flat_map(|label| &label.names) {
                let owner = owners.entry(name).or_insert_with(|| Owner {
                    app: &app.app,
                    held: holders.desired_of(name),
                    is_placed: None,
                });
                if owner.held.is_some_and(|held| held.source.app == app.app) {
                    owner.app = &app.app;
                }
            }
        }
        Owners(owners)
    }

    /// Leaves out what is more than `domains_max`: who has a domain keeps it, and what room there is goes
    /// to the others in the order of the apps.
    pub(super) fn limit(
        &mut self,
        apps: &[&'a Said],
        domains_max: usize,
        skipped: &mut SkippedCounts,
    ) -> Option<Oddity> {
        let mut tally = Tally::default();
        for (app, shed) in apps.iter().filter_map(|app| Some((app, app.shed.as_ref()?))) {
            tally.add(&app.app, &shed.label, shed.count);
        }
        if self.0.len() > domains_max {
            let held =
                self.0.values().filter(|owner| owner.held.is_some()).count().min(domains_max);
            let mut room = (held, domains_max - held);
            for app in apps {
                for label in &app.labels {
                    let left_out =
                        label.names.iter().filter(|name| self.leaves_out(app, name, &mut room));
                    tally.add(&app.app, &label.label, left_out.count());
                }
            }
        }
        skipped.total_limit = tally.domains;
        tally.oddity(domains_max)
    }

    /// Decides on a domain of this app; whether there is no room for it.
    fn leaves_out(&mut self, app: &Said, name: &Domain, room: &mut (usize, usize)) -> bool {
        let owner = self.0.get_mut(name).filter(|owner| owner.app == app.app);
        let Some(owner) = owner.filter(|owner| owner.is_placed.is_none()) else { return false };
        let room = if owner.held.is_some() { &mut room.0 } else { &mut room.1 };
        let is_placed = *room > 0;
        *room = room.saturating_sub(1);
        owner.is_placed = Some(is_placed);
        !is_placed
    }

    /// The app that has a domain, where that has a place.
    pub(super) fn app_of(&self, name: &Domain) -> Option<&'a str> {
        let owner = self.0.get(name).filter(|owner| owner.is_placed != Some(false));
        owner.map(|owner| owner.app)
    }

    /// Every domain that has a place, its app, and the certificate by which an app has it already.
    pub(super) fn placed(
        &self,
    ) -> impl Iterator<Item = (&'a Domain, &'a str, Option<&'a Arc<DesiredCertificate>>)> {
        let placed = self.0.iter().filter(|(_, owner)| owner.is_placed != Some(false));
        placed.map(|(name, owner)| (*name, owner.app, owner.held))
    }
}

/// Domains without a place, by label.
#[derive(Default)]
struct Tally {
    domains: usize,
    labels: usize,
    named: Vec<String>,
}

impl Tally {
    fn add(&mut self, app: &str, label: &str, domains: usize) {
        if domains == 0 {
            return;
        }
        self.domains += domains;
        self.labels += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("{} {label} ({domains})", printable(app)));
        }
    }

    /// The one warning about all of them. It is about no single app.
    fn oddity(self, domains_max: usize) -> Option<Oddity> {
        let Tally { domains, labels, named } = self;
        let more = labels.saturating_sub(named.len());
        let more = if more > 0 { format!(" and {more} more labels") } else { String::new() };
        let text = format!(
            "{domains} domains skipped: all apps together have more than {domains_max}: {}{more}",
            named.join(", ")
        );
        let (app, label) = (String::new(), String::new());
        (domains > 0).then_some(Oddity { app, label, text, hint: Some(Hint::DomainsOfAll) })
    }
}

/// The warning about domains of a label that another app has.
pub(super) fn taken(app: &Said, label: &str, owner: &str, names: &[&Domain]) -> Oddity {
    let named: Vec<&str> = names.iter().take(NAMED_MAX).map(|name| name.as_str()).collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!(
        "domains skipped: app {} already has them: {}{more}",
        printable(owner),
        named.join(", ")
    );
    Oddity { app: app.app.clone(), label: label.into(), text, hint: Some(Hint::DomainTaken) }
}
