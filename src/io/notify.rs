//! What the service manager hears of us (sd_notify(3)): that we listen, how it stands, that the loop
//! turns, that we end. It tells us where by the environment; without that nothing is said, and nothing
//! wakes for it. Never blocks, and never ends the program: a manager that does not listen is no reason.
//!
//! The watchdog is fed by the loop's own turn and by nothing else, so that a loop that hangs starves it.
//! The variables are not passed on, since no process is ever started.

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use crate::log::{Record, message};
use crate::printable::is_unprintable;
use crate::time::Instant;

/// The watchdog is not fed more often, whatever it wants: the loop has other things to do.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// What is said of how it stands, in characters.
const STATUS_CHARS_MAX: usize = 200;

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    link: Option<Link>,
    watchdog: Option<Watchdog>,
    /// What the manager has not taken yet: one message of a kind at most.
    waiting: VecDeque<String>,
    stopping: bool,
    /// What went wrong, until it is logged; and whether something did.
    trouble: Option<Record>,
    troubled: bool,
}

#[derive(Debug)]
struct Link {
    socket: UnixDatagram,
    manager: SocketAddr,
}

#[derive(Debug)]
struct Watchdog {
    /// Half of the time after which the manager thinks that we hang.
    pause: Duration,
    /// Nothing before we are ready.
    next: Option<Instant>,
}

/// What the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Variables {
    pub(super) notify_socket: Option<OsString>,
    pub(super) watchdog_usec: Option<OsString>,
    pub(super) watchdog_pid: Option<OsString>,
}

impl Variables {
    fn of_this_process() -> Variables {
        Variables {
            notify_socket: env::var_os("NOTIFY_SOCKET"),
            watchdog_usec: env::var_os("WATCHDOG_USEC"),
            watchdog_pid: env::var_os("WATCHDOG_PID"),
        }
    }
}

impl Notifier {
    /// As the environment of this process says.
    pub fn from_environment() -> Notifier {
        Notifier::new(&Variables::of_this_process())
    }

    /// A manager that cannot be found is a trouble to log.
    pub(super) fn new(variables: &Variables) -> Notifier {
        let mut notifier = Notifier::default();
        let Some(name) = variables.notify_socket.as_deref().filter(|name| !name.is_empty()) else {
            return notifier;
        };
        match Link::to(name) {
            Ok(link) => {
                let pause = watchdog_pause(variables);
                notifier.watchdog = pause.map(|pause| Watchdog { pause, next: None });
                notifier.link = Some(link);
            }
            Err(error) => notifier.note(&error),
        }
        notifier
    }

    /// We listen, and from `now` on the loop turns.
    pub fn ready(&mut self, now: Instant) {
        self.say("READY=1".into());
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.next = Some(now + watchdog.pause);
        }
    }

    /// How it stands: one line, that is cut where it is long.
    pub fn status(&mut self, text: &str) {
        let clean = text.chars().map(|c| if is_unprintable(c) { ' ' } else { c });
        let text: String = clean.take(STATUS_CHARS_MAX).collect();
        self.say(format!("STATUS={text}"));
    }

    /// We end; said once.
    pub fn stopping(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.say("STOPPING=1".into());
        }
    }

    /// The loop has turned: feeds the watchdog when it is time, offers again what was not taken.
    pub fn turned(&mut self, now: Instant) {
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.next.is_some_and(|next| next <= now)
        {
            watchdog.next = Some(now + watchdog.pause);
            self.say("WATCHDOG=1".into());
        }
        self.flush();
    }

    /// When the loop has to turn for the watchdog; `None` without one.
    pub fn wake_at(&self) -> Option<Instant> {
        self.watchdog.as_ref().and_then(|watchdog| watchdog.next)
    }

    /// Whether the manager has not taken everything yet.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What went wrong first, once.
    pub fn take_trouble(&mut self) -> Option<Record> {
        self.trouble.take()
    }

    fn say(&mut self, message: String) {
        if self.link.is_none() {
            return;
        }
        // The newest of a kind is all that counts.
        self.waiting.retain(|old| kind(old) != kind(&message));
        self.waiting.push_back(message);
        self.flush();
    }

    fn flush(&mut self) {
        while let (Some(link), Some(message)) = (&self.link, self.waiting.front()) {
            match link.socket.send_to_addr(message.as_bytes(), &link.manager) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Who does not hear this one may hear the next.
                Err(error) => self.note(&error),
                Ok(_) => {}
            }
            self.waiting.pop_front();
        }
    }

    fn note(&mut self, error: &io::Error) {
        if !self.troubled {
            self.troubled = true;
            let line = Record::warn("main", message::NOTIFY_FAILED);
            self.trouble = Some(line.with("error", error));
        }
    }
}

impl Link {
    /// `/path`, or `@name` for a socket that is in no file system (unix(7), abstract).
    fn to(name: &OsStr) -> io::Result<Link> {
        let manager = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let text = format!("NOTIFY_SOCKET {name:?} is neither /path nor @name");
                return Err(io::Error::new(ErrorKind::InvalidInput, text));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Link { socket, manager })
    }
}

/// What stands before the `=`.
fn kind(message: &str) -> &str {
    message.split('=').next().unwrap_or(message)
}

/// Half of `WATCHDOG_USEC`, when that is for this process (sd_watchdog_enabled(3)).
fn watchdog_pause(variables: &Variables) -> Option<Duration> {
    let pid = variables.watchdog_pid.as_deref().filter(|pid| !pid.is_empty());
    let is_ours = pid.is_none_or(|pid| pid.to_str() == Some(process::id().to_string().as_str()));
    let usec: u64 = variables.watchdog_usec.as_deref()?.to_str()?.parse().ok()?;
    let pause = Duration::from_micros(usec) / 2;
    (is_ours && usec > 0).then(|| pause.max(PAUSE_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A manager's socket, and the variables that lead there.
    fn manager(watchdog_usec: &str) -> (tempfile::TempDir, UnixDatagram, Variables) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let variables = Variables {
            notify_socket: Some(path.into_os_string()),
            watchdog_usec: Some(watchdog_usec.into()),
            watchdog_pid: None,
        };
        (folder, socket, variables)
    }

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 1024];
        let next = || {
            let length = manager.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        std::iter::from_fn(next).collect()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn everything_is_heard_in_its_order() {
        let (_folder, manager, variables) = manager("20000000");
        let mut notifier = Notifier::new(&variables);
        assert_eq!(notifier.wake_at(), None);
        notifier.ready(at(5));
        notifier.status("one line\nonly");
        assert_eq!(notifier.wake_at(), Some(at(15)));
        notifier.turned(at(14));
        notifier.turned(at(15));
        notifier.turned(at(16));
        assert_eq!(notifier.wake_at(), Some(at(25)));
        notifier.stopping();
        notifier.stopping();
        let expected = ["READY=1", "STATUS=one line only", "WATCHDOG=1", "STOPPING=1"];
        assert_eq!(heard(&manager), expected);
        assert_eq!((notifier.is_waiting(), notifier.take_trouble()), (false, None));
    }

    #[test]
    fn an_abstract_name_is_reached_as_well() {
        let name = format!("marathon-acme-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_nonblocking(true).unwrap();
        let notify_socket = Some(format!("@{name}").into());
        let variables = Variables { notify_socket, ..Variables::default() };
        let mut notifier = Notifier::new(&variables);
        notifier.ready(at(0));
        assert_eq!(heard(&manager), ["READY=1"]);
        assert_eq!(notifier.wake_at(), None);
    }

    #[test]
    fn without_a_manager_nothing_wakes() {
        let watchdog_usec = Some("2000000".into());
        let mut notifier = Notifier::new(&Variables { watchdog_usec, ..Variables::default() });
        notifier.ready(at(0));
        notifier.turned(at(9));
        assert_eq!((notifier.wake_at(), notifier.is_waiting()), (None, false));
        assert_eq!(notifier.take_trouble(), None);
    }

    #[test]
    fn the_watchdog_may_be_another_processs() {
        let pause = |usec: &str, pid: &str| {
            watchdog_pause(&Variables {
                notify_socket: None,
                watchdog_usec: Some(usec.into()),
                watchdog_pid: Some(pid.into()),
            })
        };
        let own = process::id().to_string();
        assert_eq!(pause("2000000", &own), Some(SECOND));
        assert_eq!(pause("2000000", ""), Some(SECOND));
        assert_eq!(pause("1", &own), Some(PAUSE_MIN));
        assert_eq!(pause("2000000", "1"), None);
        for odd in ["0", "", "-1", "soon", "99999999999999999999999"] {
            assert_eq!(pause(odd, &own), None, "{odd}");
        }
    }

    #[test]
    fn what_is_not_taken_is_kept_once_for_each_kind() {
        let (_folder, manager, variables) = manager("0");
        let mut notifier = Notifier::new(&variables);
        let mut said = 0;
        while !notifier.is_waiting() {
            notifier.status("filling");
            said += 1;
        }
        notifier.ready(at(0));
        notifier.status("newest");
        notifier.stopping();
        assert_eq!(notifier.waiting, ["READY=1", "STATUS=newest", "STOPPING=1"]);
        assert_eq!(heard(&manager).len(), said - 1);
        notifier.turned(at(1));
        assert_eq!(heard(&manager), ["READY=1", "STATUS=newest", "STOPPING=1"]);
    }

    #[test]
    fn a_manager_that_is_not_there_is_one_line() {
        for name in ["relative", "vsock:2:1234", "/no/such/socket", "@nobody/has/this/name"] {
            let notify_socket = Some(name.into());
            let mut notifier = Notifier::new(&Variables { notify_socket, ..Variables::default() });
            notifier.ready(at(0));
            assert!(notifier.take_trouble().is_some(), "{name}");
            notifier.status("again");
            assert_eq!((notifier.take_trouble(), notifier.is_waiting()), (None, false), "{name}");
        }
    }
}
