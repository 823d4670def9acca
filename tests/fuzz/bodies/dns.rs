//! DNS messages: only an answer to the question counts, its addresses are of the family that was
//! asked for and not too many, and what stands behind an answer does not make it none.

use std::net::IpAddr;

use marathon_acme::dns::message::{ADDRESSES_MAX, Answer, Family, answer, is_askable, query};

const NAMES: [&str; 4] = ["a.org", "www.example.org", "marathon.mesos", "_a._b.c-d.Mesos"];

/// The first byte says what was asked; the others are the message, or what follows the header and
/// the question of one.
pub fn run(bytes: &[u8]) {
    let [how, flags, bytes @ ..] = bytes else { return };
    let name = NAMES[usize::from(how >> 1 & 3)];
    let family = if how & 1 == 0 { Family::V4 } else { Family::V6 };
    let (id, message) = if how & 0x80 == 0 {
        (bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id)), bytes.to_vec())
    } else {
        (0x1234, answering(name, family, *flags, bytes))
    };
    let read = answer(&message, id, name, family);
    assert_eq!(answer(&message, id.wrapping_add(1), name, family), None, "of another question");
    if let Some(Answer::Addresses(addresses)) = &read {
        assert!(addresses.len() <= ADDRESSES_MAX);
        assert!(addresses.iter().all(|address| is_of(family, address)));
        assert_eq!(answer(&message, id, "other.org", family), None, "of another name");
    }
    if read.is_some() {
        let behind = [&message, &b"\xc0\x0c"[..]].concat();
        assert!(answer(&behind, id, name, family).is_some(), "what is behind it counts");
    }
    if let Ok(name) = std::str::from_utf8(bytes)
        && is_askable(name)
    {
        asked(name, family);
    }
}

/// A response with this much in its answer section as it has `bytes` for.
fn answering(name: &str, family: Family, flags: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = query(0x1234, name, family);
    // A response without recursion; the lower bits are the response code.
    message[2..4].copy_from_slice(&[0x80 | flags >> 6, flags & 0xf]);
    message[7] = flags >> 4 & 3;
    message.extend(bytes);
    message
}

fn is_of(family: Family, address: &IpAddr) -> bool {
    matches!((family, address), (Family::V4, IpAddr::V4(_)) | (Family::V6, IpAddr::V6(_)))
}

/// A question that comes back unanswered but with the bit of a response says that there is nothing.
fn asked(name: &str, family: Family) {
    let mut message = query(7, name, family);
    // Header, the name with a length before and a zero behind it, type and class.
    assert_eq!(message.len(), 12 + name.len() + 2 + 4);
    assert_eq!(answer(&message, 7, name, family), None, "a question is no answer");
    message[2] = 0x80;
    let nothing = Some(Answer::Addresses(Vec::new()));
    assert_eq!(answer(&message, 7, name, family), nothing, "{name:?}");
}
