//! The command line as operators write it, right and wrong.

use std::collections::BTreeSet;

use super::*;
use crate::config::{Listen, LogFormat, Mode, SkipRouteCheck};
use crate::domain::Domain;
use crate::keys::KeyType;
use crate::log::Level;
use crate::url::Credentials;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn parsed(line: &str, variables: Pairs<'_>) -> Result<Command, UsageError> {
    let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    parse(line.split_whitespace().map(OsString::from), variables.iter().map(pair))
}

fn config(line: &str, variables: Pairs<'_>) -> Config {
    match parsed(line, variables) {
        Ok(Command::Run { config, .. }) => *config,
        other => panic!("{line}: {other:?}"),
    }
}

fn error(line: &str) -> String {
    let error = parsed(line, &[]).expect_err(line).to_string();
    assert!(!error.contains('\n'), "{error:?} is one line");
    error
}

#[test]
fn the_defaults_are_the_old_programs() {
    let config = config("/storage", &[]);
    assert_eq!(config.storage_dir.to_str(), Some("/storage"));
    assert_eq!(config.acme.to_string(), "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!(config.marathon[0].to_string(), "http://marathon.mesos:8080");
    assert_eq!(config.lb[0].to_string(), "http://marathon-lb.marathon.mesos:9090");
    assert_eq!((config.group.as_str(), config.allow_multiple_certs), ("external", false));
    assert_eq!(config.listen, Listen { ip: None, port: 8000 });
    assert_eq!(config.sse_timeout, Some(std::time::Duration::from_secs(60)));
    assert_eq!(config.marathon_timeout, Some(std::time::Duration::from_secs(10)));
    assert_eq!((config.log_level, config.log_format), (Level::Info, LogFormat::Text));
    assert_eq!((config.cert_mode, config.email, config.user), (0o600, None, None));
    assert_eq!((config.acme_ca, config.marathon_ca), (None, None));
    assert_eq!((config.san, config.profile, config.preferred_chain), (false, None, None));
    assert_eq!((config.key_type, config.external_account), (KeyType::P256, None));
    assert_eq!((days(config.prune_after), config.mode), (Some(30.0), Mode::Serve));
    assert_eq!(config.skip_route_check, SkipRouteCheck::Of(BTreeSet::new()));
}

fn days(duration: Option<std::time::Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64() / 86_400.0)
}

#[test]
fn the_choices_of_a_certificates_life() {
    let config = config(
        "/s --san --profile shortlived --preferred-chain=Root --key-type P384 --eab-kid kid-1 \
         --eab-hmac-key key.txt --prune-after 0.5 --once",
        &[],
    );
    assert!(config.san && !config.allow_multiple_certs);
    assert_eq!(config.profile.as_deref(), Some("shortlived"));
    assert_eq!(config.preferred_chain.as_deref(), Some("Root"));
    assert_eq!((config.key_type, config.mode), (KeyType::P384, Mode::Once));
    let account = config.external_account.expect("both halves were given");
    assert_eq!((account.kid.as_str(), account.hmac_key_file.to_str()), ("kid-1", Some("key.txt")));
    assert_eq!(days(config.prune_after), Some(0.5));
}

#[test]
fn the_limit_of_domains_per_app() {
    assert_eq!(config("/s", &[]).max_domains_per_app, 1000);
    assert_eq!(config("/s --max-domains-per-app 7", &[]).max_domains_per_app, 7);
    let variable = ("MARATHON_ACME_MAX_DOMAINS_PER_APP", "20000");
    assert_eq!(config("/s", &[variable]).max_domains_per_app, 20_000);
    for count in ["0", "20001", "many"] {
        let expected = "write a number of domains from 1 to 20000";
        assert!(error(&format!("--max-domains-per-app {count} /s")).ends_with(expected), "{count}");
    }
}

#[test]
fn zero_days_are_for_ever_and_the_smallest_time_above_is_not() {
    for (text, expected) in [("0", false), ("0.0", false), ("1e-300", true), ("36500", true)] {
        let config = config(&format!("/s --prune-after {text}"), &[]);
        assert_eq!(config.prune_after.is_some(), expected, "{text}");
    }
}

#[test]
fn domains_are_left_to_the_ca_one_by_one_or_all() {
    let skipped = |line: &str, variables| config(line, variables).skip_route_check;
    let domain = |text| Domain::parse(text).unwrap();
    let two = skipped("--skip-route-check WWW.example.com.,b.org, /s", &[]);
    let expected = [domain("www.example.com"), domain("b.org")].into();
    assert_eq!(two, SkipRouteCheck::Of(expected));
    assert!(two.covers(&domain("b.org")) && !two.covers(&domain("a.b.org")));
    let all = [("MARATHON_ACME_SKIP_ROUTE_CHECK", "*")];
    assert_eq!(skipped("/s", &all), SkipRouteCheck::All);
    assert!(skipped("--skip-route-check a.org,* /s", &[]).covers(&domain("x.example.com")));
    let wrong = error("--skip-route-check a.org,*.b.org /s");
    let expected =
        "--skip-route-check \"*.b.org\": http-01 cannot prove a wildcard; write DOMAIN or";
    assert!(wrong.starts_with(expected), "{wrong}");
    // The variable can be taken back.
    assert_eq!(skipped("--skip-route-check= /s", &all), SkipRouteCheck::Of(BTreeSet::new()));
}

#[test]
fn a_certificate_to_revoke_is_a_domain() {
    let config = config("--revoke WWW.example.com. /s", &[]);
    assert_eq!(config.mode, Mode::Revoke(Domain::parse("www.example.com").unwrap()));
}

#[test]
fn listing_is_a_command_of_its_own_and_wants_the_directory_as_well() {
    for (line, variables) in
        [("--list /s", [].as_slice()), ("/s", &[("MARATHON_ACME_LIST", "true")])]
    {
        let Ok(Command::List { config }) = parsed(line, variables) else { panic!("it lists") };
        assert_eq!((config.storage_dir.to_str(), &config.mode), (Some("/s"), &Mode::Serve));
    }
    assert!(error("--list").starts_with("STORAGE-DIR is missing"));
}

#[test]
fn a_check_is_a_command_of_its_own_and_hears_what_is_odd() {
    let odd = [("MARATHON_ACME_CHECK", "true"), ("MARATHON_ACME_CHEQUE", "true")];
    let Ok(Command::Check { config, remarks }) = parsed("/s", &odd) else { panic!("it checks") };
    assert_eq!((config.storage_dir.to_str(), remarks.len()), (Some("/s"), 1));
    assert!(error("--check --once /s").contains("choose one"));
    assert!(error("--check").starts_with("STORAGE-DIR is missing"));
}

#[test]
fn every_new_option_has_its_variable() {
    let from_variables = config(
        "/s",
        &[
            ("MARATHON_ACME_SAN", "true"),
            ("MARATHON_ACME_PROFILE", "tlsserver"),
            ("MARATHON_ACME_PREFERRED_CHAIN", "Some Root X1"),
            ("MARATHON_ACME_KEY_TYPE", "p384"),
            ("MARATHON_ACME_EAB_KID", "kid"),
            ("MARATHON_ACME_EAB_HMAC_KEY", "file"),
            ("MARATHON_ACME_PRUNE_AFTER", "0"),
            ("MARATHON_ACME_ONCE", "false"),
            ("MARATHON_ACME_LIST", "false"),
            ("MARATHON_ACME_REVOKE", "a.org"),
        ],
    );
    assert!(from_variables.san && from_variables.external_account.is_some());
    assert_eq!(from_variables.profile.as_deref(), Some("tlsserver"));
    assert_eq!(from_variables.preferred_chain.as_deref(), Some("Some Root X1"));
    assert_eq!((from_variables.key_type, from_variables.prune_after), (KeyType::P384, None));
    assert!(matches!(from_variables.mode, Mode::Revoke(_)));
}

#[test]
fn the_command_line_wins_over_what_it_excludes() {
    let variables: Pairs<'_> =
        &[("MARATHON_ACME_ALLOW_MULTIPLE_CERTS", "true"), ("MARATHON_ACME_ONCE", "true")];
    let both = config("/s --san --revoke a.org", variables);
    assert!(both.san && !both.allow_multiple_certs && matches!(both.mode, Mode::Revoke(_)));
    assert!(matches!(parsed("/s --list", variables), Ok(Command::List { .. })));
    let within = parsed("/s", &[("MARATHON_ACME_ONCE", "true"), ("MARATHON_ACME_LIST", "true")]);
    assert!(matches!(within, Err(UsageError::Exclusive { .. })));
}

#[test]
fn every_option_in_every_way_of_writing() {
    let lines = [
        "-a https://ca/dir -e a@b.org -m http://x:1,http://y:2 -l http://z:9 -g internal /s",
        "/s -ahttps://ca/dir -ea@b.org -mhttp://x:1,http://y:2 -lhttp://z:9 -ginternal",
        "--acme=https://ca/dir --email=a@b.org /s --marathon=http://x:1,http://y:2 --lb=http://z:9 \
         --group=internal",
        "--acme https://ca/dir --email a@b.org --marathon http://x:1,http://y:2 --lb http://z:9 \
         --group internal -- /s",
    ];
    for line in lines {
        let config = config(line, &[]);
        assert_eq!(config.acme.to_string(), "https://ca/dir", "{line}");
        assert_eq!(config.email.as_deref(), Some("a@b.org"));
        assert_eq!((config.marathon.len(), config.lb.len()), (2, 1));
        assert_eq!((config.group.as_str(), config.storage_dir.to_str()), ("internal", Some("/s")));
    }
    let config = config(
        "/s --allow-multiple-certs --listen [::1]:80 --sse-timeout 0 --marathon-timeout 2.5 \
         --log-level warn --log-format json --acme-ca a.pem --marathon-ca m.pem --cert-mode 0640 \
         --marathon-token t",
        &[],
    );
    assert!(config.allow_multiple_certs);
    assert_eq!(config.listen.ip.map(|ip| ip.to_string()).as_deref(), Some("::1"));
    assert_eq!(
        (config.sse_timeout, config.marathon_timeout.unwrap().as_millis(), config.cert_mode),
        (None, 2500, 0o640)
    );
    assert_eq!((config.log_level, config.log_format), (Level::Warn, LogFormat::Json));
    assert!(config.acme_ca.is_some() && config.marathon_ca.is_some());
    assert_eq!(config.marathon_token.as_deref(), Some(std::path::Path::new("t")));
}

#[test]
fn a_timeout_of_0_is_none() {
    for zero in ["0", "0.0"] {
        let line = format!("/s --sse-timeout {zero} --marathon-timeout {zero}");
        let config = config(&line, &[]);
        assert_eq!((config.sse_timeout, config.marathon_timeout), (None, None));
    }
}

#[test]
fn the_programs_name_is_ignored_as_the_first_positional_argument() {
    let dir = |line: &str, variables| config(line, variables).storage_dir.display().to_string();
    let image: Pairs<'_> = &[("MARATHON_ACME_STORAGE_DIR", "/image")];
    for line in [
        "marathon-acme /s",
        "marathon-acme /s --group internal",
        "--group internal marathon-acme /s",
        "marathon-acme --group internal /s",
        "marathon-acme --group=internal -- /s",
        "-- marathon-acme /s",
    ] {
        assert_eq!((dir(line, &[]), dir(line, image)), ("/s".into(), "/s".into()), "{line}");
    }
    for line in ["marathon-acme", "marathon-acme --san", "--san marathon-acme"] {
        assert_eq!(dir(line, image), "/image", "{line}");
        let only = "STORAGE-DIR is missing: a first argument marathon-acme is ignored; write \
                    ./marathon-acme for a directory of that name";
        assert_eq!(error(line), only);
    }
    assert_eq!(dir("marathon-acme marathon-acme", &[]), "marathon-acme");
    assert_eq!(dir("./marathon-acme", &[]), "./marathon-acme");
    assert!(error("/s marathon-acme").starts_with("there are two STORAGE-DIRs"));
    assert!(error("marathon-acme /s /t").starts_with("there are two STORAGE-DIRs"));
}

#[test]
fn variables_set_what_the_command_line_does_not() {
    let variables: Pairs<'_> = &[
        ("MARATHON_ACME_STORAGE_DIR", "/s"),
        ("MARATHON_ACME_GROUP", "internal"),
        ("MARATHON_ACME_EMAIL", ""),
        ("MARATHON_ACME_ALLOW_MULTIPLE_CERTS", "true"),
        ("MARATHON_ACME_USER", "1000:1000"),
        ("MARATHON_ACME_LOG_LEVEL", "debug"),
    ];
    let from_variables = config("", variables);
    assert_eq!(from_variables.group, "internal");
    assert_eq!((from_variables.email, from_variables.allow_multiple_certs), (None, true));
    assert_eq!(from_variables.user.as_deref(), Some("1000:1000"));
    let both = config("-g mine /t", variables);
    assert_eq!((both.group.as_str(), both.storage_dir.to_str()), ("mine", Some("/t")));
    assert_eq!(both.log_level, Level::Debug);
}

#[test]
fn unknown_variables_are_a_warning_but_marathons_own_and_labels_are_not() {
    let variables: Pairs<'_> = &[
        ("MARATHON_ACME_MARATHONS", "x"),
        ("MARATHON_ACME_0_DOMAIN", "a.org"),
        ("MARATHON_ACME_12_DOMAIN", "a.org"),
        ("MARATHON_APP_ID", "/x"),
        ("PATH", "/bin"),
    ];
    let Ok(Command::Run { warnings, .. }) = parsed("/s", variables) else { panic!("it runs") };
    let named: Vec<&str> = warnings.iter().map(|line| line.fields[0].1.as_str()).collect();
    assert_eq!(named, ["MARATHON_ACME_MARATHONS"]);
}

#[test]
fn errors_name_the_option_and_the_fix() {
    let cases = [
        ("--listen 8000 /s", "--listen 8000: the port wants a colon; write --listen :8000"),
        (
            "--listen 10.0.0.1 /s",
            "--listen 10.0.0.1: the port is missing; write --listen 10.0.0.1:8000",
        ),
        ("--listen ::1 /s", "--listen ::1: the port is missing; write --listen [::1]:8000"),
        ("--listen :80000 /s", "--listen :80000: write [IP]:PORT, such as --listen :8000"),
        (
            "-a https://acme-v01.api.letsencrypt.org/directory /s",
            "--acme https://acme-v01.api.letsencrypt.org/directory: ACME v1 is switched off \
             everywhere; name an ACME v2 directory: --acme https://acme-v02.api.letsencrypt.org/directory",
        ),
        (
            "-a http://ca.example/dir /s",
            "--acme http://ca.example/dir: a CA is spoken to by https only; write https://",
        ),
        ("--lisen :80 /s", "unknown option --lisen; did you mean --listen?"),
        ("--frobnicate /s", "unknown option --frobnicate; --help lists them all"),
        ("-x /s", "unknown option -x; --help lists them all"),
        ("/s --group", "--group wants a value: --group GROUP"),
        ("", "STORAGE-DIR is missing: name the directory that every marathon-lb shares"),
        ("/s /t", "there are two STORAGE-DIRs, \"/s\" and \"/t\"; name one"),
        ("-e nobody /s", "--email \"nobody\": it is not one address; write it as name@example.com"),
        (
            "-m http://a,,http://b /s",
            "--marathon \"http://a,,http://b\": an item of the list is empty",
        ),
        ("--log-level loud /s", "--log-level loud: choose debug, info, warn, error or critical"),
        ("--log-format xml /s", "--log-format xml: choose text or json"),
        ("--cert-mode 0999 /s", "--cert-mode 0999: write an octal mode, such as 0600 or 0640"),
        ("--cert-mode 4755 /s", "--cert-mode 4755: the owner must read and write"),
        ("--sse-timeout soon /s", "--sse-timeout soon: write a number of seconds, such as 60"),
        ("--sse-timeout -1 /s", "--sse-timeout -1: write a number of seconds, such as 60"),
        (
            "--marathon-timeout x /s",
            "--marathon-timeout x: write a number of seconds, such as 60, or 0",
        ),
        ("-g a,b /s", "--group \"a,b\": it is not one group"),
        (
            "--allow-multiple-certs --san /s",
            "--san and --allow-multiple-certs exclude each other; choose --san for a certificate a \
             label, or --allow-multiple-certs for one a domain",
        ),
        ("--list --once /s", "--once and --list exclude each other; choose one"),
        ("--revoke a.org --once /s", "--once and --revoke exclude each other; choose one"),
        ("--revoke a.org --list /s", "--list and --revoke exclude each other; choose one"),
        (
            "--revoke a_b.org /s",
            "--revoke \"a_b.org\": it contains '_'; write the name as its file",
        ),
        ("--eab-kid x /s", "--eab-kid wants --eab-hmac-key as well; give both or neither"),
        ("--eab-hmac-key x /s", "--eab-hmac-key wants --eab-kid as well; give both or neither"),
        ("--eab-hmac-key= --eab-kid x /s", "--eab-hmac-key \"\": write the path of the file"),
        (
            "--eab-hmac-key f --eab-kid= /s",
            "--eab-kid \"\": it is no name; write it as the CA does",
        ),
        ("--profile= /s", "--profile \"\": it is no name; write it as the CA does"),
        ("--key-type rsa /s", "--key-type rsa: choose p256 or p384"),
        ("--prune-after -1 /s", "--prune-after -1: write a number of days, such as 30, or 0 to"),
        ("--prune-after nan /s", "--prune-after nan: write a number of days, such as 30"),
        ("--prune-after 1e9 /s", "--prune-after 1e9: write a number of days, such as 30"),
    ];
    for (line, expected) in cases {
        let error = error(line);
        assert!(error.starts_with(expected), "{line}\n  {error}\n  {expected}");
    }
}

#[test]
fn a_request_shows_who_asks_in_one_way() {
    let both = error("--marathon-token f --marathon http://a,http://u:p@b /s");
    let expected = "--marathon-token f: a --marathon URL has a user and password; leave them away";
    assert!(both.starts_with(expected), "{both}");
    let none = error("--marathon-token= /s");
    assert!(none.starts_with("--marathon-token \"\": write the path of the file"), "{none}");
}

#[test]
fn a_switch_takes_no_value_and_its_variable_only_two() {
    assert!(error("--allow-multiple-certs=yes /s").contains("allow-multiple-certs"));
    let wrong = parsed("/s", &[("MARATHON_ACME_ALLOW_MULTIPLE_CERTS", "1")]).unwrap_err();
    assert_eq!(wrong.to_string(), "--allow-multiple-certs \"1\": its variable takes true or false");
}

#[test]
fn passwords_are_not_shown_in_errors() {
    let url = "http://user:secret@host";
    let lines = [
        "-m http://user:secret@ /s",
        "-m user:secret@host /s",
        "-m http://user:secret@host,,http://user:secret@other /s",
        "-l ftp://user:secret@host /s",
        "-a https://user:secret@acme-v01.example.org/directory /s",
        "-a http://user:secret@host /s",
        "URL",
        "URL /s",
        "/s URL",
        "--listen URL /s",
        "--email URL /s",
        "--email URL.org /s",
        "--group a,URL /s",
        "--sse-timeout URL /s",
        "--cert-mode URL /s",
        "--log-level URL /s",
        "--revoke URL /s",
        "--san=URL /s",
        "--marathn=URL /s",
    ];
    for line in lines {
        let error = parsed(&line.replace("URL", url), &[]).expect_err(line);
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
    let [wrong, right] = ["http://user:secret@", "http://host"].map(str::to_string);
    for (name, value) in [("MARATHON", &wrong), ("SAN", &wrong), ("LISTEN", &wrong), ("X", &right)]
    {
        let pairs = [(format!("MARATHON_ACME_{name}"), value.clone())];
        let pairs = pairs.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
        let said = format!("{:?}", parsed("/s", &pairs));
        assert!(!said.contains("secret"), "{said}");
    }
}

/// A password as it stands, with every character that ends one, alone and among good URLs; also one that
/// begins with digits, which then passes for a port.
#[test]
fn a_password_with_a_delimiter_is_not_shown_and_how_to_write_it_is() {
    let (good, other) = ("http://one:8080", "http://me:hidden@two:8080");
    for delimiter in [",", "/", "?", "#", ",,", ",/", "@,", "@x:y,", "@80/", "://,", ",http://"] {
        for head in ["sec", "80"] {
            let bad = format!("http://admin:{head}{delimiter}ret@host:8080");
            let lists = [
                bad.clone(),
                format!("{good},{bad}"),
                format!("{bad},{good}"),
                format!("{good},{other},{bad},{other},{good}"),
                format!("admin:{head}{delimiter}ret@host:8080"),
            ];
            for (list, option) in lists.iter().flat_map(|list| [(list, "marathon"), (list, "lb")]) {
                let said = match parsed(&format!("/s --{option} {list}"), &[]) {
                    Err(error) => error.to_string(),
                    // Where all of it makes sense, nobody can tell.
                    Ok(_) if delimiter == ",http://" && head == "80" => continue,
                    Ok(_) => panic!("{list} is taken"),
                };
                let shown = said.replace("http://host:port", "");
                for part in ["admin", "sec", "80/", "ret", "hidden", "x:y"] {
                    assert!(!shown.contains(part), "{list}: {said}");
                }
                let helps = said.contains("%2C %2F %3F %23") || delimiter.contains(",,");
                assert!(helps && !said.contains('\n'), "{list}: {said}");
            }
        }
    }
    let comma = parsed("/s -m http://admin:sec,ret@host:8080", &[]).unwrap_err().to_string();
    let expected = "--marathon (item 1 of 2, not shown: perhaps part of a password): its port is not \
                    a number from 1 to 65535; write it as http://host:port, and , / ? # in a user or \
                    password as %2C %2F %3F %23";
    assert_eq!(comma, expected);
    let right = config("/s -m http://admin:s%2C%2F%3F%23@host:8080,http://two", &[]);
    assert_eq!(right.marathon[0].credentials(), Some(&Credentials::basic("admin", "s,/?#")));
    assert_eq!(right.marathon.len(), 2);
    // What has no `@` behind it is no password, and is shown.
    assert!(error("/s -m http://me:pw@one,http://two:x").starts_with("--marathon http://two:x: "));
}

#[test]
fn a_url_in_another_options_list_keeps_its_password() {
    for option in ["skip-route-check", "lb-verify", "group", "email", "listen", "revoke"] {
        let line = format!("/s --{option} a.org,http://admin:sec,ret@host:8080,b.org");
        let error = error(&line);
        assert!(!error.contains("sec") && !error.contains("ret"), "{error}");
    }
}

#[test]
fn what_is_not_utf_8_is_said() {
    use std::os::unix::ffi::OsStringExt as _;
    let bad = OsString::from_vec(vec![b'/', 0xff]);
    let error = parse([bad], []).expect_err("not UTF-8").to_string();
    assert_eq!(error, "STORAGE-DIR is not UTF-8; write it in UTF-8");
}

#[test]
fn the_help_names_every_option_and_fits_a_terminal() {
    let Ok(Command::Print(help)) = parsed("--help", &[]) else { panic!("it prints") };
    for spec in OPTIONS {
        assert!(help.contains(&spec.flag()), "{}", spec.flag());
    }
    let widest = help.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{widest:?}");
    assert!(matches!(parsed("-h --no-such-thing", &[]), Ok(Command::Print(_))));
    let Ok(Command::Print(version)) = parsed("--version", &[]) else { panic!("it prints") };
    assert_eq!(version, format!("marathon-acme {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_readme_has_every_option_in_the_order_of_the_help() {
    let readme = include_str!("../../README.md");
    let (_, behind) = readme.split_once("| option | default | |").expect("the table of options");
    let table: Vec<&str> =
        behind.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    let table = table.join("\n");
    let mut places = Vec::new();
    for spec in OPTIONS {
        let start = spec.short.map_or_else(String::new, |letter| format!("`-{letter}`, "));
        let ways = [" ", "`"].map(|end| format!("{start}`{}{end}", spec.flag()));
        let place = ways.iter().find_map(|way| table.find(way.as_str()));
        places.push(place.unwrap_or_else(|| panic!("{} is missing", spec.flag())));
    }
    assert!(places.is_sorted(), "{places:?}");
}
