//! The texts as operators get them, with options of every kind.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::super::{Command, parse};
use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

const PROGRAM: &str = "/usr/bin/marathon-acme";

fn template(words: &[&str], variables: Pairs<'_>) -> Result<Template, String> {
    let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    match parse(words.iter().map(OsString::from), variables.iter().map(pair)) {
        Ok(Command::Template(template)) => Ok(*template),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn filled(words: &[&str], variables: Pairs<'_>) -> Filled {
    template(words, variables).expect("the words are right").fill_in(PROGRAM)
}

fn unit(words: &[&str], variables: Pairs<'_>) -> Filled {
    filled(&[&["--print-systemd-unit"], words].concat(), variables)
}

fn app(words: &[&str], variables: Pairs<'_>) -> (Value, Vec<String>) {
    let Filled { text, notes } = filled(&[&["--print-app-definition"], words].concat(), variables);
    (serde_json::from_str(&text).expect("it is JSON"), notes)
}

/// The words of `ExecStart`, a line each.
fn start(unit: &str) -> Vec<&str> {
    let (_, behind) = unit.split_once("\nExecStart=").expect("it starts something");
    let mut words = Vec::new();
    for line in behind.lines() {
        words.push(line.trim_end_matches('\\').trim());
        if !line.ends_with('\\') {
            break;
        }
    }
    words
}

/// The values of a setting.
fn setting<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

#[test]
fn without_options_the_storage_is_a_state_directory() {
    let Filled { text, notes } = unit(&[], &[]);
    assert_eq!(start(&text), [PROGRAM, "/var/lib/marathon-acme"]);
    assert_eq!(setting(&text, "DynamicUser"), ["yes"]);
    assert_eq!(setting(&text, "StateDirectory"), ["marathon-acme"]);
    assert_eq!(setting(&text, "CapabilityBoundingSet"), [""]);
    assert_eq!(setting(&text, "PrivateUsers"), ["yes"]);
    assert_eq!((setting(&text, "User"), setting(&text, "ReadWritePaths")), (vec![], vec![]));
    assert_eq!((setting(&text, "EnvironmentFile"), notes), (vec![], vec![]));
}

#[test]
fn the_command_is_what_was_given_wherever_it_was_given() {
    let words = ["--san", "-e", "a@b.org", "/var/lib/acme/one/", "--listen", ":9000"];
    let variables = [("MARATHON_ACME_GROUP", "mine"), ("MARATHON_ACME_ONCE", "false")];
    let text = unit(&words, &variables).text;
    let expected = [
        PROGRAM,
        "--email=a@b.org",
        "--group=mine",
        "--listen=:9000",
        "--san",
        "/var/lib/acme/one/",
    ];
    assert_eq!(start(&text), expected);
    assert_eq!(setting(&text, "StateDirectory"), ["acme/one"]);
    assert!(text.contains("#   ListenStream=9000\n"));
}

#[test]
fn words_are_quoted_as_systemd_reads_them() {
    let cases = [
        ("Some Root X1", "\"--preferred-chain=Some Root X1\""),
        ("100%", "--preferred-chain=100%%"),
        ("$HOME", "--preferred-chain=$$HOME"),
        ("a\"b\\c", "\"--preferred-chain=a\\\"b\\\\c\""),
        ("a;b 'c'", "\"--preferred-chain=a;b 'c'\""),
        ("Wurzel\u{e4}", "\"--preferred-chain=Wurzel\u{e4}\""),
    ];
    for (value, expected) in cases {
        let text = unit(&["--preferred-chain", value], &[]).text;
        assert_eq!(start(&text)[1], expected);
    }
    assert_eq!(start(&unit(&["-g", "*"], &[]).text)[1], "\"--group=*\"");
}

#[test]
fn a_low_port_is_the_one_capability() {
    for (listen, capability) in [
        (":80", "CAP_NET_BIND_SERVICE"),
        ("[::1]:1023", "CAP_NET_BIND_SERVICE"),
        (":1024", ""),
        (":0", ""),
    ] {
        let text = unit(&["--listen", listen], &[]).text;
        assert_eq!(setting(&text, "CapabilityBoundingSet"), [capability], "{listen}");
        assert_eq!(setting(&text, "AmbientCapabilities"), [capability]);
        assert_eq!(setting(&text, "PrivateUsers").is_empty(), !capability.is_empty());
    }
}

#[test]
fn a_storage_elsewhere_has_a_user_of_its_own() {
    for path in ["/srv/acme", "/var/lib", "/var/lib/../acme", "/var/lib/private/x", "/var/lib/a b"]
    {
        let Filled { text, notes } = unit(&[path], &[]);
        let word = if path.contains(' ') { format!("\"{path}\"") } else { path.to_string() };
        assert_eq!(setting(&text, "User"), ["marathon-acme"], "{path}");
        assert_eq!(setting(&text, "ReadWritePaths"), [word.as_str()]);
        assert_eq!(setting(&text, "RequiresMountsFor"), [word.as_str()]);
        assert!(text.contains(&format!("install -d -o marathon-acme -m 0750 {word}")));
        assert_eq!((setting(&text, "DynamicUser"), notes.len()), (vec![], 1));
    }
}

#[test]
fn the_user_of_the_variable_is_systemds_to_switch_to() {
    let text = unit(&[], &[("MARATHON_ACME_USER", "1000:50")]).text;
    assert_eq!((setting(&text, "User"), setting(&text, "Group")), (vec!["1000"], vec!["50"]));
    assert_eq!(setting(&text, "StateDirectory"), ["marathon-acme"]);
    assert!(setting(&text, "DynamicUser").is_empty() && !text.contains("useradd"));
}

#[test]
fn the_mode_of_certificates_is_what_the_umask_lets_others_have() {
    for (mode, umask, directory) in
        [("0600", "0077", "0750"), ("0640", "0027", "0750"), ("0644", "0022", "0755")]
    {
        let text = unit(&["--cert-mode", mode], &[]).text;
        assert_eq!(setting(&text, "UMask"), [umask]);
        assert_eq!(setting(&text, "StateDirectoryMode"), [directory]);
    }
}

#[test]
fn a_password_is_in_no_text() {
    let urls = "https://me:s3cr%65t@m1.example:8443/x,http://m2.example:8080";
    let shown = "https://USER:PASSWORD@m1.example:8443/x,http://m2.example:8080";
    for (words, variables) in [
        ([["-m", urls].as_slice(), &["-l", "http://lb:9090"]].concat(), [].as_slice()),
        (vec!["-l", "http://lb:9090"], &[("MARATHON_ACME_MARATHON", urls)]),
    ] {
        let Filled { text, notes } = unit(&words, variables);
        let said = format!("{text}{}", notes.join("\n"));
        assert!(!said.contains("s3cr") && !said.contains("me:"), "{said}");
        assert_eq!(start(&text)[1], "--lb=http://lb:9090");
        assert!(text.contains(&format!("\n#   MARATHON_ACME_MARATHON={shown}\n")), "{text}");
        assert_eq!(setting(&text, "EnvironmentFile"), ["/etc/marathon-acme.env"]);
        assert!(notes.len() == 1 && notes[0].starts_with("--marathon has a password"), "{notes:?}");

        let (app, notes) = app(&words, variables);
        let env = json!({"MARATHON_ACME_MARATHON": shown, "MARATHON_ACME_USER": "65532:65532"});
        assert_eq!(app["env"], env);
        let words = ["--lb=http://lb:9090", "--admin-listen=:8001", "/var/lib/marathon-acme"];
        assert_eq!(app["args"], json!(words));
        assert!(notes.iter().any(|note| note.starts_with("--marathon has a password")));
        assert!(!format!("{app}{notes:?}").contains("s3cr"));
    }
}

#[test]
fn a_file_of_a_secret_is_handed_over_by_systemd() {
    let words = ["--eab-kid", "k", "--eab-hmac-key", "/etc/acme/100%", "--acme-ca", "/etc/ca.pem"];
    let text = unit(&words, &[]).text;
    assert_eq!(setting(&text, "LoadCredential"), ["eab-hmac-key:/etc/acme/100%%"]);
    let expected = "--eab-hmac-key=${CREDENTIALS_DIRECTORY}/eab-hmac-key";
    assert!(start(&text).contains(&expected) && start(&text).contains(&"--acme-ca=/etc/ca.pem"));
    let (_, notes) = app(&words, &[]);
    assert!(notes.iter().any(|note| note.starts_with("--acme-ca /etc/ca.pem: is a path in")));
}

#[test]
fn what_a_service_cannot_see_is_said() {
    let Filled { text, notes } = unit(&["--acme-ca", "/home/me/ca.pem"], &[]);
    assert_eq!((setting(&text, "ProtectHome"), notes.len()), (vec!["read-only"], 1));
    let template = template(&["--print-systemd-unit"], &[]).expect("it is right");
    let Filled { text, notes } = template.fill_in("/tmp/marathon-acme");
    assert_eq!(setting(&text, "ProtectHome"), ["yes"]);
    assert!(notes[0].starts_with("the program, /tmp/marathon-acme, is not there"), "{notes:?}");
}

#[test]
fn an_app_has_what_our_image_needs() {
    let (app, notes) = app(&["-e", "a@b.org"], &[("MARATHON_ACME_USER", "7:8")]);
    let words = ["--email=a@b.org", "--admin-listen=:8001", "/var/lib/marathon-acme"];
    assert_eq!(app["args"], json!(words));
    assert_eq!(app["env"], json!({"MARATHON_ACME_USER": "7:8"}));
    assert_eq!(app["container"]["portMappings"][0]["containerPort"], json!(8000));
    let volume = &app["container"]["volumes"][0];
    assert_eq!(volume["containerPath"], json!("/var/lib/marathon-acme"));
    let check = &app["healthChecks"][0];
    assert_eq!((&check["protocol"], &check["path"]), (&json!("MESOS_HTTP"), &json!("/health")));
    assert_eq!((&app["mem"], notes.len()), (&json!(128), 3));
    assert!(notes[2].contains("chown -R 7:8 /var/lib/marathon-acme"), "{notes:?}");
    let (app, _) = self::app(&["-g", "internal", "--listen", ":80", "/mnt/acme"], &[]);
    assert_eq!(app["labels"]["HAPROXY_0_GROUP"], json!("internal"));
    assert_eq!(app["container"]["portMappings"][0]["containerPort"], json!(80));
    assert_eq!(app["container"]["volumes"][0]["hostPath"], json!("/mnt/acme"));
    let labels = &self::app(&["-g", "*"], &[]).0["labels"];
    assert_eq!(labels["HAPROXY_0_GROUP"], json!("external"));
}

/// The values of one Docker parameter of an app, in their order.
fn docker(app: &Value, key: &str) -> Vec<String> {
    let parameters = app["container"]["docker"]["parameters"].as_array().expect("there are some");
    let of_key = parameters.iter().filter(|it| it["key"] == json!(key));
    of_key.map(|it| it["value"].as_str().expect("it is a text").to_string()).collect()
}

#[test]
fn the_app_of_the_readme_is_the_printed_one() {
    let readme = include_str!("../../../README.md");
    let (_, behind) = readme.split_once("```json\n").expect("the app");
    let (shown, _) = behind.split_once("```").expect("its end");
    let shown = shown.replace("VERSION", env!("CARGO_PKG_VERSION"));
    let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
    assert_eq!(app(&["--email", "you@example.com"], &[]).0, shown);
}

#[test]
fn an_app_publishes_the_challenges_and_nothing_else() {
    let (app, _) = app(&[], &[]);
    let labels = app["labels"].as_object().expect("there are labels");
    // A label for the whole app would be one for the operator's port, too.
    assert!(labels.keys().all(|label| label.starts_with("HAPROXY_0_")), "{labels:?}");
    let mappings = &app["container"]["portMappings"];
    assert_eq!((&mappings[1]["containerPort"], &mappings[2]), (&json!(8001), &Value::Null));
    assert_eq!(app["healthChecks"][0]["portIndex"], json!(1));
    for (words, port) in [
        (["--admin-listen", ":9999"], 9999),
        (["--admin-listen", "[::]:9998"], 9998),
        (["--listen", ":8001"], 8002),
    ] {
        let (app, _) = self::app(&words, &[]);
        assert_eq!(app["container"]["portMappings"][1]["containerPort"], json!(port), "{words:?}");
        let arguments = app["args"].as_array().expect("there are arguments");
        let admin = arguments.iter().filter_map(Value::as_str);
        let admin: Vec<&str> = admin.filter(|it| it.starts_with("--admin-listen=")).collect();
        assert!(admin.len() == 1 && admin[0].ends_with(&format!(":{port}")), "{admin:?}");
    }
}

#[test]
fn an_app_has_no_privilege_that_the_program_does_not_use() {
    let (app, _) = app(&[], &[]);
    assert_eq!(app["env"]["MARATHON_ACME_USER"], json!("65532:65532"));
    for (key, values) in [
        ("read-only", vec!["true"]),
        ("cap-drop", vec!["ALL"]),
        ("cap-add", vec!["SETUID", "SETGID"]),
        ("security-opt", vec!["no-new-privileges"]),
    ] {
        assert_eq!(docker(&app, key), values, "{key}");
    }
    let low = ["SETUID", "SETGID", "NET_BIND_SERVICE"];
    for words in [["--listen", ":80"], ["--admin-listen", "127.0.0.1:1023"]] {
        assert_eq!(docker(&self::app(&words, &[]).0, "cap-add"), low, "{words:?}");
    }
}

#[test]
fn an_apps_labels_are_those_of_the_readme() {
    let readme = include_str!("../../../README.md");
    let (_, behind) = readme.split_once("| label | value |").expect("the table of labels");
    let rows = behind.lines().skip(1).take_while(|line| line.trim().starts_with('|')).skip(1);
    let labels = rows.map(|row| {
        let cells: Vec<&str> = row.split('`').collect();
        (cells[1].to_string(), json!(cells[3].replace("\\n", "\n")))
    });
    assert_eq!(app(&[], &[]).0["labels"], Value::Object(labels.collect()));
}

#[test]
fn mistakes_are_those_of_the_program_and_of_the_text() {
    let unit = "--print-systemd-unit";
    let app = "--print-app-definition";
    let cases: [(&[&str], &str); 9] = [
        (&[unit, "--listen", "8000"], "--listen 8000: the port wants a colon"),
        (&[unit, "storage"], "STORAGE-DIR \"storage\": write the whole path, which begins with /"),
        (&[unit, "/a\nExecStart=/bin/sh"], "STORAGE-DIR \"/a\\nExecStart=/bin/sh\": write the"),
        (&[unit, "--acme-ca", "ca.pem"], "--acme-ca \"ca.pem\": write the whole path"),
        (&[unit, "--once"], "--once and --print-systemd-unit exclude each other; choose one"),
        (&[unit, "--print-man"], "--print-systemd-unit and --print-man exclude each other"),
        (&[app, "--revoke", "a.org"], "--revoke and --print-app-definition"),
        (&[app, "--listen", ":0"], "--listen :0: Marathon has to know"),
        (&[app, "--admin-listen", "[::]:0"], "--admin-listen :0: Marathon has to know"),
    ];
    for (words, expected) in cases {
        let error = template(words, &[]).expect_err("it is wrong");
        assert!(error.starts_with(expected) && !error.contains('\n'), "{error}");
    }
    let text = filled(&["--print-man"], &[]).text;
    assert!(text.starts_with(".TH "), "the manual wants no directory");
}
