//! Switching to another user for good, once the port is bound (contract: image). Uses the system
//! calls that change one thread: this process never has another.

use std::fmt;

use rustix::process::{Gid, Uid, getgid, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::hardening::give_up_capabilities;

const PASSWD: &str = "/etc/passwd";

/// Whom to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// `MARATHON_ACME_USER` cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    /// Neither `UID[:GID]` nor a name in `/etc/passwd`.
    Unknown(String),
    /// The process may not switch; the system's words.
    Refused(User, String),
    /// The process could switch back.
    NotForGood,
}

impl User {
    /// Reads `UID`, `UID:GID` or a name that `passwd` (the text of `/etc/passwd`) knows. The group of
    /// a bare number is that of the user there, else the same number.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str, passwd: &str) -> Result<User, UserError> {
        let unknown = || UserError::Unknown(text.to_string());
        let entries = || passwd.lines().filter_map(passwd_entry);
        match text.split_once(':') {
            Some((uid, gid)) => {
                let uid = number(uid).or_else(|| Some(find(entries(), uid)?.uid));
                let gid = number(gid);
                Ok(User { uid: uid.ok_or_else(unknown)?, gid: gid.ok_or_else(unknown)? })
            }
            None => match number(text) {
                Some(uid) => {
                    let known = entries().map(|(_, user)| user).find(|user| user.uid == uid);
                    Ok(known.unwrap_or(User { uid, gid: uid }))
                }
                None => find(entries(), text).ok_or_else(unknown),
            },
        }
    }

    /// Becomes that user: groups, group, user, in all their three forms each, so that there is no way
    /// back; with no capability, unless it is root. Being that user already is enough.
    ///
    /// # Errors
    /// The process may not, or could switch back.
    pub fn switch(self) -> Result<(), UserError> {
        if getuid().as_raw() == self.uid && getgid().as_raw() == self.gid {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&[gid])
            .and_then(|()| set_thread_res_gid(gid, gid, gid))
            .and_then(|()| set_thread_res_uid(uid, uid, uid))
            .map_err(|errno| UserError::Refused(self, errno.to_string()))?;
        if self.uid == 0 {
            return Ok(());
        }
        let given_up = give_up_capabilities();
        given_up.map_err(|error| UserError::Refused(self, error.to_string()))?;
        if set_thread_res_uid(None, Uid::ROOT, None).is_ok() {
            return Err(UserError::NotForGood);
        }
        Ok(())
    }
}

/// Follows `MARATHON_ACME_USER`.
///
/// # Errors
/// There is no such user, or the process may not switch.
pub fn become_user(text: &str) -> Result<(), UserError> {
    let passwd = std::fs::read_to_string(PASSWD).unwrap_or_default();
    User::parse(text, &passwd)?.switch()
}

/// A user's number; the largest one means "none" to the system.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| *number != u32::MAX)
}

/// `name:x:uid:gid:…` (passwd(5)).
fn passwd_entry(line: &str) -> Option<(&str, User)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let _password = fields.next()?;
    Some((name, User { uid: number(fields.next()?)?, gid: number(fields.next()?)? }))
}

fn find<'a>(mut entries: impl Iterator<Item = (&'a str, User)>, name: &str) -> Option<User> {
    entries.find(|(known, _)| *known == name).map(|(_, user)| user)
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserError::Unknown(text) => {
                write!(f, "MARATHON_ACME_USER {text:?} is neither UID[:GID] nor a name in {PASSWD}")
            }
            UserError::Refused(User { uid, gid }, error) => write!(
                f,
                "cannot become user {uid}:{gid} (MARATHON_ACME_USER): {error}; start as root, or \
                 as that user"
            ),
            UserError::NotForGood => {
                f.write_str("MARATHON_ACME_USER: the process could still become root again")
            }
        }
    }
}

impl std::error::Error for UserError {}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:33:34::/:/bin/false\n";

    #[test]
    fn numbers_and_names() {
        let user = |text| User::parse(text, SAMPLE);
        assert_eq!(user("1000:50"), Ok(User { uid: 1000, gid: 50 }));
        assert_eq!(user("1000"), Ok(User { uid: 1000, gid: 1000 }));
        assert_eq!(user("33"), Ok(User { uid: 33, gid: 34 }));
        assert_eq!(user("www"), Ok(User { uid: 33, gid: 34 }));
        assert_eq!(user("www:7"), Ok(User { uid: 33, gid: 7 }));
        for text in ["", "nobody-there", "1000:", ":5", "-1", "1000:staff", "4294967295", "1 "] {
            assert_eq!(user(text), Err(UserError::Unknown(text.into())), "{text}");
        }
    }
}
