//! What the standard output is: the journal, a terminal, or anything else. Goes by what the system and the
//! environment say, once at the start. Never writes anything.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::termios::tcgetwinsize;

/// A terminal that does not tell its width is taken for the narrowest there are, in columns.
const COLUMNS: usize = 80;

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A pipe or a file.
    Plain,
    /// systemd's journal.
    Journal,
    /// A person.
    Terminal {
        /// Whether they want colour.
        colour: bool,
    },
}

/// What the environment says.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub(super) journal_stream: Option<OsString>,
    pub(super) term: Option<OsString>,
    pub(super) no_color: Option<OsString>,
}

impl Variables {
    pub(super) fn of_this_process() -> Variables {
        Variables {
            journal_stream: env::var_os("JOURNAL_STREAM"),
            term: env::var_os("TERM"),
            no_color: env::var_os("NO_COLOR"),
        }
    }
}

impl Place {
    /// What `out` is.
    pub(super) fn of(out: &File, variables: &Variables) -> Place {
        if is_journal(out, variables) {
            return Place::Journal;
        }
        let given = |variable: &Option<OsString>| variable.clone().filter(|it| !it.is_empty());
        // One that knows no control sequences is a page that is written on.
        let able = given(&variables.term).is_some_and(|term| term != "dumb");
        if able && out.is_terminal() {
            Place::Terminal { colour: given(&variables.no_color).is_none() }
        } else {
            Place::Plain
        }
    }
}

/// systemd names the device and the inode of what it has connected to the journal (systemd.exec(5)); a
/// redirection may have put another file in its place since.
fn is_journal(out: &File, variables: &Variables) -> bool {
    let Some((device, inode)) = variables
        .journal_stream
        .as_ref()
        .and_then(|named| named.to_str()?.split_once(':'))
        .and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)))
    else {
        return false;
    };
    out.metadata().is_ok_and(|file| (file.dev(), file.ino()) == (device, inode))
}

/// How many columns a terminal has now.
pub(super) fn columns(out: &File) -> usize {
    let told = tcgetwinsize(out).map_or(0, |size| usize::from(size.ws_col));
    if told == 0 { COLUMNS } else { told }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn only_what_systemd_has_named_is_the_journal() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let out = File::from(OwnedFd::from(writer));
        let file = out.metadata().unwrap();
        let place = |named: Option<String>| {
            let journal_stream = named.map(OsString::from);
            Place::of(&out, &Variables { journal_stream, ..Variables::default() })
        };
        let (device, inode) = (file.dev(), file.ino());
        assert_eq!(place(Some(format!("{device}:{inode}"))), Place::Journal);
        let others = [
            format!("{device}:{}", inode + 1),
            format!("{}:{inode}", device + 1),
            format!("{device}"),
            format!("{device}:{inode}:"),
            "x:y".into(),
            String::new(),
        ];
        for named in others {
            assert_eq!(place(Some(named.clone())), Place::Plain, "{named}");
        }
        assert_eq!(place(None), Place::Plain);
    }

    #[test]
    fn a_pipe_has_no_colour_whatever_the_environment_says() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let out = File::from(OwnedFd::from(writer));
        let variables = Variables { term: Some("xterm".into()), ..Variables::default() };
        assert_eq!(Place::of(&out, &variables), Place::Plain);
        assert_eq!(columns(&out), COLUMNS);
    }
}
