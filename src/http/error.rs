//! What can be wrong with an HTTP message: [`HttpError`] is the peer's fault, [`RequestError`] ours.
//! The limits that such an error names are here too. Never decides what is done about an error.

use std::fmt;

/// The most fields of a head.
pub const FIELDS_MAX: usize = 100;
/// The longest size line of a chunk, extensions and line end included, in bytes.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// The most bytes of trailer fields, line ends included; they are read and dropped.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// The most responses of class 1xx before the final one.
pub const INTERIM_RESPONSES_MAX: u32 = 8;

/// How a peer broke HTTP/1.1. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The head is not what RFC 9112 sections 2 to 5 describe; in a request, obsolete line folding included.
    Malformed(httparse::Error),
    /// Neither HTTP/1.0 nor HTTP/1.1, or no HTTP at all.
    Version,
    /// The head is longer than this many bytes.
    HeadTooLong(usize),
    /// The head has more than [`FIELDS_MAX`] fields.
    TooManyFields,
    /// `Content-Length` is not one decimal number that fits 64 bits (RFC 9110 section 8.6).
    ContentLength,
    /// `Transfer-Encoding` beside `Content-Length`, in HTTP/1.0, or not with one `chunked` as its last:
    /// two readers could disagree about where the message ends (RFC 9112 sections 6.1 and 6.3).
    AmbiguousLength,
    /// A transfer coding before `chunked` (RFC 9112 section 7).
    TransferCoding,
    /// A content coding, as by compression, though the request named none (RFC 9110 section 8.4).
    ContentCoding(&'static str),
    /// Broken chunk framing (RFC 9112 section 7.1).
    Chunk,
    /// A chunk's size line is longer than [`CHUNK_LINE_BYTES_MAX`].
    ChunkLineTooLong,
    /// The trailers are longer than [`TRAILER_BYTES_MAX`].
    TrailersTooLong,
    /// 101, for which nobody asked (RFC 9110 section 15.2.2).
    SwitchingProtocols,
    /// More than [`INTERIM_RESPONSES_MAX`] responses of class 1xx.
    TooManyInterim,
    /// The connection ended before the message did.
    CutShort,
    /// Bytes behind a proxy's answer that it has made a tunnel: its other end has not been spoken to
    /// yet, and what comes in the clear must not be taken for that end's (RFC 9110 section 9.3.6).
    BehindTunnel,
}

impl From<httparse::Error> for HttpError {
    fn from(error: httparse::Error) -> HttpError {
        match error {
            httparse::Error::TooManyHeaders => HttpError::TooManyFields,
            httparse::Error::Version => HttpError::Version,
            other => HttpError::Malformed(other),
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Malformed(error) => write!(f, "malformed HTTP head: {error}"),
            HttpError::Version => f.write_str("not HTTP/1.0 or HTTP/1.1"),
            HttpError::HeadTooLong(limit) => write!(f, "HTTP head longer than {limit} bytes"),
            HttpError::TooManyFields => write!(f, "more than {FIELDS_MAX} HTTP fields"),
            HttpError::ContentLength => f.write_str("malformed or contradictory Content-Length"),
            HttpError::AmbiguousLength => {
                f.write_str("Transfer-Encoding with Content-Length, HTTP/1.0 or no chunked end")
            }
            HttpError::TransferCoding => f.write_str("a transfer coding other than chunked"),
            HttpError::ContentCoding(name) => {
                write!(
                    f,
                    "the body is compressed, which was not asked for: Content-Encoding {name}"
                )
            }
            HttpError::Chunk => f.write_str("broken chunked coding"),
            HttpError::ChunkLineTooLong => {
                write!(f, "a chunk size line longer than {CHUNK_LINE_BYTES_MAX} bytes")
            }
            HttpError::TrailersTooLong => write!(f, "trailers over {TRAILER_BYTES_MAX} bytes"),
            HttpError::SwitchingProtocols => f.write_str("101 without having been asked to switch"),
            HttpError::TooManyInterim => {
                write!(f, "more than {INTERIM_RESPONSES_MAX} interim (1xx) responses")
            }
            HttpError::CutShort => f.write_str("the HTTP message was cut short"),
            HttpError::BehindTunnel => f.write_str("bytes behind the answer to CONNECT"),
        }
    }
}

impl std::error::Error for HttpError {}

/// Why a request of ours cannot be written: a value that reached it from outside holds what would
/// end a line or start another field (RFC 9110 section 5.5). Nothing of it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The target is not visible ASCII that starts with `/`.
    Target,
    /// The host is not visible ASCII.
    Host,
    /// This field's name is no token, its value holds a control character, or it is one that the
    /// codec writes itself.
    Field(String),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Target => f.write_str("the URL's path has a character no URL may have"),
            RequestError::Host => f.write_str("the URL's host has a character no host may have"),
            RequestError::Field(name) => write!(f, "the field {name:?} cannot be sent"),
        }
    }
}

impl std::error::Error for RequestError {}
