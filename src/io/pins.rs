//! Certificate pinning: `--acme-ca` and `--marathon-ca` may contain the server's own certificate, as
//! `openssl req -x509` creates it. That certificate is accepted while it is valid and for the server's name;
//! any other is verified by its issuers. Never accepts a server without the certificate's private key:
//! handshake signatures are verified as usual.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::pki::Leaf;
use crate::time;

/// See the module.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) issuers: Arc<WebPkiServerVerifier>,
    /// All certificates of the bundle.
    pub(super) pins: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.pins.contains(end_entity) {
            let issuers = &self.issuers;
            return issuers.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
        }
        is_valid(end_entity, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issuers.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issuers.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issuers.supported_verify_schemes()
    }
}

fn is_valid(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let wrong = |error| Err(Error::InvalidCertificate(error));
    let Some(leaf) = Leaf::parse(certificate) else {
        return wrong(CertificateError::BadEncoding);
    };
    let now = time::UnixTime::from_seconds(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    match () {
        () if now < leaf.not_before => wrong(CertificateError::NotValidYet),
        () if now > leaf.not_after => wrong(CertificateError::Expired),
        () => Ok(()),
    }
}
