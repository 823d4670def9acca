//! Names for certificates: only what keeps every rule becomes one, and it is safe wherever it goes.

use marathon_acme::domain::{Domain, LABEL_BYTES_MAX, STORABLE_BYTES_MAX};

/// A word of a label.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(domain) = Domain::parse(&text) else {
        return assert!(!keeps_the_rules(&text), "{text:?} is refused");
    };
    assert!(keeps_the_rules(&text), "{text:?} is let through");
    let name = domain.as_str();
    assert_eq!(name, text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase());
    assert_eq!(Domain::parse(name), Ok(domain.clone()));
    assert!(!name.contains(['/', '\\', '\0', ' ', '\n']) && !name.starts_with('.'));
}

/// RFC 1035 section 2.3.4 and RFC 1123 section 2.1, said once more.
fn keeps_the_rules(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let labels: Vec<&str> = name.split('.').collect();
    let fits = |label: &&str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let number = labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= STORABLE_BYTES_MAX && labels.len() > 1 && labels.iter().all(fits) && !number
}
