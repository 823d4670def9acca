//! Reads PEM as OpenSSL's `PEM_read_bio` does, on which HAProxy builds: what it makes of a file decides
//! whether HAProxy loads it. Never judges what a section holds. No byte of a private key is left behind.
//!
//! - A line is what ends with a line feed, or the next 254 bytes; what is not above a space at its end is
//!   no part of it, nor is anything outside of ASCII there, nor what stands behind a NUL. A line that
//!   begins with a NUL is taken for the end of the text.
//! - A section begins with a line of its own, `-----BEGIN LABEL-----`. Other lines before it say nothing. A
//!   byte order mark may stand before the first one.
//! - It ends with a line of its own, `-----END LABEL-----`. Text before an empty line is its header, and
//!   where there is a colon, all of it.
//! - Its base64 may be broken into lines anywhere, may hold spaces, and ends at a hyphen.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::printable::printable;

/// The longest line that is read at once; a longer one counts as several.
const LINE_BYTES_MAX: usize = 254;
/// A header leaves lines of base64 this long at most, and only the last may be shorter.
const LINE_CHARS: usize = 64;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
const DASHES: &[u8] = b"-----";
pub(super) const BEGIN: &str = "-----BEGIN ";
pub(super) const END: &str = "-----END ";
/// What a section of any kind begins with, or means to.
pub(super) const BEGIN_MARK: &str = "-----BEGIN";

/// The bits behind the last byte are not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// One section of a text.
pub struct Section {
    /// `CERTIFICATE`, `PRIVATE KEY`. Others wrote it: it may hold anything but a line's end.
    pub label: String,
    /// Whether it has a header, as an encrypted private key in the form of old.
    pub has_header: bool,
    /// What its base64 says; not empty.
    pub der: Zeroizing<Vec<u8>>,
}

/// Why a section cannot be read; each with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemError {
    /// The text ends before its END line.
    NoEnd(String),
    /// Its END line is another one's, or has more on it, or stands where none may.
    WrongEnd(String),
    /// It is no base64.
    Base64(String),
    /// There is nothing in it.
    Empty(String),
    /// It has a header, or an empty line in its base64: what stands before such a line counts as one.
    Header(String),
    /// A BEGIN line begins no section: it is not whole, or stands inside of another section.
    Begin,
}

/// The sections of a text, in their order. Reading continues after an error, as OpenSSL's does.
pub struct Sections<'a> {
    rest: &'a [u8],
    /// The last line was a part of a longer one.
    was_partial: bool,
}

/// Reads this text.
pub fn sections(text: &str) -> Sections<'_> {
    Sections { rest: text.as_bytes(), was_partial: false }
}

impl<'a> Sections<'a> {
    /// `None` at the end of the text.
    fn line(&mut self) -> Option<&'a [u8]> {
        let longest = self.rest.get(..LINE_BYTES_MAX).unwrap_or(self.rest);
        let end = longest.iter().position(|byte| *byte == b'\n').map_or(longest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        self.was_partial = !line.ends_with(b"\n");
        let line = line.split(|byte| *byte == 0).next().filter(|line| !line.is_empty())?;
        let last = line.iter().rposition(|byte| *byte > b' ' && byte.is_ascii());
        Some(line.get(..last.map_or(0, |last| last + 1)).unwrap_or_default())
    }

    fn begin(&mut self) -> Option<String> {
        let mut line = self.line()?;
        line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        loop {
            if let Some(label) = line.strip_prefix(BEGIN.as_bytes())
                && let Some(label) = label.strip_suffix(DASHES)
            {
                return Some(String::from_utf8_lossy(label).into_owned());
            }
            line = self.line()?;
        }
    }

    fn body(&mut self, label: String) -> Result<Section, PemError> {
        let end = [END, &label, "-----"].concat();
        // Text that grew would leave copies of its beginning.
        let mut text = Zeroizing::new(Vec::with_capacity(self.rest.len()));
        let (mut has_header, mut after_header, mut was_short) = (false, false, false);
        let mut had_colon = false;
        loop {
            let was_partial = self.was_partial;
            let Some(line) = self.line() else { return Err(PemError::NoEnd(label)) };
            had_colon |= !after_header && line.contains(&b':');
            if line.is_empty() && !was_partial {
                if after_header {
                    return Err(PemError::WrongEnd(label));
                }
                (after_header, has_header) = (true, !text.is_empty());
                text.clear();
            } else if line.starts_with(END.as_bytes()) {
                if line != end.as_bytes() {
                    return Err(PemError::WrongEnd(label));
                }
                break;
            } else if was_short || after_header && line.len() > LINE_CHARS {
                return Err(PemError::WrongEnd(label));
            } else {
                text.extend_from_slice(line);
                was_short = after_header && line.len() < LINE_CHARS;
            }
        }
        if had_colon && !after_header {
            return Err(PemError::Empty(label));
        }
        let der = decode(&mut text).ok_or_else(|| PemError::Base64(label.clone()))?;
        if der.is_empty() {
            return Err(PemError::Empty(label));
        }
        Ok(Section { label, has_header, der })
    }
}

impl Iterator for Sections<'_> {
    type Item = Result<Section, PemError>;

    fn next(&mut self) -> Option<Self::Item> {
        let label = self.begin()?;
        Some(self.body(label))
    }
}

fn decode(text: &mut Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
    let end = text.iter().position(|byte| *byte == b'-').unwrap_or(text.len());
    text.truncate(end);
    text.retain(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    let mut der = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = BASE64.decode_slice(&text, &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

impl PemError {
    /// The section's label.
    pub fn label(&self) -> &str {
        match self {
            PemError::NoEnd(label)
            | PemError::WrongEnd(label)
            | PemError::Base64(label)
            | PemError::Empty(label)
            | PemError::Header(label) => label,
            PemError::Begin => "",
        }
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trouble = match self {
            PemError::NoEnd(_) => "is cut off: it has no END line",
            PemError::WrongEnd(_) => "has no END line of its own where it ends",
            PemError::Base64(_) => "is no base64",
            PemError::Empty(_) => "is empty",
            PemError::Header(_) => "has a header or an empty line inside",
            PemError::Begin => {
                return f.write_str("a BEGIN line is not whole, or stands inside of a section");
            }
        };
        write!(f, "its section {:?} {trouble}", printable(self.label()))
    }
}

impl std::error::Error for PemError {}
