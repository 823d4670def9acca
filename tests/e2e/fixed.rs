//! A server that answers by a rule of the test's own: for what no well-behaved peer would say.

use stand_ins::http::{Reply, Request, Server};
use stand_ins::peer::{Action, DialError, Peer, Time};

/// What is answered to a request.
pub(crate) type Rule = Box<dyn FnMut(&Request) -> Reply + Send>;

/// The server.
pub(crate) struct Fixed {
    server: Server,
    rule: Rule,
}

impl Fixed {
    pub(crate) fn new(rule: impl FnMut(&Request) -> Reply + Send + 'static) -> Fixed {
        Fixed { server: Server::default(), rule: Box::new(rule) }
    }
}

impl Peer for Fixed {
    fn accepted(&mut self, _now: Time, conn: u64) {
        self.server.accepted(conn);
    }

    fn dialed(&mut self, _now: Time, _conn: u64, _result: Result<(), DialError>) {}

    fn received(&mut self, _now: Time, conn: u64, bytes: &[u8]) {
        self.server.received(conn, bytes);
        while let Some(request) = self.server.next_request() {
            let reply = (self.rule)(&request);
            self.server.reply(request.conn, &reply);
        }
    }

    fn closed(&mut self, _now: Time, conn: u64) {
        self.server.closed(conn);
    }

    fn timeout(&mut self, now: Time) {
        self.server.timeout(now.mono_ms);
    }

    fn next_timeout(&self) -> Option<u64> {
        self.server.next_timeout()
    }

    fn poll(&mut self) -> Option<Action> {
        self.server.poll()
    }
}
