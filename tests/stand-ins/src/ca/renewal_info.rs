//! Renewal information (RFC 9773): what a certificate is called, when it should be renewed, and
//! which order replaces it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::jwk::base64url;
use super::objects::{OrderStatus, Replaced};
use super::problem::Problem;
use super::requests::missing;
use super::settings::RenewalInfoFault;
use super::{Answer, Ca, Issued};
use crate::date::rfc3339;
use crate::http::Reply;
use crate::peer::Time;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A certificate that lives shorter is renewed at half its life, another at two thirds.
const SHORT_LIVED_MS: i64 = 10 * DAY_MS;

impl Ca {
    /// Announces that the certificates which fit are about to be revoked: their windows lie in
    /// the past from now on.
    pub fn hasten(&mut self, now: Time, fits: impl Fn(&Issued) -> bool) {
        for index in 0..self.issued.len() {
            if fits(&self.issued[index]) {
                self.hasten_one(now, index);
            }
        }
    }

    /// The suggested window of a certificate, in milliseconds since 1970, whatever is wrong with
    /// the answers.
    pub fn window_ms(&self, index: usize) -> Option<(i64, i64)> {
        let issued = self.issued.get(index)?;
        Some(self.records[index].hastened.unwrap_or_else(|| usual_window_ms(issued)))
    }

    pub(super) fn hasten_one(&mut self, now: Time, index: usize) {
        let window = (now.unix_ms - 2 * DAY_MS, now.unix_ms - DAY_MS);
        self.records[index].hastened = Some(window);
    }

    /// RFC 9773 section 4.
    pub(super) fn renewal_info(&self, now: Time, target: &str) -> Result<Answer, Problem> {
        let settings = self.settings.renewal_info.as_ref().ok_or(missing())?;
        match settings.fault {
            RenewalInfoFault::Html => {
                let page = Reply::new(200, "text/html", "<html><body>Welcome</body></html>\n");
                return Ok(Answer::new(page, "fault"));
            }
            RenewalInfoFault::Unavailable => {
                return Ok(Answer::new(Reply::html(503, "Service Unavailable"), "fault"));
            }
            _ => {}
        }
        let cert_id = target.rsplit('/').next().unwrap_or_default();
        check_cert_id(cert_id)?;
        let unknown = Problem::new(404, "malformed", "no such certificate was issued here");
        let index = *self.by_cert_id.get(cert_id).ok_or(unknown)?;
        let (start_ms, end_ms) = self.window_ms(index).ok_or(missing())?;
        let end_ms = match settings.fault {
            RenewalInfoFault::EmptyWindow => start_ms,
            _ => end_ms,
        };
        let window = json!({ "start": rfc3339(start_ms), "end": rfc3339(end_ms) });
        let mut body = json!({ "suggestedWindow": window });
        if let Some(url) = &settings.explanation_url {
            body["explanationURL"] = json!(url);
        }
        let answer = Answer::json(200, &body, self.issued[index].names.join(" "));
        Ok(match settings.retry_after.value(now) {
            Some(value) if settings.fault != RenewalInfoFault::NoRetryAfter => {
                answer.with("Retry-After", value)
            }
            _ => answer,
        })
    }

    /// RFC 9773 section 5: the certificate that an order wants to replace. It must be the
    /// account's, have a name in common with the order, and not be replaced yet.
    pub(super) fn replaced(
        &self,
        now: Time,
        payload: &Map<String, Value>,
        account: usize,
        names: &[String],
    ) -> Result<Option<Replaced>, Problem> {
        let Some(cert_id) = payload.get("replaces") else { return Ok(None) };
        let cert_id = cert_id.as_str().ok_or(Problem::malformed("replaces is no string"))?;
        if self.settings.renewal_info.is_none() {
            return Err(Problem::malformed("renewal information is not offered here"));
        }
        if self.settings.refuse_replaces {
            return Err(Problem::malformed("replaces is not taken at present"));
        }
        check_cert_id(cert_id)?;
        let unknown = Problem::malformed("replaces names no certificate that was issued here");
        let certificate = *self.by_cert_id.get(cert_id).ok_or(unknown)?;
        let issued = &self.issued[certificate];
        if issued.account != account {
            return Err(Problem::unauthorized("replaces names another account's certificate"));
        }
        if !issued.names.iter().any(|name| names.contains(name)) {
            let detail = "the order and the certificate it replaces have no name in common";
            return Err(Problem::malformed(detail));
        }
        let order = self.records[certificate].replacing.map(|index| &self.orders[index]);
        let alive = |status| status != OrderStatus::Invalid;
        if order.is_some_and(|order| alive(order.status(&self.authzs, now))) {
            let detail = "another order replaces this certificate already";
            return Err(Problem::new(409, "alreadyReplaced", detail));
        }
        Ok(Some(Replaced { cert_id: cert_id.to_string(), certificate }))
    }
}

/// Around two thirds of the lifetime, one hundredth of it to both sides, in whole seconds.
fn usual_window_ms(issued: &Issued) -> (i64, i64) {
    let lifetime_ms = issued.not_after_ms + 1000 - issued.not_before_ms;
    let age_ms = match lifetime_ms < SHORT_LIVED_MS {
        true => lifetime_ms / 2,
        false => lifetime_ms / 3 * 2,
    };
    let (middle_ms, margin_ms) = (issued.not_before_ms + age_ms, (lifetime_ms / 100).max(1000));
    let whole = |ms: i64| ms.div_euclid(1000) * 1000;
    (whole(middle_ms - margin_ms), whole(middle_ms + margin_ms))
}

/// RFC 9773 section 4.1: key identifier and serial number, both unpadded base64url, the number as
/// DER writes it.
fn check_cert_id(text: &str) -> Result<(), Problem> {
    let parts = text.split_once('.');
    let decoded = parts.and_then(|(authority, serial)| {
        Some((base64url(authority)?, base64url(serial)?)).filter(|(one, other)| {
            !one.is_empty() && !other.is_empty() // An empty text is base64url of nothing.
        })
    });
    let Some((_, serial)) = decoded else {
        let detail = "this is not two parts of unpadded base64url (RFC 9773 section 4.1)";
        return Err(Problem::malformed(detail));
    };
    // X.690 section 8.3: as short as it can be, and the first bit is the sign.
    match serial.as_slice() {
        [0, second, ..] if *second < 0x80 => {
            Err(Problem::malformed("the serial number has a needless leading zero"))
        }
        [0x80..=0xff, ..] => Err(Problem::malformed(
            "the serial number lacks the leading zero of a positive number (RFC 9773 section 4.1)",
        )),
        _ => Ok(()),
    }
}

/// What a certificate is called; empty for one without the fields that this takes.
pub(super) fn cert_id(der: &[u8]) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return String::new() };
    let authority =
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.clone(),
            _ => None,
        });
    let Some(authority) = authority else { return String::new() };
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}", text(authority.0), text(certificate.raw_serial()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_identifier() {
        // RFC 9773 section 4.1.
        assert_eq!(check_cert_id("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"), Ok(()));
        for bad in [
            "",
            ".",
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ",
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ.",
            ".AIdlQyE",
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ=.AIdlQyE",
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE=",
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE.AA",
            // 87 65 43 21, its leading zero lost.
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ.h2VDIQ",
            // 00 07, with a zero too many.
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AAc",
        ] {
            assert_eq!(check_cert_id(bad).map_err(|problem| problem.status), Err(400), "{bad}");
        }
    }
}
