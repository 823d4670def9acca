//! Writes PEM (RFC 7468). Private keys go through here: nothing of one is left behind in memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Base64 characters in a line (RFC 7468 section 2).
const LINE_CHARS: usize = 64;
/// The bytes that fill a line.
const LINE_BYTES: usize = LINE_CHARS / 4 * 3;

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a private key as PKCS#8.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";

/// These sections, label and DER each, as one text.
pub fn write(sections: &[(&str, &[u8])]) -> Secret {
    // A text that grew would leave copies of its beginning.
    let mut text = String::with_capacity(sections.iter().map(chars).sum());
    let mut line = Zeroizing::new([0; LINE_CHARS]);
    for (label, der) in sections {
        for part in ["-----BEGIN ", label, "-----\n"] {
            text.push_str(part);
        }
        for bytes in der.chunks(LINE_BYTES) {
            // It fits, and base64 is text.
            let length = STANDARD.encode_slice(bytes, &mut *line).unwrap_or(0);
            text.push_str(str::from_utf8(&line[..length]).unwrap_or_default());
            text.push('\n');
        }
        for part in ["-----END ", label, "-----\n"] {
            text.push_str(part);
        }
    }
    Secret::new(text)
}

/// How long a section is as text.
fn chars((label, der): &(&str, &[u8])) -> usize {
    let marks = "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len();
    marks + der.len().div_ceil(3) * 4 + der.len().div_ceil(LINE_BYTES)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::{PemObject as _, SectionKind};

    use super::*;

    #[test]
    fn what_is_written_is_read_and_never_grows() {
        for length in 0..200_u8 {
            let (key, certificate): (Vec<u8>, Vec<u8>) = ((0..length).collect(), vec![7; 48]);
            let sections = [(PRIVATE_KEY, &key[..]), (CERTIFICATE, &certificate[..])];
            let text = write(&sections);
            let planned: usize = sections.iter().map(chars).sum();
            assert_eq!(text.expose().len(), planned, "{length}");
            assert!(text.expose().lines().all(|line| line.len() <= LINE_CHARS));
            let read: Vec<_> = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.expose().as_bytes())
                .map(|section| section.expect("a section"))
                .collect();
            assert_eq!(
                read,
                [(SectionKind::PrivateKey, key), (SectionKind::Certificate, certificate)]
            );
        }
    }
}
