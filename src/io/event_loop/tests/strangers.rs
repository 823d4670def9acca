//! Peers at the listener who want more than their share.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::io::conn::linger::{LINGER, LINGERING_MAX};

/// Everything that a peer is sent until the end.
fn hear(stream: &mut StdStream) -> Vec<u8> {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    heard
}

/// So often it is looked whether a connection is gone, a millisecond apart: for less than it lingers.
const LOOKS: u64 = LINGER.as_secs() * 1000 / 4;

/// Whether our side has closed a connection for good: what is written to it comes back as a reset, and
/// the next write says so. Less is written than makes an end of lingering.
fn is_dropped(stream: &mut StdStream, looks: u64) -> bool {
    let refused = (0..looks).any(|_| {
        let refused = stream.write_all(b"late").is_err();
        std::thread::sleep(Duration::from_millis(1));
        refused
    });
    refused || stream.write_all(b"late").is_err()
}

#[test]
fn a_question_that_comes_with_its_connection_is_answered_before_the_next_is_accepted() {
    const PEERS: u64 = 50;
    let (sender, address) = mpsc::channel();
    let (all_came, came) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        let mut streams: Vec<StdStream> = Vec::new();
        for _ in 0..PEERS {
            let mut stream = StdStream::connect(address).unwrap();
            stream.write_all(b"question").unwrap();
            streams.push(stream);
        }
        all_came.send(()).unwrap();
        let heard: Vec<Vec<u8>> = streams.iter_mut().map(hear).collect();
        done(address);
        heard
    });
    let mut last = None;
    run(
        None,
        until_done(sender, move |input| match input {
            Input::Accepted(conn, ..) => {
                // All but the newest are pushed out, however little time they had.
                let close =
                    last.replace(*conn).map(|conn| Output::Close { conn, peer_is_done: false });
                if close.is_none() {
                    came.recv().unwrap();
                }
                close.into_iter().collect()
            }
            Input::Received(conn, b"question") => {
                let conn = *conn;
                vec![
                    Output::Send { conn, bytes: b"answer".to_vec().into() },
                    Output::Close { conn, peer_is_done: false },
                ]
            }
            _ => Vec::new(),
        }),
    );
    let heard = client.join().unwrap();
    assert!(heard.iter().all(|heard| heard == b"answer"), "{heard:?}");
}

#[test]
fn a_peer_that_never_reads_is_not_read_for_ever() {
    /// Answers are so many times as long as their questions.
    const TIMES: usize = 16;
    /// Less than would be answered to all, more than the system's buffers and ours take.
    const ANSWERS_BYTES_MAX: usize = 8 * 1024 * 1024;
    let (sender, address) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        let mut stream = StdStream::connect(address).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut left = ANSWERS_BYTES_MAX;
        while left > 0 {
            match stream.write(&[b'x'; 4096]) {
                Ok(length) => left = left.saturating_sub(length),
                // It is not read any more.
                Err(_) => break,
            }
        }
        done(address);
        left
    });
    let (sent, longest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&sent), Arc::clone(&longest));
    run(
        None,
        until_done(sender, move |input| match input {
            Input::Received(conn, bytes) => {
                counters.0.fetch_add(bytes.len() * TIMES, Ordering::SeqCst);
                counters.1.fetch_max(bytes.len(), Ordering::SeqCst);
                vec![Output::Send { conn: *conn, bytes: bytes.repeat(TIMES).into() }]
            }
            _ => Vec::new(),
        }),
    );
    assert!(client.join().unwrap() > 0, "the peer could send all");
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < ANSWERS_BYTES_MAX, "{sent}");
    // One piece's answer is the most by which the limit of what is unsent is passed.
    assert!(longest.load(Ordering::SeqCst) <= 512, "{longest:?}");
}

#[test]
fn where_descriptors_are_short_the_machine_is_told_and_who_lingers_is_dropped() {
    const PEERS: usize = 10;
    let (sender, address) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        let mut streams: Vec<StdStream> = Vec::new();
        let (mut heard, mut dropped) = (Vec::new(), 0);
        for number in 0..PEERS {
            let mut stream = StdStream::connect(address).unwrap();
            stream.write_all(b"x").unwrap();
            streams.push(stream);
            if number > 0 {
                heard.extend(hear(&mut streams[number - 1]));
                // It does not linger until the peer ends it, too.
                dropped += usize::from(is_dropped(&mut streams[number - 1], LOOKS));
            }
        }
        done(address);
        (heard, dropped)
    });
    let mut open = VecDeque::new();
    let mut told = 0;
    let (counter, count) = mpsc::channel();
    run_with(
        // Every descriptor is one of the last.
        Descriptors::limited_to(2),
        None,
        until_done(sender, move |input| match input {
            Input::Accepted(conn, ..) => {
                open.push_back(*conn);
                Vec::new()
            }
            Input::Exhausted(detail) => {
                assert_eq!(detail, "2 open files are allowed");
                told += 1;
                counter.send(told).unwrap();
                let goer = if open.len() > 1 { open.pop_front() } else { None };
                goer.map(|conn| Output::Close { conn, peer_is_done: false }).into_iter().collect()
            }
            _ => Vec::new(),
        }),
    );
    assert_eq!(client.join().unwrap(), (Vec::new(), PEERS - 1));
    assert!(count.iter().last() >= Some(PEERS - 1), "it is told at each but the first");
}

#[test]
fn few_linger_however_many_are_closed() {
    let peers = LINGERING_MAX + 8;
    let (sender, address) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        let (mut streams, mut heard) = (Vec::new(), Vec::new());
        for _ in 0..peers {
            let mut stream = StdStream::connect(address).unwrap();
            stream.write_all(b"x").unwrap();
            heard.push(hear(&mut stream));
            streams.push(stream);
        }
        let (oldest, others) = streams.split_at_mut(8);
        let oldest = oldest.iter_mut().all(|stream| is_dropped(stream, LOOKS));
        let others = others.iter_mut().any(|stream| is_dropped(stream, 1));
        done(address);
        (oldest, others, heard)
    });
    run(
        None,
        until_done(sender, move |input| match input {
            Input::Received(conn, b"x") => {
                let conn = *conn;
                vec![
                    Output::Send { conn, bytes: b"closed".to_vec().into() },
                    Output::Close { conn, peer_is_done: false },
                ]
            }
            _ => Vec::new(),
        }),
    );
    let (oldest, others, heard) = client.join().unwrap();
    assert_eq!((oldest, others), (true, false), "the oldest are dropped, and no others");
    assert!(heard.iter().all(|heard| heard == b"closed"));
}

/// More than any socket buffer, and less than slow peers are waited for with.
const LONG_BYTES: usize = 7 * 1024 * 1024;

/// What a peer hears of a long answer that does something else before it reads it.
fn heard_after(something: impl FnOnce(SocketAddr) + Send + 'static) -> usize {
    let (sender, address) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        let mut stream = StdStream::connect(address).unwrap();
        stream.write_all(b"long").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        something(address);
        let heard = hear(&mut stream).len();
        done(address);
        heard + 1
    });
    run(
        None,
        until_done(sender, move |input| match input {
            Input::Received(conn, question) => {
                let conn = *conn;
                let length = if *question == b"long" { LONG_BYTES } else { 1 };
                let bytes = vec![b'x'; length].into();
                vec![Output::Send { conn, bytes }, Output::Close { conn, peer_is_done: false }]
            }
            _ => Vec::new(),
        }),
    );
    client.join().unwrap()
}

#[test]
fn a_long_answer_is_not_cut_off_while_it_leaves() {
    let heard = heard_after(|_| std::thread::sleep(LINGER + Duration::from_millis(500)));
    assert_eq!(heard, LONG_BYTES);
}

#[test]
fn who_has_its_answer_is_pushed_out_before_who_still_gets_it() {
    let heard = heard_after(|address| {
        let mut streams = Vec::new();
        for _ in 0..LINGERING_MAX + 8 {
            let mut stream = StdStream::connect(address).unwrap();
            stream.write_all(b"short").unwrap();
            assert_eq!(hear(&mut stream), b"x");
            streams.push(stream);
        }
    });
    assert_eq!(heard, LONG_BYTES);
}

/// What a peer hears that says so many bytes and is closed as one that is done, and whether it is let go.
fn let_go(question_bytes: usize) -> (Vec<u8>, bool) {
    let (sender, address) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        let mut stream = StdStream::connect(address).unwrap();
        stream.write_all(&vec![b'x'; question_bytes]).unwrap();
        let heard = hear(&mut stream);
        let is_dropped = is_dropped(&mut stream, LOOKS);
        done(address);
        (heard, is_dropped)
    });
    run(
        None,
        until_done(sender, move |input| match input {
            Input::Received(conn, [b'x', ..]) => {
                let conn = *conn;
                let bytes = b"answer".to_vec().into();
                vec![Output::Send { conn, bytes }, Output::Close { conn, peer_is_done: true }]
            }
            _ => Vec::new(),
        }),
    );
    client.join().unwrap()
}

#[test]
fn a_peer_that_is_done_is_let_go_at_once_unless_it_was_not_heard_out() {
    assert_eq!(let_go(8), (b"answer".to_vec(), true));
    // A part of it is unread as the answer leaves.
    assert_eq!(let_go(2000), (b"answer".to_vec(), false));
}

#[test]
fn last_words_and_the_end_that_come_together_are_both_heard_and_answered() {
    let (sender, address) = mpsc::channel();
    let (heard_first, first) = mpsc::channel();
    let (all_sent, sent) = mpsc::channel();
    let client = peer(move || {
        let mut stream = StdStream::connect(address.recv().unwrap()).unwrap();
        stream.write_all(b"first").unwrap();
        first.recv().unwrap();
        stream.write_all(b"last").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        all_sent.send(()).unwrap();
        hear(&mut stream)
    });
    let (told, tells) = mpsc::channel();
    run(
        None,
        Box::new(move |input| match input {
            Input::Started { listening } => {
                sender.send(*listening).unwrap();
                Vec::new()
            }
            Input::Received(_, b"first") => {
                heard_first.send(()).unwrap();
                // Both are there before the loop looks again.
                sent.recv().unwrap();
                Vec::new()
            }
            Input::Received(conn, bytes) => {
                told.send(bytes.to_vec()).unwrap();
                vec![Output::Send { conn: *conn, bytes: b"answer".to_vec().into() }]
            }
            Input::Finished(_) => {
                told.send(b"and the end".to_vec()).unwrap();
                vec![Output::Exit(0)]
            }
            _ => Vec::new(),
        }),
    );
    let told: Vec<Vec<u8>> = tells.iter().collect();
    assert_eq!(told, [b"last".to_vec(), b"and the end".to_vec()]);
    assert_eq!(client.join().unwrap(), b"answer");
}

/// What a peer hears that asks and says no more, where its answer takes another turn and is so long.
fn heard_behind_the_end(answer_bytes: usize) -> Vec<u8> {
    let (sender, address) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        let mut stream = StdStream::connect(address).unwrap();
        stream.write_all(b"question").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let heard = hear(&mut stream);
        done(address);
        heard
    });
    let mut is_told = false;
    run(
        None,
        until_done(sender, move |input| match input {
            Input::Received(conn, b"question") => vec![Output::Measure(*conn)],
            Input::Finished(_) => {
                assert!(!std::mem::replace(&mut is_told, true), "it is told once");
                Vec::new()
            }
            Input::Measured(conn, _) => {
                let conn = *conn;
                let bytes = vec![b'x'; answer_bytes].into();
                vec![Output::Send { conn, bytes }, Output::Close { conn, peer_is_done: false }]
            }
            Input::Closed(conn, reason) => panic!("{conn:?} may still hear: {reason}"),
            _ => Vec::new(),
        }),
    );
    client.join().unwrap()
}

#[test]
fn who_says_no_more_is_answered_a_turn_later_and_in_full() {
    assert_eq!(heard_behind_the_end(6), b"xxxxxx");
    // More than any socket buffer.
    assert_eq!(heard_behind_the_end(8 * 1024 * 1024).len(), 8 * 1024 * 1024);
}

#[test]
fn the_second_half_of_a_question_does_not_wait_for_a_late_acknowledgement() {
    /// Less than the system waits for an answer that could acknowledge the first half.
    const TIME_MAX: Duration = Duration::from_millis(35);
    let (sender, address) = mpsc::channel();
    let client = peer(move || {
        let address = address.recv().unwrap();
        // The machine may be busy once.
        let is_quick = (0..10).any(|_| {
            let mut stream = StdStream::connect(address).unwrap();
            let begin = std::time::Instant::now();
            stream.write_all(b"half").unwrap();
            // The system holds it back until the first one is acknowledged.
            stream.write_all(b"rest").unwrap();
            assert_eq!(hear(&mut stream), b"answer");
            begin.elapsed() < TIME_MAX
        });
        done(address);
        is_quick
    });
    run(
        None,
        until_done(sender, |input| match input {
            Input::Received(conn, bytes) if bytes.ends_with(b"rest") => {
                let conn = *conn;
                let bytes = b"answer".to_vec().into();
                vec![Output::Send { conn, bytes }, Output::Close { conn, peer_is_done: true }]
            }
            _ => Vec::new(),
        }),
    );
    assert!(client.join().unwrap());
}

#[test]
fn who_asks_waits_for_a_slow_answer_of_ours_and_not_for_all_of_them() {
    const WRITES: u64 = 20;
    let (sender, receiver) = mpsc::channel();
    let (mut stored, mut stranger) = (0, None);
    run(
        None,
        Box::new(move |input| match input {
            Input::Started { listening } => {
                let mut stream = StdStream::connect(*listening).unwrap();
                stream.write_all(b"question").unwrap();
                stranger = Some(stream);
                let store =
                    |write| Output::Store { write: WriteId(write), change: Change::Heartbeat };
                (0..WRITES).map(store).collect()
            }
            Input::Stored(..) => {
                let begin = std::time::Instant::now();
                while begin.elapsed() < ROUND {
                    std::hint::spin_loop();
                }
                stored += 1;
                if stored == WRITES { vec![Output::Exit(0)] } else { Vec::new() }
            }
            Input::Received(_, b"question") => {
                assert!(stranger.is_some());
                sender.send(stored).unwrap();
                Vec::new()
            }
            _ => Vec::new(),
        }),
    );
    assert_eq!(receiver.try_recv(), Ok(1), "answers told before the question");
}
