//! What the demo looks like: a clock, who acts, and what happens, in columns. Colours only where a
//! terminal shows them and `NO_COLOR` is not set.

use std::env;
use std::io::{self, IsTerminal, Write};

use stand_ins::date;
use stand_ins::driver::time_now;
use stand_ins::tls::Shown;

use crate::stage::{Server, Stage};

/// Who acts in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    You,
    Program,
    /// The program, in its own words.
    Log,
    Marathon,
    Ca,
    Storage,
    Lb,
}

impl Actor {
    const fn name(self) -> &'static str {
        match self {
            Actor::You => "you",
            Actor::Program => "marathon-acme",
            Actor::Log => "",
            Actor::Marathon => "Marathon",
            Actor::Ca => "CA",
            Actor::Storage => "storage",
            Actor::Lb => "load balancer",
        }
    }

    const fn style(self) -> &'static str {
        match self {
            Actor::You => "1",
            Actor::Program => "1;32",
            Actor::Log => DIM,
            Actor::Marathon => "34",
            Actor::Ca => "35",
            Actor::Storage => "33",
            Actor::Lb => "36",
        }
    }
}

const DIM: &str = "2";
const BOLD: &str = "1";
const GREEN: &str = "32";

/// The terminal, and when the demo began.
pub(crate) struct Screen {
    coloured: bool,
    began_ms: i64,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        let coloured = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
        Screen { coloured, began_ms: time_now().unix_ms }
    }

    /// Who plays, and where.
    pub(crate) fn opening(&self, stage: &Stage) {
        let front = match stage.front {
            Server::Closed => "HAProxy, as soon as it has a file to serve".to_string(),
            _ => format!("https://{}", stage.front_address()),
        };
        let rows = [
            ("Marathon", format!("http://{}", stage.marathon.address())),
            ("CA", stage.directory()),
            ("load balancer", format!("http://{}", stage.lb.address())),
            ("", front),
            ("challenges", format!("http://{}", stage.listen_address())),
            ("storage", stage.storage().display().to_string()),
        ];
        self.heading("marathon-acme and its peers, all on this machine");
        for (name, value) in rows {
            self.put(&format!("  {}  {value}", self.styled(DIM, &format!("{name:<13}"))));
        }
        self.blank();
    }

    /// Something that happens now.
    pub(crate) fn line(&self, actor: Actor, text: &str) {
        self.line_at(time_now().unix_ms, actor, text);
    }

    /// Something that happened at a time in milliseconds since 1970.
    pub(crate) fn line_at(&self, at_ms: i64, actor: Actor, text: &str) {
        let passed_ms = at_ms.saturating_sub(self.began_ms).max(0);
        let clock = format!("{:>4}.{:03}", passed_ms / 1000, passed_ms % 1000);
        let name = format!("{:<13}", actor.name());
        let (clock, name) = (self.styled(DIM, &clock), self.styled(actor.style(), &name));
        let text = match actor {
            Actor::Log => self.styled(DIM, &format!("│ {text}")),
            _ => text.to_string(),
        };
        self.put(&format!("{clock}  {name}  {text}"));
    }

    /// A line of its own above a part.
    pub(crate) fn heading(&self, text: &str) {
        self.blank();
        self.put(&format!("  {}", self.styled(BOLD, text)));
        self.blank();
    }

    /// What a certificate says, and what was served with it.
    pub(crate) fn certificate(&self, shown: &Shown, page: &str) {
        let date = |ms| date::rfc3339(ms).replace('T', " ").replace('Z', "");
        let days = (shown.not_after_ms - shown.not_before_ms + 1000) / (24 * 60 * 60 * 1000);
        let (from, to) = (date(shown.not_before_ms), date(shown.not_after_ms));
        let chain = format!("{} certificates, verified against the CA's root", shown.chain_length);
        let rows = [
            ("subject", shown.names.join(" ")),
            ("issuer", shown.issuer.clone()),
            ("valid", format!("{from} to {to} UTC, {days} days")),
            ("serial", shown.serial.clone()),
            ("chain", chain),
            ("page", page.to_string()),
        ];
        self.put(&format!("  {} {}", self.styled(GREEN, "✔"), shown.names.join(" ")));
        for (name, value) in rows {
            self.put(&format!("    {}  {value}", self.styled(DIM, &format!("{name:<11}"))));
        }
        self.blank();
    }

    /// What one can do while everything stays up.
    pub(crate) fn staying(&self, stage: &Stage, domain: &str) {
        let front = stage.front_address();
        self.put("  Everything stays up until Ctrl-C. Try it:");
        self.blank();
        self.put(&format!(
            "    curl --cacert {} --resolve {domain}:{}:{} https://{domain}:{}/",
            stage.root().display(),
            front.port(),
            front.ip(),
            front.port()
        ));
        self.put(&format!("    curl http://{}/health", stage.listen_address()));
        self.blank();
    }

    pub(crate) fn blank(&self) {
        self.put("");
    }

    fn styled(&self, style: &str, text: &str) -> String {
        match self.coloured {
            true => format!("\u{1b}[{style}m{text}\u{1b}[0m"),
            false => text.to_string(),
        }
    }

    /// A terminal that is gone must not keep the demo from ending its child.
    fn put(&self, line: &str) {
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// One request in columns: method, path, status, what it was about.
pub(crate) fn request(method: &str, path: &str, status: u16, note: &str) -> String {
    let text = format!("{method:<4} {path:<24} {status}  {note}");
    text.trim_end().to_string()
}
