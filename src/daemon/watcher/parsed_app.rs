//! What one app asks for by its labels, and warnings about labels that are ignored. Pure. Never
//! compares one app with another.

use crate::domain::Domain;
use crate::hint::Hint;
use crate::marathon::{App, AppError, Claim, Claims, Selection, Skipped, claims};

use super::Oddity;

/// Domains and labels that a warning names at most; the others are counted.
pub(super) const NAMED_MAX: usize = 5;

/// How the labels of an app are read.
#[derive(Clone, Debug)]
pub(super) struct LabelRules {
    /// `--group`.
    pub(super) group: String,
    pub(super) selection: Selection,
    /// `--max-domains-per-app`.
    pub(super) domains_per_app: usize,
}

/// What one label asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label {
    /// The port's index.
    pub(super) port_index: usize,
    /// The label's name, for the log.
    pub(super) label: String,
    /// Its names, at least one, each once.
    pub(super) names: Vec<Domain>,
}

/// What one app asks for, and what of it was skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    /// The app's id.
    pub(super) app: String,
    /// The app's revision.
    pub(super) version: String,
    /// By port index.
    pub(super) labels: Vec<Label>,
    /// In place of the labels, where there was no room for any of them.
    pub(super) shed: Option<Shed>,
    /// What of its labels was skipped, and why.
    pub(super) oddities: Vec<Oddity>,
    /// Words of its labels that are no certifiable name.
    pub(super) rejected_domains: usize,
    /// Domains beyond the limit of an app.
    pub(super) skipped: usize,
}

/// The domains of an app that has no place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shed {
    /// The first of its labels.
    pub(super) label: String,
    /// How many domains all of them have.
    pub(super) count: usize,
}

impl Said {
    /// Reads the labels of an app; one that cannot be read asks for nothing.
    pub(super) fn of(app: Result<App, AppError>, rules: &LabelRules) -> Said {
        let app = match app {
            Ok(app) => app,
            Err(error) => {
                let (app, label) = (error.app().to_string(), String::new());
                let text = format!("app passed over: {error}");
                let oddities = vec![Oddity { app, label, text, hint: None }];
                return Said { oddities, ..Said::default() };
            }
        };
        let claims = claims(&app, &rules.group, rules.selection, rules.domains_per_app);
        let oddities = oddities(&app.id, &claims, rules.domains_per_app);
        let Claims { certificates, rejected_count, skipped, .. } = claims;
        let skipped = skipped.iter().map(|it| it.count).sum();
        let mut labels: Vec<Label> = Vec::new();
        for Claim { port_index, label, names } in certificates {
            match labels.last_mut().filter(|last| last.port_index == port_index) {
                Some(last) => last.names.extend(names),
                None => labels.push(Label { port_index, label, names }),
            }
        }
        // Kept as long as the app lives: without room for more.
        labels.iter_mut().for_each(|label| label.names.shrink_to_fit());
        labels.shrink_to_fit();
        let (app, version, shed) = (app.id, app.revision, None);
        Said { app, version, labels, shed, oddities, rejected_domains: rejected_count, skipped }
    }

    /// How many domains it asks for, each as often as a label has it.
    pub(super) fn domains(&self) -> usize {
        self.labels.iter().map(|label| label.names.len()).sum()
    }

    /// Forgets the domains; how many there were is kept.
    pub(super) fn shed(&mut self) {
        let count = self.domains();
        let labels = std::mem::take(&mut self.labels);
        self.shed = labels.into_iter().next().map(|first| Shed { label: first.label, count });
    }
}

/// What of an app's labels was skipped, and why.
fn oddities(app: &str, claims: &Claims, domains_per_app: usize) -> Vec<Oddity> {
    let mut oddities = Vec::new();
    for rejected in &claims.rejected {
        let text = format!("domain {:?} passed over: {}", rejected.text, rejected.reason);
        let (app, label) = (rejected.app.clone(), rejected.label.clone());
        oddities.push(Oddity { app, label, text, hint: None });
    }
    let more = claims.rejected_count - claims.rejected.len();
    if let Some(last) = claims.rejected.last().filter(|_| more > 0) {
        let text = format!("{more} more domains passed over");
        let (app, label) = (last.app.clone(), last.label.clone());
        oddities.push(Oddity { app, label, text, hint: None });
    }
    for notice in &claims.notices {
        let (app, label) = (notice.app().to_string(), notice.label().to_string());
        let (text, hint) = (notice.to_string(), notice.hint());
        oddities.push(Oddity { app, label, text, hint });
    }
    if let Some(first) = claims.skipped.first() {
        let count: usize = claims.skipped.iter().map(|it| it.count).sum();
        let text = skipped_text(&claims.skipped, count, domains_per_app);
        let (app, label, hint) = (app.to_string(), first.label.clone(), Some(Hint::DomainsOfApp));
        oddities.push(Oddity { app, label, text, hint });
    }
    oddities
}

/// `7 domains skipped: the app has more than 1000 (--max-domains-per-app): LABEL (7)`
fn skipped_text(skipped: &[Skipped], count: usize, domains_per_app: usize) -> String {
    let named = skipped.iter().take(NAMED_MAX).map(|it| format!("{} ({})", it.label, it.count));
    let named: Vec<String> = named.collect();
    let more = skipped.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more labels") } else { String::new() };
    format!(
        "{count} domains skipped: the app has more than {domains_per_app} \
         (--max-domains-per-app): {}{more}",
        named.join(", ")
    )
}
