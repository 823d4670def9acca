//! `--print-man`: the manual page, made from the table of options like the help; man(7) in ASCII, so
//! that every man(1) shows it.

use std::fmt::Write as _;

use super::options::{OPTIONS, PREFIX, Spec, Takes, variable};

/// What it does, in a line: makewhatis(8) reads it.
const NAME: &str = "keep a TLS certificate fresh for every app on Marathon";

const DESCRIPTION: &str = "\
.B marathon-acme
follows the apps on Mesosphere Marathon.
For each app that asks for one by its label
.BR MARATHON_ACME_{n}_DOMAIN ,
where {n} is the index of a port in a group of ours, it orders a certificate of an ACME CA (RFC 8555),
answers the CA's challenges, writes the certificate into
.I STORAGE-DIR
and makes every marathon-lb load it.
It renews each one when the CA says (RFC 9773), or else with a third of its lifetime left.
.PP
It runs until it is told to end, and lives through the failures of its peers: they are tried again, with
growing pauses.
Any number of instances may share a storage directory; one is active, the others stand by.
";

/// Besides the variables of the options: name, and what it does.
const VARIABLES: &[(&str, &str)] = &[
    (
        "MARATHON_ACME_USER",
        "UID[:GID], or a name that /etc/passwd knows: the user to switch to, for good, once the port is \
         bound.",
    ),
    (
        "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES",
        "A listening TCP socket that the service manager hands over is used in place of --listen: the \
         one that is named listen, else the first (sd_listen_fds(3)).",
    ),
    ("NOTIFY_SOCKET", "Where the service manager hears READY, STATUS and STOPPING (sd_notify(3))."),
    (
        "WATCHDOG_USEC, WATCHDOG_PID",
        "The loop shows twice in this time that it turns (sd_watchdog_enabled(3)).",
    ),
];

/// What lies in the storage directory.
const FILES: &[(&str, &str)] = &[
    ("STORAGE-DIR/client.key", "The private key of the account at the CA."),
    (
        "STORAGE-DIR/default.pem",
        "A self-signed certificate, so that HAProxy starts before the first one is issued.",
    ),
    (
        "STORAGE-DIR/certs/NAME.pem",
        "Private key, certificate and chain; HAProxy loads every file in there.",
    ),
    ("STORAGE-DIR/unmanaged-certs/", "The operator's own; never touched."),
    (
        "STORAGE-DIR/archive/",
        "What was revoked, pruned, superseded, found damaged or refused; never deleted.",
    ),
    (
        "STORAGE-DIR/state.json",
        "What was tried and what is planned; to lose it costs no certificate.",
    ),
    ("STORAGE-DIR/challenges/, lock, tmp/", "The program's own."),
];

const SIGNALS: &[(&str, &str)] = &[
    ("SIGTERM, SIGINT", "End in order, within two seconds."),
    (
        "SIGHUP",
        "Look at Marathon and through certs/ now; with --log-level debug, say what is next for each \
         certificate, when, and why.",
    ),
];

const STATUSES: &[(&str, &str)] = &[
    ("0", "Done, or told to end."),
    ("1", "Could not be done."),
    ("2", "The command line is wrong; a line on standard error names the option and the fix."),
];

const EXAMPLES: &[(&str, &str)] = &[
    (
        "Try it with the CA that gives out certificates for tests:",
        "marathon-acme --acme https://acme-staging-v02.api.letsencrypt.org/directory \\
    --email you@example.com /var/lib/marathon-acme",
    ),
    (
        "Run it by systemd, on port 80:",
        "marathon-acme --print-systemd-unit --listen :80 --email you@example.com \\
    > /etc/systemd/system/marathon-acme.service
systemctl daemon-reload
systemctl enable --now marathon-acme",
    ),
    (
        "Run it by Marathon, with an image that the agents find:",
        "marathon-acme --print-app-definition --email you@example.com > marathon-acme.json
curl -X PUT -H 'Content-Type: application/json' -d @marathon-acme.json \\
    http://marathon.mesos:8080/v2/apps/marathon-acme",
    ),
    (
        "See whether all is set up well, without a change:",
        "marathon-acme --check /var/lib/marathon-acme",
    ),
    ("See what there is:", "marathon-acme --list /var/lib/marathon-acme"),
];

/// The page, in section 8.
pub(super) fn manual() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        ".TH MARATHON\\-ACME 8 \"\" \"marathon\\-acme {version}\" \"System Administration\"\n\
         .SH NAME\nmarathon\\-acme \\- {NAME}\n\
         .SH SYNOPSIS\n.B marathon\\-acme\n.RI [ OPTIONS ]\n.I STORAGE\\-DIR\n\
         .SH DESCRIPTION\n",
    );
    text.push_str(&DESCRIPTION.replace('-', "\\-"));
    text.push_str(".SH OPTIONS\nThe default is in brackets.\n");
    for spec in OPTIONS {
        entry(&mut text, &head(spec), spec.help);
    }
    entry(&mut text, "\\fB\\-h\\fR, \\fB\\-\\-help\\fR", "show a summary and exit");
    entry(&mut text, "\\fB\\-\\-version\\fR", "show the version and exit");
    let first = OPTIONS.iter().map(|spec| spec.long).next().unwrap_or_default();
    let _ = writeln!(
        text,
        ".SH ENVIRONMENT\n{}",
        roff(&format!(
            "Every option can be set by a variable: {PREFIX} and its name in capitals, such as {} for \
             --{first}, and {PREFIX}STORAGE_DIR for STORAGE-DIR. Switches take true or false. The \
             command line wins. A URL with a password belongs into its variable, for every user of a \
             machine can see its command lines.",
            variable(first)
        ))
    );
    section(&mut text, None, VARIABLES);
    section(&mut text, Some("FILES"), FILES);
    section(&mut text, Some("SIGNALS"), SIGNALS);
    section(&mut text, Some("EXIT STATUS"), STATUSES);
    text.push_str(".SH EXAMPLES\n");
    for (index, (purpose, command)) in EXAMPLES.iter().enumerate() {
        let begin = if index == 0 { "" } else { ".PP\n" };
        let lines: Vec<String> = command.lines().map(roff).collect();
        let _ = writeln!(text, "{begin}{}\n.PP\n.nf\n.RS\n{}", roff(purpose), lines.join("\n"));
        text.push_str(".RE\n.fi\n");
    }
    text.push_str(".SH SEE ALSO\n.BR systemd.service (5),\n.BR haproxy (1)\n");
    text
}

fn head(spec: &Spec) -> String {
    let short = spec.short.map_or(String::new(), |letter| format!("\\fB\\-{letter}\\fR, "));
    let long = format!("{short}\\fB{}\\fR", roff(&spec.flag()));
    match spec.takes {
        Takes::Nothing => long,
        Takes::Value(name) => format!("{long} \\fI{}\\fR", roff(name)),
    }
}

fn section(text: &mut String, title: Option<&str>, entries: &[(&str, &str)]) {
    if let Some(title) = title {
        let _ = writeln!(text, ".SH {title}");
    }
    for (name, explanation) in entries {
        entry(text, &format!("\\fB{}\\fR", roff(name)), explanation);
    }
}

fn entry(text: &mut String, head: &str, explanation: &str) {
    let _ = writeln!(text, ".TP\n{head}\n{}", roff(explanation));
}

/// A line of text as it is: what roff would read as its own, or as typography, is escaped
/// (groff_char(7)).
fn roff(line: &str) -> String {
    let mut text = String::new();
    if line.starts_with(['.', '\'']) {
        text.push_str("\\&");
    }
    for c in line.chars() {
        match c {
            '\\' => text.push_str("\\e"),
            '-' => text.push_str("\\-"),
            '\'' => text.push_str("\\(aq"),
            '`' => text.push_str("\\(ga"),
            '^' => text.push_str("\\(ha"),
            '~' => text.push_str("\\(ti"),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What man(7) knows, of that which is used here.
    const MACROS: &[&str] = &["B", "BR", "I", "PP", "RE", "RI", "RS", "SH", "TH", "TP", "fi", "nf"];

    #[test]
    fn every_line_is_text_or_a_macro() {
        let page = manual();
        for line in page.lines() {
            assert!(!line.is_empty() && line.is_ascii() && !line.starts_with('\''), "{line:?}");
            if let Some(request) = line.strip_prefix('.') {
                let name = request.split(' ').next();
                assert!(name.is_some_and(|name| MACROS.contains(&name)), "{line}");
            }
            assert!(!line.ends_with(' '), "{line:?}");
        }
    }

    #[test]
    fn the_sections_are_those_of_man_pages_in_their_order() {
        let page = manual();
        let sections: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let expected = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "ENVIRONMENT",
            "FILES",
            "SIGNALS",
            "EXIT STATUS",
            "EXAMPLES",
            "SEE ALSO",
        ];
        assert_eq!(sections, expected);
    }

    #[test]
    fn every_option_is_there_with_its_letter_its_value_and_its_help() {
        let page = manual();
        for spec in OPTIONS {
            let entry = format!(".TP\n{}\n{}\n", head(spec), roff(spec.help));
            assert!(page.contains(&entry), "{entry}");
        }
        assert!(page.contains("\\fB\\-m\\fR, \\fB\\-\\-marathon\\fR \\fIURL[,URL...]\\fR"));
        assert!(page.contains("MARATHON_ACME_ACME for \\-\\-acme,"));
    }

    #[test]
    fn what_roff_would_take_for_its_own_is_text() {
        assert_eq!(roff(".so x"), "\\&.so x");
        assert_eq!(roff("'a' \\fB-x"), "\\&\\(aqa\\(aq \\efB\\-x");
    }
}
