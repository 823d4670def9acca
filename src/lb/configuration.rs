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
const HOST_CRITERIA: [&str; 3] = ["hdr(host)", "hdr_dom(host)", "req.hdr(host)"];

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
}

/// What a condition asks for, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Criterion {
    /// One of these hosts.
    Host(Vec<String>),
    /// A path under which challenges are.
    Challenge,
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
    /// wherever they stand.
    pub fn challenge_route(&self) -> Route {
        let Some(frontend) = self.http_frontend() else { return Route::NoFrontend };
        let conditions = Conditions::of(frontend);
        if frontend.lines.iter().any(|words| is_for_all(words, &conditions)) {
            return Route::AllToHttps;
        }
        let mut behind = Vec::new();
        for words in frontend.lines.iter().filter(|words| is(words, 0, "use_backend")) {
            let alternatives = conditions.asked(words);
            if let Some(terms) = alternatives.iter().find(|terms| asks_for_challenges(terms)) {
                let for_hosts = terms.iter().any(|(asked, barred)| !barred && is_host(asked));
                let redirected = || frontend.lines.iter().any(|it| conditions.redirects(it));
                let backend = words.get(1).cloned().unwrap_or_default();
                let target = self.sections.iter().find(|it| it.is("backend", &backend));
                let lines = || target.iter().flat_map(|section| &section.lines);
                return Route::Rule(Rule {
                    some_hosts_only: for_hosts && !redirected(),
                    to_https: lines().any(|words| is_redirect_to_https(words)),
                    servers: lines().filter(|words| is(words, 0, "server")).count(),
                    backend,
                    behind,
                });
            }
            behind.extend(hosts_of(words, &alternatives));
        }
        Route::NoRule
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
        let covers = |value: &String| value.len() > 1 && CHALLENGES.starts_with(value.as_str());
        if HOST_CRITERIA.contains(&name.as_str()) {
            let values = values.iter().filter(|value| !value.starts_with('-'));
            return Criterion::Host(values.map(|value| value.to_ascii_lowercase()).collect());
        }
        match name.as_str() {
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
        !terms.is_empty() && terms.iter().all(|(asked, barred)| !barred && is_host(asked))
    };
    let hosts = |terms: &Terms| {
        let asked = terms.iter().flat_map(|(asked, _)| asked);
        let hosts = asked.filter_map(|criterion| match criterion {
            Criterion::Host(hosts) => Some(hosts),
            Criterion::Challenge | Criterion::Other => None,
        });
        hosts.flatten().cloned().collect()
    };
    alternatives.iter().filter(only_hosts).map(hosts).collect()
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
