//! Keys and passwords: that none of them is anywhere but where it belongs, whatever happens.
//!
//! The last run looked for 9 secrets in 104 writings (as they are, in base64, hexadecimal and
//! others) in 44,371 bytes of log, answers and errors of a run at the level `debug`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use stand_ins::ca::{self, Ca, RenewalInfo};
use stand_ins::driver::{Driver, Options, time_now};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{self, AppsAnswer, Marathon};

use crate::leaks::{Search, can_find};
use crate::process::{Outcome, Process, Signal, expect, get, local, wait_for_port, wait_until};
use crate::real::Pebble;
use crate::recorder::Recorder;
use crate::site::{Site, app, play, text, tls_options};
use crate::stand::stop;
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("the_search_for_secrets_can_find_them", &[], can_find),
    ("no_key_and_no_password_is_where_it_does_not_belong", &[], everywhere),
    ("no_key_is_in_a_log_of_a_life_with_pebble", &[Tool::Pebble], with_pebble),
];

const NAMES: [&str; 2] = ["a.example.com", "b.example.com"];
const REJECTED: &str = "rejected.example.com";
const FAILING: &str = "failing.example.com";
/// Marathon's, and how it stands in a URL.
const PASSWORD: (&str, &str) =
    ("op\u{e9}n: s\"s\u{e4}me/@5", "op%C3%A9n%3A%20s%22s%c3%a4me%2f%405");
/// The load balancer's.
const LB_PASSWORD: (&str, &str) = ("reload:99%now!", "reload:99%25now!");
/// What an app keeps from others; Marathon tells it along with the labels.
const APP_PASSWORD: &str = "the app's own business";
const MAC_KEY: [u8; 32] = *b"\xf8\x00keep this binding to itself\xff\xfe\x3e";

/// The peers, and what they heard.
struct Stage {
    site: Site,
    ca: Driver<Recorder<Ca>>,
    marathon: Driver<Recorder<Marathon>>,
    lb: Driver<Recorder<LoadBalancer>>,
    arguments: Vec<String>,
    /// What the daemon said and what it left, with the place where it was found.
    left: Vec<(String, Vec<u8>)>,
}

fn everywhere() -> Outcome {
    let mut stage = Stage::new()?;
    stage.first_orders()?;
    stage.renewals_and_troubles()?;
    stage.short_runs()?;
    stage.gather_files()?;
    stage.search()
}

impl Stage {
    fn new() -> Outcome<Stage> {
        let site = Site::new()?;
        let (options, root) = tls_options(site.folder(), "ca")?;
        let port = site.port;
        let route: stand_ins::driver::Route =
            Box::new(move |_, wanted| (wanted == 80).then(|| local(port)));
        let listener = TcpListener::bind(local(0)).map_err(text)?;
        let base = format!("https://{}", listener.local_addr().map_err(text)?);
        let settings = ca::Settings {
            external_accounts: [("kid-1".to_string(), MAC_KEY.to_vec())].into(),
            external_account_required: true,
            rejected_names: [REJECTED.to_string()].into(),
            failing_names: [FAILING.to_string()].into(),
            renewal_info: Some(RenewalInfo::default()),
            ..ca::Settings::default()
        };
        let ca = Recorder::new(Ca::new(7, &base, time_now(), settings));
        let directory = ca.peer.directory_url();
        let options = Options { route: Some(route), ..options };
        let ca = Driver::start(listener, ca, options).map_err(text)?;
        let basic_auth = Some(("user".to_string(), PASSWORD.0.to_string()));
        let settings = marathon::Settings { basic_auth, ..marathon::Settings::default() };
        let marathon = play(Recorder::new(Marathon::new(settings)), Options::default())?;
        let lb = LoadBalancer::new(time_now(), lb::Settings::default());
        let lb = play(Recorder::new(lb), Options::default())?;
        let binding = site.folder().join("hmac-key");
        fs::write(&binding, URL_SAFE_NO_PAD.encode(MAC_KEY)).map_err(text)?;
        let mut arguments = site.arguments(&directory, &root);
        arguments.retain(|word| !word.starts_with("--marathon="));
        arguments.push(format!("--lb=http://lb:{}@{}", LB_PASSWORD.1, lb.address()));
        arguments.push("--eab-kid=kid-1".into());
        arguments.push(format!("--eab-hmac-key={}", binding.display()));
        arguments.push("--log-level=debug".into());
        Ok(Stage { site, ca, marathon, lb, arguments, left: Vec::new() })
    }

    /// The program with its choices; Marathon's URL is in the environment, as an operator is advised.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Site::command();
        let url = format!("http://user:{}@{}", PASSWORD.1, self.marathon.address());
        command.env("MARATHON_ACME_MARATHON", url).args(&self.arguments).args(more);
        command
    }

    fn start(&self, name: &str, more: &[&str]) -> Outcome<Process> {
        let daemon = Process::start(self.site.folder(), name, &mut self.command(more))?;
        wait_for_port("the daemon", self.site.port)?;
        Ok(daemon)
    }

    /// Ends a daemon, and keeps what it said.
    fn finish(&mut self, name: &str, mut daemon: Process) -> Outcome {
        for path in ["/health", "/", "/.well-known/acme-challenge/none"] {
            let answer = get(self.site.port, path)?;
            self.left.push((format!("{path} of the {name} run"), answer.into_bytes()));
        }
        stop(&mut daemon)?;
        self.left.push((format!("the log of the {name} run"), daemon.output().into_bytes()));
        Ok(())
    }

    fn deploy(&self, domain: &str) {
        let mut app = app(&format!("/{domain}"), domain);
        app["env"] = json!({"PASSWORD": APP_PASSWORD});
        self.marathon.with(|it, now| it.peer.put_app(now, app));
    }

    /// A new account key, a bound account, orders good and bad, the plan.
    fn first_orders(&mut self) -> Outcome {
        for domain in [NAMES[0], REJECTED, FAILING] {
            self.deploy(domain);
        }
        let mut daemon = self.start("first", &[])?;
        self.site.wait_for_certificate(&daemon, NAMES[0])?;
        for domain in [REJECTED, FAILING] {
            daemon.wait_until_failed(self.site.port, domain)?;
        }
        daemon.wait_until_reloaded(self.site.port, 1)?;
        daemon.signal(Signal::HUP)?;
        daemon.wait_for("DEBUG plan")?;
        let odd = json!({"env": {"PASSWORD": APP_PASSWORD}, "id": "/odd", "labels": APP_PASSWORD});
        self.marathon.with(|it, now| it.peer.put_app(now, odd));
        daemon.wait_until_rejected(self.site.port, "/odd")?;
        self.marathon.with(|it, _| it.peer.settings.apps = AppsAnswer::Cut(500));
        daemon.signal(Signal::HUP)?;
        daemon.wait_until_syncs_failed(self.site.port, 1)?;
        self.marathon.with(|it, _| it.peer.settings.apps = AppsAnswer::Normal);
        self.finish("first", daemon)
    }

    /// JSON lines; a renewal, a key of the other type; a load balancer and a Marathon that refuse.
    fn renewals_and_troubles(&mut self) -> Outcome {
        let old = fs::read(self.site.certificate(NAMES[0])).map_err(text)?;
        fs::write(self.site.folder().join("old.pem"), old).map_err(text)?;
        self.ca.with(|ca, now| ca.peer.hasten(now, |_| true));
        self.lb.with(|lb, _| lb.peer.settings.failures = 1);
        let state = self.site.storage.join("state.json");
        let due = fs::read_to_string(&state).map_err(text)?.replace("\"ask_at\"", "\"was_asked\"");
        fs::write(&state, due).map_err(text)?;
        let mut daemon = self.start("second", &["--log-format=json", "--key-type=p384"])?;
        wait_until("a renewal", || {
            self.ca.with(|ca, _| (ca.peer.issued().len() >= 2).then_some(()))
        })?;
        self.deploy(NAMES[1]);
        self.site.wait_for_certificate(&daemon, NAMES[1])?;
        daemon.wait_until_reloaded(self.site.port, 1)?;
        let other = Some(("user".to_string(), "changed".to_string()));
        self.marathon.with(|it, _| it.peer.settings.basic_auth = other);
        daemon.signal(Signal::HUP)?;
        daemon.wait_until_syncs_failed(self.site.port, 1)?;
        self.finish("second", daemon)
    }

    /// Mistakes, lists, and a Marathon that is not there.
    fn short_runs(&mut self) -> Outcome {
        let key = format!("--eab-hmac-key={}", URL_SAFE_NO_PAD.encode(MAC_KEY));
        let url = format!("http://user:{}@127.0.0.1:9", PASSWORD.1);
        let bad = [format!("--marathon={url}:x"), format!("--email={url}"), url.clone()];
        let here = format!("--marathon={url}");
        let file = self.site.folder().join("hmac-key").display().to_string();
        let runs: [&[&str]; 9] = [
            &["--help"],
            &["--list"],
            &["--list", "--log-format=json"],
            &[&key],
            &[&bad[0]],
            &[&bad[1]],
            &[&bad[2]],
            &["--once", &here],
            // The binding's file in another's place.
            &["--acme-ca", &file],
        ];
        for (number, words) in runs.into_iter().enumerate() {
            let output = self.command(words).output().map_err(text)?;
            let said = [output.stdout, output.stderr].concat();
            expect(!said.is_empty(), || format!("{words:?} said nothing"))?;
            self.left.push((format!("the output of short run {number}"), said));
        }
        Ok(())
    }

    /// Every file in the storage that is not meant for keys.
    fn gather_files(&mut self) -> Outcome {
        let storage = &self.site.storage;
        let folders = [storage.clone(), storage.join("challenges"), storage.join("tmp")];
        for folder in folders {
            for path in files(&folder)? {
                if !matches!(file_name(&path).as_str(), "client.key" | "default.pem") {
                    let content = fs::read(&path).map_err(text)?;
                    self.left.push((path.display().to_string(), content));
                }
            }
        }
        let state = self.left.iter().any(|(place, _)| place.ends_with("state.json"));
        expect(state, || "no state.json".into())?;
        self.left.push(("what the CA heard".into(), self.ca.with(|it, _| it.heard.clone())));
        Ok(())
    }

    /// Every key and password that there is.
    fn secrets(&self) -> Outcome<Search> {
        let mut search = Search::new();
        let storage = &self.site.storage;
        let mut keys = vec![storage.join("client.key"), storage.join("default.pem")];
        keys.push(self.site.folder().join("old.pem"));
        keys.extend(files(&storage.join("certs"))?);
        keys.extend(files(&storage.join("archive"))?);
        for path in &keys {
            search.key(&file_name(path), &fs::read_to_string(path).map_err(text)?)?;
        }
        expect(keys.len() >= 5, || format!("only {} keys", keys.len()))?;
        search.bytes("the MAC key", &MAC_KEY);
        search.password("an app's password", APP_PASSWORD, APP_PASSWORD);
        search.password("Marathon's password", PASSWORD.0, PASSWORD.1);
        search.password("the load balancer's password", LB_PASSWORD.0, LB_PASSWORD.1);
        Ok(search)
    }

    fn search(&self) -> Outcome {
        let mut search = self.secrets()?;
        for (place, content) in &self.left {
            let found = search.look(content);
            expect(found.is_empty(), || format!("{place} holds {found:#?}"))?;
        }
        // And each password is where it belongs, alone: so the search does find what is there.
        let heard = [
            ("Marathon", self.marathon.with(|it, _| it.heard.clone()), "Marathon's password"),
            (
                "The balancer",
                self.lb.with(|it, _| it.heard.clone()),
                "the load balancer's password",
            ),
        ];
        for (who, heard, password) in heard {
            let found = search.look(&heard);
            let alone = found.iter().all(|what| what.starts_with(password));
            expect(alone && !found.is_empty(), || format!("{who} heard {found:#?}"))?;
        }
        let places = self.left.len() + 2;
        let (secrets, needles, bytes) = (search.secrets, search.needles(), search.bytes);
        println!("{secrets} secrets in {needles} writings, {bytes} bytes in {places} places");
        Ok(())
    }
}

fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(text)?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|it| it.map(|it| it.path())).collect();
    Ok(paths.map_err(text)?.into_iter().filter(|path| path.is_file()).collect())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn with_pebble() -> Outcome {
    let site = Site::new()?;
    let pebble = Pebble::start(site.folder(), site.port, &[("PEBBLE_WFE_NONCEREJECT", "50")])?;
    site.deploy("/a", NAMES[0]);
    let arguments = site.arguments(&pebble.directory(), &pebble.root_file);
    let mut daemon = site.daemon("daemon", &arguments, &["--log-level=debug"])?;
    site.wait_for_certificate(&daemon, NAMES[0])?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for("DEBUG plan")?;
    stop(&mut daemon)?;
    let mut search = Search::new();
    for path in [site.storage.join("client.key"), site.certificate(NAMES[0])] {
        search.key(&file_name(&path), &fs::read_to_string(path).map_err(text)?)?;
    }
    let state = fs::read(site.storage.join("state.json")).map_err(text)?;
    let found = search.look(&[daemon.output().into_bytes(), state].concat());
    expect(found.is_empty(), || format!("{found:#?}"))
}
