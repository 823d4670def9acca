//! Events: when they lead to a sync, and to how many.

use super::*;

#[test]
fn a_burst_of_events_is_one_sync_and_a_change_during_it_is_another() {
    let (mut case, stream) = Case::attached();
    let burst = CHANGE.repeat(10_000);
    for piece in burst.as_bytes().chunks(1000) {
        assert_eq!(case.answer(stream, std::str::from_utf8(piece).unwrap()), []);
    }
    let (pause, sent) = case.sleep();
    assert_eq!((pause, sent.len()), (BURST, 1));
    case.answer(stream, CHANGE);
    case.pass(SECOND * 2);
    let after = case.answer(sent[0].conn, &apps(&[]));
    assert!(after[0].is("GET /v2/apps"), "what came during the sync");
    case.answer(after[0].conn, &apps(&[]));
    let (pause, _) = case.sleep();
    assert_eq!(pause, SYNC_INTERVAL);
}

#[test]
fn the_first_event_after_a_quiet_second_starts_a_sync_at_once_and_a_burst_few_more() {
    let (mut case, stream) = Case::attached();
    case.pass(SECOND * 2);
    let mut syncs = 0;
    let mut answer_all = |case: &mut Case, sent: Vec<Sent>| {
        for asked in sent {
            syncs += 1;
            case.answer(asked.conn, &apps(&["a"]));
        }
        syncs
    };
    let sent = case.answer(stream, CHANGE);
    assert_eq!(answer_all(&mut case, sent), 1, "at once");
    let burst = CHANGE.repeat(100);
    for _ in 0..100 {
        let sent = case.answer(stream, &burst);
        answer_all(&mut case, sent);
        let sent = case.pass(SECOND / 100);
        answer_all(&mut case, sent);
    }
    let sent = case.pass(SECOND * 10);
    assert!(answer_all(&mut case, sent) <= 3, "10,000 events within a second");
    // What is published before the change is made waits for the event after it.
    case.pass(SECOND * 2);
    assert_eq!(case.answer(stream, "event: api_post_event\r\ndata: {}\r\n\r\n"), []);
    assert_eq!(case.answer(stream, CHANGE).len(), 1);
}

#[test]
fn an_old_marathons_event_is_looked_at_twice() {
    let (mut case, stream) = Case::attached();
    // Without an event line: the name stands in the data.
    case.answer(stream, "data: {\"eventType\":\"api_post_event\"}\n\n");
    let (first, sent) = case.sleep();
    case.answer(sent[0].conn, &apps(&[]));
    let (second, sent) = case.sleep();
    case.answer(sent[0].conn, &apps(&[]));
    assert_eq!((first, first + second), (BURST, SECOND_LOOK));
    case.answer(stream, "event: api_post_event\r\ndata: {}\r\n\r\n");
    case.answer(stream, CHANGE);
    let (_, sent) = case.sleep();
    case.answer(sent[0].conn, &apps(&[]));
    assert_eq!(case.sleep().0, SYNC_INTERVAL, "the later event makes it needless");
}
