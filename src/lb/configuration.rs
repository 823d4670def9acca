//! HAProxy's configuration as `/_haproxy_getconfig` shows it: which certificates it loads, and what
//! becomes of a challenge on port 80. Reads only as much of the language as marathon-lb's templates use;
//! what it does not know it passes over, and never takes for a fault.

use std::collections::BTreeMap;

mod publication;

pub use publication::Publication;

/// The largest configuration read, in bytes: some KiB for each of a thousand apps.
pub const CONFIGURATION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Marathon-lb's name for the front end on port 80.
const HTTP_FRONTEND: &str = "marathon_http_in";
/// Its name for the front end on port 443.
const HTTPS_FRONTEND: &str = "marathon_https_in";
/// Where every challenge is asked for (RFC 8555 section 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";
/// Which words begin a section (HAProxy configuration manual, chapters 3 and 4).
const SECTIONS: [&str; 13] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "resolvers",
    "mailers",
    "program",
    "ring",
    "fcgi-app",
    "http-errors",
];
/// Criteria that look at the request's host.
const HOST_CRITERIA: [&str; 6] =
    ["hdr(host)", "hdr_dom(host)", "req.hdr(host)", "ssl_fc_sni", "req_ssl_sni", "req.ssl_sni"];
/// With `--group-https-by-vhost` each host has a front end of its own at an abstract socket.
const GROUPED_SOCKET: &str = "abns@";

/// The sections of a configuration, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    kind: String,
    name: String,
    lines: Vec<Vec<String>>,
}

/// What becomes of a challenge on port 80.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// No front end for HTTP was found.
    NoFrontend,
    /// The front end sends everything to `https`.
    AllToHttps,
    /// The front end has no rule for the challenges' path.
    NoRule,
    /// It has one.
    Rule(Rule),
}

/// The rule that sends challenges on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The back end that gets them.
    pub backend: String,
    /// Rules before it that look at nothing but the host: each with the hosts that it is for, none
    /// where these are in a map.
    pub behind: Vec<Vec<String>>,
    /// It holds for some hosts only, and the others are not redirected to one of these.
    pub some_hosts_only: bool,
    /// That back end sends who comes without TLS to `https`.
    pub to_https: bool,
    /// How many servers that back end has.
    pub servers: usize,
    /// Rules that ask for a password before a challenge is let through (`HAPROXY_n_AUTH`): each with the
    /// hosts that it is for, none where it is for all.
    pub locked: Vec<Vec<String>>,
}

/// What a condition asks for, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Criterion {
    /// One of these hosts.
    Host(Vec<String>),
    /// A path under which challenges are.
    Challenge,
    /// Every path.
    AnyPath,
    Other,
}

/// The named conditions of a front end: what is asked for under one name, of which any will do.
#[derive(Debug, Default)]
struct Conditions(BTreeMap<String, Vec<Criterion>>);

/// What must hold together for a rule: what is asked for, and whether it must not be so.
type Terms = Vec<Term>;

/// Any of these, or none of them where that is barred.
type Term = (Vec<Criterion>, bool);

impl Configuration {
    /// Takes a configuration apart.
    pub fn parse(text: &str) -> Configuration {
        let mut sections: Vec<Section> = Vec::new();
        for line in text.lines() {
            let words = words(line);
            match words.first() {
                None => {}
                Some(first) if SECTIONS.contains(&first.as_str()) => sections.push(Section {
                    kind: first.clone(),
                    name: words.get(1).cloned().unwrap_or_default(),
                    lines: Vec::new(),
                }),
                Some(_) => {
                    if let Some(section) = sections.last_mut() {
                        section.lines.push(words);
                    }
                }
            }
        }
        Configuration { sections }
    }

    /// The paths behind `crt` of all that listens with TLS, in their order, each once.
    pub fn certificate_paths(&self) -> Vec<&str> {
        let mut paths = Vec::new();
        for words in self.binds().map(|(_, words)| words).filter(|words| has(words, "ssl")) {
            let pairs = words.iter().zip(words.iter().skip(1));
            for (_, path) in pairs.filter(|(word, _)| *word == "crt") {
                if !paths.contains(&path.as_str()) {
                    paths.push(path);
                }
            }
        }
        paths
    }

    /// What becomes of a challenge on port 80. Redirects go before every rule that chooses a back end,
    /// wherever they stand, and passwords before redirects.
    pub fn challenge_route(&self) -> Route {
        let Some(frontend) = self.http_frontend() else { return Route::NoFrontend };
        let conditions = Conditions::of(frontend);
        if frontend.lines.iter().any(|words| is_for_all(words, &conditions)) {
            return Route::AllToHttps;
        }
        let found = self.route_in(frontend);
        // One label of the old README: the rule redirects to our own host on port 443, and a CA follows.
        let is_sent_on = frontend
            .lines
            .iter()
            .any(|words| has_part(words, "https://") && conditions.redirects(words));
        match (found, self.secure_route()) {
            (Route::NoRule, Route::Rule(secure)) if is_sent_on => {
                let locked = [conditions.locked(frontend), secure.locked].concat();
                let some_hosts_only = false;
                Route::Rule(Rule { some_hosts_only, to_https: false, locked, ..secure })
            }
            (found, _) => found,
        }
    }

    /// What becomes of a challenge on port 443, where an app's `HAPROXY_n_REDIRECT_TO_HTTPS` sends it.
    pub fn secure_route(&self) -> Route {
        self.https_frontend().map_or(Route::NoFrontend, |frontend| self.route_in(frontend))
    }

    /// Whether the front end on port 443 only chooses a front end by SNI (`--group-https-by-vhost`), so that
    /// no rule there is for a path.
    pub fn groups_https(&self) -> bool {
        self.binds().any(|(_, words)| {
            has(words, "ssl") && words.get(1).is_some_and(|at| at.starts_with(GROUPED_SOCKET))
        })
    }

    /// The apps that are published, as marathon-lb writes their ids in the names of back ends: `/a/b` is
    /// `a_b`.
    pub fn published_apps(&self) -> impl Iterator<Item = &str> {
        let backends = self.sections.iter().filter(|it| it.kind == "backend");
        backends.map(|it| publication::app_of(&it.name))
    }

    fn route_in(&self, frontend: &Section) -> Route {
        let conditions = Conditions::of(frontend);
        let mut behind = Vec::new();
        for words in frontend.lines.iter().filter(|words| is(words, 0, "use_backend")) {
            let alternatives = conditions.asked(words);
            if let Some(terms) = alternatives.iter().find(|terms| asks_for_challenges(terms)) {
                let for_hosts = is_for_hosts(terms);
                let redirected = || frontend.lines.iter().any(|it| conditions.redirects(it));
                let backend = words.get(1).cloned().unwrap_or_default();
                let target = self.sections.iter().find(|it| it.is("backend", &backend));
                let lines = || target.iter().flat_map(|section| &section.lines);
                return Route::Rule(Rule {
                    some_hosts_only: for_hosts && !redirected(),
                    to_https: lines().any(|words| is_redirect_to_https(words)),
                    servers: lines().filter(|words| is(words, 0, "server")).count(),
                    locked: conditions.locked(frontend),
                    backend,
                    behind,
                });
            }
            behind.extend(hosts_of(words, &alternatives));
        }
        Route::NoRule
    }

    /// Marathon-lb's own, or else one that listens on port 443 with TLS.
    fn https_frontend(&self) -> Option<&Section> {
        let named = self.sections.iter().find(|it| it.is("frontend", HTTPS_FRONTEND));
        let is_on_443 = |(_, words): &(&Section, &Vec<String>)| {
            has(words, "ssl") && words.get(1).is_some_and(|address| address.ends_with(":443"))
        };
        named.or_else(|| self.binds().find(is_on_443).map(|(section, _)| section))
    }

    /// Marathon-lb's own, or else one that listens on port 80 without TLS.
    fn http_frontend(&self) -> Option<&Section> {
        let named = self.sections.iter().find(|it| it.is("frontend", HTTP_FRONTEND));
        let is_on_80 = |(_, words): &(&Section, &Vec<String>)| {
            is(words, 1, "80") || words.get(1).is_some_and(|address| address.ends_with(":80"))
        };
        let mut plain = self.binds().filter(|(_, words)| !has(words, "ssl"));
        named.or_else(|| plain.find(is_on_80).map(|(section, _)| section))
    }

    fn binds(&self) -> impl Iterator<Item = (&Section, &Vec<String>)> {
        let lines = self.sections.iter().flat_map(|it| it.lines.iter().map(move |line| (it, line)));
        lines.filter(|(_, words)| is(words, 0, "bind"))
    }
}

impl Section {
    fn is(&self, kind: &str, name: &str) -> bool {
        self.kind == kind && self.name == name
    }
}

impl Conditions {
    /// The named conditions of a front end (`acl NAME CRITERION [FLAGS] VALUE…`).
    fn of(frontend: &Section) -> Conditions {
        let mut found: BTreeMap<String, Vec<Criterion>> = BTreeMap::new();
        for words in frontend.lines.iter().filter(|words| is(words, 0, "acl")) {
            if let [_, name, criterion @ ..] = words.as_slice() {
                found.entry(name.clone()).or_default().push(Criterion::of(criterion));
            }
        }
        Conditions(found)
    }

    /// What a rule asks for behind its `if`: alternatives, in each of which all must hold. Conditions
    /// are named, or stand there themselves in braces.
    fn asked(&self, words: &[String]) -> Vec<Terms> {
        let (mut alternatives, mut terms, mut barred) = (Vec::new(), Terms::new(), false);
        let mut rest = words.iter().skip_while(|word| *word != "if").skip(1);
        while let Some(word) = rest.next() {
            let name = word.trim_start_matches('!');
            barred ^= (word.len() - name.len()) % 2 == 1;
            match name {
                // An exclamation mark that stands alone is for the next word.
                "" => continue,
                "or" | "||" => alternatives.push(std::mem::take(&mut terms)),
                "{" => {
                    let inside: Vec<String> =
                        rest.by_ref().take_while(|word| *word != "}").cloned().collect();
                    terms.push((vec![Criterion::of(&inside)], barred));
                }
                name => {
                    let known = self.0.get(name).cloned();
                    terms.push((known.unwrap_or_else(|| vec![Criterion::Other]), barred));
                }
            }
            barred = false;
        }
        alternatives.push(terms);
        alternatives
    }

    /// Where a password is asked for before a rule lets challenges of every host through. HAProxy evaluates
    /// the `http-request` rules in their order, before all others.
    fn locked(&self, frontend: &Section) -> Vec<Vec<String>> {
        let mut locked = Vec::new();
        for words in frontend.lines.iter().filter(|words| is(words, 0, "http-request")) {
            let alternatives = self.asked(words);
            let lets_pass = |terms: &Terms| asks_for_challenges(terms) && !is_for_hosts(terms);
            if is(words, 1, "allow") && alternatives.iter().any(lets_pass) {
                break;
            }
            if is(words, 1, "auth") {
                let for_challenges = |terms: &&Terms| {
                    let concerns =
                        |asked: &[Criterion]| is_host(asked) || asked.contains(&Criterion::AnyPath);
                    terms.iter().all(|(asked, barred)| *barred || concerns(asked))
                };
                locked.extend(alternatives.iter().filter(for_challenges).map(hosts_in));
            }
        }
        locked
    }

    /// Whether a rule redirects challenges of other hosts: to our own, where they are answered.
    fn redirects(&self, words: &[String]) -> bool {
        is_redirect(words)
            && !is_redirect_to_https(words)
            && self.asked(words).iter().any(|terms| asks_for_challenges(terms))
    }
}

impl Criterion {
    /// Reads `CRITERION [FLAGS] VALUE…`.
    fn of(words: &[String]) -> Criterion {
        let Some((name, values)) = words.split_first() else { return Criterion::Other };
        let covers = |value: &String| CHALLENGES.starts_with(value.as_str());
        if HOST_CRITERIA.contains(&name.as_str()) {
            let values = values.iter().filter(|value| !value.starts_with('-'));
            return Criterion::Host(values.map(|value| value.to_ascii_lowercase()).collect());
        }
        match name.as_str() {
            "path_beg" | "path,beg" if values.iter().any(|it| it == "/") => Criterion::AnyPath,
            "path_beg" | "path,beg" if values.iter().any(covers) => Criterion::Challenge,
            _ => Criterion::Other,
        }
    }
}

fn is_host(asked: &[Criterion]) -> bool {
    asked.iter().all(|criterion| matches!(criterion, Criterion::Host(_)))
}

fn asks_for_challenges(terms: &[Term]) -> bool {
    terms.iter().any(|(asked, barred)| !barred && asked.contains(&Criterion::Challenge))
}

/// The hosts of each alternative of a rule that asks for nothing else; none in the list where they are
/// in a map.
fn hosts_of(words: &[String], alternatives: &[Terms]) -> Vec<Vec<String>> {
    if !has(words, "if") {
        let mapped = words.iter().any(|word| word.contains("hdr(host)"));
        return if mapped { vec![Vec::new()] } else { Vec::new() };
    }
    let only_hosts = |terms: &&Terms| {
        let is_neutral = |asked: &[Criterion]| asked.contains(&Criterion::AnyPath);
        is_for_hosts(terms)
            && terms.iter().all(|(asked, barred)| !barred && (is_host(asked) || is_neutral(asked)))
    };
    alternatives.iter().filter(only_hosts).map(hosts_in).collect()
}

/// The hosts that are asked for.
fn hosts_in(terms: &Terms) -> Vec<String> {
    let asked = terms.iter().filter(|(_, barred)| !barred).flat_map(|(asked, _)| asked);
    let hosts = asked.filter_map(|criterion| match criterion {
        Criterion::Host(hosts) => Some(hosts),
        Criterion::Challenge | Criterion::AnyPath | Criterion::Other => None,
    });
    hosts.flatten().cloned().collect()
}

fn is_for_hosts(terms: &Terms) -> bool {
    terms.iter().any(|(asked, barred)| !barred && is_host(asked))
}

/// Whether one of the words begins so.
fn has_part(words: &[String], start: &str) -> bool {
    words.iter().any(|word| word.starts_with(start))
}

/// Whether a rule sends everything to `https`, challenges among it: it asks for nothing but that TLS is
/// not spoken already.
fn is_for_all(words: &[String], conditions: &Conditions) -> bool {
    let is_free = |terms: &Terms| {
        let excluded = |(asked, barred): &Term| {
            !barred || asked.contains(&Criterion::Challenge) || is_host(asked)
        };
        !terms.iter().any(excluded)
    };
    is_redirect(words)
        && is_redirect_to_https(words)
        && !has(words, "unless")
        && conditions.asked(words).iter().any(is_free)
}

fn is_redirect(words: &[String]) -> bool {
    is(words, 0, "redirect") || (is(words, 0, "http-request") && is(words, 1, "redirect"))
}

fn is_redirect_to_https(words: &[String]) -> bool {
    let scheme =
        words.iter().zip(words.iter().skip(1)).any(|it| (&**it.0, &**it.1) == ("scheme", "https"));
    has(words, "redirect") && scheme
}

fn is(words: &[String], index: usize, word: &str) -> bool {
    words.get(index).is_some_and(|it| it == word)
}

fn has(words: &[String], word: &str) -> bool {
    words.iter().any(|it| it == word)
}

/// The words of a line (HAProxy configuration manual, section 2.2): white space parts them unless it is
/// quoted or behind a backslash, and `#` begins a comment likewise.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '"' | '\'') => (quote, begun) = (Some(c), true),
            (None | Some('"'), '\\') => {
                word.extend(chars.next());
                begun = true;
            }
            (None, '#') => break,
            (None, c) if c.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (_, c) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests;
