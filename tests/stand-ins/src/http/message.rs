//! Requests as they came and replies as they go.

use crate::peer::Time;

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The connection it came on.
    pub conn: u64,
    /// As sent: `GET`.
    pub method: String,
    /// The request target as sent: path and query.
    pub target: String,
    /// Names as sent, values without surrounding space.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Request {
    /// The target up to the `?`.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Names and values of the query, percent-decoded, in their order.
    pub fn query(&self) -> Vec<(String, String)> {
        let Some((_, query)) = self.target.split_once('?') else { return Vec::new() };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (percent_decoded(name), percent_decoded(value))
            })
            .collect()
    }

    /// The value of the first field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The values of all fields of that name.
    pub fn header_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let matching = move |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        self.headers.iter().filter(matching).map(|(_, value)| value.as_str())
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a reply's body is delimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// With `Content-Length`.
    Counted(Vec<u8>),
    /// In chunks of so many bytes.
    Chunked(Vec<u8>, usize),
    /// Counted, but the connection ends after so many bytes of it: a broken transfer.
    Cut(Vec<u8>, usize),
    /// These pieces, each sent for itself; the end of the connection is the end.
    UntilClose(Vec<Vec<u8>>),
    /// None at all, without `Content-Length`: 204 and 304.
    None,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub status: u16,
    /// All fields but those of the framing.
    pub headers: Vec<(String, String)>,
    /// The body and its framing.
    pub body: Body,
}

impl Reply {
    /// A counted reply.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        let headers = vec![("Content-Type".to_string(), content_type.to_string())];
        Reply { status, headers, body: Body::Counted(body.into()) }
    }

    /// A reply without a body: counted as 0 bytes, except for 204.
    pub fn empty(status: u16) -> Reply {
        let body = if status == 204 { Body::None } else { Body::Counted(Vec::new()) };
        Reply { status, headers: Vec::new(), body }
    }

    /// The error page of a Java server.
    pub fn html(status: u16, message: &str) -> Reply {
        let page = format!(
            "<html>\n<head>\n<meta http-equiv=\"Content-Type\" \
             content=\"text/html;charset=utf-8\"/>\n<title>Error {status} {message}</title>\n</head>\n\
             <body><h2>HTTP ERROR {status}</h2>\n<p>Reason:\n\
             <pre>    {message}</pre></p>\n</body>\n</html>\n"
        );
        Reply::new(status, "text/html;charset=iso-8859-1", page)
    }

    /// This reply with one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_string(), value.into()));
        self
    }

    /// How long its `Retry-After` tells a client to wait, in either form.
    pub(crate) fn retry_after_ms(&self, now: Time) -> Option<u64> {
        let mut fields = self.headers.iter();
        let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("Retry-After"))?;
        match value.parse::<u64>() {
            Ok(seconds) => Some(seconds * 1000),
            Err(_) => u64::try_from(crate::date::from_http_date(value)? - now.unix_ms).ok(),
        }
    }

    /// Status line and fields, without those of the framing.
    pub(crate) fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }
}

/// What a stand-in remembers of a request: enough to count and to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When its last byte came.
    pub at: Time,
    /// The connection it came on.
    pub conn: u64,
    /// As sent.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// What was answered; 0 while it is not.
    pub status: u16,
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str) -> Request {
        let (method, target) = ("GET".to_string(), target.to_string());
        Request { conn: 0, method, target, headers: Vec::new(), body: Vec::new() }
    }

    #[test]
    fn path_and_query_of_a_target() {
        let asked = request("/v2/events?event_type=a%5fb&event_type=c+d&plan-format=light&bare");
        assert_eq!(asked.path(), "/v2/events");
        let expected =
            [("event_type", "a_b"), ("event_type", "c d"), ("plan-format", "light"), ("bare", "")];
        let expected = expected.map(|(name, value)| (name.to_string(), value.to_string()));
        assert_eq!(asked.query(), expected);
        assert_eq!(request("/?a=%4").query(), [("a".to_string(), "%4".to_string())]);
        assert_eq!(request("/").query(), []);
    }
}
