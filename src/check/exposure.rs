//! Asks every load balancer for the daemon's status page in each way in which it may publish it: on ports
//! 80 and 443, on the ports of its front ends for the daemon's app, and by app id on port 9091. A client that
//! reaches the load balancer reads what is answered. Never takes another page for ours.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::challenge::route;
use crate::client::{Client, ClientEvent, Outgoing, RequestId};
use crate::context::Context;
use crate::http::{Request, Response};
use crate::lb::configuration::Publication;
use crate::machine::Trust;
use crate::url::{Host, Url};

use super::open::Open;
use super::report::Finding;
use super::{Part, at};

const SUBJECT: &str = "exposed";
/// The port of marathon-lb's front end that chooses an app by its id.
const APP_ID_PORT: u16 = 9091;
/// Questions under way at once at most.
const IN_FLIGHT_MAX: usize = 16;
/// Of what one load balancer publishes, so much is asked at most: the ports of one app are few.
const PORTS_MAX: usize = 8;
const APP_IDS_MAX: usize = 2;
const HOSTS_MAX: usize = 3;
/// The page has a bounded number of rows.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// What the page has, and no other.
const TITLE: &[u8] = "– marathon-acme</title>".as_bytes();

/// The questions, and what was seen.
#[derive(Debug, Default)]
pub(super) struct Exposure {
    waiting: VecDeque<Question>,
    open: Open<Question>,
    /// Where the page can be read: how, and at which addresses.
    seen: Vec<(String, Vec<IpAddr>)>,
    /// How many load balancers were asked.
    asked: usize,
    /// How many questions had an answer of any kind, but for the page.
    answered: usize,
    begun: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    address: IpAddr,
    /// How it is asked, in words.
    way: String,
    url: Url,
    app_id: Option<String>,
}

impl Exposure {
    /// Asks these load balancers, which publish the daemon's app so, as far as that is known.
    pub(super) fn start<'a>(
        &mut self,
        balancers: impl Iterator<Item = (&'a Url, IpAddr, Publication)>,
    ) {
        self.begun = true;
        for (url, address, publication) in balancers {
            let questions = questions(&url.origin().host, address, &publication);
            let is_new = |it: &Question| !self.waiting.contains(it);
            let questions: Vec<Question> = questions.into_iter().filter(is_new).collect();
            self.asked += usize::from(!questions.is_empty());
            self.waiting.extend(questions);
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Asks as many as may be under way.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, client: &mut Client<Part>) {
        while self.open.len() < IN_FLIGHT_MAX
            && let Some(question) = self.waiting.pop_front()
        {
            let mut request: Request = route::question(question.url.clone());
            if let Some(id) = &question.app_id {
                request = request.with_header("X-Marathon-App-Id", id);
            }
            // A client that reads the page does not check the certificate.
            let outgoing = at(question.address, request, PAGE_BYTES_MAX);
            let outgoing = Outgoing { trust: Trust::Unjudged, ..outgoing };
            self.open.insert(client.send(cx, Part::Exposure, outgoing), question);
        }
    }

    pub(super) fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        request: RequestId,
        event: ClientEvent,
    ) {
        let Some(question) = self.open.take(request) else { return };
        match event {
            ClientEvent::Response(response) if is_page(&response) => self.note(question),
            ClientEvent::Response(_) => self.answered += 1,
            // Where nobody listens nothing is exposed.
            _ => {}
        }
        self.advance(cx, client);
    }

    fn note(&mut self, Question { way, address, .. }: Question) {
        match self.seen.iter_mut().find(|(known, _)| *known == way) {
            Some((_, addresses)) => addresses.push(address),
            None => self.seen.push((way, vec![address])),
        }
    }

    /// How many questions have no answer yet.
    pub(super) fn left(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    pub(super) fn is_done(&self) -> bool {
        self.begun && self.left() == 0
    }

    /// What has no answer by now is not answered to anybody else, either.
    pub(super) fn give_up(&mut self) {
        self.begun = true;
        self.waiting.clear();
        self.open.take_all().for_each(drop);
    }

    /// What is to be said: a line for each way in which the page can be read.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let remedy = "everyone who reaches the load balancer can read it; give marathon-acme's app \
                      HAPROXY_0_GROUP in place of HAPROXY_GROUP, and run it with --admin-listen";
        let warning = |(way, addresses): &(String, Vec<IpAddr>)| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let seen = format!("the status page is answered {way} at {}", addresses.join(", "));
            Finding::warn(SUBJECT, seen, remedy)
        };
        match (self.seen.is_empty(), self.asked) {
            (true, 0) => Vec::new(),
            (true, _) if self.answered == 0 => {
                let seen = "nobody answers at the load balancers' ports: nothing was asked";
                vec![Finding::warn(SUBJECT, seen, "check again when they run")]
            }
            (true, _) => {
                vec![Finding::ok(SUBJECT, "no status page is answered by way of a load balancer")]
            }
            (false, _) => self.seen.iter().map(warning).collect(),
        }
    }
}

/// Every way in which one load balancer may publish the page.
fn questions(host: &Host, address: IpAddr, publication: &Publication) -> Vec<Question> {
    let mut questions = Vec::new();
    let mut ask = |scheme: &str, host: &str, port: u16, way: String, app_id: Option<&String>| {
        // A host that is part of no URL is asked for by nobody.
        if let Ok(url) = Url::parse(&format!("{scheme}://{host}:{port}/")) {
            questions.push(Question { address, way, url, app_id: app_id.cloned() });
        }
    };
    let own = host.to_string();
    let hosts = publication.hosts.iter().map(String::as_str);
    let hosts: Vec<&str> = [own.as_str()].into_iter().chain(hosts).collect();
    for (port, is_tls) in publication.ports.iter().take(PORTS_MAX) {
        let scheme = if *is_tls { "https" } else { "http" };
        ask(scheme, &own, *port, format!("on port {port}"), None);
    }
    for id in publication.app_ids.iter().take(APP_IDS_MAX) {
        let way = format!("on port {APP_ID_PORT} with X-Marathon-App-Id: {id}");
        ask("http", &own, APP_ID_PORT, way, Some(id));
    }
    for host in hosts.into_iter().take(HOSTS_MAX) {
        ask("http", host, 80, format!("on port 80 for {host}"), None);
        ask("https", host, 443, format!("on port 443 for {host}"), None);
    }
    questions
}

fn is_page(response: &Response) -> bool {
    response.head.status == 200 && memchr::memmem::find(&response.body, TITLE).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;
    use crate::http::{Headers, ResponseHead};

    fn published() -> Publication {
        Publication {
            ports: vec![(10101, false), (10102, true)],
            hosts: vec!["acme.example.com".into()],
            app_ids: vec!["/acme".into()],
        }
    }

    #[test]
    fn every_way_is_tried_and_their_number_is_bounded() {
        let host = Host::Name("lb.example".into());
        let ask = |publication: &Publication| questions(&host, [10, 0, 0, 1].into(), publication);
        let urls: Vec<String> = ask(&published()).iter().map(|it| it.url.to_string()).collect();
        let expected = [
            "http://lb.example:10101",
            "https://lb.example:10102",
            "http://lb.example:9091",
            "http://lb.example",
            "https://lb.example",
            "http://acme.example.com",
            "https://acme.example.com",
        ];
        assert_eq!(urls, expected);
        assert_eq!(ask(&Publication::default()).len(), 2, "ports 80 and 443 in any case");
        let ports = (1..1000).map(|port| (port, false)).collect();
        assert_eq!(ask(&Publication { ports, ..published() }).len(), PORTS_MAX + 1 + 4);
    }

    #[test]
    fn only_our_page_is_ours() {
        let answer = |status, body: &str| {
            is_page(&Response {
                head: ResponseHead { status, headers: Headers::new() },
                body: body.into(),
            })
        };
        let page = "<title>All is well – marathon-acme</title>";
        assert!(answer(200, page));
        assert!(!answer(404, page) && !answer(200, "<title>marathon-acme</title>"));
    }

    #[test]
    fn a_page_that_can_be_read_is_a_warning() {
        let mut exposure = Exposure::default();
        assert_eq!(exposure.findings(), []);
        let url = Url::parse("http://lb.example:9090/").unwrap();
        let balancers =
            [[10, 0, 0, 1], [10, 0, 0, 2]].map(|address| (&url, address.into(), published()));
        exposure.start(balancers.into_iter());
        assert_eq!((exposure.left(), exposure.is_done()), (14, false));
        // Where nobody answers nothing is known.
        assert_eq!(exposure.findings()[0].verdict, Verdict::Warn);
        exposure.answered = 1;
        assert_eq!(exposure.findings()[0].verdict, Verdict::Ok);
        let first: Vec<Question> = exposure.waiting.iter().step_by(7).cloned().collect();
        first.into_iter().for_each(|question| exposure.note(question));
        let [finding] = exposure.findings().try_into().expect("one line for both");
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.seen.ends_with("on port 10101 at 10.0.0.1, 10.0.0.2"), "{finding:?}");
        exposure.give_up();
        assert!(exposure.is_done());
    }
}
