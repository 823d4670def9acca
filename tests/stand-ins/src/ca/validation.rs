//! http-01 (RFC 8555 section 8.3): fetches challenges, from several places at once where asked to,
//! follows redirects, and compares.
//!
//! A fetch goes Waiting → Dialing → Reading → done, or back to Dialing after a redirect.

use std::collections::{BTreeMap, VecDeque};

use super::problem::Problem;
use crate::http::client::{self, Response};
use crate::peer::{Action, DialError, FIRST_DIALED, Time};

/// A body of this size or more fails, as at Let's Encrypt.
const BODY_BYTES_LIMIT: usize = 128;
/// A response larger than this is not read to its end.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
const REDIRECTS_MAX: u8 = 10;
const FETCH_MS: u64 = 10_000;

/// All fetches of a CA.
#[derive(Debug, Default)]
pub(super) struct Validator {
    waiting: Vec<Waiting>,
    fetches: BTreeMap<u64, Fetch>,
    /// For each authorization what must come back, and from how many places still.
    jobs: BTreeMap<usize, Job>,
    dialed_count: u64,
    outcomes: VecDeque<(usize, Result<(), Problem>)>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Job {
    expected: String,
    places_left: u8,
}

#[derive(Debug)]
struct Waiting {
    due_ms: u64,
    authz: usize,
    host: String,
    path: String,
    /// It fails as if nobody could be reached, without a connection.
    broken: bool,
}

/// One connection.
#[derive(Debug)]
struct Fetch {
    authz: usize,
    host: String,
    port: u16,
    path: String,
    received: Vec<u8>,
    deadline_ms: u64,
    redirects: u8,
}

impl Validator {
    /// Validates an authorization from `due_ms` on; `subject` is name, token and key authorization.
    /// `unproved` says that it fails: in one of its places, or in all.
    pub(super) fn start(
        &mut self,
        due_ms: u64,
        authz: usize,
        (name, token, expected): (String, String, String),
        places: u8,
        unproved: Option<bool>,
    ) {
        self.jobs.insert(authz, Job { expected, places_left: places });
        for place in 0..places {
            let path = format!("/.well-known/acme-challenge/{token}");
            let host = name.clone();
            let broken = unproved.is_some_and(|one_place| !one_place || place + 1 == places);
            self.waiting.push(Waiting { due_ms, authz, host, path, broken });
        }
    }

    /// What waits for a later time begins at once.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        for waiting in &mut self.waiting {
            waiting.due_ms = waiting.due_ms.min(now_ms);
        }
    }

    /// Fails an authorization at `due_ms`, without a fetch.
    pub(super) fn fail(&mut self, due_ms: u64, authz: usize, host: String) {
        self.waiting.push(Waiting { due_ms, authz, host, path: String::new(), broken: true });
    }

    /// What was found out about an authorization.
    pub(super) fn next_outcome(&mut self) -> Option<(usize, Result<(), Problem>)> {
        self.outcomes.pop_front()
    }

    pub(super) fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn next_timeout(&self) -> Option<u64> {
        let waiting = self.waiting.iter().map(|waiting| waiting.due_ms);
        waiting.chain(self.fetches.values().map(|fetch| fetch.deadline_ms)).min()
    }

    pub(super) fn timeout(&mut self, now: Time, http_port: u16) {
        let due: Vec<Waiting> =
            self.waiting.extract_if(.., |each| each.due_ms <= now.mono_ms).collect();
        for Waiting { authz, host, path, broken, .. } in due {
            if broken {
                let error = connection(format!("{host}: the route is broken"));
                self.outcomes.push_back((authz, Err(error)));
                continue;
            }
            let deadline_ms = now.mono_ms + FETCH_MS;
            let (port, received, redirects) = (http_port, Vec::new(), 0);
            self.dial(Fetch { authz, host, port, path, received, deadline_ms, redirects });
        }
        let late = self.fetches.iter().filter(|(_, fetch)| fetch.deadline_ms <= now.mono_ms);
        for conn in late.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.finish(conn, |host| Err(connection(format!("{host}: no answer within 10 s"))));
        }
    }

    pub(super) fn dialed(&mut self, conn: u64, result: Result<(), DialError>) {
        let Some(fetch) = self.fetches.get(&conn) else { return };
        match result {
            Ok(()) => {
                let host = match fetch.port {
                    80 => fetch.host.clone(),
                    port => format!("{}:{port}", fetch.host),
                };
                let request = format!(
                    "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stand-in-ca/1.0\r\n\
                     Accept: */*\r\nConnection: close\r\n\r\n",
                    fetch.path
                );
                self.actions.push_back(Action::Send { conn, bytes: request.into_bytes() });
            }
            Err(DialError::UnknownHost) => self.finish(conn, |host| {
                Err(Problem::new(400, "dns", format!("{host}: there is no such name")))
            }),
            Err(DialError::Refused) => {
                self.finish(conn, |host| Err(connection(format!("{host}: connection refused"))));
            }
            Err(DialError::Unreachable) => {
                self.finish(conn, |host| Err(connection(format!("{host}: cannot be reached"))));
            }
        }
    }

    pub(super) fn received(&mut self, now: Time, conn: u64, bytes: &[u8], http_port: u16) {
        let Some(fetch) = self.fetches.get_mut(&conn) else { return };
        fetch.received.extend_from_slice(bytes);
        if fetch.received.len() > RESPONSE_BYTES_MAX {
            self.finish(conn, |host| {
                Err(Problem::unauthorized(format!("{host}: the response is too large")))
            });
            return;
        }
        self.read(now, conn, false, http_port);
    }

    pub(super) fn closed(&mut self, now: Time, conn: u64, http_port: u16) {
        if self.fetches.contains_key(&conn) {
            self.read(now, conn, true, http_port);
        }
    }

    fn read(&mut self, now: Time, conn: u64, ended: bool, http_port: u16) {
        let Some(fetch) = self.fetches.get(&conn) else { return };
        let response = match client::response(&fetch.received, ended) {
            Ok(Some((response, _))) => response,
            Ok(None) => return,
            Err(client::Malformed) => {
                self.finish(conn, |host| {
                    Err(connection(format!("{host}: no whole HTTP response came")))
                });
                return;
            }
        };
        if matches!(response.status, 301 | 302 | 307 | 308) {
            self.redirect(now, conn, &response, http_port);
            return;
        }
        let expected = self.jobs.get(&fetch.authz).map(|job| job.expected.as_bytes());
        let verdict = judge(&response, expected.unwrap_or_default());
        self.finish(conn, |host| {
            verdict.map_err(|(kind, detail)| Problem::new(403, kind, format!("{host}: {detail}")))
        });
    }

    fn redirect(&mut self, now: Time, conn: u64, response: &Response, http_port: u16) {
        let Some(fetch) = self.fetches.get(&conn) else { return };
        let location = response.header("Location").unwrap_or_default();
        let target = match location.strip_prefix("http://") {
            Some(rest) => {
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                let (host, port) = match authority.split_once(':') {
                    Some((host, port)) => (host, port.parse().ok()),
                    None => (authority, Some(http_port)),
                };
                port.map(|port: u16| (host.to_string(), port, format!("/{path}")))
            }
            None if location.starts_with('/') => {
                Some((fetch.host.clone(), fetch.port, location.to_string()))
            }
            None => None,
        };
        let redirects = fetch.redirects + 1;
        let allowed = target.filter(|(_, port, _)| *port == 80 || *port == http_port);
        let Some((host, port, path)) = allowed.filter(|_| redirects <= REDIRECTS_MAX) else {
            let detail = format!("the redirect to {location:?} is not followed");
            self.finish(conn, |host| Err(connection(format!("{host}: {detail}"))));
            return;
        };
        let authz = fetch.authz;
        self.hang_up(conn);
        let (received, deadline_ms) = (Vec::new(), now.mono_ms + FETCH_MS);
        self.dial(Fetch { authz, host, port, path, received, deadline_ms, redirects });
    }

    fn dial(&mut self, fetch: Fetch) {
        let conn = FIRST_DIALED + self.dialed_count;
        self.dialed_count += 1;
        let (host, port) = (fetch.host.clone(), fetch.port);
        self.fetches.insert(conn, fetch);
        self.actions.push_back(Action::Dial { conn, host, port });
    }

    fn hang_up(&mut self, conn: u64) -> Option<Fetch> {
        let fetch = self.fetches.remove(&conn)?;
        self.actions.push_back(Action::Close { conn });
        Some(fetch)
    }

    /// Ends a fetch. The first failure decides for all places, success needs every one.
    fn finish(&mut self, conn: u64, verdict: impl FnOnce(&str) -> Result<(), Problem>) {
        let Some(fetch) = self.hang_up(conn) else { return };
        let Some(job) = self.jobs.get_mut(&fetch.authz) else { return };
        let result = verdict(&fetch.host);
        job.places_left = job.places_left.saturating_sub(1);
        if result.is_ok() && job.places_left > 0 {
            return;
        }
        self.jobs.remove(&fetch.authz);
        self.waiting.retain(|waiting| waiting.authz != fetch.authz);
        let others = self.fetches.iter().filter(|(_, other)| other.authz == fetch.authz);
        for conn in others.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.hang_up(conn);
        }
        self.outcomes.push_back((fetch.authz, result));
    }
}

/// Whether a response proves control of the name: 200, and the key authorization to the byte.
fn judge(response: &Response, expected: &[u8]) -> Result<(), (&'static str, String)> {
    if response.status != 200 {
        return Err(("unauthorized", format!("the status is {}", response.status)));
    }
    if response.body.len() >= BODY_BYTES_LIMIT {
        return Err(("incorrectResponse", format!("{} bytes are too many", response.body.len())));
    }
    if response.body != expected {
        let got = String::from_utf8_lossy(&response.body);
        return Err(("incorrectResponse", format!("the key authorization is wrong: {got:?}")));
    }
    Ok(())
}

fn connection(detail: String) -> Problem {
    Problem::new(400, "connection", detail)
}
