//! Reads what the resolver is configured by: `/etc/resolv.conf`, `/etc/hosts`, and the variables of
//! resolv.conf(5). Must never read the settings themselves: that is `dns::config`. Only what the system
//! alone knows is put into the text.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::net::netdevice::name_to_index;

use crate::machine::Loaded;

use super::files::read_named;

/// The largest `/etc/resolv.conf` or `/etc/hosts`, in bytes.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Names of interfaces that are looked up in one file at most; glibc reads 3 name servers.
const INTERFACES_MAX: usize = 8;

/// Where the settings are.
#[derive(Debug)]
pub(super) struct NameService {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    /// `LOCALDOMAIN`, which replaces the search domains.
    search: Option<OsString>,
    /// `RES_OPTIONS`, which come after the options of the file.
    options: Option<OsString>,
}

impl NameService {
    /// Those of this process.
    pub(super) fn of_system() -> NameService {
        NameService {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            search: env::var_os("LOCALDOMAIN"),
            options: env::var_os("RES_OPTIONS"),
        }
    }

    pub(super) fn load(&self) -> Loaded {
        let mut resolv_conf = with_numbered_zones(&read(&self.resolv_conf));
        for (keyword, value) in [("search", &self.search), ("options", &self.options)] {
            let Some(value) = value else { continue };
            let line = value.as_bytes().split(|byte| *byte == b'\n').next().unwrap_or_default();
            resolv_conf.extend([b"\n", keyword.as_bytes(), b" ", line, b"\n"].concat());
        }
        Loaded::NameService { resolv_conf, hosts: read(&self.hosts) }
    }
}

/// A file; a missing one is empty.
fn read(path: &Path) -> Vec<u8> {
    read_named(path, BYTES_MAX).unwrap_or_default().to_vec()
}

/// The text with the number of each interface in the place of its name, as in `fe80::1%eth0`. The name of an
/// interface that is not there stays.
fn with_numbered_zones(text: &[u8]) -> Vec<u8> {
    let mut pieces = text.splitn(INTERFACES_MAX + 1, |byte| *byte == b'%');
    let mut numbered = pieces.next().unwrap_or_default().to_vec();
    for piece in pieces {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'#' | b';' | b'%');
        let (zone, rest) = piece.split_at(piece.iter().position(ends).unwrap_or(piece.len()));
        numbered.push(b'%');
        match number_of(zone) {
            Some(number) => numbered.extend(number.to_string().as_bytes()),
            None => numbered.extend(zone),
        }
        numbered.extend(rest);
    }
    numbered
}

/// Any socket serves to ask (netdevice(7)).
fn number_of(interface: &[u8]) -> Option<u32> {
    let name = std::str::from_utf8(interface).ok().filter(|name| !name.is_empty())?;
    name_to_index(UnixDatagram::unbound().ok()?, name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(resolv_conf: &[u8], search: Option<&str>, options: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, resolv_conf).unwrap();
        let service = NameService {
            resolv_conf: path,
            hosts: folder.path().join("missing"),
            search: search.map(OsString::from),
            options: options.map(OsString::from),
        };
        let Loaded::NameService { resolv_conf, hosts } = service.load() else { panic!() };
        assert_eq!(hosts, b"");
        String::from_utf8(resolv_conf).unwrap()
    }

    #[test]
    fn names_of_interfaces_become_numbers() {
        // The loopback interface is the first of each network namespace.
        let text = "nameserver fe80::1%lo ; x\nnameserver fe80::2%lo\nnameserver fe80::3%none9\n%";
        let expected =
            "nameserver fe80::1%1 ; x\nnameserver fe80::2%1\nnameserver fe80::3%none9\n%";
        assert_eq!(loaded(text.as_bytes(), None, None), expected);
        let many = "%lo ".repeat(INTERFACES_MAX + 2);
        let expected = format!("{}%lo %lo ", "%1 ".repeat(INTERFACES_MAX));
        assert_eq!(loaded(many.as_bytes(), None, None), expected);
    }

    #[test]
    fn variables_come_after_the_file() {
        let text = loaded(b"search a", Some("b c\nnameserver 10.0.0.1"), Some("ndots:3"));
        assert_eq!(text, "search a\nsearch b c\n\noptions ndots:3\n");
        assert_eq!(loaded(b"search a\n", Some(""), None), "search a\n\nsearch \n");
    }
}
