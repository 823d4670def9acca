//! DNS messages (RFC 1035 section 4): a question out, an answer in. Reads any bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses taken from one answer at most.
pub const ADDRESSES_MAX: usize = 32;
/// Compression pointers followed in one name at most; more is a loop.
const POINTERS_MAX: usize = 32;
/// The longest name, in bytes (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Aliases followed at most.
const ALIASES_MAX: usize = 16;

const HEADER_BYTES: usize = 12;
const CLASS_INTERNET: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_OPT: u8 = 41;
/// The largest datagram that EDNS announces, in bytes: it passes common links without fragments, and is
/// what name servers use by default.
const EDNS_BYTES_MAX: u16 = 1232;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// AAAA (RFC 3596).
    V6,
    /// A (RFC 1035 section 3.4.1).
    V4,
}

impl Family {
    const fn code(self) -> u16 {
        match self {
            Family::V4 => 1,
            Family::V6 => 28,
        }
    }
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses; none when the name has none of that family.
    Addresses(Vec<IpAddr>),
    /// There is no such name (NXDOMAIN).
    NoSuchName,
    /// It did not fit into a datagram: ask by TCP.
    Truncated,
    /// The server could not or would not answer; its response code.
    Failure(u8),
}

/// Whether a name can be asked for at all.
pub fn is_askable(name: &str) -> bool {
    let part = |part: &str| (1..=63).contains(&part.len());
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.split('.').all(part)
}

/// A query with recursion desired. The name has been checked with [`is_askable`].
pub fn query(id: u16, name: &str, family: Family) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    bytes.extend(id.to_be_bytes());
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for part in name.split('.') {
        // At most 63, so the upper bits stay free (they mark pointers).
        bytes.push(part.len().min(63) as u8);
        bytes.extend(part.as_bytes().iter().take(63));
    }
    bytes.push(0);
    bytes.extend(family.code().to_be_bytes());
    bytes.extend(CLASS_INTERNET.to_be_bytes());
    bytes
}

/// A query, with EDNS (RFC 6891 section 6.1.2): it announces that a larger datagram can be received.
pub fn with_edns(mut query: Vec<u8>) -> Vec<u8> {
    // One additional record.
    if let Some(count) = query.get_mut(11) {
        *count = 1;
    }
    let [high, low] = EDNS_BYTES_MAX.to_be_bytes();
    // The root, type OPT, the size in place of a class; version, flags and options are zero.
    query.extend([0, 0, TYPE_OPT, high, low, 0, 0, 0, 0, 0, 0]);
    query
}

/// Reads the answer to a query; `None` when it is none: another id or question, or malformed.
pub fn answer(bytes: &[u8], id: u16, name: &str, family: Family) -> Option<Answer> {
    let mut reader = Reader { bytes, at: 0 };
    let (answered, flags) = (reader.u16()?, reader.u16()?);
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.at = HEADER_BYTES;
    // A response to a standard query.
    if answered != id || flags & 0xf800 != 0x8000 {
        return None;
    }
    let failure = |code: u16| Answer::Failure((code & 0xf) as u8);
    if questions == 0 && flags & 0xf != 0 {
        // Some servers leave the question out of a refusal.
        return Some(failure(flags));
    }
    let asked = reader.name()?;
    let (kind, class) = (reader.u16()?, reader.u16()?);
    if questions != 1 || asked != name.to_ascii_lowercase() || kind != family.code() {
        return None;
    }
    match flags & 0xf {
        _ if flags & 0x0200 != 0 => Some(Answer::Truncated),
        0 if class == CLASS_INTERNET => {
            let records = reader.records(answers)?;
            Some(Answer::Addresses(follow(&records, &asked, family)))
        }
        3 => Some(Answer::NoSuchName),
        code => Some(failure(code)),
    }
}

#[derive(Debug)]
struct Record {
    name: String,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Address(IpAddr),
    Alias(String),
}

/// The addresses of a name, over its aliases; those of the other family were not asked for.
fn follow(records: &[Record], name: &str, family: Family) -> Vec<IpAddr> {
    let mut name = name;
    for _ in 0..ALIASES_MAX {
        let alias = records.iter().find_map(|record| match &record.data {
            Data::Alias(alias) if record.name == name => Some(alias),
            _ => None,
        });
        let Some(alias) = alias else { break };
        name = alias;
    }
    let address = |record: &Record| match record.data {
        Data::Address(address) if record.name == name => Some(address),
        Data::Address(_) | Data::Alias(_) => None,
    };
    let is_asked = |address: &IpAddr| address.is_ipv6() == (family == Family::V6);
    records.iter().filter_map(address).filter(is_asked).take(ADDRESSES_MAX).collect()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name in lower case without trailing dot (RFC 1035 section 4.1.4).
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut end = None;
        let mut pointers = 0;
        loop {
            let length = self.u8()?;
            match length {
                0 => break,
                1..=63 => {
                    let part = self.take(usize::from(length))?;
                    let part = String::from_utf8_lossy(part).to_ascii_lowercase();
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(&part);
                    if name.len() > 4 * NAME_BYTES_MAX {
                        return None;
                    }
                }
                0xc0..=0xff => {
                    let low = self.u8()?;
                    end.get_or_insert(self.at);
                    pointers += 1;
                    if pointers > POINTERS_MAX {
                        return None;
                    }
                    self.at = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                }
                _ => return None,
            }
        }
        if let Some(end) = end {
            self.at = end;
        }
        Some(name)
    }

    fn records(&mut self, count: u16) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        for _ in 0..count {
            let name = self.name()?;
            let (kind, class) = (self.u16()?, self.u16()?);
            self.take(4)?;
            let length = usize::from(self.u16()?);
            let end = self.at.checked_add(length)?;
            let data = match (kind, length) {
                (1, 4) => self.take(4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(v4),
                (28, 16) => self.take(16).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(v6),
                (TYPE_CNAME, _) => self.name().map(Data::Alias),
                _ => None,
            };
            if end > self.bytes.len() {
                return None;
            }
            self.at = end;
            if let Some(data) = data.filter(|_| class == CLASS_INTERNET) {
                records.push(Record { name, data });
            }
        }
        Some(records)
    }
}

fn v4(octets: [u8; 4]) -> Data {
    Data::Address(Ipv4Addr::from(octets).into())
}

fn v6(octets: [u8; 16]) -> Data {
    Data::Address(Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer for `www.example.org` A: an alias to `a.example.org`, which has two addresses; names
    /// after the question are compressed.
    fn sample() -> Vec<u8> {
        let mut bytes = query(7, "www.example.org", Family::V4);
        bytes[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 3]);
        bytes.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'A', 0xc0, 16]);
        let alias = u8::try_from(bytes.len() - 4).unwrap();
        for last in [1, 2] {
            bytes.extend([0xc0, alias, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Answer> {
        answer(bytes, 7, "WWW.example.org", Family::V4)
    }

    #[test]
    fn a_query_is_what_rfc_1035_draws() {
        let bytes = query(0x1234, "a.bc", Family::V6);
        let expected =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x1c\x00\x01";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn edns_is_what_rfc_6891_draws() {
        let bytes = with_edns(query(0x1234, "a", Family::V4));
        let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x00\x00\x01\x00\x01\
            \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn aliases_and_compression_are_followed() {
        let addresses = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        assert_eq!(read(&sample()), Some(Answer::Addresses(addresses.clone())));
        let with_rest = [sample(), vec![1, 2, 3]].concat();
        assert_eq!(read(&with_rest), Some(Answer::Addresses(addresses)));
    }

    #[test]
    fn addresses_of_the_other_family_do_not_count() {
        let mut bytes = query(7, "www.example.org", Family::V6);
        bytes[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        let read = answer(&bytes, 7, "www.example.org", Family::V6);
        assert_eq!(read, Some(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn what_answers_something_else_is_no_answer() {
        assert_eq!(answer(&sample(), 8, "www.example.org", Family::V4), None);
        assert_eq!(answer(&sample(), 7, "www.example.com", Family::V4), None);
        assert_eq!(answer(&sample(), 7, "www.example.org", Family::V6), None);
        let question = query(7, "www.example.org", Family::V4);
        assert_eq!(read(&question), None);
    }

    #[test]
    fn codes() {
        let with_flags = |high, low| {
            let mut bytes = query(7, "www.example.org", Family::V4);
            bytes[2..4].copy_from_slice(&[high, low]);
            read(&bytes)
        };
        assert_eq!(with_flags(0x81, 0x83), Some(Answer::NoSuchName));
        assert_eq!(with_flags(0x81, 0x82), Some(Answer::Failure(2)));
        assert_eq!(with_flags(0x83, 0x80), Some(Answer::Truncated));
        assert_eq!(with_flags(0x81, 0x80), Some(Answer::Addresses(Vec::new())));
        assert_eq!(read(&[0, 7, 0x81, 0x85, 0, 0, 0, 0, 0, 0, 0, 0]), Some(Answer::Failure(5)));
    }

    #[test]
    fn a_cut_or_mangled_answer_never_panics() {
        let whole = sample();
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "{end}");
        }
        for index in 0..whole.len() {
            for value in 0..=255 {
                let mut mangled = whole.clone();
                mangled[index] = value;
                let _ = read(&mangled);
            }
        }
    }

    #[test]
    fn pointer_loops_end() {
        let mut bytes = query(7, "www.example.org", Family::V4);
        bytes[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
        let at = u8::try_from(bytes.len()).unwrap();
        bytes.extend([0xc0, at, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
        assert_eq!(read(&bytes), None);
    }

    #[test]
    fn names_that_cannot_be_asked() {
        let long = "a.".repeat(130);
        for name in ["", ".", "a..b", &"a".repeat(64), long.trim_end_matches('.')] {
            assert!(!is_askable(name), "{name}");
        }
        assert!(is_askable("_srv.marathon-lb.marathon.mesos"));
    }
}
