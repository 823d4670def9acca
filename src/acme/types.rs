//! The objects of RFC 8555 section 7.1 and its problem documents, read at the border: past this
//! module there is no JSON. Unknown members, statuses and challenge types are tolerated.

use std::fmt;

use serde_json::Value;

use crate::url::Url;

/// How much of a peer's text is kept, in characters.
const TEXT_CHARS_MAX: usize = 1000;
/// How much of an answer that is no JSON is shown, in characters.
const SHOWN_CHARS_MAX: usize = 60;
/// Authorizations of one order, challenges of one authorization, subproblems at most.
const LIST_MAX: usize = 200;
const ERROR_PREFIX: &str = "urn:ietf:params:acme:error:";

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

/// A problem document (RFC 7807, RFC 8555 section 6.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is done about it.
    pub kind: ProblemKind,
    /// The last part of its type, or the whole of a foreign one.
    pub name: String,
    /// The CA's own words, on one line.
    pub detail: String,
    /// Problems with single names.
    pub subproblems: Vec<Subproblem>,
}

/// A problem with one name of an order (section 6.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subproblem {
    /// The name, when the CA says it.
    pub identifier: Option<String>,
    /// The last part of its type.
    pub name: String,
    /// The CA's own words, on one line.
    pub detail: String,
}

/// The problems that are acted on, each in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// Sign again with the nonce that came along.
    BadNonce,
    /// Register anew.
    AccountDoesNotExist,
    /// Look at the order again.
    OrderNotReady,
    /// Come back later.
    RateLimited,
    /// The CA has trouble of its own.
    ServerInternal,
    /// Anything else: trying again at once would not help.
    Other,
}

impl Directory {
    /// Reads a directory.
    ///
    /// # Errors
    /// It is none; often it is a page of HTML.
    pub fn parse(body: &[u8]) -> Result<Directory, Malformed> {
        let object = Object::parse("directory", body)?;
        let meta = &object.value["meta"];
        Ok(Directory {
            new_nonce: object.url("newNonce")?,
            new_account: object.url("newAccount")?,
            new_order: object.url("newOrder")?,
            terms_of_service: meta["termsOfService"].as_str().map(one_line),
            external_account_required: meta["externalAccountRequired"].as_bool() == Some(true),
        })
    }
}

impl OrderObject {
    /// Reads an order.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(body: &[u8]) -> Result<OrderObject, Malformed> {
        let object = Object::parse("order", body)?;
        let urls = object.value["authorizations"].as_array().map_or(&[][..], Vec::as_slice);
        let url = |value: &Value| value.as_str().and_then(|text| Url::parse(text).ok());
        let authorizations: Option<Vec<Url>> = urls.iter().take(LIST_MAX).map(url).collect();
        Ok(OrderObject {
            status: object.status()?,
            authorizations: authorizations.ok_or_else(|| object.malformed("authorizations"))?,
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
        let challenges = object.value["challenges"].as_array().map_or(&[][..], Vec::as_slice);
        let challenges = || challenges.iter().take(LIST_MAX);
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
        let url = Url::parse(value["url"].as_str()?).ok()?;
        Some(Http01 { url, token, status: Status::of(value["status"].as_str()?) })
    }
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

impl Problem {
    /// Reads the body of an error answer; `None` where it is no problem document.
    pub fn parse(body: &[u8]) -> Option<Problem> {
        Problem::of(&serde_json::from_slice(body).ok()?)
    }

    fn of(value: &Value) -> Option<Problem> {
        let name = problem_name(value)?;
        let kind = match name.as_str() {
            "badNonce" => ProblemKind::BadNonce,
            "accountDoesNotExist" => ProblemKind::AccountDoesNotExist,
            "orderNotReady" => ProblemKind::OrderNotReady,
            "rateLimited" => ProblemKind::RateLimited,
            "serverInternal" => ProblemKind::ServerInternal,
            _ => ProblemKind::Other,
        };
        let list = value["subproblems"].as_array().map_or(&[][..], Vec::as_slice);
        let subproblems = list.iter().take(LIST_MAX).filter_map(Subproblem::of).collect();
        Some(Problem { kind, name, detail: detail(value), subproblems })
    }
}

impl Subproblem {
    fn of(value: &Value) -> Option<Subproblem> {
        let identifier = value["identifier"]["value"].as_str().map(one_line);
        Some(Subproblem { identifier, name: problem_name(value)?, detail: detail(value) })
    }
}

fn problem_name(value: &Value) -> Option<String> {
    let full = value.as_object()?.get("type")?.as_str()?;
    Some(one_line(full.strip_prefix(ERROR_PREFIX).unwrap_or(full)))
}

fn detail(value: &Value) -> String {
    value["detail"].as_str().map(one_line).unwrap_or_default()
}

/// A peer's text without control characters, not too long.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(TEXT_CHARS_MAX).map(plain).collect()
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

    fn url(&self, member: &'static str) -> Result<Url, Malformed> {
        let url = self.value[member].as_str().and_then(|text| Url::parse(text).ok());
        url.ok_or_else(|| self.malformed(member))
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

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)?;
        for subproblem in &self.subproblems {
            let identifier = subproblem.identifier.as_deref().unwrap_or("?");
            write!(f, "; {identifier}: {}: {}", subproblem.name, subproblem.detail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_unknown_members() {
        let body = br#"{"x1y2":"https://community.example/","newNonce":"https://ca/nonce",
            "newAccount":"https://ca/account","newOrder":"https://ca/order","revokeCert":"https://ca/r",
            "meta":{"termsOfService":"https://ca/terms","externalAccountRequired":true}}"#;
        let directory = Directory::parse(body).unwrap();
        assert_eq!(directory.new_order.to_string(), "https://ca/order");
        assert_eq!(directory.terms_of_service.as_deref(), Some("https://ca/terms"));
        assert!(directory.external_account_required);
    }

    #[test]
    fn a_page_of_html_is_shown() {
        let error = Directory::parse(b"<html>\r\n <h1>Down\x07</h1>").expect_err("HTML");
        assert_eq!(error.to_string().matches("<html> <h1>Down </h1>").count(), 1, "{error}");
        let error = Directory::parse(b"{\"newNonce\":\"ftp://x\"}").expect_err("no URL");
        assert_eq!(error.member, "newNonce");
    }

    #[test]
    fn orders() {
        let body = br#"{"status":"valid","authorizations":["https://ca/a/1"],"identifiers":[],
            "finalize":"https://ca/f","certificate":"https://ca/c","error":null,"new":{}}"#;
        let order = OrderObject::parse(body).unwrap();
        assert_eq!((order.status, order.authorizations.len()), (Status::Valid, 1));
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

    #[test]
    fn problems_with_subproblems() {
        let body =
            br#"{"type":"urn:ietf:params:acme:error:compound","detail":"two\nwrong","status":400,
            "subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"no",
            "identifier":{"type":"dns","value":"a.org"}},{"type":"x"},{}]}"#;
        let problem = Problem::parse(body).unwrap();
        assert_eq!(problem.kind, ProblemKind::Other);
        assert_eq!(problem.to_string(), "compound: two wrong; a.org: caa: no; ?: x: ");
        assert_eq!(Problem::parse(b"<html>"), None);
        assert_eq!(Problem::parse(b"{}"), None);
        let nonce = Problem::parse(br#"{"type":"urn:ietf:params:acme:error:badNonce"}"#).unwrap();
        assert_eq!(nonce.kind, ProblemKind::BadNonce);
    }
}
