//! Configurations as marathon-lb's templates write them, and what is read of them.

use super::*;

/// A configuration whose front end on port 80 has these rules.
fn with_rules(rules: &str) -> String {
    format!(
        "global\n  stats socket /var/run/haproxy/socket\n\ndefaults\n  mode http\n\
         listen stats\n  bind 0.0.0.0:9090\n  acl getpid path /_haproxy_getpids\n\n\
         frontend marathon_http_in\n  bind *:80\n  mode http\n{rules}\n\
         frontend marathon_https_in\n  bind *:443 ssl crt /st/certs crt /st/default.pem\n  mode http\n\
         \x20 use_backend shop if {{ ssl_fc_sni www.example.com }}\n\n\
         backend marathon_acme\n  balance roundrobin\n  server a 10.0.0.1:31000\n\n\
         backend shop\n  redirect scheme https code 301 if !{{ ssl_fc }} host_www\n  server b 10.0.0.2:80\n"
    )
}

fn route(rules: &str) -> Route {
    Configuration::parse(&with_rules(rules)).challenge_route()
}

const VHOST: &str =
    "  acl host_www hdr(host) -i WWW.example.com example.com\n  use_backend shop if host_www\n";
const CHALLENGE: &str = "  acl path_acme path_beg /.well-known/acme-challenge/\n  \
                         use_backend marathon_acme if path_acme\n";
/// The labels of the old program's README.
const OLD: &str = "  acl host_acme hdr(host) -i acme.example.com\n  \
                   acl path_acme path_beg /.well-known/acme-challenge/\n  \
                   redirect prefix http://acme.example.com code 302 if !host_acme path_acme\n  \
                   use_backend marathon_acme if host_acme path_acme\n";

fn good() -> Rule {
    Rule { backend: "marathon_acme".into(), servers: 1, ..Rule::default() }
}

#[test]
fn words_are_parted_as_haproxy_does() {
    assert_eq!(words("  acl a path_beg /x # why"), ["acl", "a", "path_beg", "/x"]);
    assert_eq!(words(r#"a\ b "c # d" 'e\' f\#"#), ["a b", "c # d", r"e\", "f#"]);
    assert_eq!(words(r#"x "" y"z w"\"#), ["x", "", "yz w"]);
    assert!(words(" \t# all").is_empty());
}

#[test]
fn certificates_of_all_that_speaks_tls() {
    let text = "frontend a\n bind *:443 ssl crt /a/certs crt '/b c/d.pem' alpn h2\n bind *:80\n\
                listen b\n bind :8443 ssl crt /a/certs crt\nbind stray\n";
    assert_eq!(Configuration::parse(text).certificate_paths(), ["/a/certs", "/b c/d.pem"]);
    assert!(Configuration::parse("frontend a\n bind *:80 crt /x").certificate_paths().is_empty());
}

#[test]
fn a_challenge_rule_before_the_hosts_is_good() {
    assert_eq!(route(&format!("{CHALLENGE}{VHOST}")), Route::Rule(good()));
    assert_eq!(route(&format!("{OLD}{VHOST}")), Route::Rule(good()));
}

#[test]
fn a_challenge_rule_behind_hosts_says_which() {
    let hosts = vec!["www.example.com".to_string(), "example.com".to_string()];
    let behind = Rule { behind: vec![hosts], ..good() };
    assert_eq!(route(&format!("{VHOST}{CHALLENGE}")), Route::Rule(behind));
    let map =
        "  use_backend %[req.hdr(host),lower,regsub(:.*$,,),map(/haproxy/domain2backend.map)]\n";
    let behind = Rule { behind: vec![vec![]], ..good() };
    assert_eq!(route(&format!("{map}{CHALLENGE}")), Route::Rule(behind));
    // One that asks for another path as well takes no challenge away.
    let path = "  acl host_www hdr(host) -i www.example.com\n  acl path_x path_beg /x\n  \
                use_backend shop if host_www path_x\n";
    assert_eq!(route(&format!("{path}{CHALLENGE}")), Route::Rule(good()));
}

#[test]
fn what_takes_challenges_elsewhere_or_nowhere() {
    let ours = "  acl host_acme hdr(host) -i acme.example.com\n  \
                acl path_acme path_beg /.well-known/acme-challenge/\n  \
                use_backend marathon_acme if host_acme path_acme\n";
    assert_eq!(route(ours), Route::Rule(Rule { some_hosts_only: true, ..good() }));
    let shop = Rule { backend: "shop".into(), to_https: true, servers: 1, ..Rule::default() };
    assert_eq!(route(&CHALLENGE.replace("marathon_acme", "shop")), Route::Rule(shop));
    let gone = Rule { backend: "gone".into(), ..Rule::default() };
    assert_eq!(route(&CHALLENGE.replace("marathon_acme", "gone")), Route::Rule(gone));
    assert_eq!(route(VHOST), Route::NoRule);
    // The root is no rule for challenges: it is the app's own path.
    assert_eq!(route("  acl p path_beg /\n  use_backend shop if p\n"), Route::NoRule);
    assert_eq!(Configuration::parse("<html>\nfrontend").challenge_route(), Route::NoFrontend);
}

#[test]
fn conditions_may_stand_in_the_rule_itself() {
    let inline =
        "  use_backend marathon_acme if { path_beg /.well-known/acme-challenge/ } or TRUE\n";
    assert_eq!(route(&format!("{inline}{VHOST}")), Route::Rule(good()));
    let method = "  use_backend marathon_acme if METH_GET { path_beg /.well-known/ } !{ ssl_fc }\n";
    assert_eq!(route(method), Route::Rule(good()));
    let host = "  use_backend shop if { hdr(host) -i a.org } ! { ssl_fc } || { hdr(host) b.org }\n";
    let behind = Rule { behind: vec![vec!["b.org".to_string()]], ..good() };
    assert_eq!(route(&format!("{host}{inline}")), Route::Rule(behind));
    assert_eq!(route("  use_backend shop if !{ path_beg /.well-known/ }\n"), Route::NoRule);
    assert_eq!(
        route("  use_backend shop if { path_beg /.well-known/ \n"),
        Route::Rule(Rule { backend: "shop".into(), to_https: true, servers: 1, ..Rule::default() })
    );
}

#[test]
fn a_front_end_that_sends_all_to_https_leaves_no_challenge() {
    for rule in
        ["redirect scheme https", "http-request redirect scheme https code 301 if !{ ssl_fc }"]
    {
        assert_eq!(route(&format!("{CHALLENGE}  {rule}\n")), Route::AllToHttps, "{rule}");
    }
    for condition in
        ["!path_acme", "host_www", "!{ ssl_fc } host_www", "{ path_beg /x }", "! path_acme"]
    {
        let rule = format!("  redirect scheme https if {condition}\n");
        assert_eq!(route(&format!("{CHALLENGE}{VHOST}{rule}")), Route::Rule(good()), "{rule}");
    }
}

#[test]
fn a_front_end_of_another_name_is_known_by_its_port() {
    let text = with_rules(CHALLENGE).replace("marathon_http_in", "own");
    assert_eq!(Configuration::parse(&text).challenge_route(), Route::Rule(good()));
    let elsewhere = text.replace("bind *:80\n", "bind *:8080\n");
    assert_eq!(Configuration::parse(&elsewhere).challenge_route(), Route::NoFrontend);
}

const AUTH: &str = "  acl host_www hdr(host) -i www.example.com\n  acl auth_www http_auth(user_shop)\n  \
                    http-request auth realm \"x\" if host_www !auth_www\n  use_backend shop if host_www\n";
const ALLOW: &str = "  acl path_acme path_beg /.well-known/acme-challenge/\n  \
                     http-request allow if path_acme\n  use_backend marathon_acme if path_acme\n";

#[test]
fn a_password_that_is_asked_for_before_challenges_pass_is_found() {
    let locked = |hosts: &[&str]| {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        Route::Rule(Rule { locked: vec![hosts], ..good() })
    };
    // Wherever the rule stands, passwords come first, unless challenges are let through before.
    assert_eq!(route(&format!("{CHALLENGE}{AUTH}")), locked(&["www.example.com"]));
    assert_eq!(route(&format!("{OLD}{AUTH}")), locked(&["www.example.com"]));
    assert_eq!(route(&format!("{ALLOW}{AUTH}")), Route::Rule(good()));
    let all = "  http-request auth unless { http_auth(users) }\n";
    assert_eq!(route(&format!("{CHALLENGE}{all}")), locked(&[]));
    let elsewhere = "  acl p path_beg /admin\n  http-request auth if { hdr(host) a.org } p !x\n";
    assert_eq!(route(&format!("{CHALLENGE}{elsewhere}")), Route::Rule(good()));
    let everywhere = elsewhere.replace("/admin", "/");
    assert_eq!(route(&format!("{CHALLENGE}{everywhere}")), locked(&["a.org"]));
}

#[test]
fn a_host_with_the_path_of_all_stands_before_challenges_too() {
    let rule = "  acl host_www hdr(host) -i www.example.com\n  acl path_shop path_beg /\n  \
                use_backend shop if host_www path_shop\n";
    let behind = Rule { behind: vec![vec!["www.example.com".to_string()]], ..good() };
    assert_eq!(route(&format!("{rule}{CHALLENGE}")), Route::Rule(behind));
}

#[test]
fn the_old_label_that_redirects_to_https_is_a_rule() {
    let http = "  acl host_acme hdr(host) -i acme.example.com\n  \
                acl path_acme path_beg /.well-known/acme-challenge/\n  \
                redirect prefix https://acme.example.com code 302 if path_acme\n";
    let secure = "  acl path_acme path_beg /.well-known/acme-challenge/\n  \
                  use_backend marathon_acme if path_acme\n";
    let text = with_rules(http)
        .replace("  mode http\n  use_backend shop", &format!("{secure}  use_backend shop"));
    assert_eq!(Configuration::parse(&text).challenge_route(), Route::Rule(good()));
    assert_eq!(Configuration::parse(&text).secure_route(), Route::Rule(good()));
    assert_eq!(Configuration::parse(&with_rules(http)).challenge_route(), Route::NoRule);
    // Only the own host is enough: the redirect leads to it.
    let own = secure.replace("if path_acme", "if { ssl_fc_sni acme.example.com } path_acme");
    let text = text.replace(secure, &own);
    assert_eq!(Configuration::parse(&text).challenge_route(), Route::Rule(good()));
    let some = Rule { some_hosts_only: true, ..good() };
    assert_eq!(Configuration::parse(&text).secure_route(), Route::Rule(some));
}

#[test]
fn what_marathon_lb_was_started_with_shows() {
    let text = with_rules(CHALLENGE);
    let plain = Configuration::parse(&text);
    assert!(!plain.groups_https() && plain.secure_route() == Route::NoRule);
    assert_eq!(plain.published_apps().collect::<Vec<_>>(), ["marathon_acme", "shop"]);
    let grouped = "frontend a\n  mode http\n  bind abns@a accept-proxy ssl crt /st/certs\n\
                   backend team_shop_10000\n";
    let grouped = Configuration::parse(&format!("{text}{grouped}"));
    assert!(grouped.groups_https() && grouped.published_apps().any(|it| it == "team_shop"));
}
