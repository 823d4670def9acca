//! What others say, made fit for one line of a terminal. Never changes a text that is fit already.

/// The text without what moves a terminal's cursor, colours it, or turns the order of its letters
/// around: each such character is shown as U+FFFD.
pub fn printable(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if odd(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fit_stays_and_what_moves_the_cursor_does_not() {
        assert_eq!(printable("O=Müller, 株式会社"), "O=Müller, 株式会社");
        assert_eq!(printable("a\x1b[2Jb\r\n\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c");
    }
}
