//! Glances at peers that speak TLS: which certificate each shows for a name. Nothing is said to them
//! beyond the handshake, and whom the certificate is from does not matter here.

use std::net::SocketAddr;
use std::time::Duration;

use super::RequestId;
use super::error::{Attempt, ClientError, Fault};
use super::outbox::Outbox;
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::machine::{CloseReason, ConnId, Tls, Trust};
use crate::time::Instant;
use crate::url::Host;

/// The limit of a glance, from the connection to the end of the handshake.
pub const GLANCE_TIMEOUT: Duration = Duration::from_secs(5);

/// What came of a glance: the peer's certificate as DER, or why there was none.
pub(super) type Sight = Result<Vec<u8>, ClientError>;

/// The glances under way.
#[derive(Debug, Default)]
pub(super) struct Glances(FlatMap<RequestId, Glance>);

#[derive(Debug)]
struct Glance {
    conn: ConnId,
    address: SocketAddr,
    name: Domain,
    deadline: Instant,
}

impl Glance {
    fn failed(self, reason: Option<CloseReason>) -> ClientError {
        let Glance { address, name, .. } = self;
        let fault = Fault::Connect(vec![Attempt { address, reason }]);
        ClientError { peer: format!("https://{name}"), proxy: None, address: None, fault }
    }
}

impl Glances {
    /// Connects to an address, with that name as SNI.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        id: RequestId,
        (address, name): (SocketAddr, &Domain),
        outbox: &mut Outbox,
    ) {
        let tls = Tls { server: Host::Name(name.to_string()), trust: Trust::Unjudged };
        let conn = outbox.connect(address, Some(tls));
        let (name, deadline) = (name.clone(), now + GLANCE_TIMEOUT);
        self.0.insert(id, Glance { conn, address, name, deadline });
    }

    /// Gives one up.
    pub(super) fn cancel(&mut self, id: RequestId, outbox: &mut Outbox) {
        if let Some(glance) = self.0.remove(&id) {
            outbox.close(glance.conn);
        }
    }

    /// Gives all up.
    pub(super) fn close_all(&mut self, outbox: &mut Outbox) {
        std::mem::take(&mut self.0).into_iter().for_each(|(_, glance)| outbox.close(glance.conn));
    }

    /// A peer showed its certificate.
    pub(super) fn presented(
        &mut self,
        conn: ConnId,
        der: Vec<u8>,
        outbox: &mut Outbox,
    ) -> Option<(RequestId, Sight)> {
        let (id, _) = self.take(conn)?;
        outbox.close(conn);
        Some((id, Ok(der)))
    }

    /// A connection ended before that, or stands without TLS having shown anything.
    pub(super) fn closed(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
    ) -> Option<(RequestId, Sight)> {
        let (id, glance) = self.take(conn)?;
        Some((id, Err(glance.failed(Some(reason)))))
    }

    /// One that has taken too long, as long as there is one.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        outbox: &mut Outbox,
    ) -> Option<(RequestId, Sight)> {
        let late = self.0.iter().find(|(_, glance)| glance.deadline <= now).map(|(id, _)| *id)?;
        let glance = self.0.remove(&late)?;
        outbox.close(glance.conn);
        Some((late, Err(glance.failed(None))))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().map(|glance| glance.deadline).min()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, conn: ConnId) -> Option<(RequestId, Glance)> {
        let id = self.0.iter().find(|(_, glance)| glance.conn == conn).map(|(id, _)| *id)?;
        self.0.remove(&id).map(|glance| (id, glance))
    }
}
