//! Registering an account (RFC 8555 section 7.3): what is sent, and what the answer gives.

use serde_json::json;

use crate::http::Response;
use crate::url::Url;

use super::call::Post;
use super::types::{Directory, Malformed};

/// The request for a new account, or for the one that the key has already. The contact is left out
/// when there is none: an empty one is refused by some CAs.
pub fn registration(directory: &Directory, email: Option<&str>) -> Post {
    let mut payload = json!({"termsOfServiceAgreed": true});
    if let Some(email) = email {
        payload["contact"] = json!([format!("mailto:{email}")]);
    }
    Post { with_key: true, ..Post::json(&directory.new_account, payload) }
}

/// The account's URL, which names it in every later request, exactly as the CA wrote it.
///
/// # Errors
/// The answer names none.
pub fn account_url(response: &Response) -> Result<String, Malformed> {
    let location = response.head.headers.first("location");
    let url = location.filter(|text| Url::parse(text).is_ok());
    url.map(str::to_string).ok_or(Malformed {
        object: "account",
        member: "Location",
        near: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Headers, ResponseHead};

    fn directory() -> Directory {
        let url = |path: &str| Url::parse(&format!("https://ca/{path}")).unwrap();
        Directory {
            new_nonce: url("nonce"),
            new_account: url("account"),
            new_order: url("order"),
            terms_of_service: None,
            external_account_required: false,
        }
    }

    #[test]
    fn the_contact_is_there_or_left_out() {
        let with = registration(&directory(), Some("a@b.org"));
        assert_eq!(with.payload, r#"{"contact":["mailto:a@b.org"],"termsOfServiceAgreed":true}"#);
        assert!(with.with_key);
        let without = registration(&directory(), None);
        assert_eq!(without.payload, r#"{"termsOfServiceAgreed":true}"#);
    }

    #[test]
    fn the_account_is_where_location_says() {
        let mut headers = Headers::new();
        let answer = |headers: &Headers| {
            let head = ResponseHead { status: 201, headers: headers.clone() };
            account_url(&Response { head, body: Vec::new() })
        };
        assert!(answer(&headers).is_err());
        headers.push("Location", "https://ca/acct/1");
        assert_eq!(answer(&headers), Ok("https://ca/acct/1".to_string()));
    }
}
