//! Waits for the state that a daemon shows at its port: `/status.json` and `/metrics`. Never reads its
//! log.

use serde_json::Value;

use crate::process::{Outcome, Process, get};

/// `/status.json`, when it is answered.
pub(crate) fn status(port: u16) -> Option<Value> {
    let answer = get(port, "/status.json").ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// A certificate in `/status.json`; null when it is not there.
pub(crate) fn certificate<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["certificates"].as_array().into_iter().flatten();
    all.into_iter().find(|it| it["name"] == name).unwrap_or(&Value::Null)
}

/// What is rejected, in `/status.json`: app, label and reason.
pub(crate) fn rejected(status: &Value) -> Vec<String> {
    let all = status["rejected"].as_array().into_iter().flatten();
    all.map(|it| format!("{} {} {}", it["app"], it["label"], it["reason"])).collect()
}

/// The sum of a metric over the series with this label, when it is answered.
fn count(port: u16, metric: &str, label: &str) -> Option<usize> {
    let metrics = get(port, "/metrics").ok()?;
    let samples = metrics.lines().filter_map(|line| line.strip_prefix("marathon_acme_"));
    let samples = samples.filter_map(|line| line.strip_prefix(metric));
    let samples = samples.filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label));
    samples.map(|rest| rest.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

impl Process {
    /// Waits until `/status.json` fits; what it is then.
    pub(crate) fn wait_until_status(
        &mut self,
        port: u16,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Outcome<Value> {
        self.wait_until(what, || status(port).filter(&fits))
    }

    /// The same, with a certificate in it.
    fn wait_until_certificate(
        &mut self,
        port: u16,
        (name, what): (&str, &str),
        fits: impl Fn(&Value) -> bool,
    ) -> Outcome {
        let what = format!("{name} is {what}");
        self.wait_until_status(port, &what, |it| fits(certificate(it, name))).map(drop)
    }

    fn wait_until_counted(
        &mut self,
        port: u16,
        (metric, label): (&str, &str),
        least: usize,
    ) -> Outcome {
        let found = || count(port, metric, label).filter(|count| *count >= least);
        self.wait_until(&format!("{metric} {label} is {least}"), found).map(drop)
    }

    /// Waits until this is the active instance.
    pub(crate) fn wait_until_active(&mut self, port: u16) -> Outcome {
        self.wait_until_status(port, "it is active", |it| it["active"] == true).map(drop)
    }

    /// Waits until Marathon sends its events. The first list of apps may not have been read yet.
    pub(crate) fn wait_until_attached(&mut self, port: u16) -> Outcome {
        let attached = |it: &Value| it["marathon"]["attached"] == true;
        self.wait_until_status(port, "it is attached", attached).map(drop)
    }

    /// Waits until the event stream was opened again this many times.
    pub(crate) fn wait_until_reattached(&mut self, port: u16, times: usize) -> Outcome {
        self.wait_until_counted(port, ("event_stream_reconnects_total", ""), times)
    }

    /// Waits until the CA knows the account.
    pub(crate) fn wait_until_registered(&mut self, port: u16) -> Outcome {
        let registered = |it: &Value| it["ca"]["account"].is_string();
        self.wait_until_status(port, "it is registered", registered).map(drop)
    }

    /// Waits until something is wrong with the CA or the account.
    pub(crate) fn wait_until_ca_fails(&mut self, port: u16) -> Outcome {
        let fails = |it: &Value| it["ca"]["problem"].is_string();
        self.wait_until_status(port, "the CA fails", fails).map(drop)
    }

    /// Waits until an app wants a certificate.
    pub(crate) fn wait_until_wanted(&mut self, port: u16, name: &str) -> Outcome {
        let wanted = |it: &Value| it["state"].as_str().is_some_and(|state| state != "unwanted");
        self.wait_until_certificate(port, (name, "wanted"), wanted)
    }

    /// Waits until no app wants a certificate any more.
    pub(crate) fn wait_until_unwanted(&mut self, port: u16, name: &str) -> Outcome {
        self.wait_until_certificate(port, (name, "unwanted"), |it| it["state"] == "unwanted")
    }

    /// Waits until the last order of a certificate has failed, in this run or an earlier one.
    pub(crate) fn wait_until_failed(&mut self, port: u16, name: &str) -> Outcome {
        self.wait_until_certificate(port, (name, "failing"), |it| it["state"] == "failing")
    }

    /// Waits until an app is rejected, wholly or in part.
    pub(crate) fn wait_until_rejected(&mut self, port: u16, app: &str) -> Outcome {
        let rejected = |it: &Value| {
            let all = it["rejected"].as_array().into_iter().flatten();
            all.into_iter().any(|it| it["app"] == app)
        };
        self.wait_until_status(port, &format!("{app} is rejected"), rejected).map(drop)
    }

    /// Waits until this run has stored this many new certificates.
    pub(crate) fn wait_until_issued(&mut self, port: u16, least: usize) -> Outcome {
        self.wait_until_counted(port, ("orders_total", "result=\"issued\""), least)
    }

    /// Waits until load balancers have acknowledged this many reloads in this run.
    pub(crate) fn wait_until_reloaded(&mut self, port: u16, least: usize) -> Outcome {
        self.wait_until_counted(port, ("lb_reloads_total", "result=\"acknowledged\""), least)
    }

    /// Waits until Marathon's apps could not be read this many times in this run.
    pub(crate) fn wait_until_syncs_failed(&mut self, port: u16, least: usize) -> Outcome {
        self.wait_until_counted(port, ("syncs_total", "result=\"failed\""), least)
    }
}
