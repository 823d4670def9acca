//! What others say, made fit for one line of a terminal, and the one list of characters that are not. Never
//! changes a text that is fit already.

use std::fmt::Write as _;

/// Whether a character must not reach a terminal, a log or a page as it is: it moves the cursor, colors
/// what follows, changes the direction in which text is shown (Unicode Standard Annex 9), ends a line, or
/// is not seen at all.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with U+FFFD in the place of each such character.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// JSON with `\u` escapes in the place of each such character (RFC 8259 section 7). It reads the same: JSON
/// needs none of them outside of texts, as long as it is on one line.
pub fn printable_json(json: &str) -> String {
    let mut clean = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unprintable(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a text cannot fail.
                let _ = write!(clean, "\\u{unit:04x}");
            }
        } else {
            clean.push(c);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character that others may try to write over a line with.
    pub(crate) const ODD: &str = "\0\x1b\u{7f}\u{85}\u{9b}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\
        \u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}\u{e0041}";

    #[test]
    fn what_is_fit_stays_and_what_moves_the_cursor_does_not() {
        assert_eq!(printable("O=Müller, 株式会社"), "O=Müller, 株式会社");
        assert_eq!(printable("a\x1b[2Jb\r\n\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c");
        assert!(ODD.chars().all(is_unprintable));
    }

    #[test]
    fn json_reads_the_same_and_shows_none_of_it() {
        let value = serde_json::json!({"a": ODD, "b\u{202e}": ["ü"]});
        let text = printable_json(&value.to_string());
        assert!(!text.contains(is_unprintable), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
