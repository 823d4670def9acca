//! HTML as it is put together. What is not a literal of this program goes in escaped: there is no other
//! way, since [`Html::raw`] takes nothing else.

use std::fmt::{Display, Write};

use crate::printable::is_unprintable;

/// A page so far.
#[derive(Default)]
pub(super) struct Html(String);

/// Escapes what is written to it, for text and for values of attributes in double quotes.
struct Escaped<'a>(&'a mut String);

impl Html {
    /// Markup of ours.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Anything, as text.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Html {
        // Writing to a text cannot fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
        self
    }

    /// An element with nothing but a text in it; `open` is its tag with attributes.
    pub(super) fn element(
        &mut self,
        open: &'static str,
        text: impl Display,
        close: &'static str,
    ) -> &mut Html {
        self.raw(open).text(text).raw(close)
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                // A peer's text does not change the direction of the text next to it.
                c if is_unprintable(c) => self.0.push(char::REPLACEMENT_CHARACTER),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_text() {
        let mut html = Html::default();
        html.raw("<p title=\"").text("\"><script>alert('&')</script>\u{202e}\0").raw("\">");
        let script = "&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;";
        let expected = format!("<p title=\"&quot;&gt;{script}\u{fffd}\u{fffd}\">");
        assert_eq!(html.finish(), expected);
    }
}
