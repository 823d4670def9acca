//! Marathon is asked with a token, which others write again.

use super::*;
use crate::machine::StoreErrorKind;

const URL: &str = "http://10.0.0.1:8080";

impl Case {
    /// One with a token's file, that was started and has asked for nothing but that.
    fn with_token(marathon: &[&str]) -> Case {
        let file = Some(PathBuf::from("/run/token"));
        let config = Config { marathon_token: file, ..crate::testing::config() };
        let (case, sent) = Case::of(&config, marathon);
        assert_eq!(sent, [], "not before the token is known");
        assert_eq!(case.watcher.poll_timeout(), None, "the file is waited for");
        case
    }

    /// The file is asked for, once, and this is in it; what is sent then.
    fn reads(&mut self, file: Result<&str, &str>) -> Vec<Sent> {
        assert_eq!(self.watcher.poll_load(), Some(PathBuf::from("/run/token")));
        assert_eq!(self.watcher.poll_load(), None);
        let file = file.map(|text| Secret::new(text.into())).map_err(|detail| {
            let (kind, path, detail) = (StoreErrorKind::Missing, "token".into(), detail.into());
            StoreError { kind, path, detail }
        });
        let Case { wire, watcher, .. } = self;
        watcher.token_read(&mut wire.bench.cx(), &mut wire.client, file);
        self.settle()
    }
}

fn token_of(sent: &Sent) -> Option<&str> {
    sent.text.split("Authorization: token=").nth(1)?.split("\r\n").next()
}

#[test]
fn every_question_is_asked_with_what_the_file_holds_then() {
    let mut case = Case::with_token(&[URL]);
    let stream = case.reads(Ok("one\n"));
    assert!(stream[0].is("GET /v2/events?"));
    assert_eq!(token_of(&stream[0]), Some("one"));

    // Attached: the list is due.
    assert_eq!(case.answer(stream[0].conn, &format!("{STREAM}{ATTACHED}")), []);
    let list = case.reads(Ok("two"));
    assert!(list[0].is("GET /v2/apps"));
    assert_eq!(token_of(&list[0]), Some("two"));
    case.answer(list[0].conn, &apps(&["a"]));
    assert_eq!(case.wanted.len(), 1);

    // The stream is lost, and opened again.
    assert_eq!(case.close(stream[0].conn), []);
    assert_eq!(case.pass(60 * SECOND), []);
    let stream = case.reads(Ok("three"));
    assert!(stream.iter().any(|sent| sent.is("GET /v2/events?")));
    assert!(stream.iter().all(|sent| token_of(sent) == Some("three")));
}

#[test]
fn the_leader_and_the_next_address_are_asked_with_it_too() {
    let mut case = Case::with_token(&["http://10.0.0.1:8080", "http://10.0.0.2:8080"]);
    let sent = case.reads(Ok("one"));
    let leader = "HTTP/1.1 302 Found\r\nLocation: http://10.0.0.9:8080/v2/events?event_type=a\r\n\
                  Content-Length: 0\r\n\r\n";
    let sent = case.answer(sent[0].conn, leader);
    assert_eq!(
        (sent[0].to.ip().to_string().as_str(), token_of(&sent[0])),
        ("10.0.0.9", Some("one"))
    );

    // The list, of one that is down, and of the other.
    assert_eq!(case.pass(ATTACH_PATIENCE), []);
    let sent = case.reads(Ok("two"));
    let sent = case.answer(sent[0].conn, &counted(503, "text/plain", ""));
    assert_eq!(
        (sent[0].to.ip().to_string().as_str(), token_of(&sent[0])),
        ("10.0.0.2", Some("two"))
    );
}

#[test]
fn a_file_without_a_token_leaves_the_last_one_in_use_and_is_complained_of_once() {
    let mut case = Case::with_token(&[URL]);
    let stream = case.reads(Ok("one"));
    case.answer(stream[0].conn, &format!("{STREAM}{ATTACHED}"));
    let list = case.reads(Err("No such file"));
    assert_eq!(token_of(&list[0]), Some("one"));
    let complaint = "no new token, the last one is used on";
    assert_eq!(case.wire.bench.logged(complaint), 1);
    case.answer(list[0].conn, &apps(&[]));

    for (file, complaints) in [(Err("No such file"), 1), (Ok("two words"), 2), (Ok(""), 2)] {
        let Case { wire, watcher, .. } = &mut case;
        watcher.sync_now(&mut wire.bench.cx(), &mut wire.client);
        let list = case.reads(file);
        assert_eq!(token_of(&list[0]), Some("one"));
        assert_eq!(case.wire.bench.logged(complaint), complaints);
        case.answer(list[0].conn, &apps(&[]));
    }
    let log = format!("{:?}", case.wire.bench.log);
    assert!(!log.contains("two words"), "{log}");
}

#[test]
fn a_file_that_is_written_while_it_is_read_is_read_again_when_the_operator_asks() {
    let mut case = Case::with_token(&[URL]);
    let stream = case.reads(Ok("one"));
    case.answer(stream[0].conn, &format!("{STREAM}{ATTACHED}"));
    // The answer that is on its way may be older than the signal.
    assert_eq!(case.watcher.poll_load(), Some(PathBuf::from("/run/token")));
    let Case { wire, watcher, .. } = &mut case;
    watcher.sync_now(&mut wire.bench.cx(), &mut wire.client);
    let old = Ok(Secret::new("one".into()));
    watcher.token_read(&mut wire.bench.cx(), &mut wire.client, old);
    assert_eq!(case.settle(), []);
    let list = case.reads(Ok("two"));
    assert_eq!(token_of(&list[0]), Some("two"));
    assert_eq!(case.watcher.poll_load(), None);
}

#[test]
fn a_file_that_was_read_before_the_operator_asks_is_read_again() {
    let mut case = Case::with_token(&[URL]);
    let stream = case.reads(Ok("one"));
    case.answer(stream[0].conn, &format!("{STREAM}{ATTACHED}"));
    let list = case.reads(Ok("two"));
    let Case { wire, watcher, .. } = &mut case;
    watcher.sync_now(&mut wire.bench.cx(), &mut wire.client);
    // The next list is asked for when this one is complete.
    case.answer(list[0].conn, &apps(&[]));
    let list = case.reads(Ok("three"));
    assert_eq!(token_of(&list[0]), Some("three"));
}
