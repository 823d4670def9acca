//! Connections by hand, on real sockets: what is told of them, and what reaches the peer.

use std::net::{Ipv4Addr, Shutdown, TcpStream as StdStream};
use std::time::Duration;

use super::*;
use crate::config::Listen;
use crate::io::listener::listen_on;
use crate::time::Instant;

/// An accepted connection, and its peer.
fn accepted() -> (Conn, StdStream) {
    let listener =
        listen_on("listen", Listen { ip: Some(Ipv4Addr::LOCALHOST.into()), port: 0 }).unwrap();
    let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    };
    (Conn::accepted(ConnId::Accepted(0), stream), peer)
}

/// What is told of a connection in a turn, and where that ends.
fn cx(conn: &mut Conn) -> (Vec<News>, Pause) {
    let mut news = Vec::new();
    let pause = conn.cx(&mut news);
    (news, pause)
}

/// All that a peer hears, up to the end or a reset.
fn hear(peer: &mut StdStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = peer.read_to_end(&mut heard);
    heard
}

#[test]
fn an_answer_has_left_before_a_stray_byte_can_destroy_it() {
    let (mut conn, mut peer) = accepted();
    peer.write_all(b"question").unwrap();
    assert_eq!(cx(&mut conn), (vec![News::Received(b"question".to_vec())], Pause::Ready));
    // It comes at once, behind our last look, and makes a reset of the end.
    peer.set_nodelay(true).unwrap();
    peer.write_all(b"\r\n").unwrap();
    conn.send(b"answer".to_vec().into());
    conn.close(Instant::START, true);
    assert_eq!(cx(&mut conn), (Vec::new(), Pause::Gone));
    drop(conn);
    assert_eq!(hear(&mut peer), b"answer");
}

#[test]
fn who_says_no_more_is_heard_out_once_and_answered() {
    let (mut conn, mut peer) = accepted();
    peer.write_all(b"question").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    conn.ready(true);
    let heard = vec![News::Received(b"question".to_vec()), News::Finished];
    assert_eq!(cx(&mut conn), (heard, Pause::Ready));
    conn.ready(true);
    assert_eq!(cx(&mut conn), (Vec::new(), Pause::Ready), "it is told once");
    conn.send(b"answer".to_vec().into());
    conn.close(Instant::START, false);
    assert_eq!(cx(&mut conn), (Vec::new(), Pause::Gone), "it has nothing more to say");
    drop(conn);
    assert_eq!(hear(&mut peer), b"answer");
}

#[test]
fn only_what_is_not_answered_is_acknowledged_by_itself() {
    let (mut conn, mut peer) = accepted();
    let mut is_quick_behind = |bytes: &[u8], answer: Option<&[u8]>| {
        peer.write_all(bytes).unwrap();
        conn.ready(false);
        assert_eq!(cx(&mut conn), (vec![News::Received(bytes.to_vec())], Pause::Ready));
        if let Some(answer) = answer {
            conn.send(answer.to_vec().into());
        }
        conn.acknowledge();
        sockopt::tcp_quickack(&conn.stream).unwrap()
    };
    assert!(!is_quick_behind(b"question", Some(b"answer")));
    assert!(is_quick_behind(b"half a que", None));
}

/// What the socket has not taken.
fn unsent(conn: &Conn) -> usize {
    match &conn.wire {
        Wire::Plain { unsent } => unsent.len(),
        Wire::Tls(_) => 0,
    }
}

#[test]
fn a_long_answer_leaves_as_long_as_its_peer_goes_on_reading_within_limits() {
    // More than any socket buffer.
    const ANSWER_BYTES: usize = 32 * 1024 * 1024;
    let (mut conn, mut peer) = accepted();
    let after = |seconds| Instant::START + Duration::from_secs(seconds);
    conn.send(vec![b'x'; ANSWER_BYTES].into());
    let mut until = conn.close(after(0), false);
    assert_eq!(cx(&mut conn), (Vec::new(), Pause::Ready));
    let mut rounds = 0;
    while let Some(later) = conn.linger_on(until) {
        assert!(later > until && later <= after(150), "{later:?}");
        assert_eq!(conn.linger_until(), Some(later));
        until = later;
        rounds += 1;
        let before = unsent(&conn);
        while unsent(&conn) == before {
            assert_ne!(peer.read(&mut [0; 64 * 1024]).unwrap(), 0);
            conn.ready(false);
            assert_eq!(cx(&mut conn), (Vec::new(), Pause::Ready));
        }
    }
    assert_eq!((until, rounds), (after(150), 15), "it goes on up to the limit");
}

#[test]
fn a_peer_that_stops_reading_is_not_waited_for() {
    let (mut conn, _peer) = accepted();
    conn.send(vec![b'x'; 8 * 1024 * 1024].into());
    let until = conn.close(Instant::START, true);
    assert_eq!(cx(&mut conn), (Vec::new(), Pause::Ready));
    let until = conn.linger_on(until).expect("something has left");
    conn.ready(false);
    assert_eq!(cx(&mut conn), (Vec::new(), Pause::Ready));
    assert_eq!(conn.linger_on(until), None);
    // Nor is one that has all.
    let (mut conn, _peer) = accepted();
    conn.send(b"answer".to_vec().into());
    let until = conn.close(Instant::START, false);
    assert_eq!(cx(&mut conn), (Vec::new(), Pause::Ready));
    assert_eq!(conn.linger_on(until), None);
}
