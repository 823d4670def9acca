//! Debts by hand: writes and answers in, signals out.

use super::*;
use crate::daemon::wire::{Sent, Wire, counted};
use crate::seam::CloseReason;

const SECOND: Duration = Duration::from_secs(1);

struct Case {
    wire: Wire,
    reloader: Reloader,
}

impl Case {
    fn new(urls: &[&str]) -> Case {
        let urls: Vec<Url> = urls.iter().map(|url| Url::parse(url).unwrap()).collect();
        Case { wire: Wire::new(), reloader: Reloader::new(&urls) }
    }

    fn changed(&mut self) {
        self.reloader.changed(&mut self.wire.bench.turn());
    }

    /// Lets time pass and everything happen that is due; the signals sent meanwhile.
    fn pass(&mut self, duration: Duration) -> Vec<Sent> {
        self.wire.pass(duration);
        let Case { wire, reloader } = self;
        reloader.handle_timeout(&mut wire.bench.turn(), &mut wire.transport);
        self.settle()
    }

    fn settle(&mut self) -> Vec<Sent> {
        let mut sent = self.wire.sent();
        while let Some((request, event)) = self.wire.event() {
            assert!(self.reloader.awaits(request));
            let Case { wire, reloader } = self;
            let mut turn = wire.bench.turn();
            reloader.handle_event(&mut turn, &mut wire.transport, request, event);
            sent.extend(self.wire.sent());
        }
        sent
    }

    fn answer(&mut self, sent: &Sent, status: u16) -> Vec<Sent> {
        self.wire.answer(sent.conn, &counted(status, "text/plain", "words"));
        self.settle()
    }

    /// Sleeps until a signal is sent; how long that took.
    fn sleep(&mut self) -> (Duration, Vec<Sent>) {
        let begin = self.wire.bench.now.mono;
        loop {
            let at = self.reloader.poll_timeout().expect("a debt is never forgotten");
            let sent = self.pass(at.since(self.wire.bench.now.mono));
            if !sent.is_empty() {
                return (self.wire.bench.now.mono.since(begin), sent);
            }
        }
    }
}

#[test]
fn writes_within_two_seconds_are_one_signal_to_each() {
    let mut case = Case::new(&["http://10.0.0.1:9090", "http://user:pw@10.0.0.2/lb"]);
    assert!(case.reloader.is_clean());
    case.changed();
    assert_eq!(case.pass(SECOND), []);
    case.changed();
    assert_eq!(case.pass(SECOND), []);
    let sent = case.pass(SECOND);
    let heads: Vec<&str> =
        sent.iter().map(|sent| sent.text.lines().next().unwrap_or_default()).collect();
    assert_eq!(heads, ["POST /_mlb_signal/usr1 HTTP/1.1", "POST /lb/_mlb_signal/usr1 HTTP/1.1"]);
    assert!(sent[1].text.to_lowercase().contains("authorization: basic"));
    assert!(!case.reloader.is_clean());
    for signal in &sent {
        case.answer(signal, 200);
    }
    assert!(case.reloader.is_clean() && case.reloader.poll_timeout().is_none());
    assert_eq!(case.reloader.counts(), ReloadCounts { acknowledged: 2, failed: 0 });
}

#[test]
fn writes_without_end_do_not_put_it_off_for_ever() {
    let mut case = Case::new(&["http://10.0.0.1:9090"]);
    let mut seconds = 0;
    let sent = loop {
        case.changed();
        seconds += 1;
        let sent = case.pass(SECOND);
        if !sent.is_empty() {
            break sent;
        }
    };
    assert_eq!((seconds, sent.len()), (10, 1));
}

#[test]
fn what_is_not_acknowledged_is_signalled_again_with_growing_pauses() {
    let mut case = Case::new(&["http://10.0.0.1:9090"]);
    case.changed();
    let mut signal = case.pass(GATHER).remove(0);
    let mut pauses = Vec::new();
    for round in 0..8 {
        match round % 3 {
            0 => {
                // A kept connection that ends is tried again on a fresh one, which is no failure.
                let refusal = "HTTP/1.1 500 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                case.wire.answer(signal.conn, refusal);
                case.settle();
            }
            1 => {
                case.wire.close(signal.conn, CloseReason::Reset);
                case.settle();
            }
            _ => drop(case.pass(Duration::from_secs(15))),
        }
        assert_eq!(case.reloader.failing(), ["http://10.0.0.1:9090"]);
        let (pause, mut sent) = case.sleep();
        pauses.push(pause);
        signal = sent.remove(0);
    }
    assert!(pauses[0] < SECOND * 2 && pauses[7] > SECOND * 40, "{pauses:?}");
    case.answer(&signal, 200);
    assert!(case.reloader.is_clean() && case.reloader.failing().is_empty());
    assert_eq!(case.wire.bench.logged("reload not acknowledged"), 8);
}

#[test]
fn a_write_after_the_signal_is_owed_again() {
    let mut case = Case::new(&["http://10.0.0.1:9090"]);
    case.changed();
    let first = case.pass(GATHER).remove(0);
    case.changed();
    assert_eq!(case.pass(GATHER), [], "one signal at a time");
    let second = [case.answer(&first, 200), case.pass(Duration::ZERO)].concat();
    assert_eq!(second.len(), 1, "the answer was to what was before the write");
    assert!(!case.reloader.is_clean());
    case.answer(&second[0], 200);
    assert!(case.reloader.is_clean());
}

#[test]
fn one_that_is_down_keeps_no_other_waiting() {
    let mut case = Case::new(&["http://10.0.0.1:9090", "http://10.0.0.2:9090"]);
    case.changed();
    let sent = case.pass(GATHER);
    case.wire.close(sent[0].conn, CloseReason::Refused);
    case.settle();
    case.answer(&sent[1], 200);
    let (_, again) = case.sleep();
    assert_eq!((again.len(), again[0].to), (1, sent[0].to), "only the one that owes");
}
