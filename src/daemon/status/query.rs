//! What the page is asked to show: `?q=TEXT&state=STATE&page=NUMBER`. What makes no sense is skipped.

use crate::daemon::certificates::{State, View};
use crate::time::UnixTime;

/// Longer texts find no name (RFC 1035 section 2.3.4), in bytes.
const TEXT_BYTES_MAX: usize = 253;
/// The states that can be chosen.
pub(super) const STATES: [State; 4] =
    [State::Failing, State::Pending, State::Valid, State::Unwanted];

/// A choice of certificates. The default is all of them, from the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Part of a name, a domain or an app's id, in lower case.
    pub(super) text: String,
    /// How it stands with them.
    pub(super) state: Option<State>,
    /// From 0.
    pub(super) page: usize,
}

impl Query {
    /// Reads the query of a target, without its `?`.
    pub(super) fn parse(query: &str) -> Query {
        let mut read = Query::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decode(value);
            match name {
                "q" if value.len() <= TEXT_BYTES_MAX => read.text = value.trim().to_lowercase(),
                "state" => read.state = STATES.into_iter().find(|state| state.name() == value),
                "page" => read.page = value.parse::<usize>().unwrap_or(1).saturating_sub(1),
                _ => {}
            }
        }
        read
    }

    /// Whether it leaves anything out.
    pub(super) fn is_choosy(&self) -> bool {
        !self.text.is_empty() || self.state.is_some()
    }

    /// Whether a certificate is among those that are asked for.
    pub(super) fn fits(&self, now: UnixTime, view: &View<'_>) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.text);
        let state = self.state.is_none_or(|state| view.state(now) == state);
        let text = || {
            self.text.is_empty()
                || has(view.name().as_str())
                || view.domains().iter().any(|domain| has(domain.as_str()))
                || view.app().is_some_and(has)
        };
        state && text()
    }

    /// The query of the page of that number, from 0, with the same choice.
    pub(super) fn of_page(&self, page: usize) -> String {
        let mut query = format!("?page={}", page.saturating_add(1));
        if !self.text.is_empty() {
            query.push_str("&q=");
            encode(&mut query, &self.text);
        }
        if let Some(state) = self.state {
            query.push_str("&state=");
            query.push_str(state.name());
        }
        query
    }
}

/// Undoes what a form does to a text (WHATWG URL, `application/x-www-form-urlencoded`).
fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, behind @ ..] = rest {
        let digits = (*first == b'%').then(|| behind.get(..2)).flatten();
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encode(into: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                into.push(char::from(byte));
            }
            _ => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_survives_its_link() {
        let query = Query::parse("q=My+App%2Fx%26%zz&state=failing&page=3&x=1&y");
        let expected = Query { text: "my app/x&%zz".into(), state: Some(State::Failing), page: 2 };
        assert_eq!(query, expected);
        assert_eq!(Query::parse(&query.of_page(2)[1..]), expected);
        assert_eq!(Query::parse("page=0&state=odd&q="), Query::default());
        assert_eq!(Query::parse(&format!("page=x&q={}", "a".repeat(254))), Query::default());
        assert!(query.is_choosy() && !Query::default().is_choosy());
    }
}
