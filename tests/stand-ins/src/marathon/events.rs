//! The events of a Marathon, member by member in the order in which it writes them.

use serde_json::Value;

use crate::date::rfc3339_ms;
use crate::peer::Time;

/// An event as it goes over the wire: lines end in CR LF, the data is one line.
pub(super) fn frame(name: &str, data: &str, event_line: bool) -> Vec<u8> {
    let event = if event_line { format!("event: {name}\r\n") } else { String::new() };
    format!("{event}data: {data}\r\n\r\n").into_bytes()
}

/// The group that holds an app: `/product/backend` of `/product/backend/api`.
pub(super) fn parent(id: &str) -> &str {
    match id.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((group, _)) => group,
    }
}

pub(super) fn attached(now: Time) -> String {
    format!(r#"{{"remoteAddress":"127.0.0.1",{}"#, tail(now, "event_stream_attached"))
}

pub(super) fn group_change(now: Time, group: &str) -> String {
    let version = rfc3339_ms(now.unix_ms);
    let tail = tail(now, "group_change_success");
    format!(r#"{{"groupId":{},"version":"{version}",{tail}"#, quoted(group))
}

pub(super) fn api_post(now: Time, id: &str, app: &Value) -> String {
    let uri = quoted(&format!("/v2/apps/{}", id.trim_start_matches('/')));
    let tail = tail(now, "api_post_event");
    format!(r#"{{"clientIp":"0:0:0:0:0:0:0:1","uri":{uri},"appDefinition":{app},{tail}"#)
}

pub(super) fn app_terminated(now: Time, id: &str) -> String {
    format!(r#"{{"appId":{},{}"#, quoted(id), tail(now, "app_terminated_event"))
}

/// A deployment's plan, with one step for all apps.
pub(super) fn plan(now: Time, number: u64, action: &str, ids: &[String]) -> (String, String) {
    let id = format!("867ed450-f6a8-4d33-9b0e-{number:012x}");
    let step = |app: &String| format!(r#"{{"action":"{action}","app":{}}}"#, quoted(app));
    let actions: Vec<String> = ids.iter().map(step).collect();
    let plan = format!(
        r#"{{"id":"{id}","steps":[{{"actions":[{}]}}],"version":"{}"}}"#,
        actions.join(","),
        rfc3339_ms(now.unix_ms)
    );
    (id, plan)
}

pub(super) fn deployment_info(now: Time, (_, plan): &(String, String)) -> String {
    let tail = tail(now, "deployment_info");
    format!(r#"{{"plan":{plan},"currentStep":{{"actions":[]}},{tail}"#)
}

pub(super) fn deployment_success(now: Time, (id, plan): &(String, String)) -> String {
    format!(r#"{{"id":"{id}","plan":{plan},{}"#, tail(now, "deployment_success"))
}

fn tail(now: Time, name: &str) -> String {
    format!(r#""eventType":"{name}","timestamp":"{}"}}"#, rfc3339_ms(now.unix_ms))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
