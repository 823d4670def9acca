//! HTTP messages as data (RFC 9110), for both sides. How bytes become messages is elsewhere.

use std::fmt;

use crate::url::Url;

/// The methods that this program sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
}

impl Method {
    /// The token in the request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
        }
    }

    /// Whether a repetition does no harm (RFC 9110 section 9.2.2), so that a request may be sent
    /// again when a kept connection turns out dead.
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Method::Get | Method::Head)
    }
}

/// Field names and values in their order; names compare without regard to case. `Debug` does not
/// show what authorizes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Each name and its value, one behind the other: a message's fields are one piece of memory.
    text: String,
    /// Where in it each name ends, and its value, at which the next name begins.
    ends: Vec<(usize, usize)>,
    /// The names of fields that were malformed and are not among these.
    skipped: Vec<String>,
}

impl Headers {
    /// No fields.
    pub const fn new() -> Headers {
        Headers { text: String::new(), ends: Vec::new(), skipped: Vec::new() }
    }

    /// No fields, with room for so many whose names and values have so many bytes together.
    pub(super) fn with_capacity(fields: usize, bytes: usize) -> Headers {
        Headers {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(fields),
            skipped: Vec::new(),
        }
    }

    /// Adds a field behind the others.
    pub fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        self.ends.push((name_end, self.text.len()));
    }

    /// Remembers that fields of these names were malformed.
    pub(super) fn skip(&mut self, names: Vec<String>) {
        self.skipped = names;
    }

    /// The names of the fields that were malformed and left out, fit for a log.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The value of the first field of that name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The values of all fields of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let matching = move |(field, _): &(&str, &str)| field.eq_ignore_ascii_case(name);
        self.iter().filter(matching).map(|(_, value)| value)
    }

    /// Whether a comma-separated list field holds `token`, in any case (RFC 9110 section 5.6.1).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let tokens = self.all(name).flat_map(|value| value.split(','));
        tokens.map(str::trim).any(|each| each.eq_ignore_ascii_case(token))
    }

    /// All fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let part = |start, end| self.text.get(start..end).unwrap_or_default();
        self.ends.iter().scan(0, move |start, &(name_end, value_end)| {
            let name = part(std::mem::replace(start, value_end), name_end);
            Some((name, part(name_end, value_end)))
        })
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| {
            let secret = name.eq_ignore_ascii_case("authorization");
            (name, if secret { "***" } else { value })
        });
        f.debug_map().entries(shown).finish()
    }
}

/// A request of ours. `Host`, `User-Agent`, `Content-Length` and the `Authorization` of the URL's
/// credentials are written by the codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Of whom, and of which resource.
    pub url: Url,
    /// Further fields.
    pub headers: Headers,
    /// The whole body; sent with `Content-Length` when the method is POST, even when empty.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without further fields and body.
    pub const fn new(method: Method, url: Url) -> Request {
        Request { method, url, headers: Headers::new(), body: Vec::new() }
    }

    /// This request with one more field.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Request {
        self.headers.push(name, value);
        self
    }
}

/// The start of a final response (1xx never gets here).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// 200 to 999.
    pub status: u16,
    /// The fields, in their order.
    pub headers: Headers,
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status and fields.
    pub head: ResponseHead,
    /// The body without its framing.
    pub body: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_any_case_and_in_their_order() {
        let mut headers = Headers::new();
        headers.push("Link", "a");
        headers.push("link", "b, c");
        assert_eq!(headers.first("LINK"), Some("a"));
        assert_eq!(headers.all("Link").collect::<Vec<_>>(), ["a", "b, c"]);
        assert_eq!(headers.first("Lin"), None);
        assert!(headers.has_token("Link", "C") && !headers.has_token("Link", "b, c"));
    }

    #[test]
    fn debug_does_not_show_what_authorizes() {
        let mut headers = Headers::new();
        headers.push("Accept", "text/html");
        headers.push("authorization", "token=secret");
        let shown = format!("{headers:?}");
        assert!(shown.contains("text/html") && !shown.contains("secret"), "{shown}");
    }
}
