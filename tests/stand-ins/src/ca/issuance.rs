//! From a ready order to a certificate, and its end: finalize, download, revoke (RFC 8555 sections
//! 7.4, 7.4.2 and 7.6).

use rcgen::{CertificateSigningRequestParams, DnType, DnValue, IsCa, PublicKeyData, SanType};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::jwk::{Jwk, base64url};
use super::objects::{Order, OrderStatus, Stage};
use super::problem::{Problem, Subproblem};
use super::renewal_info::cert_id;
use super::requests::{missing, read_only};
use super::{Answer, Ca, Issued, Post, Record};
use crate::http::{Body, Reply, Request};
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
        let payload = post.jws.object()?;
        let csr = payload.get("csr").and_then(Value::as_str).ok_or(Problem::malformed("no csr"))?;
        let csr = base64url(csr).ok_or(Problem::malformed("csr is not unpadded base64url"))?;
        let request = checked_request(&csr, &names, &post.key)?;
        self.check_caa(index)?;
        let certificate = self.issue(now, &request, index)?;
        self.orders[index].stage = match self.settings.processing_polls {
            0 if !self.hangs(&names) => Stage::Valid { certificate },
            polls => Stage::Processing { polls, certificate },
        };
        let processing = self.settings.processing_polls > 0 || self.hangs(&names);
        let mut answer = Answer::json(200, &self.order_json(now, index), names.join(" "));
        if self.settings.finalize_location {
            answer = answer.with("Location", format!("{}/order/{index}", self.base));
        }
        Ok(match self.retry_after(now) {
            Some(value) if processing => answer.with("Retry-After", value),
            _ => answer,
        })
    }

    fn issue(
        &mut self,
        now: Time,
        request: &CertificateSigningRequestParams,
        order: usize,
    ) -> Result<usize, Problem> {
        let Order { account, names, profile, replaces, .. } = self.orders[order].clone();
        let lifetime_seconds = match &profile {
            None => self.settings.lifetime_seconds,
            Some(name) => {
                let gone = Problem::new(400, "invalidProfile", "the profile is gone");
                self.settings.profiles.get(name).ok_or(gone)?.lifetime_seconds
            }
        };
        let key = &request.public_key;
        let sans = &request.params.subject_alt_names;
        let sans = if sans.is_empty() { dns_names(&names)? } else { sans.clone() };
        self.pki.set_high_serials(self.settings.renewal_info.is_some());
        let leaf = self
            .pki
            .issue(key, &sans, now, lifetime_seconds)
            .map_err(|error| Problem::bad_csr(error.to_string()))?;
        let index = self.issued.len();
        let cert_id = cert_id(&leaf.der);
        self.by_cert_id.insert(cert_id.clone(), index);
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
            cert_id,
            replaced_by: None,
            profile,
            account,
        });
        let key = key.clone();
        self.records.push(Record { order, key, replacing: None, hastened: None });
        if let Some(replaced) = replaces {
            self.issued[replaced.certificate].replaced_by = Some(index);
        }
        self.count_certificate(now, order);
        Ok(index)
    }

    /// RFC 8659, in place of DNS: a name that turns out to forbid this CA makes an end of the
    /// order.
    fn check_caa(&mut self, index: usize) -> Result<(), Problem> {
        let order = &mut self.orders[index];
        let forbidden = |name: &&String| self.settings.caa_names.contains(*name);
        let names: Vec<String> = order.names.iter().filter(forbidden).cloned().collect();
        let Some(first) = names.first() else { return Ok(()) };
        let detail = |name: &str| format!("the CAA record of {name} forbids it");
        let mut problem = Problem::new(403, "caa", detail(first));
        if self.settings.subproblems {
            let subproblem = |name: String| Subproblem { kind: "caa", detail: detail(&name), name };
            problem = problem.with_subproblems(names.into_iter().map(subproblem).collect());
        }
        order.stage = Stage::Failed { error: problem.clone() };
        Err(problem)
    }

    pub(super) fn certificate(
        &mut self,
        request: &Request,
        post: &Post,
        (index, alternate): (usize, Option<u8>),
        account: usize,
    ) -> Result<Answer, Problem> {
        read_only(post)?;
        let issued = self.issued.get_mut(index).ok_or(missing())?;
        let done = matches!(self.orders[self.records[index].order].stage, Stage::Valid { .. });
        if issued.account != account || !done {
            return Err(Problem::unauthorized("the certificate is another account's"));
        }
        let acceptable = ["application/pem-certificate-chain", "application/*", "*/*"];
        let accept = request.header("Accept").unwrap_or("*/*");
        let media = |range: &str| range.split(';').next().unwrap_or_default().trim().to_string();
        if !accept.split(',').any(|range| acceptable.contains(&media(range).as_str())) {
            let detail = "a chain is application/pem-certificate-chain (RFC 8555 section 7.4.2)";
            return Err(Problem::new(406, "malformed", detail));
        }
        if alternate.is_some_and(|chain| chain > self.settings.alternates) {
            return Err(missing());
        }
        issued.fetched = true;
        let note = issued.names.join(" ");
        let reply = match alternate {
            Some(chain) => {
                let chain = self.pki.alternate_chain_pem(&issued.der, chain);
                Reply::new(200, acceptable[0], chain)
            }
            None => {
                let mut reply = Reply::new(200, acceptable[0], issued.chain_pem.as_str());
                if self.settings.chain_until_close {
                    let certificates =
                        issued.chain_pem.split_inclusive("-----END CERTIFICATE-----\n");
                    reply.body = Body::UntilClose(certificates.map(|it| it.into()).collect());
                }
                self.with_alternates(reply, index)
            }
        };
        Ok(Answer::new(reply, note))
    }

    /// RFC 8555 section 7.4.2: the other chains, two to a field (RFC 8288 section 3 lets a field
    /// hold several).
    fn with_alternates(&self, mut reply: Reply, index: usize) -> Reply {
        let link = |chain: &u8| {
            format!("<{}/cert/{index}/alternate/{chain}>;rel=\"alternate\"", self.base)
        };
        let chains: Vec<u8> = (1..=self.settings.alternates).collect();
        for pair in chains.chunks(2) {
            let links: Vec<String> = pair.iter().map(link).collect();
            reply = reply.with("Link", links.join(", "));
        }
        reply
    }

    pub(super) fn revoke(&mut self, now: Time, post: &Post) -> Result<Answer, Problem> {
        let payload = post.jws.object()?;
        let der = payload.get("certificate").and_then(Value::as_str).and_then(base64url);
        let der = der.ok_or(Problem::malformed("certificate is no unpadded base64url"))?;
        let index = self.issued.iter().position(|issued| issued.der == der);
        let index = index.ok_or(Problem::new(404, "malformed", "the certificate is not ours"))?;
        let reason = match payload.get("reason") {
            None => 0,
            Some(reason) => reason.as_u64().filter(|code| [0, 1, 4, 5].contains(code)).ok_or(
                Problem::new(400, "badRevocationReason", "the reasons here are 0, 1, 4 and 5"),
            )?,
        };
        let issued = &mut self.issued[index];
        let allowed = match post.account {
            Some(account) => issued.account == account,
            None => post.key.is_key_of_request(&issued.public_key),
        };
        if !allowed {
            return Err(Problem::unauthorized("neither its account nor its key signed this"));
        }
        if issued.revoked.is_some() {
            return Err(Problem::new(400, "alreadyRevoked", "it is revoked already"));
        }
        issued.revoked = Some(reason);
        let note = format!("{} reason {reason}", issued.names.join(" "));
        self.hasten_one(now, index);
        Ok(Answer::new(Reply::empty(200), note))
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
