//! Every option, once: parser, environment and help all read this table, so that they never differ.

/// What the variables of all options start with.
pub(super) const PREFIX: &str = "MARATHON_ACME_";
/// The word for the storage directory among the options' long names.
pub(super) const STORAGE_DIR: &str = "storage-dir";
/// The word for the user to switch to, which only the environment sets.
pub(super) const USER: &str = "user";

/// The switches that print a text for the operator.
pub(super) const PRINT_SYSTEMD_UNIT: &str = "print-systemd-unit";
pub(super) const PRINT_APP_DEFINITION: &str = "print-app-definition";
pub(super) const PRINT_MAN: &str = "print-man";

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Without its hyphens.
    pub long: &'static str,
    /// The letter, for some.
    pub short: Option<char>,
    /// Whether a value follows.
    pub takes: Takes,
    /// What the help says, with the default.
    pub help: &'static str,
}

/// Whether a value follows an option.
#[derive(Debug, PartialEq, Eq)]
pub enum Takes {
    /// It is a switch.
    Nothing,
    /// A value of that name.
    Value(&'static str),
}

/// Options that exclude each other.
#[derive(Debug)]
pub(super) struct Choice {
    /// Their long names.
    pub(super) among: &'static [&'static str],
    /// What an error says of the choice.
    pub(super) fix: &'static str,
}

/// The choices in which one option at most can be meant.
pub(super) const CHOICES: &[Choice] = &[
    Choice {
        among: &["san", "allow-multiple-certs"],
        fix: "choose --san for a certificate a label, or --allow-multiple-certs for one a domain",
    },
    Choice {
        among: &[
            "once",
            "check",
            "list",
            "revoke",
            PRINT_SYSTEMD_UNIT,
            PRINT_APP_DEFINITION,
            PRINT_MAN,
        ],
        fix: "choose one",
    },
];

const fn switch(long: &'static str, help: &'static str) -> Spec {
    Spec { long, short: None, takes: Takes::Nothing, help }
}

const fn value(
    short: Option<char>,
    long: &'static str,
    name: &'static str,
    help: &'static str,
) -> Spec {
    Spec { long, short, takes: Takes::Value(name), help }
}

/// The options, in the order of the help.
pub const OPTIONS: &[Spec] = &[
    value(Some('a'), "acme", "URL", "directory of the CA [Let's Encrypt, ACME v2]"),
    value(Some('e'), "email", "EMAIL", "contact for the CA [none]"),
    value(
        Some('m'),
        "marathon",
        "URL[,URL...]",
        "Marathon, tried in order; http://user:password@host authenticates \
         [http://marathon.mesos:8080]",
    ),
    value(
        Some('l'),
        "lb",
        "URL[,URL...]",
        "marathon-lb; every address of every name is signalled \
         [http://marathon-lb.marathon.mesos:9090]",
    ),
    value(
        None,
        "lb-verify-port",
        "PORT",
        "look after a reload, on this port of each load balancer, whether it serves the new \
         certificate [off]",
    ),
    value(
        None,
        "lb-verify",
        "NAME=HOST:PORT[,...]",
        "likewise, where the load balancers that --lb calls NAME speak TLS elsewhere [none]",
    ),
    value(Some('g'), "group", "GROUP", "the HAPROXY_GROUP to serve, '*' for all [external]"),
    switch(
        "allow-multiple-certs",
        "a certificate for each domain of a label, not only for the first",
    ),
    value(None, "listen", "[IP]:PORT", "where challenges are answered [:8000, every interface]"),
    value(
        None,
        "admin-listen",
        "[IP]:PORT",
        "where the page, the metrics and the like are, and no longer on --listen [none]",
    ),
    value(
        None,
        "sse-timeout",
        "SECONDS",
        "silence after which the event stream is opened again, 0: never [60]",
    ),
    value(
        None,
        "marathon-timeout",
        "SECONDS",
        "for other requests to Marathon, 0: none, but for a limit of 5 minutes [10]",
    ),
    value(None, "log-level", "LEVEL", "debug, info, warn, error or critical [info]"),
    value(None, "log-format", "FORMAT", "text or json, a line an event on standard output [text]"),
    switch("san", "a certificate for all domains of a label, named after the first"),
    value(None, "profile", "NAME", "the CA's profile for new certificates [the CA's default]"),
    value(
        None,
        "preferred-chain",
        "NAME",
        "take the chain whose topmost issuer has this common name, if the CA offers it",
    ),
    value(None, "key-type", "TYPE", "p256 or p384, for the keys of new certificates [p256]"),
    value(None, "eab-kid", "ID", "key identifier for external account binding [none]"),
    value(None, "eab-hmac-key", "FILE", "the key that belongs to it, in base64url [none]"),
    value(
        None,
        "ca-limits",
        "LIMITS",
        "orders=N,domain=N: new orders of the account in 3 h and certificates of a registered \
         domain in 7 d that the CA accepts; off: neither is counted here [Let's Encrypt's]",
    ),
    value(None, "acme-ca", "FILE", "PEM certificates to trust for the CA's own TLS [built in]"),
    value(None, "marathon-ca", "FILE", "PEM certificates to trust for Marathon's TLS [built in]"),
    value(
        None,
        "marathon-token",
        "FILE",
        "Marathon is asked with the token in it, as DC/OS wants it; read again while it runs [none]",
    ),
    value(None, "cert-mode", "OCTAL", "mode of certificate files [0600]"),
    value(
        None,
        "prune-after",
        "DAYS",
        "days after its expiry that a certificate no app wants is archived, 0: never [30]",
    ),
    value(
        None,
        "skip-route-check",
        "DOMAIN[,DOMAIN...]",
        "domains whose challenge route is not tried from here before an order, '*' for all [none]",
    ),
    value(
        None,
        "max-domains-per-app",
        "N",
        "domains of one app that get certificates; of all apps together 20000 do [1000]",
    ),
    switch("once", "bring everything up to date, then exit: 0 if all is well, else 1"),
    switch(
        "check",
        "look at storage, Marathon, CA, load balancers and each domain's route, within 60 s, \
         change nothing, and exit: 0 if nothing failed, else 1",
    ),
    switch("list", "show the certificates in the storage and exit"),
    value(None, "revoke", "DOMAIN", "revoke and archive the certificate of that name and exit"),
    switch(PRINT_SYSTEMD_UNIT, "print a unit for systemd, made of the other options, and exit"),
    switch(PRINT_APP_DEFINITION, "print a Marathon app, made of the other options, and exit"),
    switch(PRINT_MAN, "print the manual page and exit"),
];

impl Spec {
    /// As it is written on the command line.
    pub fn flag(&self) -> String {
        format!("--{}", self.long)
    }
}

/// The option of that long name.
pub(super) fn by_long(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.long == name)
}

/// The option of that letter.
pub(super) fn by_short(letter: char) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.short == Some(letter))
}

/// The variable of an option: `--log-level` is `MARATHON_ACME_LOG_LEVEL`.
pub(super) fn variable(long: &str) -> String {
    format!("{PREFIX}{}", long.replace('-', "_").to_ascii_uppercase())
}

/// The long name whose variable this is.
pub(super) fn by_variable(name: &str) -> Option<&'static str> {
    let words = OPTIONS.iter().map(|spec| spec.long).chain([STORAGE_DIR, USER]);
    words.into_iter().find(|long| variable(long) == name)
}

/// Whether a variable is named like a label of ours: some set an app's labels as its environment.
pub(super) fn is_label(name: &str) -> bool {
    let index = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix("_DOMAIN"));
    index.is_some_and(|index| !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The option whose name is nearest to a mistyped one, when it is near enough to be meant.
pub(super) fn nearest(flag: &str) -> Option<&'static Spec> {
    let name = flag.trim_start_matches('-');
    let distances = OPTIONS.iter().map(|spec| (distance(name, spec.long), spec));
    let (distance, spec) = distances.min_by_key(|(distance, _)| *distance)?;
    (name.len() > 1 && distance <= spec.long.len() / 3).then_some(spec)
}

/// How many letters have to be changed, put in or left out (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (index, other) in right.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[index + 1];
            row[index + 1] = changed.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;
    use crate::config::Config;

    /// What the brackets of the help hold where they describe the default instead of quoting it.
    const DESCRIBED: &[&str] =
        &["none", "off", "built in", "Let's Encrypt", "Let's Encrypt's", "the CA's default"];

    #[test]
    fn the_help_shows_the_defaults_of_the_configuration() {
        let default = format!("{:?}", Config::new("/s".into()));
        let mut quoted = Vec::new();
        for spec in OPTIONS {
            let Some((_, shown)) = spec.help.rsplit_once('[') else { continue };
            let value = shown.trim_end_matches(']').split(", ").next().unwrap_or_default();
            if DESCRIBED.contains(&value) {
                continue;
            }
            let words = ["/s".into(), spec.flag().into(), value.into()];
            let Ok(Command::Run { config, .. }) = parse(words, []) else {
                panic!("{}: its default {value:?} is refused", spec.flag())
            };
            assert_eq!(format!("{config:?}"), default, "{} {value}", spec.flag());
            quoted.push(spec.long);
        }
        assert_eq!(quoted.len(), 12, "{quoted:?}");
    }
}
