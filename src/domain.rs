//! `Domain`: a name that a public CA could certify. Nothing else can be one, so past this module a
//! name is safe as a file name, in a header, in a log line and in a certificate request.

use std::fmt;

/// The longest whole name, in bytes (RFC 1035 section 2.3.4, without the root's dot).
pub const NAME_BYTES_MAX: usize = 253;
/// The longest name that is accepted, in bytes: the longest of its file names, `archive/NAME.9999.pem`,
/// must fit NAME_MAX, 255 (limits.h(0p)). A certificate for a longer name would be issued and lost.
pub const STORABLE_BYTES_MAX: usize = 255 - ".9999.pem".len();
/// The longest part between two dots, in bytes (RFC 1035 section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// A host name in lower case without trailing dot, of at least two parts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

/// Why a text is not a [`Domain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainError {
    /// Nothing is left when the trailing dot is gone.
    Empty,
    /// More than [`NAME_BYTES_MAX`].
    NameTooLong,
    /// More than [`STORABLE_BYTES_MAX`].
    NotStorable,
    /// A part has more than [`LABEL_BYTES_MAX`].
    LabelTooLong,
    /// Two dots in a row, or one at the start.
    EmptyLabel,
    /// One part only: no public CA certifies it.
    SinglePart,
    /// A part starts or ends with a hyphen.
    Hyphen,
    /// `*`: http-01 cannot prove a wildcard (RFC 8555 section 8.3 with RFC 8555 section 7.1.3).
    Wildcard,
    /// A character outside letters, digits, hyphen and dot.
    Character(char),
    /// An IPv4 address, or a last part that is a number.
    Address,
}

impl Domain {
    /// Reads a name: lower-cases it and drops one trailing dot.
    ///
    /// # Errors
    /// Says why no public CA could certify the name (RFC 1123 section 2.1, RFC 5890 section 2.3.1,
    /// CA/Browser Forum baseline requirements section 7.1.4), or why its files could not be stored.
    pub fn parse(text: &str) -> Result<Domain, DomainError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if text.contains('*') {
            return Err(DomainError::Wildcard);
        }
        let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        if let Some(character) = text.chars().find(odd) {
            return Err(DomainError::Character(character));
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(DomainError::NameTooLong);
        }
        if text.len() > STORABLE_BYTES_MAX {
            return Err(DomainError::NotStorable);
        }
        text.split('.').try_for_each(check_label)?;
        let last = text.rsplit('.').next().unwrap_or(text);
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DomainError::Address);
        }
        if !text.contains('.') {
            return Err(DomainError::SinglePart);
        }
        Ok(Domain(text.to_ascii_lowercase()))
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_label(label: &str) -> Result<(), DomainError> {
    if label.is_empty() {
        Err(DomainError::EmptyLabel)
    } else if label.len() > LABEL_BYTES_MAX {
        Err(DomainError::LabelTooLong)
    } else if label.starts_with('-') || label.ends_with('-') {
        Err(DomainError::Hyphen)
    } else {
        Ok(())
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainError::Empty => f.write_str("it is empty"),
            DomainError::NameTooLong => write!(f, "it is longer than {NAME_BYTES_MAX} bytes"),
            DomainError::NotStorable => write!(
                f,
                "it is longer than {STORABLE_BYTES_MAX} bytes, so that its files cannot be stored"
            ),
            DomainError::LabelTooLong => write!(f, "a part is longer than {LABEL_BYTES_MAX} bytes"),
            DomainError::EmptyLabel => f.write_str("a part between its dots is empty"),
            DomainError::SinglePart => f.write_str("it has one part only"),
            DomainError::Hyphen => f.write_str("a part starts or ends with a hyphen"),
            DomainError::Wildcard => f.write_str("http-01 cannot prove a wildcard"),
            DomainError::Character(c) => write!(f, "it contains {c:?}"),
            DomainError::Address => f.write_str("it is an IP address"),
        }
    }
}

impl std::error::Error for DomainError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_and_lose_the_trailing_dot() {
        for text in ["WWW.Example.com", "www.example.com.", "www.example.com"] {
            assert_eq!(Domain::parse(text).map(|d| d.to_string()), Ok("www.example.com".into()));
        }
        assert!(Domain::parse("xn--bcher-kva.example").is_ok());
        assert!(Domain::parse("1.example").is_ok());
    }

    #[test]
    fn the_longest_file_name_of_a_domain_fits_into_a_directory() {
        let of_length = |length: usize| {
            let tail = format!(".{0}.{0}.{0}.org", "b".repeat(60));
            format!("{}{tail}", "a".repeat(length - tail.len()))
        };
        let longest = Domain::parse(&of_length(246)).unwrap();
        assert_eq!(format!("{longest}.9999.pem").len(), 255);
        for length in [247, 252, 253] {
            assert_eq!(
                Domain::parse(&of_length(length)),
                Err(DomainError::NotStorable),
                "{length}"
            );
        }
        // A trailing dot is not part of the name.
        assert_eq!(Domain::parse(&format!("{longest}.")), Ok(longest));
    }

    #[test]
    fn what_no_public_ca_could_certify_is_refused_with_its_reason() {
        let long_label = format!("{}.org", "a".repeat(64));
        let long_name = format!("{}org", "abcdefgh.".repeat(30));
        let cases = [
            ("", DomainError::Empty),
            (".", DomainError::Empty),
            ("..", DomainError::EmptyLabel),
            ("a..org", DomainError::EmptyLabel),
            (".a.org", DomainError::EmptyLabel),
            ("localhost", DomainError::SinglePart),
            ("-a.org", DomainError::Hyphen),
            ("a-.org", DomainError::Hyphen),
            ("*.x.org", DomainError::Wildcard),
            ("a_b.org", DomainError::Character('_')),
            ("../../etc/passwd", DomainError::Character('/')),
            ("bücher.example", DomainError::Character('ü')),
            ("🦀.org", DomainError::Character('🦀')),
            ("a.org\0", DomainError::Character('\0')),
            ("127.0.0.1", DomainError::Address),
            ("::1", DomainError::Character(':')),
            (&long_label, DomainError::LabelTooLong),
            (&long_name, DomainError::NameTooLong),
        ];
        for (text, error) in cases {
            assert_eq!(Domain::parse(text), Err(error), "{text:?}");
        }
    }
}
