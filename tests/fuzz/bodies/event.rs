//! What an event of Marathon's stream means: its name decides, or the type in its data.

use marathon_acme::marathon::event::{relevant, stream_target};

/// The first line is the event's name, the rest its data.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (name, data) = text.split_once('\n').unwrap_or(("message", &text));
    let meaning = relevant(name, data);
    let subscribed = |name: &str| {
        let target = stream_target();
        let mut names = target.split('&').filter_map(|it| it.strip_prefix("event_type="));
        names.any(|it| it == name)
    };
    if name != "message" {
        assert_eq!(relevant(name, ""), meaning, "the data counts beside a name");
        assert_eq!(meaning.is_some(), subscribed(name));
    } else if meaning.is_some() {
        let data: serde_json::Value = serde_json::from_str(data).expect("it was read");
        let kind = data["eventType"].as_str().expect("it has a type");
        assert!(subscribed(kind) && relevant(kind, "") == meaning);
    }
}
