//! The body of `/v2/apps`, whole or spoilt.

use serde_json::{Map, Value};

use crate::http::{Body, Reply};

/// Up to this size a reply is counted, beyond it chunked, as Jetty's output buffer decides.
const COUNTED_BYTES_MAX: usize = 32 * 1024;

/// Members that versions up to 1.4 write as null where an app has no such thing.
const NULLABLE: [&str; 12] = [
    "acceptedResourceRoles",
    "args",
    "cmd",
    "container",
    "gpus",
    "ipAddress",
    "ports",
    "readinessChecks",
    "residency",
    "secrets",
    "taskKillGracePeriodSeconds",
    "user",
];

/// How `/v2/apps` is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AppsAnswer {
    /// As it should be: counted when small, chunked when large.
    #[default]
    Normal,
    /// An HTML page with this status; 200 too.
    Html(u16),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// The connection ends after so many bytes of the whole answer, its head included.
    CutAnywhere(usize),
    /// 200 with no body at all.
    Empty,
    /// Compressed, although nobody asked for it.
    Gzip,
    /// 200 with this body.
    Text(String),
}

/// The reply whose whole body is `text`.
pub(super) fn reply(answer: &AppsAnswer, content_type: &str, text: Vec<u8>) -> Reply {
    match answer {
        AppsAnswer::Normal | AppsAnswer::CutAnywhere(_) if text.len() > COUNTED_BYTES_MAX => {
            let mut reply = Reply::new(200, content_type, "");
            reply.body = Body::Chunked(text, COUNTED_BYTES_MAX);
            reply
        }
        AppsAnswer::Normal | AppsAnswer::CutAnywhere(_) => Reply::new(200, content_type, text),
        AppsAnswer::Html(status) => Reply::html(*status, "Error"),
        AppsAnswer::Cut(length) => {
            let mut reply = Reply::new(200, content_type, "");
            reply.body = Body::Cut(text, *length);
            reply
        }
        AppsAnswer::Empty => Reply::new(200, content_type, ""),
        AppsAnswer::Gzip => {
            Reply::new(200, content_type, gzip(&text)).with("Content-Encoding", "gzip")
        }
        AppsAnswer::Text(body) => Reply::new(200, content_type, body.as_str()),
    }
}

/// The app with every member that it has not as null.
pub(super) fn with_nulls(app: &Value) -> Value {
    let mut members = app.as_object().cloned().unwrap_or_else(Map::new);
    for name in NULLABLE {
        members.entry(name).or_insert(Value::Null);
    }
    Value::Object(members)
}

/// A gzip file (RFC 1952) whose blocks are stored, not compressed (RFC 1951 section 3.2.4).
fn gzip(text: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<&[u8]> = text.chunks(0xffff).collect();
    for (index, block) in blocks.iter().enumerate() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        file.push(u8::from(index + 1 == blocks.len()));
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&(!length).to_le_bytes());
        file.extend_from_slice(block);
    }
    file.extend_from_slice(&crc32(text).to_le_bytes());
    file.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_gzip() {
        // The check value of CRC-32 as catalogued: the digits 1 to 9.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(
            gzip(b"ab")[10..],
            [1, 2, 0, 253, 255, b'a', b'b', 0x6d, 0x48, 0x83, 0x9e, 2, 0, 0, 0]
        );
    }
}
