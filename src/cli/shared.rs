//! The variables that are not ours alone: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` and `SSL_CERT_FILE`,
//! which mean the same to many programs. No error here shows a value in which a password may be.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::config::Config;
use crate::log::Record;
use crate::proxy::{Exceptions, Proxies, Proxy};

use super::error::UsageError;

/// What they say.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) proxies: Proxies,
    pub(super) ssl_cert_file: Option<PathBuf>,
}

/// Reads them. One that is empty says nothing; in lower case it wins, as with curl. `SSL_CERT_FILE` is
/// known in capitals alone.
pub(super) fn read(environment: &[(OsString, OsString)]) -> Result<Shared, UsageError> {
    let proxy = |name| {
        texts(environment, name)?
            .map(|(name, text)| {
                Proxy::parse(text).map_err(|error| {
                    let problem = format!("{error}; write it as http://user:password@host:port");
                    UsageError::Variable { variable: name, problem }
                })
            })
            .transpose()
    };
    let exceptions = match texts(environment, "NO_PROXY")? {
        None => Exceptions::default(),
        Some((variable, text)) => Exceptions::parse(text).map_err(|error| {
            let problem = format!("{error}; write names and addresses with commas between them");
            UsageError::Variable { variable, problem }
        })?,
    };
    let proxies = Proxies { http: proxy("HTTP_PROXY")?, https: proxy("HTTPS_PROXY")?, exceptions };
    let ssl_cert_file = value(environment, "SSL_CERT_FILE").map(PathBuf::from);
    Ok(Shared { proxies, ssl_cert_file })
}

/// A line for each peer that is gone to by a proxy: the command line does not show it.
pub(super) fn remarks(config: &Config) -> Vec<Record> {
    let peers = std::iter::once(&config.acme).chain(&config.marathon).map(|url| url.origin());
    let line = |(peer, proxy)| {
        Record::info("main", "requests go by a proxy").with("peer", peer).with("proxy", proxy)
    };
    peers.filter_map(|peer| Some((peer, config.proxies.choose(peer)?))).map(line).collect()
}

/// A variable's name as it was found, and its text.
fn texts<'a>(
    environment: &'a [(OsString, OsString)],
    name: &str,
) -> Result<Option<(String, &'a str)>, UsageError> {
    for name in [name.to_ascii_lowercase(), name.to_string()] {
        if let Some(value) = value(environment, &name) {
            let text = value.to_str().ok_or_else(|| UsageError::NotText(name.clone()))?;
            return Ok(Some((name, text)));
        }
    }
    Ok(None)
}

fn value<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    let found = environment.iter().find(|(variable, _)| variable == name);
    found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;

    fn parsed(line: &str, variables: &[(&str, &str)]) -> Result<Command, UsageError> {
        let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        parse(line.split_whitespace().map(OsString::from), variables.iter().map(pair))
    }

    /// The proxies for `http` and for `https` targets.
    fn chosen(variables: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let Ok(Command::Run { config, .. }) = parsed("/s", variables) else {
            panic!("{variables:?}")
        };
        let Proxies { http, https, .. } = config.proxies;
        (http.map(|proxy| proxy.to_string()), https.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn proxies_come_from_the_environment_in_either_case() {
        let (none, some) = (None, |text: &str| Some(text.to_string()));
        assert_eq!(chosen(&[]), (None, None));
        assert_eq!(chosen(&[("HTTPS_PROXY", "a:1")]), (none.clone(), some("http://a:1")));
        assert_eq!(chosen(&[("HTTP_PROXY", "http://a:1/")]), (some("http://a:1"), none.clone()));
        let both = [("HTTPS_PROXY", "a:1"), ("https_proxy", "b:2")];
        assert_eq!(chosen(&both), (none.clone(), some("http://b:2")));
        let empty = [("HTTPS_PROXY", "a:1"), ("https_proxy", ""), ("http_proxy", "")];
        assert_eq!(chosen(&empty), (none, some("http://a:1")));
        // Nor do others count, or ones that look alike.
        assert_eq!(chosen(&[("ALL_PROXY", "a:1"), ("Https_Proxy", "a:1")]), (None, None));
    }

    #[test]
    fn who_goes_by_a_proxy_is_said_without_the_password() {
        let variables = [
            ("HTTPS_PROXY", "http://me:hidden@proxy:3128"),
            ("http_proxy", "other:80"),
            ("no_proxy", "marathon2.mesos"),
        ];
        let line = "--marathon http://marathon1.mesos:8080,http://marathon2.mesos:8080 /s";
        let Ok(Command::Run { warnings, .. }) = parsed(line, &variables) else { panic!("it runs") };
        let fields: Vec<_> = warnings.iter().map(|line| line.fields.clone()).collect();
        let field = |peer: &str, proxy: &str| {
            vec![("peer", peer.to_string()), ("proxy", proxy.to_string())]
        };
        let expected = [
            field("https://acme-v02.api.letsencrypt.org", "http://proxy:3128"),
            field("http://marathon1.mesos:8080", "http://other:80"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn what_cannot_be_used_is_one_line_that_names_the_variable_and_no_password() {
        let cases = [
            ("HTTPS_PROXY", "https://me:hidden@proxy", "a proxy behind TLS cannot be used"),
            ("https_proxy", "socks5h://me:hidden@proxy", "a SOCKS proxy cannot be used"),
            ("HTTP_PROXY", "me:hidden@proxy:port", "its port is not a number from 1 to 65535"),
            ("http_proxy", "me:hid/den@proxy", "it has a path, or a password whose"),
            ("NO_PROXY", "a.example,10.0.0.0/40", "\"10.0.0.0/40\" is no name"),
            ("no_proxy", "me:hidden@proxy/", "\"proxy/\" is no name"),
            ("NO_PROXY", "a.example,me:hid,den@proxy", "\"***\" is no name"),
            ("NO_PROXY", "me:hid den@proxy", "\"***\" is no name"),
        ];
        for (variable, value, words) in cases {
            let error = parsed("/s", &[(variable, value)]).expect_err(value).to_string();
            assert!(error.starts_with(&format!("{variable}: {words}")), "{error}");
            assert!(!error.contains('\n') && !error.contains("hid"), "{error}");
            // Who asks for help gets it, and the storage can be looked into.
            assert!(parsed("--help", &[(variable, value)]).is_ok());
            assert!(parsed("--list /s", &[(variable, value)]).is_ok());
        }
    }

    #[test]
    fn a_bundle_for_all_programs_is_taken_over() {
        let bundle = |variables: &[(&str, &str)]| match parsed("/s", variables) {
            Ok(Command::Run { config, .. }) => config.ssl_cert_file,
            other => panic!("{other:?}"),
        };
        assert_eq!(bundle(&[("SSL_CERT_FILE", "/etc/roots.pem")]), Some("/etc/roots.pem".into()));
        for variables in [[("SSL_CERT_FILE", "")], [("ssl_cert_file", "/etc/roots.pem")]] {
            assert_eq!(bundle(&variables), None);
        }
    }
}
