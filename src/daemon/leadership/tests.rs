//! The whole daemon by hand, on its way into office and out of it.

use std::net::SocketAddr;

use super::*;
use crate::daemon::storage::{BEAT, HOLD};
use crate::machine::{
    CloseReason, ConnId, Input, ListenerKind, Loaded, Machine as _, Signal, StoreErrorKind, WriteId,
};
use crate::testing::{Bench, config};
use crate::url::Url;

const PEER: ConnId = ConnId::Accepted(0);
const STATE: &str = r#"{"version":2,"reload_owed":false,
    "reloaded":{"http://10.0.0.2:9090":["10.0.0.2"]},"cas":{},"certificates":{"a.org":{
    "attempt":{"at":1795391999000,"directory":"https://ca.example/dir","names":["a.org"],
    "order":"https://ca.example/o/1"}}}}"#;

struct Case {
    bench: Bench,
    daemon: Daemon,
}

impl Case {
    fn new() -> Case {
        let url = |text| Url::parse(text).unwrap();
        let (marathon, lb) = (vec![url("http://10.0.0.1:8080")], vec![url("http://10.0.0.2:9090")]);
        let config = crate::config::Config { marathon, lb, ..config() };
        let mut case = Case { bench: Bench::new(), daemon: Daemon::new(&config, None, Vec::new()) };
        let listening = SocketAddr::from(([127, 0, 0, 1], 8000));
        assert!(case.tell(Input::Started { listening }).iter().any(|it| it == "Load(Storage)"));
        case.tell(Input::Accepted(PEER, listening, ListenerKind::Public));
        case
    }

    /// An active instance that found a challenge of an order that is under way.
    fn active() -> Case {
        let mut case = Case::new();
        let outputs = case.open(&["left"]);
        assert!(outputs.iter().any(|it| it.starts_with("Connect")), "{outputs:?}");
        case
    }

    fn open(&mut self, challenges: &[&str]) -> Vec<String> {
        let inventory = Inventory {
            has_fallback: true,
            state: Some(STATE.into()),
            challenges: challenges.iter().map(|token| (*token).to_string()).collect(),
            leased: true,
            ..Inventory::default()
        };
        self.tell(Input::Loaded(Loaded::Storage(Ok(inventory))))
    }

    /// What it wants in answer to that, in words, but for what only people hear.
    fn tell(&mut self, input: Input<'_>) -> Vec<String> {
        let now = self.bench.now;
        self.daemon.handle_input(now, input, self.bench.cx().keys);
        let mut outputs = Vec::new();
        let mut steps = crate::testing::Steps::default();
        loop {
            steps.count();
            match self.daemon.poll_output() {
                Output::Wait(_) => return outputs,
                Output::Log(_) | Output::Status(_) | Output::Progress(_) => {}
                Output::Send { conn: PEER, bytes } => {
                    outputs.push(String::from_utf8(bytes.to_vec()).unwrap());
                }
                output => outputs.push(format!("{output:?}")),
            }
            if outputs.last().is_some_and(|it| it.starts_with("Exit")) {
                return outputs;
            }
        }
    }

    fn ask(&mut self, path: &str) -> Vec<String> {
        let request = format!("GET /.well-known/acme-challenge/{path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.tell(Input::Received(PEER, request.as_bytes()))
    }
}

fn count(outputs: &[String], words: &str) -> usize {
    outputs.iter().filter(|output| output.contains(words)).count()
}

fn lost() -> StoreError {
    let (path, detail) = ("lock".to_string(), "1 2 3".to_string());
    StoreError { kind: StoreErrorKind::Lost, path, detail }
}

#[test]
fn one_that_was_frozen_lets_go_of_everything_before_it_does_anything() {
    let mut case = Case::active();
    case.bench.pass(HOLD + BEAT);
    // The first thing that it hears is news of its own connection to Marathon.
    let outputs = case.tell(Input::Connected(ConnId::Dialed(1)));
    assert!(count(&outputs, "Close { conn: Dialed(") > 0, "{outputs:?}");
    assert_eq!(count(&outputs, "Send"), 0, "{outputs:?}");
    assert_eq!((count(&outputs, "Release"), count(&outputs, "Load(Storage)")), (1, 1));
    assert_eq!((count(&outputs, "Withdraw"), count(&outputs, "State")), (0, 0), "{outputs:?}");
    // Late answers are nobody's.
    assert!(case.tell(Input::Stored(WriteId(0), Ok(()))).is_empty());
    let late = Input::Closed(ConnId::Dialed(1), CloseReason::Finished);
    assert!(case.tell(late).is_empty());
    // The listener lives on, and finds in the files what another one publishes.
    assert!(case.ask("ping")[0].contains("pong"));
    assert_eq!(count(&case.ask("left"), "Load(Challenges)"), 1);
    // It may become active again, with other connections.
    let outputs = case.open(&[]);
    assert!(
        count(&outputs, "Connect") > 0 && count(&outputs, "conn: Dialed(1)") == 0,
        "{outputs:?}"
    );
}

#[test]
fn one_that_finds_another_in_its_place_steps_down() {
    let mut case = Case::active();
    case.bench.pass(BEAT);
    let outputs = case.tell(Input::Timeout);
    assert_eq!(count(&outputs, "Heartbeat"), 1, "{outputs:?}");
    let write = outputs.iter().find(|it| it.contains("Heartbeat")).unwrap();
    let number = write.split(['(', ')']).nth(1).and_then(|it| it.parse().ok()).unwrap();
    let outputs = case.tell(Input::Stored(WriteId(number), Err(lost())));
    assert!(count(&outputs, "Close { conn: Dialed(") > 0, "{outputs:?}");
    assert_eq!(count(&outputs, "Load(Storage)"), 1);
    let locked = StoreError { kind: StoreErrorKind::Locked, ..lost() };
    assert!(case.tell(Input::Loaded(Loaded::Storage(Err(locked)))).is_empty(), "it stands by");
}

#[test]
fn what_was_left_published_stays_for_orders_that_are_gone_on_with() {
    let mut case = Case::active();
    assert_eq!(count(&case.ask("left"), "Load(Challenge"), 1);
    let outputs = case.tell(Input::Signal(Signal::Stop));
    assert_eq!(count(&outputs, "Withdraw"), 0, "{outputs:?}");
    let last = outputs.len() - 2..;
    assert!(outputs[last.clone()][0].contains("Release"), "{outputs:?}");
    assert_eq!(outputs[last][1], "Exit(0)");
}

#[test]
fn what_nobody_needs_is_withdrawn_after_a_while() {
    let mut case = Case::new();
    let nothing =
        Inventory { has_fallback: true, challenges: vec!["left".into()], ..Inventory::default() };
    let outputs = case.tell(Input::Loaded(Loaded::Storage(Ok(nothing))));
    assert_eq!(count(&outputs, "Withdraw"), 0, "{outputs:?}");
    case.bench.pass(Duration::from_secs(30));
    let outputs = case.tell(Input::Timeout);
    assert_eq!(count(&outputs, "Withdraw { token: \"left\" }"), 1, "{outputs:?}");
}
