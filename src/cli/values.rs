//! From texts to values: each option's check, with the fix in its error.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{
    ACME, Config, DOMAINS_MAX, ExternalAccount, Listen, LogFormat, Mode, PORT, SkipRouteCheck,
};
use crate::domain::Domain;
use crate::hint::Hint;
use crate::keys::KeyType;
use crate::log::Level;
use crate::url::{Host, Url};

use super::Words;
use super::error::{Item, UsageError, items, masked, without_password, wrong};
use super::limits;
use super::options;
use super::shared::Shared;
use super::verify;

const ACME_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
/// What ends a user or a password where it stands as it is.
const ESCAPES: &str = ", and , / ? # in a user or password as %2C %2F %3F %23";
/// No time-out is longer, in seconds: ten years.
const SECONDS_MAX: f64 = 315_360_000.0;
/// Nothing is kept for longer, in days: a hundred years.
const DAYS_MAX: f64 = 36_500.0;
const DAY_SECONDS: f64 = 86_400.0;
/// The longest name of a profile, a chain or an account elsewhere, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// The configuration that the words make, with what the variables say that others read too.
pub(super) fn config(words: &Words, shared: Shared) -> Result<Config, UsageError> {
    choose(words)?;
    let word = |long: &'static str| words.get(long).map(String::as_str);
    let default = Config::new(storage_dir(word(options::STORAGE_DIR).unwrap_or_default())?);
    let lb = word("lb").map_or(Ok(default.lb), |text| urls("lb", text))?;
    let marathon = word("marathon").map_or(Ok(default.marathon), |text| urls("marathon", text))?;
    Ok(Config {
        storage_dir: default.storage_dir,
        acme: word("acme").map_or(Ok(default.acme), acme)?,
        email: word("email").map(email).transpose()?,
        marathon_token: marathon_token(word("marathon-token"), &marathon)?,
        marathon,
        lb_verify: verify::verification(&lb, word("lb-verify-port"), word("lb-verify"))?,
        lb,
        group: word("group").map_or(Ok(default.group), group)?,
        allow_multiple_certs: switch("allow-multiple-certs", word("allow-multiple-certs"))?,
        listen: word("listen").map_or(Ok(default.listen), |text| listen("listen", text))?,
        admin_listen: word("admin-listen").map(|text| listen("admin-listen", text)).transpose()?,
        sse_timeout: word("sse-timeout")
            .map_or(Ok(default.sse_timeout), |text| timeout("sse-timeout", text))?,
        marathon_timeout: word("marathon-timeout")
            .map_or(Ok(default.marathon_timeout), |text| timeout("marathon-timeout", text))?,
        log_level: word("log-level").map_or(Ok(default.log_level), log_level)?,
        log_format: word("log-format").map_or(Ok(default.log_format), log_format)?,
        cert_mode: word("cert-mode").map_or(Ok(default.cert_mode), cert_mode)?,
        acme_ca: word("acme-ca").map(PathBuf::from),
        marathon_ca: word("marathon-ca").map(PathBuf::from),
        ssl_cert_file: shared.ssl_cert_file,
        proxies: shared.proxies,
        san: switch("san", word("san"))?,
        profile: word("profile").map(|text| name("profile", text)).transpose()?,
        preferred_chain: word("preferred-chain")
            .map(|text| name("preferred-chain", text))
            .transpose()?,
        key_type: word("key-type").map_or(Ok(default.key_type), key_type)?,
        external_account: external_account(word("eab-kid"), word("eab-hmac-key"))?,
        prune_after: word("prune-after").map_or(Ok(default.prune_after), prune_after)?,
        max_domains_per_app: word("max-domains-per-app")
            .map_or(Ok(default.max_domains_per_app), max_domains_per_app)?,
        skip_route_check: word("skip-route-check")
            .map_or(Ok(default.skip_route_check), skip_route_check)?,
        ca_limits: word("ca-limits").map_or(Ok(default.ca_limits), limits::ca_limits)?,
        mode: mode(switch("once", word("once"))?, word("revoke"))?,
        user: word(options::USER).map(str::to_string),
    })
}

/// A URL that stands alone has lost its option, and may bear a password.
fn storage_dir(text: &str) -> Result<PathBuf, UsageError> {
    match text {
        "" => Err(UsageError::NoDirectory),
        _ if text.contains("://") => Err(UsageError::UrlAsDirectory(without_password(text))),
        _ => Ok(PathBuf::from(text)),
    }
}

/// Whether only the storage is to be read.
pub(super) fn list(words: &Words) -> Result<bool, UsageError> {
    switch("list", words.get("list").map(String::as_str))
}

/// Whether everything is to be looked at, and nothing changed.
pub(super) fn check(words: &Words) -> Result<bool, UsageError> {
    switch("check", words.get("check").map(String::as_str))
}

/// Refuses options that exclude each other. A switch that its variable turns off is not chosen.
fn choose(words: &Words) -> Result<(), UsageError> {
    for choice in options::CHOICES {
        let is_chosen = |long: &&&str| words.get(**long).is_some_and(|word| word != "false");
        let mut chosen = choice.among.iter().filter(is_chosen);
        if let (Some(first), Some(second)) = (chosen.next(), chosen.next()) {
            return Err(UsageError::Exclusive { first, second, fix: choice.fix });
        }
    }
    Ok(())
}

fn url(option: &'static str, text: &str) -> Result<Url, UsageError> {
    let may_be_secret = text.contains('@');
    listed_url(option, &Item { text, shown: masked(text), may_be_secret })
}

fn listed_url(option: &'static str, item: &Item<'_>) -> Result<Url, UsageError> {
    let refuse = |problem: &str| {
        let escapes = if item.may_be_secret { ESCAPES } else { "" };
        wrong(option, &item.shown, format!("{problem}; write it as http://host:port{escapes}"))
    };
    let url = Url::parse(item.text).map_err(|error| refuse(&error.to_string()))?;
    // A password that begins with digits passes for a port, and what follows for a path.
    let rest = item.text.split_once("://").and_then(|(_, rest)| rest.split_once(['/', '?', '#']));
    if rest.is_some_and(|(_, path)| path.contains('@')) {
        return Err(refuse("it has an @ behind a / ? or #, which is %40 in a path"));
    }
    Ok(url)
}

fn urls(option: &'static str, list: &str) -> Result<Vec<Url>, UsageError> {
    if list.split(',').any(|item| item.trim().is_empty()) {
        let fix = "an item of the list is empty; write URL or URL,URL";
        return Err(wrong(option, &format!("{:?}", masked(list)), fix));
    }
    items(list).map(|item| listed_url(option, &item)).collect()
}

fn acme(text: &str) -> Result<Url, UsageError> {
    let acme = url("acme", text)?;
    if let Host::Name(host) = &acme.origin().host
        && host.starts_with("acme-")
        && host.contains("v01")
    {
        let instead = if host.contains("staging") { ACME_STAGING } else { ACME };
        let fix = format!("{}: --acme {instead}", Hint::AcmeV1);
        return Err(wrong("acme", text, fix));
    }
    if !acme.is_private() {
        return Err(wrong("acme", text, "a CA is spoken to by https only; write https://"));
    }
    Ok(acme)
}

fn email(text: &str) -> Result<String, UsageError> {
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let whole = address
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains('@'));
    // A list is more than one, and a colon is a URL's (RFC 5322 section 3.2.3).
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, ',' | ':');
    let clean = address.chars().all(fits);
    if whole && clean {
        return Ok(address.to_string());
    }
    Err(wrong("email", &format!("{text:?}"), "it is not one address; write it as name@example.com"))
}

fn group(text: &str) -> Result<String, UsageError> {
    let group = text.trim();
    if group.is_empty() || group.contains(',') {
        let fix = "it is not one group; write its name, or '*' for all";
        return Err(wrong("group", &format!("{text:?}"), fix));
    }
    Ok(group.to_string())
}

pub(super) fn switch(option: &'static str, text: Option<&str>) -> Result<bool, UsageError> {
    match text {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => {
            Err(wrong(option, &format!("{other:?}"), "its variable takes true or false"))
        }
    }
}

fn listen(option: &'static str, text: &str) -> Result<Listen, UsageError> {
    let port = |port: &str| {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| port.parse::<u16>().ok()).flatten()
    };
    if let Some(port) = text.strip_prefix(':').and_then(port) {
        return Ok(Listen { ip: None, port });
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Listen { ip: Some(address.ip()), port: address.port() });
    }
    let fix = match (port(text), text.parse::<IpAddr>()) {
        (Some(port), _) => format!("the port wants a colon; write --{option} :{port}"),
        (None, Ok(IpAddr::V4(ip))) => format!("the port is missing; write --{option} {ip}:{PORT}"),
        (None, Ok(IpAddr::V6(ip))) => {
            format!("the port is missing; write --{option} [{ip}]:{PORT}")
        }
        (None, Err(_)) => format!("write [IP]:PORT, such as --{option} :{PORT}"),
    };
    Err(wrong(option, text, fix))
}

/// A number of seconds; `None` for 0, which disables the timeout.
fn timeout(option: &'static str, text: &str) -> Result<Option<Duration>, UsageError> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=SECONDS_MAX).contains(number));
    let duration = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
    let fix = "write a number of seconds, such as 60, or 0 for no timeout";
    let duration = duration.ok_or_else(|| wrong(option, text, fix))?;
    Ok((!duration.is_zero()).then_some(duration))
}

fn log_level(text: &str) -> Result<Level, UsageError> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(Level::Debug),
        "info" => Ok(Level::Info),
        "warn" | "warning" => Ok(Level::Warn),
        "error" => Ok(Level::Error),
        "critical" => Ok(Level::Critical),
        _ => Err(wrong("log-level", text, "choose debug, info, warn, error or critical")),
    }
}

fn log_format(text: &str) -> Result<LogFormat, UsageError> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(wrong("log-format", text, "choose text or json")),
    }
}

fn cert_mode(text: &str) -> Result<u32, UsageError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten() {
        Some(mode) if mode & !0o777 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        Some(_) => {
            let fix = "the owner must read and write, and nothing above 0777; write 0600 or 0640";
            Err(wrong("cert-mode", text, fix))
        }
        None => Err(wrong("cert-mode", text, "write an octal mode, such as 0600 or 0640")),
    }
}

/// A name that only the CA knows: any text without control characters.
fn name(option: &'static str, text: &str) -> Result<String, UsageError> {
    let name = text.trim();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let fix = "it is no name; write it as the CA does";
        return Err(wrong(option, &format!("{text:?}"), fix));
    }
    Ok(name.to_string())
}

fn key_type(text: &str) -> Result<KeyType, UsageError> {
    match text.to_ascii_lowercase().as_str() {
        "p256" => Ok(KeyType::P256),
        "p384" => Ok(KeyType::P384),
        _ => Err(wrong("key-type", text, "choose p256 or p384")),
    }
}

fn external_account(
    kid: Option<&str>,
    hmac_key: Option<&str>,
) -> Result<Option<ExternalAccount>, UsageError> {
    let incomplete = |given, missing| Err(UsageError::Incomplete { given, missing });
    match (kid, hmac_key) {
        (None, None) => Ok(None),
        (Some(_), None) => incomplete("eab-kid", "eab-hmac-key"),
        (None, Some(_)) => incomplete("eab-hmac-key", "eab-kid"),
        (Some(kid), Some(file)) => {
            let hmac_key_file = file_of("eab-hmac-key", file, "key")?;
            Ok(Some(ExternalAccount { kid: name("eab-kid", kid)?, hmac_key_file }))
        }
    }
}

/// The path of a file that holds a secret.
fn file_of(option: &'static str, path: &str, secret: &str) -> Result<PathBuf, UsageError> {
    if path.is_empty() {
        let fix = format!("write the path of the file that holds the {secret}");
        return Err(wrong(option, "\"\"", fix));
    }
    Ok(PathBuf::from(path))
}

/// A request shows who asks in one way.
fn marathon_token(file: Option<&str>, marathon: &[Url]) -> Result<Option<PathBuf>, UsageError> {
    let Some(file) = file else { return Ok(None) };
    let path = file_of("marathon-token", file, "token")?;
    if marathon.iter().any(|url| url.credentials().is_some()) {
        let fix = "a --marathon URL has a user and password; leave them away, or the token";
        return Err(wrong("marathon-token", file, fix));
    }
    Ok(Some(path))
}

/// 0 keeps files forever; the smallest time above it does not.
fn prune_after(text: &str) -> Result<Option<Duration>, UsageError> {
    let days = text.parse::<f64>().ok().filter(|days| (0.0..=DAYS_MAX).contains(days));
    let fix = "write a number of days, such as 30, or 0 to keep files for ever";
    let days = days.ok_or_else(|| wrong("prune-after", text, fix))?;
    Ok((days > 0.0).then(|| Duration::from_secs_f64(days * DAY_SECONDS)))
}

fn max_domains_per_app(text: &str) -> Result<usize, UsageError> {
    let count = text.parse::<usize>().ok().filter(|count| (1..=DOMAINS_MAX).contains(count));
    let fix = || format!("write a number of domains from 1 to {DOMAINS_MAX}");
    count.ok_or_else(|| wrong("max-domains-per-app", text, fix()))
}

fn skip_route_check(list: &str) -> Result<SkipRouteCheck, UsageError> {
    let items = || items(list).filter(|item| !item.text.is_empty());
    if items().any(|item| item.text == "*") {
        return Ok(SkipRouteCheck::All);
    }
    let mut domains = BTreeSet::new();
    for Item { text, shown, .. } in items() {
        domains.insert(Domain::parse(text).map_err(|error| {
            let fix = format!("{error}; write DOMAIN or DOMAIN,DOMAIN, or '*' for all");
            wrong("skip-route-check", &format!("{shown:?}"), fix)
        })?);
    }
    Ok(SkipRouteCheck::Of(domains))
}

fn mode(once: bool, revoke: Option<&str>) -> Result<Mode, UsageError> {
    match revoke {
        None if once => Ok(Mode::Once),
        None => Ok(Mode::Serve),
        Some(text) => Domain::parse(text).map(Mode::Revoke).map_err(|error| {
            let fix = format!("{error}; write the name as its file in certs/ bears it");
            wrong("revoke", &format!("{text:?}"), fix)
        }),
    }
}
