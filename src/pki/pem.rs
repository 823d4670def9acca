//! PEM (RFC 7468), written and read. Private keys go through here: nothing of one is left behind in memory.
//!
//! Two ways to read: as OpenSSL does ([`sections`]), for what HAProxy is to load, and with every marker on
//! a line of its own ([`read_all`]), for what a CA or an operator gave, where no section may be lost.

mod read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret::Secret;

use read::{BEGIN, BEGIN_MARK, END};
pub use read::{PemError, Section, Sections, sections};

/// Base64 characters in a line (RFC 7468 section 2).
const LINE_CHARS: usize = 64;
/// The bytes that fill a line.
const LINE_BYTES: usize = LINE_CHARS / 4 * 3;

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a certificate behind which stands what OpenSSL trusts it for.
pub const TRUSTED_CERTIFICATE: &str = "TRUSTED CERTIFICATE";
/// The label of a private key as PKCS#8.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// The same, encrypted.
pub const ENCRYPTED_PRIVATE_KEY: &str = "ENCRYPTED PRIVATE KEY";
/// The label of a private key as PKCS#1.
pub const RSA_PRIVATE_KEY: &str = "RSA PRIVATE KEY";
/// The label of a private key as SEC1.
pub const EC_PRIVATE_KEY: &str = "EC PRIVATE KEY";
/// The label of a private key of DSA in OpenSSL's own form.
pub const DSA_PRIVATE_KEY: &str = "DSA PRIVATE KEY";

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

/// Whether a section with this label holds a certificate: RFC 7468 section 5.1, and what OpenSSL takes,
/// of old, and with what it trusts it for.
pub fn is_certificate(label: &str) -> bool {
    matches!(label, CERTIFICATE | "X509 CERTIFICATE" | TRUSTED_CERTIFICATE)
}

/// Whether a section with this label holds a private key that OpenSSL looks at, encrypted or not.
pub fn is_private_key(label: &str) -> bool {
    let old = [RSA_PRIVATE_KEY, EC_PRIVATE_KEY, DSA_PRIVATE_KEY];
    [PRIVATE_KEY, ENCRYPTED_PRIVATE_KEY].contains(&label) || old.contains(&label)
}

/// All sections of a text that was not written for OpenSSL: markers may be joined, indented, and have
/// empty lines behind them.
///
/// # Errors
/// A section cannot be read, or there are more BEGIN lines than sections: one would be lost.
pub fn read_all(text: &str) -> Result<Vec<Section>, PemError> {
    let all: Vec<Section> = sections(&separated(text)).collect::<Result<_, _>>()?;
    if let Some(section) = all.iter().find(|section| section.has_header) {
        return Err(PemError::Header(section.label.clone()));
    }
    if all.len() < text.matches(BEGIN_MARK).count() {
        return Err(PemError::Begin);
    }
    Ok(all)
}

/// The text with each marker on a line of its own, and without empty lines but those that end a header.
fn separated(text: &str) -> Zeroizing<String> {
    let markers = text.matches(BEGIN).count() + text.matches(END).count();
    let mut out = Zeroizing::new(String::with_capacity(text.len() + 2 * markers + 1));
    let mut had_colon = false;
    for line in text.lines() {
        if line.trim().is_empty() {
            if had_colon {
                out.push('\n');
            }
            continue;
        }
        had_colon = line.contains(':');
        let mut rest = line;
        while let Some(at) = [BEGIN, END].iter().filter_map(|marker| rest.find(marker)).min() {
            let (before, marked) = rest.split_at(at);
            push_line(&mut out, before.trim());
            // The dashes that it begins with are behind the label's.
            let label_from = marked.find(' ').map_or(marked.len(), |space| space + 1);
            let label = marked.get(label_from..).unwrap_or_default();
            let end = label.find("-----").map_or(marked.len(), |dashes| label_from + dashes + 5);
            let (marker, behind) = marked.split_at(end);
            push_line(&mut out, marker);
            rest = behind;
        }
        push_line(&mut out, rest.trim());
    }
    out
}

fn push_line(out: &mut String, line: &str) {
    if !line.is_empty() {
        out.push_str(line);
        out.push('\n');
    }
}

/// How long a section is as text.
fn chars((label, der): &(&str, &[u8])) -> usize {
    let marks = "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len();
    marks + der.len().div_ceil(3) * 4 + der.len().div_ceil(LINE_BYTES)
}

#[cfg(test)]
mod tests;
