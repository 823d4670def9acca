//! What a server answers us: any split gives the same response, nothing behind its end is taken, and
//! a chunked body comes out as it went in.

use marathon_acme::http::{Exchange, ExchangeEvent, HttpError, Method, ResponseHead, Tunnel};

use super::pieces::pieces;

/// The first byte says what was asked and how the connection ends, the others came on it.
pub fn run(bytes: &[u8]) {
    let [how, bytes @ ..] = bytes else { return };
    let method = [Method::Get, Method::Head, Method::Post][usize::from(*how % 3)];
    let orderly = how & 0x40 != 0;
    let whole = read(method, orderly, std::iter::once(bytes));
    let split = read(method, orderly, pieces(bytes));
    assert_eq!((&split.head, &split.end, &split.error), (&whole.head, &whole.end, &whole.error));
    // What came in one piece with a fault is not handed on.
    assert!(split.body.starts_with(&whole.body));
    assert!(whole.error.is_some() || split.body == whole.body, "another split, another body");
    assert!(split.body.len() <= bytes.len());
    assert!(whole.used <= bytes.len() && (whole.error.is_some() || split.used == whole.used));
    assert!(whole.head.is_none_or(|head| (200..1000).contains(&head.status)));
    if how & 0x80 != 0 {
        chunks(bytes);
    }
    tunnel(bytes);
}

/// As the answer to CONNECT it says the same in any split, unless something stands behind its head.
fn tunnel(bytes: &[u8]) {
    let whole = Tunnel::new().receive(bytes);
    let mut tunnel = Tunnel::new();
    let mut answers = pieces(bytes).map(|piece| tunnel.receive(piece));
    let split = answers.find(|answer| *answer != Ok(None)).unwrap_or(Ok(None));
    match whole {
        Err(HttpError::BehindTunnel) => {
            let status = split.map(|status| status.is_some_and(|it| (200..300).contains(&it)));
            assert!(matches!(status, Ok(true) | Err(HttpError::BehindTunnel)), "{status:?}");
        }
        _ => assert_eq!(split, whole, "another split, another answer"),
    }
}

#[derive(Debug, Default)]
struct Read {
    head: Option<ResponseHead>,
    body: Vec<u8>,
    /// Whether the connection can be used again.
    end: Option<bool>,
    error: Option<HttpError>,
    used: usize,
}

fn read<'a>(method: Method, orderly: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let (mut exchange, mut read) = (Exchange::new(method), Read::default());
    for piece in pieces {
        let mut events = Vec::new();
        let used = exchange.receive(piece, &mut events);
        assert!(exchange.started() || piece.is_empty());
        read.take(events);
        match used {
            Ok(used) => {
                read.used += used;
                assert!(used == piece.len() || read.end.is_some(), "bytes are passed over");
            }
            Err(error) => {
                read.error = Some(error);
                return read;
            }
        }
        if read.end.is_some() {
            return read;
        }
    }
    let mut events = Vec::new();
    read.error = exchange.close(orderly, &mut events).err();
    assert!(read.error.is_some() || orderly, "cut short and taken for complete");
    read.take(events);
    read
}

impl Read {
    fn take(&mut self, events: Vec<ExchangeEvent>) {
        for event in events {
            assert!(self.end.is_none(), "something comes after the end");
            match event {
                ExchangeEvent::Head(head) => assert!(self.head.replace(head).is_none()),
                ExchangeEvent::Body(piece) => {
                    assert!(self.head.is_some() && !piece.is_empty());
                    self.body.extend(piece);
                }
                ExchangeEvent::End { reusable } => {
                    assert!(self.head.is_some());
                    self.end = Some(reusable);
                }
            }
        }
    }
}

/// The bytes as a chunked body.
fn chunks(bytes: &[u8]) {
    let mut message = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces(bytes) {
        message.extend(format!("{:x} ; a=\"b\"\r\n", piece.len()).as_bytes());
        message.extend(piece);
        message.extend(b"\r\n");
    }
    message.extend(b"0\r\nTrailer: x\r\n\r\n");
    let read = read(Method::Get, false, pieces(&message));
    assert_eq!((read.body.as_slice(), read.end, read.error), (bytes, Some(true), None));
    assert_eq!(read.used, message.len());
}
