//! No order keeps another one waiting for long.

use super::*;

impl Case {
    /// Lets time pass without an answer to anything.
    fn hang(&mut self, duration: Duration) {
        self.drain();
        self.calls.clear();
        self.bench.pass(duration);
        self.issuer.handle_timeout(&mut self.bench.cx());
        self.drain();
    }
}

#[test]
fn orders_that_hang_stand_aside_after_a_minute() {
    let mut case = Case::registered();
    (0..12).for_each(|id| case.order(id));
    case.drain();
    case.calls.clear();
    assert_eq!((case.issuer.status().running, case.issuer.status().queued), (10, 2));
    let at = case.issuer.poll_timeout().unwrap();
    assert_eq!(at.since(case.bench.now.mono), STANDS_ASIDE_AFTER, "it wakes for that");
    case.hang(STANDS_ASIDE_AFTER);
    assert_eq!((case.issuer.status().running, case.issuer.status().queued), (12, 0));
    case.order(20);
    case.drain();
    assert_eq!(case.issuer.status().running, 13, "there is room at once");
}

#[test]
fn no_more_than_fifty_are_open_whatever_hangs() {
    let mut case = Case::registered();
    (0..100).for_each(|id| case.order(id));
    for _ in 0..9 {
        case.hang(STANDS_ASIDE_AFTER);
        assert!(case.issuer.status().running <= ORDERS_OPEN_MAX);
    }
    assert_eq!(case.issuer.status().running, ORDERS_OPEN_MAX);
    case.hang(STANDS_ASIDE_AFTER);
    assert!(!case.finished.is_empty(), "the first ones have come to their deadline");
}

#[test]
fn what_has_failed_before_lets_others_pass() {
    let mut case = Case::registered();
    (0..10).for_each(|id| case.order(id));
    case.order_again(10, true);
    case.order_again(11, true);
    case.order(12);
    case.order(13);
    case.run();
    let started = case.bench.log.iter().filter(|record| record.message == "started");
    let names: Vec<&str> = started.map(|record| record.fields[0].1.as_str()).collect();
    let expected = [12, 13, 10, 11].map(|id| format!("n{id}.example.org"));
    assert_eq!(names[10..], expected, "{names:?}");
}

/// However many orders an app has waiting, another one's first order waits for those under way and for one
/// of each app.
#[test]
fn apps_take_turns_at_the_room_there_is() {
    let mut case = Case::registered();
    (0..30).for_each(|id| case.order_of("/many", id, id % 2 == 0));
    case.order_of("/one", 30, false);
    (31..33).for_each(|id| case.order_of("/bad", id, true));
    case.order_of("/two", 33, false);
    case.run();
    let started = case.bench.log.iter().filter(|record| record.message == "started");
    let names: Vec<&str> = started.map(|record| record.fields[0].1.as_str()).collect();
    let place = |id: u64| names.iter().position(|name| *name == format!("n{id}.example.org"));
    assert_eq!((place(30), place(33)), (Some(11), Some(13)), "{names:?}");
    assert_eq!((place(31), names.len()), (Some(12), 34), "{names:?}");
}

#[test]
fn a_directory_whose_urls_lead_nowhere_is_read_anew() {
    // Once may be a machine of the CA's that does not know it yet.
    let nothing = [const { Trick::Problem("malformed", 404) }; 6];
    let mut case = Case::registered().trick("new-order", &nothing);
    case.order(1);
    case.run();
    assert_eq!((case.issued(), case.asked_for("dir")), (0, 0));
    case.order(2);
    case.run();
    assert_eq!((case.issued(), case.asked_for("dir")), (1, 1));
    case.order(3);
    case.run();
    assert_eq!((case.issued(), case.asked_for("dir")), (2, 1));
}

#[test]
fn one_that_is_cancelled_leaves_its_place_whether_it_had_room_or_not() {
    let mut case = Case::registered();
    (0..12).for_each(|id| case.order(id));
    let status = |case: &Case| (case.issuer.status().running, case.issuer.status().queued);
    assert_eq!(status(&case), (10, 2));
    case.issuer.cancel(&mut case.bench.cx(), OrderId(11));
    assert_eq!(status(&case), (10, 1), "it waited");
    case.issuer.cancel(&mut case.bench.cx(), OrderId(0));
    assert_eq!(status(&case), (10, 0), "its room is another one's");
    case.run();
    assert_eq!(case.finished.iter().map(|(order, _)| order.0).max(), Some(10));
    assert_eq!((case.issued(), case.issuer.orders_open()), (10, 0));
}
