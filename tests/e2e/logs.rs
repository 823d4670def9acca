//! What the log looks like to whoever reads it: the journal, a person at a terminal, a pipe; and how it
//! bears what happens again and again.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use marathon_acme::log::message::{FOREIGN_FILE, LISTENING, ORDER_ISSUED, STOPPING, SYNC_FAILED};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use stand_ins::ca::{Problem, Refusal, Settings};

use crate::Test;
use crate::process::{Outcome, Process, Signal, expect, get, wait_for_port, wait_until};
use crate::site::{Site, text, with_ca};

pub(crate) const TESTS: &[Test] = &[
    ("logs_at_a_terminal_have_colour_and_show_how_far_it_is", &[], terminal),
    ("logs_at_a_terminal_without_colour_or_without_a_cursor", &[], plain_terminals),
    ("logs_in_the_journal_have_priorities_and_no_time", &[], journal),
    ("logs_in_a_pipe_that_is_not_the_journal_are_plain", &[], pipe),
    ("logs_count_what_fails_again_and_again", &[], repeated),
    ("logs_and_reports_show_no_controls_and_no_directions", &[], unprintable),
];

const CLEAR: &str = "\r\u{1b}[K";
const FAINT: &str = "\u{1b}[2m";
const DOMAINS: usize = 12;
const STOP: Duration = Duration::from_secs(2);

/// What comes out of a pipe or a terminal, read as it comes.
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn by(mut source: File) -> Said {
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&said);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            // A terminal that nobody has open any more is an error, and the end.
            while let Ok(length @ 1..) = source.read(&mut piece) {
                kept.lock().expect("nobody panics with it").extend(&piece[..length]);
            }
        });
        Said(said)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics with it")).into_owned()
    }

    fn wait_for(&self, words: &str, count: usize) -> Outcome {
        let found = || (self.text().matches(words).count() >= count).then_some(());
        wait_until(words, found).map_err(|error| format!("{error}\n{}", self.text()))
    }
}

/// A pseudo-terminal of so many columns: our end, and the program's.
fn open_terminal(columns: u16) -> Outcome<(File, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).map_err(text)?;
    grantpt(&ours).map_err(text)?;
    unlockpt(&ours).map_err(text)?;
    let path = ptsname(&ours, Vec::new()).map_err(text)?;
    let path = path.into_string().map_err(text)?;
    let theirs = File::options().read(true).write(true).open(path).map_err(text)?;
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(theirs.as_fd(), size).map_err(text)?;
    Ok((File::from(ours), theirs))
}

/// The program, without what this process's own terminal or journal has left in the environment.
fn program(arguments: &[String], more: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Site::command();
    for variable in ["JOURNAL_STREAM", "NO_COLOR", "TERM"] {
        command.env_remove(variable);
    }
    command.envs(variables.iter().copied()).args(arguments).args(more);
    command
}

/// Orders many certificates with a terminal as the standard output, and ends; all that was written there.
fn on_a_terminal(columns: u16, more: &[&str], variables: &[(&str, &str)]) -> Outcome<String> {
    let settings = Settings { validation_delay_ms: 300, ..Settings::default() };
    let (site, _ca, arguments) = with_ca(settings)?;
    for number in 0..DOMAINS {
        site.deploy(&format!("/app{number}"), &format!("a{number}.example.com"));
    }
    let (ours, theirs) = open_terminal(columns)?;
    let said = Said::by(ours);
    let mut command = program(&arguments, more, variables);
    let mut daemon = Process::start_saying_to(theirs, site.folder(), "daemon", &mut command)?;
    said.wait_for("not_after", DOMAINS)?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(STOP)?;
    said.wait_for(STOPPING, 1)?;
    Ok(said.text())
}

fn terminal() -> Outcome {
    let said = on_a_terminal(60, &[], &[("TERM", "xterm")])?;
    for done in [0, DOMAINS - 1] {
        let words = format!("{CLEAR}ordering {done} of {DOMAINS}");
        expect(said.contains(&words), || format!("{words:?} is missing:\n{said:?}"))?;
    }
    // Whatever was written over, a line is whole, and nothing but its beginning is coloured.
    for line in said.split_inclusive('\n') {
        let seen = line.rsplit(CLEAR).next().unwrap_or_default();
        let whole = seen.starts_with(&format!("{FAINT}20")) && seen.ends_with("\r\n");
        expect(whole && seen.matches('\u{1b}').count() == 6, || format!("{line:?}"))?;
    }
    let level = "Z\u{1b}[0m \u{1b}[32mINFO \u{1b}[0m \u{1b}[2morder   \u{1b}[0m";
    expect(said.contains(&format!("{level} {ORDER_ISSUED} name=")), || said.clone())?;
    // It is gone at the end, and was long before that.
    let shown = said.rfind("ordering ").unwrap_or_default();
    let after = &said[shown..];
    expect(
        after.contains(CLEAR) && !after.contains(&format!(" {ORDER_ISSUED} name=\u{1b}")),
        || format!("{said:?}"),
    )
}

fn plain_terminals() -> Outcome {
    let said = on_a_terminal(20, &[], &[("TERM", "xterm"), ("NO_COLOR", "1")])?;
    expect(said.contains(&format!("{CLEAR}ordering 1 of {DOMAINS}")), || format!("{said:?}"))?;
    let other = said.replace(CLEAR, "");
    expect(
        !other.contains('\u{1b}') && other.contains(&format!("Z INFO  order    {ORDER_ISSUED}")),
        || other.clone(),
    )?;
    let quiet: [(&[&str], &str); 2] = [(&[], "dumb"), (&["--log-format=json"], "xterm")];
    for (more, term) in quiet {
        let said = on_a_terminal(80, more, &[("TERM", term)])?;
        expect(!said.contains('\u{1b}') && !said.contains("ordering 1"), || format!("{said:?}"))?;
    }
    Ok(())
}

/// The words that start the program with peers that are all away.
fn alone(site: &Site) -> Vec<String> {
    [
        "--acme=https://127.0.0.1:9/dir",
        "--lb=http://127.0.0.1:9",
        "--marathon=http://127.0.0.1:9",
        &format!("--listen=127.0.0.1:{}", site.port),
        &site.storage.display().to_string(),
    ]
    .map(String::from)
    .into()
}

/// Runs it for a moment with a pipe as its standard output; the variable that systemd would set names that
/// pipe, or another one.
fn into_a_pipe(more: &[&str], is_journal: bool) -> Outcome<Vec<String>> {
    let site = Site::new()?;
    let (reader, writer) = io::pipe().map_err(text)?;
    let writer = File::from(OwnedFd::from(writer));
    let file = writer.metadata().map_err(text)?;
    let inode = if is_journal { file.ino() } else { file.ino() + 1 };
    let named = format!("{}:{inode}", file.dev());
    let said = Said::by(File::from(OwnedFd::from(reader)));
    let variables = [("JOURNAL_STREAM", &*named), ("TERM", "xterm")];
    let mut command = program(&alone(&site), more, &variables);
    let mut daemon = Process::start_saying_to(writer, site.folder(), "daemon", &mut command)?;
    said.wait_for(SYNC_FAILED, 1)?;
    said.wait_for(LISTENING, 1)?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(STOP)?;
    said.wait_for(STOPPING, 1)?;
    Ok(said.text().lines().map(String::from).collect())
}

fn journal() -> Outcome {
    let lines = into_a_pipe(&["--log-level=debug"], true)?;
    let all = || lines.join("\n");
    for begin in
        [format!("<6>INFO  main     {LISTENING} "), format!("<3>ERROR marathon {SYNC_FAILED} ")]
    {
        expect(lines.iter().any(|line| line.starts_with(&begin)), all)?;
    }
    let begins = |line: &String| {
        ["<3>ERROR ", "<4>WARN ", "<6>INFO ", "<7>DEBUG "]
            .iter()
            .any(|begin| line.starts_with(begin))
    };
    expect(lines.iter().all(begins), all)?;
    // For programs it is whole, and the journal takes the priority off.
    let lines = into_a_pipe(&["--log-format=json"], true)?;
    for line in &lines {
        let object = line.strip_prefix("<6>").or(line.strip_prefix("<3>")).unwrap_or_default();
        let object: serde_json::Value = serde_json::from_str(object).map_err(text)?;
        expect(object["time"].is_string(), || line.clone())?;
    }
    Ok(())
}

fn pipe() -> Outcome {
    let lines = into_a_pipe(&[], false)?;
    let is_plain = |line: &String| line.starts_with("20") && line.as_bytes()[23] == b'Z';
    expect(lines.iter().all(is_plain), || lines.join("\n"))?;
    expect(!lines.concat().contains('\u{1b}'), || lines.join("\n"))
}

/// Syncs that failed, as the program counts them itself.
fn failed_syncs(site: &Site) -> Option<usize> {
    let metrics = get(site.port, "/metrics").ok()?;
    let line = metrics.lines().find(|line| line.contains("syncs_total{result=\"failed\"}"))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn repeated() -> Outcome {
    for (format, debug) in [("text", false), ("json", false), ("text", true)] {
        let site = Site::new()?;
        let format = format!("--log-format={format}");
        let level = if debug { "--log-level=debug" } else { "--log-level=info" };
        let mut command = program(&alone(&site), &[&format, level], &[]);
        let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
        wait_for_port("the daemon", site.port)?;
        daemon.wait_until_syncs_failed(site.port, 1)?;
        for count in 2..8 {
            // Each makes it look at Marathon now, which is not there.
            daemon.signal(Signal::HUP)?;
            let failed = || failed_syncs(&site).filter(|failed| *failed >= count);
            wait_until("a failed sync", failed)?;
        }
        daemon.signal(Signal::TERM)?;
        daemon.wait(STOP)?;
        let output = daemon.output();
        let lines: Vec<&str> = output.lines().filter(|line| line.contains(SYNC_FAILED)).collect();
        let counts = lines.iter().filter_map(|line| {
            let count = line.split(['=', ' ', '"', ':', ',', '}']).filter(|word| !word.is_empty());
            let mut words = count.skip_while(|word| *word != "repeated").skip(1);
            words.next()?.parse::<usize>().ok()
        });
        let (said, unsaid) = (lines.len(), counts.sum::<usize>());
        let fits = said + unsaid >= 7 && if debug { unsaid == 0 } else { unsaid >= 4 && said <= 3 };
        expect(fits, || format!("{said} said, {unsaid} not:\n{output}"))?;
        let first = lines.first().copied().unwrap_or_default();
        expect(!first.contains("repeated"), || output.clone())?;
    }
    Ok(())
}

/// Everything that a peer can say: a label, an app's id, a CA's problem, the name of a file.
fn unprintable() -> Outcome {
    const ODD: &str = "\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\
        \u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}";
    for format in ["text", "json"] {
        let (site, ca, arguments) = with_ca(Settings::default())?;
        ca.ca.with(|ca, _| {
            let problem = Problem::new(403, "unauthorized", format!("refused{ODD}answer"));
            let refusal = Refusal { path: "/new-order", problem, times: u32::MAX };
            ca.settings.refusals = vec![refusal];
        });
        site.deploy("/a", &format!("a{ODD}.example.com"));
        site.deploy("/b", "b.example.com");
        site.deploy(&format!("/c{ODD}"), "_c.example.com");
        let certs = site.storage.join("certs");
        std::fs::create_dir(&certs).map_err(text)?;
        std::fs::write(certs.join(format!("odd{ODD}file")), "hello").map_err(text)?;
        let mut daemon = site.daemon(format, &arguments, &["--log-format", format])?;
        daemon.wait_for(FOREIGN_FILE)?;
        daemon.wait_for("refused")?;
        daemon.wait_for("_c.example.com")?;
        let is_odd = |c: char| c != '\n' && ODD.contains(c) && !"[2J31m".contains(c);
        let output = || daemon.output();
        expect(!output().contains(is_odd), output)?;
        for path in ["/", "/status.json", "/health", "/metrics"] {
            let answer = get(site.port, path)?;
            expect(!answer.contains(is_odd), || format!("{path}: {answer}"))?;
        }
        for option in ["--list", "--check"] {
            let (_, said) = site.run(option, &arguments, &[option, "--log-format", format])?;
            expect(!said.contains(is_odd), || format!("{option}: {said}"))?;
        }
        let (status, said) = site.run("usage", &arguments, &[&format!("--unknown{ODD}")])?;
        expect(status == Some(2) && !said.contains(is_odd), || said)?;
    }
    Ok(())
}
