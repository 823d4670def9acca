//! From a ready order to a certificate, and its end: finalize, download, revoke (RFC 8555 sections
//! 7.4, 7.4.2 and 7.6).

use rcgen::{CertificateSigningRequestParams, DnType, DnValue, IsCa, PublicKeyData, SanType};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::handlers::{missing, read_only};
use super::jwk::{Jwk, base64url};
use super::objects::{OrderStatus, Stage};
use super::problem::Problem;
use super::{Answer, Ca, Issued, Post};
use crate::http::{Reply, Request};
use crate::peer::Time;

/// The shortest RSA key that is certified, in bytes of its encoding.
const RSA_BYTES_MIN: usize = 256;

impl Ca {
    pub(super) fn finalize(
        &mut self,
        now: Time,
        post: &Post,
        index: usize,
        account: usize,
    ) -> Result<Answer, Problem> {
        let order = self.own_order(index, account)?;
        let names = order.names.clone();
        let status = order.status(&self.authzs, now);
        if status != OrderStatus::Ready {
            let detail = format!("the order is {}, not ready", status.name());
            return Err(Problem::new(403, "orderNotReady", detail));
        }
        let wish = post.jws.object()?;
        let csr = wish.get("csr").and_then(Value::as_str).ok_or(Problem::malformed("no csr"))?;
        let csr = base64url(csr).ok_or(Problem::malformed("csr is not unpadded base64url"))?;
        let request = checked_request(&csr, &names, &post.key)?;
        let certificate = self.issue(now, &request, names.clone())?;
        self.orders[index].stage = match self.settings.processing_polls {
            0 => Stage::Valid { certificate },
            polls => Stage::Processing { polls, certificate },
        };
        let mut answer = Answer::json(200, &self.order_json(now, index), names.join(" "));
        if self.settings.finalize_location {
            answer = answer.with("Location", format!("{}/order/{index}", self.base));
        }
        Ok(match self.retry_after(now) {
            Some(value) if self.settings.processing_polls > 0 => answer.with("Retry-After", value),
            _ => answer,
        })
    }

    fn issue(
        &mut self,
        now: Time,
        request: &CertificateSigningRequestParams,
        names: Vec<String>,
    ) -> Result<usize, Problem> {
        let key = &request.public_key;
        let sans = &request.params.subject_alt_names;
        let sans = if sans.is_empty() { dns_names(&names)? } else { sans.clone() };
        let leaf = self
            .pki
            .issue(key, &sans, now, self.settings.lifetime_seconds)
            .map_err(|error| Problem::bad_csr(error.to_string()))?;
        self.issued.push(Issued {
            at: now,
            names,
            not_before_ms: leaf.not_before_ms,
            not_after_ms: leaf.not_after_ms,
            serial: leaf.serial,
            der: leaf.der,
            chain_pem: leaf.chain_pem,
            public_key: key.der_bytes().to_vec(),
            fetched: false,
            revoked: None,
        });
        Ok(self.issued.len() - 1)
    }

    pub(super) fn certificate(
        &mut self,
        request: &Request,
        post: &Post,
        index: usize,
        account: usize,
    ) -> Result<Answer, Problem> {
        read_only(post)?;
        let of_account = self.orders.iter().any(|order| {
            order.account == account
                && matches!(order.stage, Stage::Valid { certificate } if certificate == index)
        });
        let issued = self.issued.get_mut(index).ok_or(missing())?;
        if !of_account {
            return Err(Problem::unauthorized("the certificate is another account's"));
        }
        let acceptable = ["application/pem-certificate-chain", "application/*", "*/*"];
        let accept = request.header("Accept").unwrap_or("*/*");
        let media = |range: &str| range.split(';').next().unwrap_or_default().trim().to_string();
        if !accept.split(',').any(|range| acceptable.contains(&media(range).as_str())) {
            let detail = "a chain is application/pem-certificate-chain (RFC 8555 section 7.4.2)";
            return Err(Problem::new(406, "malformed", detail));
        }
        issued.fetched = true;
        let reply = Reply::new(200, acceptable[0], issued.chain_pem.as_str());
        Ok(Answer::new(reply, issued.names.join(" ")))
    }

    pub(super) fn revoke(&mut self, post: &Post) -> Result<Answer, Problem> {
        let wish = post.jws.object()?;
        let der = wish.get("certificate").and_then(Value::as_str).and_then(base64url);
        let der = der.ok_or(Problem::malformed("certificate is no unpadded base64url"))?;
        let index = self.issued.iter().position(|issued| issued.der == der);
        let index = index.ok_or(Problem::new(404, "malformed", "the certificate is not ours"))?;
        let reason = match wish.get("reason") {
            None => 0,
            Some(reason) => reason.as_u64().filter(|code| [0, 1, 4, 5].contains(code)).ok_or(
                Problem::new(400, "badRevocationReason", "the reasons here are 0, 1, 4 and 5"),
            )?,
        };
        let owner = self.orders.iter().find(|order| match order.stage {
            Stage::Processing { certificate, .. } | Stage::Valid { certificate } => {
                certificate == index
            }
            Stage::Open => false,
        });
        let issued = &mut self.issued[index];
        let allowed = match post.account {
            Some(account) => owner.is_some_and(|order| order.account == account),
            None => post.key.is_key_of_request(&issued.public_key),
        };
        if !allowed {
            return Err(Problem::unauthorized("neither its account nor its key signed this"));
        }
        if issued.revoked.is_some() {
            return Err(Problem::new(400, "alreadyRevoked", "it is revoked already"));
        }
        issued.revoked = Some(reason);
        Ok(Answer::new(Reply::empty(200), format!("{} reason {reason}", issued.names.join(" "))))
    }
}

fn dns_names(names: &[String]) -> Result<Vec<SanType>, Problem> {
    let name = |name: &String| name.as_str().try_into().map(SanType::DnsName);
    let names: Result<Vec<SanType>, rcgen::Error> = names.iter().map(name).collect();
    names.map_err(|error| Problem::bad_csr(error.to_string()))
}

/// Reads a certificate request (RFC 2986) and checks it against the order: signature, names, key.
fn checked_request(
    der: &[u8],
    ordered: &[String],
    account_key: &Jwk,
) -> Result<CertificateSigningRequestParams, Problem> {
    let bad = |detail: &str| Problem::bad_csr(detail);
    match X509CertificationRequest::from_der(der) {
        Ok(([], _)) => {}
        _ => return Err(bad("this is not one PKCS#10 request in DER")),
    }
    let request = CertificateSigningRequestParams::from_der(&der.into())
        .map_err(|error| bad(&error.to_string()))?;
    let mut names = Vec::new();
    for name in &request.params.subject_alt_names {
        match name {
            SanType::DnsName(name) => names.push(name.as_str().to_string()),
            _ => return Err(bad("a subject alternative name is no dns name")),
        }
    }
    let count = names.len();
    let common_name = request.params.distinguished_name.get(&DnType::CommonName);
    match common_name {
        None => {}
        Some(DnValue::Utf8String(name)) => names.push(name.clone()),
        Some(DnValue::PrintableString(name)) => names.push(name.as_str().to_string()),
        Some(_) => return Err(bad("the common name is in an odd alphabet")),
    }
    names.sort();
    names.dedup();
    if names.len() < count || names != ordered {
        let detail = format!("it is for {}, the order for {}", names.join(" "), ordered.join(" "));
        return Err(bad(&detail));
    }
    if request.params.is_ca != IsCa::NoCa && request.params.is_ca != IsCa::ExplicitNoCa {
        return Err(bad("it asks for a CA certificate"));
    }
    let key = request.public_key.der_bytes();
    if request.public_key.algorithm() == &rcgen::PKCS_RSA_SHA256 && key.len() < RSA_BYTES_MIN {
        return Err(bad("an RSA key has at least 2048 bits"));
    }
    // RFC 8555 section 11.1.
    if account_key.is_key_of_request(key) {
        return Err(bad("the key of a certificate must not be the account's"));
    }
    Ok(request)
}
