//! Proxies and exceptions as operators write them, and who goes by which.

use super::*;
use crate::url::Url;

fn proxy(text: &str) -> Proxy {
    Proxy::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Whether a target is gone to by a proxy where `NO_PROXY` is this.
fn is_proxied(list: &str, target: &str) -> bool {
    let exceptions = Exceptions::parse(list).unwrap_or_else(|error| panic!("{list}: {error}"));
    let both = Some(proxy("proxy:3128"));
    let proxies = Proxies { http: both.clone(), https: both, exceptions };
    proxies.choose(Url::parse(target).unwrap().origin()).is_some()
}

#[test]
fn proxies_as_they_are_written() {
    let cases = [
        ("http://proxy:3128", "http://proxy:3128"),
        ("HTTP://Proxy:3128/", "http://proxy:3128"),
        ("proxy:3128", "http://proxy:3128"),
        ("proxy", "http://proxy:1080"),
        ("http://proxy:80", "http://proxy:80"),
        ("http://192.0.2.1", "http://192.0.2.1:1080"),
        ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        ("user:pass@proxy:3128", "http://proxy:3128"),
    ];
    for (text, expected) in cases {
        assert_eq!(proxy(text).to_string(), expected, "{text}");
    }
}

#[test]
fn credentials_are_decoded_and_never_shown() {
    for text in ["http://me:a%40b%2F@proxy:3128/", "me:a%40b%2F@proxy:3128"] {
        let proxy = proxy(text);
        assert_eq!(proxy.credentials, Some(Credentials::basic("me", "a@b/")));
        let shown = format!("{proxy} {proxy:?}");
        assert!(!shown.contains("a@b") && !shown.contains("a%40b"), "{shown}");
    }
    assert_eq!(proxy("me@proxy").credentials, Some(Credentials::basic("me", "")));
}

#[test]
fn what_is_no_proxy_is_refused_without_being_shown() {
    let cases = [
        ("https://me:hidden@proxy:3128", ProxyError::Https),
        ("socks5://me:hidden@proxy:1080", ProxyError::Socks),
        ("SOCKS4a://proxy", ProxyError::Socks),
        ("ftp://me:hidden@proxy", ProxyError::Url(UrlError::Scheme)),
        ("http://me:hid/den@proxy", ProxyError::Path),
        ("http://me:12?hidden@proxy", ProxyError::Path),
        ("me:12#hidden@proxy", ProxyError::Path),
        ("http://proxy:3128/path", ProxyError::Path),
        ("http://", ProxyError::Url(UrlError::Host)),
        ("me:hidden", ProxyError::Url(UrlError::Port)),
        ("http://me:hidden@proxy:0", ProxyError::Url(UrlError::Port)),
        ("http://me:hidden%zz@proxy", ProxyError::Url(UrlError::Escape)),
        ("http://me:hid den@proxy", ProxyError::Url(UrlError::Character)),
        ("http://me:hidden\r\nX: y@proxy", ProxyError::Url(UrlError::Character)),
    ];
    for (text, expected) in cases {
        let error = Proxy::parse(text).expect_err(text);
        assert_eq!(error, expected, "{text}");
        assert!(!error.to_string().contains("hid"), "{error}");
    }
}

#[test]
fn each_scheme_has_its_own_proxy() {
    let target = |text: &str| Url::parse(text).unwrap().origin().clone();
    let only = Proxies { https: Some(proxy("secure:1")), ..Proxies::default() };
    assert_eq!(only.choose(&target("https://a/")), Some(&proxy("secure:1")));
    assert_eq!(only.choose(&target("http://a/")), None);
    let both = Proxies { http: Some(proxy("plain:2")), ..only };
    assert_eq!(both.choose(&target("http://a/")), Some(&proxy("plain:2")));
    assert_eq!(Proxies::default().choose(&target("https://a/")), None);
}

#[test]
fn this_machine_by_its_own_name_is_never_proxied() {
    let local = [
        "http://localhost:8080/",
        "https://LOCALHOST./",
        "http://127.0.0.1/",
        "http://127.200.0.9:81/",
        "https://[::1]:14000/",
        "http://[::ffff:127.0.0.1]/",
    ];
    for target in local {
        assert!(!is_proxied("", target), "{target}");
    }
    // Where these lead, only a resolver could tell.
    for target in ["http://localhost.example/", "http://a.localhost/", "http://128.0.0.1/"] {
        assert!(is_proxied("", target), "{target}");
    }
}

#[test]
fn exceptions() {
    let cases: [(&str, &[&str], &[&str]); 14] = [
        ("", &[], &["http://a.example/"]),
        (" , ,", &[], &["http://a.example/"]),
        ("*", &["http://a.example/", "https://192.0.2.1/", "http://[2001:db8::1]/"], &[]),
        ("*:443", &["https://a.example/"], &["http://a.example/", "https://a.example:444/"]),
        (
            "example.com",
            &["http://example.com/", "https://A.Example.COM:8443/", "http://example.com./"],
            &["http://notexample.com/", "http://example.com.au/", "http://com/"],
        ),
        (
            ".example.com",
            &["http://example.com/", "http://a.b.example.com/"],
            &["http://xexample.com/"],
        ),
        ("*.Example.com.", &["http://a.example.com/"], &["http://example.org/"]),
        ("mesos", &["http://marathon.mesos:8080/", "http://mesos/"], &["http://marathonmesos/"]),
        (
            "a.example:8080",
            &["http://a.example:8080/", "http://b.a.example:8080/"],
            &["http://a.example/"],
        ),
        (
            "192.0.2.1",
            &["http://192.0.2.1:81/"],
            &["http://192.0.2.10/", "http://a.192.0.2.1.example/"],
        ),
        ("192.0.2.1:81", &["http://192.0.2.1:81/"], &["http://192.0.2.1/"]),
        (
            "10.0.0.0/8, 192.0.2.77/25",
            &["http://10.255.0.1/", "http://192.0.2.1/", "http://[::ffff:10.1.1.1]/"],
            &["http://11.0.0.1/", "http://192.0.2.128/", "http://ten.example/"],
        ),
        (
            "2001:db8::/33,[2001:db8:8000::1]:81,2001:db8:9000::1",
            &[
                "http://[2001:db8::1]/",
                "http://[2001:db8:8000::1]:81/",
                "http://[2001:db8:9000::1]/",
            ],
            &["http://[2001:db8:8000::1]/", "http://32.1.13.184/"],
        ),
        ("0.0.0.0/0", &["http://192.0.2.1/"], &["http://[2001:db8::1]/", "http://a.example/"]),
    ];
    for (list, straight, proxied) in cases {
        for target in straight {
            assert!(!is_proxied(list, target), "{list:?} {target}");
        }
        for target in proxied {
            assert!(is_proxied(list, target), "{list:?} {target}");
        }
    }
}

#[test]
fn exceptions_that_say_nothing_are_refused() {
    let items = [
        "10.0.0.0/33",
        "2001:db8::/129",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "example.com/8",
        "10.0.0.0/8:80",
        "a.example:0",
        "a.example:99999",
        "a.example:http",
        "*:x",
        "*x",
        "10.*",
        "http://a.example",
        ".",
        "..",
        "[2001:db8::1",
        "a_b!",
        "me:hidden@proxy:3128",
    ];
    for item in items {
        let error = Exceptions::parse(&format!("fine.example,{item}")).expect_err(item).to_string();
        assert!(!error.contains("hidden") && !error.contains("fine"), "{error}");
        assert!(error.contains(item.rsplit('@').next().unwrap()), "{error}");
    }
}
