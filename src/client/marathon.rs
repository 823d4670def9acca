//! A question to Marathon, up to the head of its answer: sent as Marathon wants it, taken to the
//! leader once. Never reads a body.

use std::time::Duration;

use crate::context::Context;
use crate::hint::{Complaint, Hint};
use crate::http::{Headers, Method, Request, ResponseHead};
use crate::machine::Trust;
use crate::url::{Scheme, Url};

use super::{Client, Delivery, Outgoing, RequestId};

/// The limit of an answer without `--marathon-timeout`, since a peer that disappears silently would block
/// the daemon forever; and the limit of a sync in any case, however steadily its bytes drip.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(300);

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub struct RequestOptions<O> {
    /// Who asks.
    pub owner: O,
    /// The one media type that is wanted.
    pub accept: &'static str,
    /// The limit up to the head of the answer.
    pub timeout: Duration,
    /// The longest pause in its body.
    pub silence: Option<Duration>,
}

/// A question that has no answer yet.
#[derive(Clone, Debug)]
pub struct MarathonRequest {
    /// By which its events are known.
    pub request: RequestId,
    /// Who is asked for what.
    pub url: Url,
    redirected: bool,
}

/// What the head of an answer means.
#[derive(Debug)]
pub enum Reception {
    /// 200: the body comes.
    Accepted,
    /// The leader is asked instead.
    Redirected(MarathonRequest),
    /// Nothing more comes; the reason, in words that tell what to do.
    Refused(Complaint),
}

impl<O: Copy> RequestOptions<O> {
    /// Asks.
    pub fn ask(&self, cx: &mut Context<'_>, client: &mut Client<O>, url: Url) -> MarathonRequest {
        self.send(cx, client, url, false)
    }

    fn send(
        &self,
        cx: &mut Context<'_>,
        client: &mut Client<O>,
        url: Url,
        redirected: bool,
    ) -> MarathonRequest {
        let mut headers = Headers::new();
        headers.push("Accept", self.accept);
        let outgoing = Outgoing {
            request: Request { headers, ..Request::new(Method::Get, url.clone()) },
            trust: Trust::Marathon,
            timeout: Some(self.timeout),
            silence: self.silence,
            address: None,
            delivery: Delivery::Streamed,
        };
        MarathonRequest { request: client.send(cx, self.owner, outgoing), url, redirected }
    }

    /// Handles the head of the answer. `marathons` are the URLs of the command line, all of which the
    /// credentials are meant for.
    pub fn receive(
        &self,
        cx: &mut Context<'_>,
        client: &mut Client<O>,
        inquiry: &MarathonRequest,
        head: &ResponseHead,
        marathons: &[Url],
    ) -> Reception {
        let leader = match head.status {
            200 => return Reception::Accepted,
            301 | 302 | 303 | 307 | 308 if !inquiry.redirected => {
                let location = head.headers.first("location");
                leader(&inquiry.url, location, marathons).map_err(Complaint::from)
            }
            status @ (301 | 302 | 303 | 307 | 308) => {
                Err(format!("status {status}: a second redirect, which is not followed").into())
            }
            status => Err(Complaint::new(refusal(status), Hint::of_marathon(status))),
        };
        client.cancel(inquiry.request);
        match leader {
            Ok(url) => Reception::Redirected(self.send(cx, client, url, true)),
            Err(problem) => Reception::Refused(problem),
        }
    }
}

/// Where a redirect to the leader leads, when it may be followed: once, to the same resource of another
/// Marathon and not to somebody's login page, and never from `https` to `http`. The credentials of the
/// command line are sent again, whatever the redirect names, and so a request with credentials is
/// redirected only to a host of `--marathon`, or to the same port and path, as a standby does to the
/// leader (Marathon's `LeaderProxyFilter`).
fn leader(from: &Url, location: Option<&str>, marathons: &[Url]) -> Result<Url, String> {
    let location = location.ok_or("a redirect without Location")?;
    let to = from.resolve(location).map_err(|error| format!("a redirect to a bad URL: {error}"))?;
    if from.origin().scheme == Scheme::Https && to.origin().scheme == Scheme::Http {
        return Err(format!("a redirect from https to http ({to}) is not followed"));
    }
    if resource(&to) != resource(from) {
        return Err(format!("a redirect to something else ({to}) is not followed"));
    }
    let is_listed = || marathons.iter().any(|it| it.origin().host == to.origin().host);
    let is_like = || to.origin().port == from.origin().port && path(&to) == path(from);
    if from.credentials().is_some() && !is_listed() && !is_like() {
        return Err(format!(
            "a redirect to another server ({to}) is not followed with user, password or token; name it \
             in --marathon, if it is a Marathon"
        ));
    }
    Ok(to.with_credentials_of(from))
}

/// The path behind whatever a proxy has put before it: `/v2/apps`.
fn resource(url: &Url) -> Option<&str> {
    let path = path(url);
    path.get(path.rfind("/v2/")?..)
}

fn path(url: &Url) -> &str {
    url.target().split('?').next().unwrap_or_default()
}

/// What is wrong with an answer by its status, in words that tell what to do.
fn refusal(status: u16) -> String {
    match status {
        401 | 403 => {
            format!(
                "status {status}: user and password in --marathon, or --marathon-token, are missing \
                 or wrong"
            )
        }
        404 | 405 => format!("status {status}: is this the URL of a Marathon?"),
        502 | 503 => format!("status {status}: it has no leader or is overloaded"),
        _ => format!("status {status}"),
    }
}
