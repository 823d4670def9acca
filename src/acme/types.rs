//! The objects of RFC 8555 section 7.1 and RFC 9773 section 4.2, read at the border: past this module
//! and that of problem documents there is no JSON. Unknown members, statuses and challenge types are
//! tolerated, never fatal.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::time::UnixTime;
use crate::url::{Scheme, Url};

pub use super::error_type::ProblemKind;
use super::problem::{LIST_MAX, one_line};
pub use super::problem::{Problem, Subproblem};

/// How much of an answer that is no JSON is shown, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// What a CA sent is not what RFC 8555 says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The object that was expected.
    pub object: &'static str,
    /// What is missing or wrong.
    pub member: &'static str,
    /// How the answer begins.
    pub near: String,
}

/// A directory (section 7.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where nonces come from.
    pub new_nonce: Url,
    /// Where accounts are made.
    pub new_account: Url,
    /// Where orders are made.
    pub new_order: Url,
    /// Where certificates are revoked.
    pub revoke_cert: Option<Url>,
    /// Where the CA says when it wants a certificate renewed (RFC 9773).
    pub renewal_info: Option<Url>,
    /// The profiles that the CA offers: name and description (draft-ietf-acme-profiles).
    pub profiles: BTreeMap<String, String>,
    /// What an account agrees to.
    pub terms_of_service: Option<String>,
    /// Accounts need a binding that the CA gave out elsewhere.
    pub external_account_required: bool,
}

/// The states of orders, authorizations and challenges (section 7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
    /// Deactivated, expired, revoked, or one that no RFC knows.
    Other,
}

/// An order (section 7.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderObject {
    /// Where it stands.
    pub status: Status,
    /// One for each name.
    pub authorizations: Vec<Url>,
    /// The names, as the CA writes them; empty when it does not say.
    pub identifiers: Vec<String>,
    /// The certificate that the CA takes it to replace (RFC 9773 section 5).
    pub replaces: Option<String>,
    /// Where the certificate request goes.
    pub finalize: Url,
    /// Where the certificate is, once the order is valid.
    pub certificate: Option<Url>,
    /// Why it is invalid.
    pub error: Option<Problem>,
}

/// An authorization (section 7.1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationObject {
    /// The name it is for.
    pub identifier: String,
    /// Where it stands.
    pub status: Status,
    /// The http-01 challenge (section 8.3), when the CA offers it.
    pub http01: Option<Http01>,
    /// Why a challenge failed, of whatever type.
    pub error: Option<Problem>,
}

/// An http-01 challenge (section 8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http01 {
    /// Where to say that it is answered.
    pub url: Url,
    /// Checked to be base64url, so that it can be a path and a file name.
    pub token: String,
    /// Where it stands.
    pub status: Status,
}

/// When a CA wants a certificate renewed (RFC 9773 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalInfoObject {
    /// The window's start.
    pub start: UnixTime,
    /// The window's end, maybe before its start.
    pub end: UnixTime,
    /// The URL of a page that says why.
    pub explanation: Option<String>,
}

impl Directory {
    /// Reads the directory that is at `from`. A resource that may not be asked from there counts as
    /// missing ([`may_be_asked`]).
    ///
    /// # Errors
    /// It is none; often it is a page of HTML.
    pub fn parse(body: &[u8], from: &Url) -> Result<Directory, Malformed> {
        let object = Object::parse("directory", body)?;
        let meta = &object.value["meta"];
        let optional =
            |member: &str| object.value[member].as_str().and_then(|text| resource(from, text));
        let required = |member| optional(member).ok_or_else(|| object.malformed(member));
        Ok(Directory {
            new_nonce: required("newNonce")?,
            new_account: required("newAccount")?,
            new_order: required("newOrder")?,
            revoke_cert: optional("revokeCert"),
            renewal_info: optional("renewalInfo"),
            profiles: profiles(&meta["profiles"]),
            terms_of_service: meta["termsOfService"].as_str().map(one_line),
            external_account_required: meta["externalAccountRequired"].as_bool() == Some(true),
        })
    }
}

fn profiles(value: &Value) -> BTreeMap<String, String> {
    let described = |(name, value): (&String, &Value)| {
        (one_line(name), value.as_str().map(one_line).unwrap_or_default())
    };
    let mut profiles = BTreeMap::new();
    profiles.extend(value.as_object().into_iter().flatten().take(LIST_MAX).map(described));
    profiles
}

impl OrderObject {
    /// Reads an order.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(body: &[u8]) -> Result<OrderObject, Malformed> {
        let object = Object::parse("order", body)?;
        let authorizations: Option<Vec<Url>> = object.list("authorizations").map(url).collect();
        let identifier = |value: &Value| value["value"].as_str().map(one_line);
        Ok(OrderObject {
            status: object.status()?,
            authorizations: authorizations.ok_or_else(|| object.malformed("authorizations"))?,
            identifiers: object.list("identifiers").filter_map(identifier).collect(),
            replaces: object.value["replaces"].as_str().map(one_line),
            finalize: object.url("finalize")?,
            certificate: url(&object.value["certificate"]),
            error: Problem::of(&object.value["error"]),
        })
    }
}

impl AuthorizationObject {
    /// Reads an authorization.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(body: &[u8]) -> Result<AuthorizationObject, Malformed> {
        let object = Object::parse("authorization", body)?;
        let identifier = object.value["identifier"]["value"].as_str();
        let challenges = || object.list("challenges");
        Ok(AuthorizationObject {
            identifier: one_line(identifier.ok_or_else(|| object.malformed("identifier"))?),
            status: object.status()?,
            http01: challenges().find_map(Http01::of),
            error: challenges().find_map(|challenge| Problem::of(&challenge["error"])),
        })
    }
}

impl Http01 {
    fn of(value: &Value) -> Option<Http01> {
        if value["type"].as_str() != Some("http-01") {
            return None;
        }
        let token = value["token"].as_str().filter(|token| is_token(token))?.to_string();
        let url = url(&value["url"])?;
        Some(Http01 { url, token, status: Status::of(value["status"].as_str()?) })
    }
}

impl RenewalInfoObject {
    /// Reads renewal information.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(body: &[u8]) -> Result<RenewalInfoObject, Malformed> {
        let object = Object::parse("renewal information", body)?;
        let window = &object.value["suggestedWindow"];
        let time = |member: &'static str| {
            let time = window[member].as_str().and_then(UnixTime::from_rfc3339);
            time.ok_or_else(|| object.malformed(member))
        };
        let page = object.value["explanationURL"].as_str();
        Ok(RenewalInfoObject {
            start: time("start")?,
            end: time("end")?,
            explanation: page.filter(|text| Url::parse(text).is_ok()).map(one_line),
        })
    }
}

/// The contacts of an account (section 7.1.2), when the CA shows them.
pub(super) fn contacts(body: &[u8]) -> Option<Vec<String>> {
    let account: Value = serde_json::from_slice(body).ok()?;
    let list = account["contact"].as_array()?.iter().take(LIST_MAX);
    Some(list.filter_map(Value::as_str).map(one_line).collect())
}

/// The status of an account that is of no use any more (section 7.1.6), as the CA tells it.
pub(super) fn ended(body: &[u8]) -> Option<&'static str> {
    let account: Value = serde_json::from_slice(body).ok()?;
    let status = account["status"].as_str()?;
    ["deactivated", "revoked"].into_iter().find(|ended| *ended == status)
}

fn url(value: &Value) -> Option<Url> {
    value.as_str().and_then(location)
}

/// The URL of a resource, which may be asked from some directory. The sender of a request there checks
/// it against the one in use.
pub(super) fn location(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(Url::is_private)
}

/// The URL of a resource that may be asked from the directory, or from another resource, at `from`.
pub(super) fn resource(from: &Url, text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| may_be_asked(from, url))
}

/// Whether a resource of the CA whose directory is at `directory` may be asked: by `https`, as RFC 8555
/// section 6.1 requires; by plain `http` only on this machine, and only where the directory itself is, at
/// the same port. Otherwise any CA could have this machine's other servers asked.
pub fn may_be_asked(directory: &Url, resource: &Url) -> bool {
    let (at, origin) = (directory.origin(), resource.origin());
    let is_beside =
        || at.scheme == Scheme::Http && directory.is_private() && at.port == origin.port;
    origin.scheme == Scheme::Https || (resource.is_private() && is_beside())
}

fn is_token(token: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=128).contains(&token.len()) && token.bytes().all(fits)
}

impl Status {
    fn of(text: &str) -> Status {
        match text {
            "pending" => Status::Pending,
            "ready" => Status::Ready,
            "processing" => Status::Processing,
            "valid" => Status::Valid,
            "invalid" => Status::Invalid,
            _ => Status::Other,
        }
    }
}

/// How an answer begins, for the operator.
pub(super) fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().take(20).collect();
    one_line(&words.join(" ")).chars().take(SHOWN_CHARS_MAX).collect()
}

/// A JSON object on its way to become one of ours.
struct Object {
    name: &'static str,
    value: Value,
    near: String,
}

impl Object {
    fn parse(name: &'static str, body: &[u8]) -> Result<Object, Malformed> {
        let near = beginning(body);
        match serde_json::from_slice::<Value>(body) {
            Ok(value) if value.is_object() => Ok(Object { name, value, near }),
            _ => Err(Malformed { object: name, member: "JSON", near }),
        }
    }

    fn malformed(&self, member: &'static str) -> Malformed {
        Malformed { object: self.name, member, near: self.near.clone() }
    }

    /// The items of a list; none when it is missing.
    fn list(&self, member: &'static str) -> impl Iterator<Item = &Value> {
        let list = self.value[member].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().take(LIST_MAX)
    }

    fn url(&self, member: &'static str) -> Result<Url, Malformed> {
        url(&self.value[member]).ok_or_else(|| self.malformed(member))
    }

    fn status(&self) -> Result<Status, Malformed> {
        self.value["status"].as_str().map(Status::of).ok_or_else(|| self.malformed("status"))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Malformed { object, member, near } = self;
        write!(f, "the CA's {object} has no proper {member}; it begins with {near:?}")
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8]) -> Result<Directory, Malformed> {
        Directory::parse(body, &Url::parse("https://ca/directory").unwrap())
    }

    #[test]
    fn plain_http_is_for_a_directory_on_this_machine_and_its_port() {
        let may = |directory: &str, resource: &str| {
            may_be_asked(&Url::parse(directory).unwrap(), &Url::parse(resource).unwrap())
        };
        for (directory, resource) in [
            ("https://ca/directory", "https://ca/x"),
            ("https://ca/directory", "https://other:444/x"),
            ("http://127.0.0.1:14000/dir", "http://127.0.0.1:14000/x"),
            ("http://localhost:14000/dir", "http://127.0.0.1:14000/x"),
            ("http://[::1]:14000/dir", "http://localhost:14000/x"),
            ("http://127.0.0.1:14000/dir", "https://other/x"),
        ] {
            assert!(may(directory, resource), "{directory} {resource}");
        }
        for (directory, resource) in [
            ("https://ca/directory", "http://ca/x"),
            ("https://ca/directory", "http://127.0.0.1:9090/x"),
            ("https://127.0.0.1/directory", "http://127.0.0.1:443/x"),
            ("https://ca:8080/directory", "http://localhost:8080/x"),
            ("http://127.0.0.1:14000/dir", "http://127.0.0.1:9090/x"),
            ("http://127.0.0.1:14000/dir", "http://10.0.0.1:14000/x"),
            ("http://10.0.0.1:14000/dir", "http://127.0.0.1:14000/x"),
        ] {
            assert!(!may(directory, resource), "{directory} {resource}");
        }
    }

    #[test]
    fn a_directorys_resources_on_this_machine_count_only_where_it_is_itself() {
        let plain = br#"{"newNonce":"https://ca/n","newAccount":"http://127.0.0.1:9090/a",
            "newOrder":"https://ca/o"}"#;
        assert_eq!(parse(plain).expect_err("elsewhere").member, "newAccount");
        let plain =
            br#"{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o",
            "revokeCert":"http://127.0.0.1:9090/r","renewalInfo":"http://localhost:9090/i"}"#;
        let found = parse(plain).unwrap();
        assert_eq!((found.revoke_cert, found.renewal_info), (None, None));
    }

    #[test]
    fn a_directory_with_unknown_members() {
        let body = br#"{"x1y2":"https://community.example/","newNonce":"https://ca/nonce",
            "newAccount":"https://ca/account","newOrder":"https://ca/order","revokeCert":"https://ca/r",
            "renewalInfo":"https://ari/info","meta":{"termsOfService":"https://ca/terms",
            "externalAccountRequired":true,"profiles":{"classic":"The\nusual","x":7}}}"#;
        let directory = parse(body).unwrap();
        assert_eq!(directory.new_order.to_string(), "https://ca/order");
        assert_eq!(directory.terms_of_service.as_deref(), Some("https://ca/terms"));
        assert!(directory.external_account_required);
        let text = |url: Option<Url>| url.map(|url| url.to_string());
        assert_eq!(text(directory.revoke_cert).as_deref(), Some("https://ca/r"));
        assert_eq!(text(directory.renewal_info).as_deref(), Some("https://ari/info"));
        let profiles: Vec<(&str, &str)> =
            directory.profiles.iter().map(|(name, text)| (&**name, &**text)).collect();
        assert_eq!(profiles, [("classic", "The usual"), ("x", "")]);
        let bare = br#"{"newNonce":"https://ca/n","newAccount":"https://ca/a",
            "newOrder":"https://ca/o","renewalInfo":"no URL"}"#;
        let bare = parse(bare).unwrap();
        assert_eq!((bare.revoke_cert, bare.renewal_info), (None, None));
        assert!(bare.profiles.is_empty());
    }

    #[test]
    fn a_page_of_html_is_shown() {
        let error = parse(b"<html>\r\n <h1>Down\x07</h1>").expect_err("HTML");
        assert_eq!(error.to_string().matches("<html> <h1>Down </h1>").count(), 1, "{error}");
        let error = parse(b"{\"newNonce\":\"ftp://x\"}").expect_err("no URL");
        assert_eq!(error.member, "newNonce");
        let plain = br#"{"newNonce":"https://ca/n","newAccount":"http://ca/a"}"#;
        assert_eq!(parse(plain).expect_err("no https").member, "newAccount");
    }

    #[test]
    fn orders() {
        let body = br#"{"status":"valid","authorizations":["https://ca/a/1"],
            "identifiers":[{"type":"dns","value":"a.org"},{"type":"dns"},7],"replaces":"a.b",
            "finalize":"https://ca/f","certificate":"https://ca/c","error":null,"new":{}}"#;
        let order = OrderObject::parse(body).unwrap();
        assert_eq!((order.status, order.authorizations.len()), (Status::Valid, 1));
        assert_eq!(
            (order.identifiers.as_slice(), order.replaces.as_deref()),
            (&["a.org".into()][..], Some("a.b"))
        );
        assert_eq!(order.certificate.unwrap().to_string(), "https://ca/c");
        let error = |body: &[u8]| OrderObject::parse(body).expect_err("malformed").member;
        assert_eq!(error(br#"{"status":7,"authorizations":[],"finalize":"https://f"}"#), "status");
        assert_eq!(error(br#"{"status":"valid","authorizations":[7]}"#), "authorizations");
        assert_eq!(error(b"[]"), "JSON");
    }

    #[test]
    fn authorizations_with_challenges_of_any_kind() {
        let body =
            br#"{"status":"pending","identifier":{"type":"dns","value":"a.org"},"challenges":[
            {"type":"dns-account-01"},{"type":"http-01","url":"https://ca/x","status":"pending"},
            {"type":"http-01","url":"https://ca/y","status":"pending","token":"../etc"},
            {"type":"http-01","url":"https://ca/z","status":"pending","token":"Ab-_9"}]}"#;
        let authorization = AuthorizationObject::parse(body).unwrap();
        assert_eq!(authorization.identifier, "a.org");
        let http01 = authorization.http01.unwrap();
        assert_eq!(
            (http01.url.to_string().as_str(), http01.token.as_str()),
            ("https://ca/z", "Ab-_9")
        );
        assert_eq!(authorization.error, None);
    }

    /// RFC 9773 section 4.2.
    #[test]
    fn renewal_information() {
        let body = br#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z",
            "end":"2025-01-03T04:00:00Z"},"explanationURL":"https://acme.example.com/docs/ari#x"}"#;
        let info = RenewalInfoObject::parse(body).unwrap();
        assert_eq!(info.start.to_string(), "2025-01-02T04:00:00Z");
        assert_eq!(info.end.to_string(), "2025-01-03T04:00:00Z");
        assert_eq!(info.explanation.as_deref(), Some("https://acme.example.com/docs/ari#x"));
        let error = |body: &[u8]| RenewalInfoObject::parse(body).expect_err("malformed").member;
        assert_eq!(error(br#"{"suggestedWindow":{"end":"2025-01-03T04:00:00Z"}}"#), "start");
        assert_eq!(
            error(br#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"soon"}}"#),
            "end"
        );
        assert_eq!(error(b"{}"), "start");
    }

    #[test]
    fn an_account_has_ended_where_the_ca_says_so() {
        let found = |body: &str| ended(body.as_bytes());
        assert_eq!(found(r#"{"status":"deactivated"}"#), Some("deactivated"));
        assert_eq!(found(r#"{"status":"revoked"}"#), Some("revoked"));
        for body in [r#"{"status":"valid"}"#, r#"{"status":"active"}"#, r#"{"status":7}"#, "{}", ""]
        {
            assert_eq!(found(body), None, "{body}");
        }
    }

    #[test]
    fn contacts_are_shown_or_not() {
        let both = contacts(br#"{"contact":["mailto:a@b.org",7]}"#);
        assert_eq!(both, Some(vec!["mailto:a@b.org".to_string()]));
        assert_eq!(contacts(br#"{"contact":[]}"#), Some(vec![]));
        assert_eq!((contacts(b"{}"), contacts(b"<html>")), (None, None));
    }
}
