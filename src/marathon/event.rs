//! The events of `/v2/events`: which ones are subscribed to, and what each means for a sync. Only the
//! name matters; the data is not looked into, since it may be huge.

use serde_json::Value;

/// The events that can mean that app definitions changed, by their exact names.
const EVENTS: [Event; 5] = [
    Event { name: "event_stream_attached", relevance: Relevance::Attached },
    Event { name: "api_post_event", relevance: Relevance::MayPrecedeChange },
    Event { name: "group_change_success", relevance: Relevance::FollowsChange },
    Event { name: "app_terminated_event", relevance: Relevance::FollowsChange },
    Event { name: "deployment_success", relevance: Relevance::FollowsChange },
];

/// An event that is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its exact name.
    pub name: &'static str,
    /// What it means.
    pub relevance: Relevance,
}

/// What an event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relevance {
    /// A client's subscription exists; when it is ours, no later change can be missed.
    Attached,
    /// A change was asked for; very old Marathons say so before it is visible.
    MayPrecedeChange,
    /// A change is visible.
    FollowsChange,
}

/// Path and query of the event stream. Marathons before 1.3.7 ignore the filter; `plan-format=light`
/// keeps deployment events small in 1.6 and does no harm elsewhere.
pub fn stream_target() -> String {
    let names: Vec<String> =
        EVENTS.iter().map(|event| format!("event_type={}", event.name)).collect();
    format!("/v2/events?plan-format=light&{}", names.join("&"))
}

/// The event of that name; `None` when it means nothing for a sync. Very old Marathons write no
/// `event:` line, so that the name (then `message`) has to be read from the data.
pub fn relevant(name: &str, data: &str) -> Option<Event> {
    let known = |name: &str| EVENTS.into_iter().find(|event| event.name == name);
    if name != "message" {
        return known(name);
    }
    let data: Value = serde_json::from_str(data).ok()?;
    known(data["eventType"].as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subscription_names_each_event_once() {
        let target = stream_target();
        assert!(target.starts_with("/v2/events?"));
        for Event { name, .. } in EVENTS {
            assert_eq!(target.matches(&format!("event_type={name}")).count(), 1, "{name}");
        }
    }

    fn relevance(name: &str, data: &str) -> Option<Relevance> {
        relevant(name, data).map(|event| event.relevance)
    }

    #[test]
    fn names_come_from_the_event_line_or_from_the_data() {
        assert_eq!(relevance("api_post_event", "{}"), Some(Relevance::MayPrecedeChange));
        assert_eq!(relevance("status_update_event", "{}"), None);
        let data = r#"{"groupId":"/","eventType":"group_change_success","timestamp":"x"}"#;
        assert_eq!(relevance("message", data), Some(Relevance::FollowsChange));
        for data in ["", "[]", "{", r#"{"eventType":7}"#, r#"{"eventType":"other"}"#] {
            assert_eq!(relevance("message", data), None, "{data}");
        }
    }
}
