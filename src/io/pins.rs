//! Certificate verification and pinning: `--acme-ca` and `--marathon-ca` may contain the server's own
//! certificate, as `openssl req -x509` creates it. That certificate is accepted while it is valid and for the
//! server's name; any other is verified by its issuers. Never accepts a server without the certificate's
//! private key.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::pki::Leaf;
use crate::pki::signatures::SIGNATURES;
use crate::pki::verification::{readable, verify_name, verify_server};
use crate::time;

/// Which certificates are accepted. Each variant verifies that the server has the private key.
#[derive(Debug)]
pub(super) enum Verifier {
    /// All: only which certificate is served is of interest.
    Any,
    /// Those that chain to `roots`, and `pins`: certificates that are accepted as a server's own.
    Trusted { roots: RootCertStore, pins: Vec<CertificateDer<'static>> },
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self {
            Verifier::Any => {}
            Verifier::Trusted { pins, .. } if pins.contains(end_entity) => {
                is_valid(end_entity, now)?;
                verify_name(end_entity, server_name)?;
            }
            Verifier::Trusted { roots, .. } => {
                verify_server(end_entity, intermediates, roots, server_name, now)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, &readable(certificate), signature, &SIGNATURES)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, &readable(certificate), signature, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
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
