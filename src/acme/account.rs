//! The account (RFC 8555 section 7.3) and what only it may ask for: what is sent, and what the answer
//! gives. Never shows a MAC key.

use std::fmt;

use serde_json::json;
use zeroize::Zeroizing;

use crate::http::Response;
use crate::keys::PublicKey;
use crate::url::Url;

use super::call::{Post, signed_url};
use super::jws::{base64url, external_account_binding, mac_key};
use super::types::{self, Directory, Malformed};

/// An account elsewhere that the CA's account is to be bound to (section 7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Binding {
    /// The CA's name for it.
    pub kid: String,
    /// What the CA gave out along with the name.
    pub mac_key: Zeroizing<Vec<u8>>,
}

impl Binding {
    /// A binding to `kid` by the key in `text`: base64url, padded or not, with blanks around it.
    pub fn parse(kid: &str, text: &str) -> Option<Binding> {
        Some(Binding { kid: kid.to_string(), mac_key: mac_key(text)? })
    }
}

/// What the CA says of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Names the account in every later request, exactly as the CA wrote it.
    pub url: String,
    /// The CA has just made it; else the key had it already.
    pub is_new: bool,
    /// The contacts that the CA has, when it shows them.
    pub contact: Option<Vec<String>>,
    /// Its status, where that keeps it from ordering: `deactivated` or `revoked`.
    pub ended: Option<&'static str>,
}

/// The request for a new account, or for the one that the key has already. The contact is left out
/// when there is none: an empty one is refused by some CAs.
pub fn registration(
    directory: &Directory,
    email: Option<&str>,
    binding: Option<(&Binding, &PublicKey)>,
) -> Post {
    let mut payload = json!({"termsOfServiceAgreed": true});
    if let Some(email) = email {
        payload["contact"] = json!([mailto(email)]);
    }
    if let Some((Binding { kid, mac_key }, key)) = binding {
        let url = signed_url(&directory.new_account);
        payload["externalAccountBinding"] = external_account_binding(kid, mac_key, &url, key);
    }
    Post { with_key: true, ..Post::json(&directory.new_account, payload) }
}

/// The question for the account that the key has; none is made (section 7.3.1).
pub fn question(directory: &Directory) -> Post {
    let payload = json!({"onlyReturnExisting": true});
    Post { with_key: true, ..Post::json(&directory.new_account, payload) }
}

/// The request that changes the account's contact, or takes it away (section 7.3.2).
pub fn contact_update(account: &Url, email: Option<&str>) -> Post {
    let contact: Vec<String> = email.into_iter().map(mailto).collect();
    Post::json(account, json!({"contact": contact}))
}

fn mailto(email: &str) -> String {
    format!("mailto:{email}")
}

/// Reads the answer to [`registration`] or [`question`].
///
/// # Errors
/// It does not say where the account is.
pub fn read(response: &Response) -> Result<Account, Malformed> {
    let location = response.head.headers.first("location");
    let url = location.filter(|text| types::location(text).is_some());
    let url = url.map(str::to_string).ok_or(Malformed {
        object: "account",
        member: "Location",
        near: types::beginning(&response.body),
    })?;
    let contact = types::contacts(&response.body);
    let ended = types::ended(&response.body);
    Ok(Account { url, is_new: response.head.status == 201, contact, ended })
}

/// The request that revokes a certificate for a reason of RFC 5280 section 5.3.1, by the account that
/// ordered it (RFC 8555 section 7.6); `None` where the CA revokes nothing.
pub fn revocation(directory: &Directory, leaf_der: &[u8], reason: u8) -> Option<Post> {
    let payload = json!({"certificate": base64url(leaf_der), "reason": reason});
    directory.revoke_cert.as_ref().map(|url| Post::json(url, payload))
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::jws::decode;
    use crate::http::{Headers, ResponseHead};

    fn directory(more: &str) -> Directory {
        let body = format!(
            r#"{{"newNonce":"https://ca/nonce","newAccount":"https://ca:444/account",
            "newOrder":"https://ca/order"{more}}}"#
        );
        Directory::parse(body.as_bytes(), &Url::parse("https://ca/dir").unwrap()).unwrap()
    }

    #[test]
    fn the_contact_is_there_or_left_out() {
        let with = registration(&directory(""), Some("a@b.org"), None);
        assert_eq!(with.payload, r#"{"contact":["mailto:a@b.org"],"termsOfServiceAgreed":true}"#);
        assert!(with.with_key);
        let without = registration(&directory(""), None, None);
        assert_eq!(without.payload, r#"{"termsOfServiceAgreed":true}"#);
    }

    #[test]
    fn a_question_makes_no_account() {
        let post = question(&directory(""));
        assert_eq!(post.payload, r#"{"onlyReturnExisting":true}"#);
        assert_eq!(
            (post.url.to_string().as_str(), post.with_key),
            ("https://ca:444/account", true)
        );
    }

    #[test]
    fn a_binding_is_for_the_url_that_the_request_is_signed_for() {
        let key = PublicKey::P256 { x: [1; 32], y: [2; 32] };
        let binding = Binding { kid: "kid-1".into(), mac_key: Zeroizing::new(b"hidden".to_vec()) };
        let post = registration(&directory(""), None, Some((&binding, &key)));
        let payload: serde_json::Value = serde_json::from_str(&post.payload).unwrap();
        assert_eq!(payload["termsOfServiceAgreed"], true);
        let protected = payload["externalAccountBinding"]["protected"].as_str().unwrap();
        let protected: serde_json::Value = serde_json::from_slice(&decode(protected)).unwrap();
        assert_eq!(protected["url"], "https://ca:444/account");
        assert_eq!(protected["kid"], "kid-1");
        assert_eq!(format!("{binding:?}"), r#"Binding { kid: "kid-1", .. }"#);
    }

    #[test]
    fn a_contact_is_changed_or_taken_away() {
        let account = Url::parse("https://ca/acct/1").unwrap();
        let change = contact_update(&account, Some("a@b.org"));
        assert_eq!(change.payload, r#"{"contact":["mailto:a@b.org"]}"#);
        assert_eq!((change.with_key, &change.url), (false, &account));
        assert_eq!(contact_update(&account, None).payload, r#"{"contact":[]}"#);
    }

    #[test]
    fn the_account_is_where_location_says() {
        let answer = |status: u16, location: Option<&str>, body: &str| {
            let mut headers = Headers::new();
            location.into_iter().for_each(|location| headers.push("Location", location));
            read(&Response { head: ResponseHead { status, headers }, body: body.into() })
        };
        assert_eq!(answer(201, None, "{}").unwrap_err().member, "Location");
        assert_eq!(answer(201, Some("acct/1"), "{}").unwrap_err().member, "Location");
        let url = "https://ca/acct/1".to_string();
        let new = Account { url: url.clone(), is_new: true, contact: None, ended: None };
        assert_eq!(answer(201, Some(&url), r#"{"status":"valid"}"#), Ok(new));
        let contact = Some(vec!["mailto:a@b.org".to_string()]);
        let old = Account { url: url.clone(), is_new: false, contact, ended: None };
        assert_eq!(answer(200, Some(&url), r#"{"contact":["mailto:a@b.org"]}"#), Ok(old));
        assert!(answer(200, Some(&url), "").unwrap().contact.is_none());
        let ended = answer(200, Some(&url), r#"{"status":"revoked"}"#).unwrap().ended;
        assert_eq!(ended, Some("revoked"));
    }

    #[test]
    fn a_certificate_is_revoked_where_the_ca_can() {
        assert_eq!(revocation(&directory(""), &[1, 2, 3], 4), None);
        let directory = directory(r#","revokeCert":"https://ca/revoke""#);
        let post = revocation(&directory, &[1, 2, 3], 4).unwrap();
        assert_eq!(post.payload, r#"{"certificate":"AQID","reason":4}"#);
        assert_eq!((post.url.to_string().as_str(), post.with_key), ("https://ca/revoke", false));
    }
}
