//! The HAProxy configuration that marathon-lb makes of apps: which rules, by which labels, in which order.
//! Follows `generateHttpVhostAcl` and `config` of marathon-lb 1.15 (`marathon_lb.py`) and the default
//! templates of its `config.py`. Only what matters for routes is here: one virtual host per port, and one
//! server per app. Must never open a file; the caller writes the text and the map.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

/// What the start of marathon-lb decides.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--group`.
    pub group: String,
    /// `--ssl-certs`: files and directories.
    pub certificates: Vec<String>,
    /// The path of the socket by which a reload hands the listening sockets over.
    pub socket: String,
    /// `--haproxy-map`: the path of `domain2backend.map`.
    pub map: Option<String>,
    /// `--group-https-by-vhost`: a front end for TLS of its own for each host.
    pub groups_https: bool,
}

/// What marathon-lb writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `haproxy.cfg`.
    pub configuration: String,
    /// `domain2backend.map`; empty without `--haproxy-map`.
    pub map: String,
}

/// The rules of one port in the two shared front ends.
#[derive(Debug)]
struct Rules {
    /// Empty for those of the map.
    host: String,
    weight: i64,
    http: String,
    https: String,
}

/// One port of an app that is published.
struct Port<'a> {
    labels: &'a Value,
    index: usize,
    /// What a template may name.
    values: Vec<(&'static str, String)>,
}

/// What a template may name, where an app has no such label.
const NO_VALUE: &str = "";

const HTTP_ACL: &str = "  acl host_{cleanedUpHostname} hdr(host) -i {hostname}\n  \
    use_backend {backend} if host_{cleanedUpHostname}\n";
const HTTP_ACL_ONLY: &str = "  acl host_{cleanedUpHostname} hdr(host) -i {hostname}\n";
const HTTP_ACL_WITH_AUTH: &str = "  acl host_{cleanedUpHostname} hdr(host) -i {hostname}\n  \
    acl auth_{cleanedUpHostname} http_auth(user_{backend})\n  \
    http-request auth realm \"{realm}\" if host_{cleanedUpHostname} !auth_{cleanedUpHostname}\n  \
    use_backend {backend} if host_{cleanedUpHostname}\n";
const HTTP_ACL_WITH_PATH: &str = "  acl host_{cleanedUpHostname} hdr(host) -i {hostname}\n  \
    acl path_{backend} path_beg {path}\n  \
    use_backend {backend} if host_{cleanedUpHostname} path_{backend}\n";
const HTTP_ACL_WITH_AUTH_AND_PATH: &str = "  acl host_{cleanedUpHostname} hdr(host) -i {hostname}\n  \
    acl auth_{cleanedUpHostname} http_auth(user_{backend})\n  \
    acl path_{backend} path_beg {path}\n  \
    http-request auth realm \"{realm}\" if host_{cleanedUpHostname} path_{backend} \
    !auth_{cleanedUpHostname}\n  \
    use_backend {backend} if host_{cleanedUpHostname} path_{backend}\n";
const PATH_ONLY: &str = "  acl path_{backend} path_beg {path}\n";
const REDIRECT: &str =
    "  redirect scheme https code 301 if !{{ ssl_fc }} host_{cleanedUpHostname}\n";
const REDIRECT_WITH_PATH: &str = "  redirect scheme https code 301 if !{{ ssl_fc }} \
    host_{cleanedUpHostname} path_{backend}\n";
const HTTPS_ACL: &str = "  use_backend {backend} if {{ ssl_fc_sni {hostname} }}\n";
const HTTPS_ACL_WITH_AUTH: &str = "  acl auth_{cleanedUpHostname} http_auth(user_{backend})\n  \
    http-request auth realm \"{realm}\" if {{ ssl_fc_sni {hostname} }} !auth_{cleanedUpHostname}\n  \
    use_backend {backend} if {{ ssl_fc_sni {hostname} }}\n";
const HTTPS_ACL_WITH_PATH: &str =
    "  use_backend {backend} if {{ ssl_fc_sni {hostname} }} path_{backend}\n";
const HTTPS_ACL_WITH_AUTH_AND_PATH: &str = "  acl auth_{cleanedUpHostname} http_auth(user_{backend})\n  \
    http-request auth realm \"{realm}\" if {{ ssl_fc_sni {hostname} }} path_{backend} \
    !auth_{cleanedUpHostname}\n  \
    use_backend {backend} if {{ ssl_fc_sni {hostname} }} path_{backend}\n";
const MAP_HTTP: &str = "  use_backend %[req.hdr(host),lower,regsub(:.*$,,),map({map})]\n";
const MAP_HTTPS: &str = "  use_backend %[ssl_fc_sni,lower,map({map})]\n";

impl Port<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels[format!("HAPROXY_{}_{name}", self.index)].as_str()
    }

    fn is_set(&self, name: &str) -> bool {
        matches!(self.label(name), Some("true" | "t" | "yes" | "y" | "1"))
    }

    fn value(&self, name: &str) -> &str {
        let found = self.values.iter().find(|(known, _)| *known == name);
        found.map_or(NO_VALUE, |(_, value)| value)
    }

    /// The template of that name, or the one that the app has in its place, filled as `str.format` does.
    fn filled(&self, name: &str, default: &str) -> String {
        let mut text =
            self.label(name).unwrap_or(default).replace("{{", "\0").replace("}}", "\x01");
        for (name, value) in &self.values {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text.replace('\0', "{").replace('\x01', "}")
    }

    /// Its own rules; those of the map are not among them.
    fn rules(&self, has_map: bool) -> Rules {
        let has_path = self.label("PATH").is_some();
        let weight = self.label("BACKEND_WEIGHT").and_then(|text| text.parse().ok());
        let (http, https) = if has_path { self.with_path() } else { self.without_path() };
        let keep = |text: String, is_mapped: bool| {
            if has_map && is_mapped { String::new() } else { text }
        };
        Rules {
            host: self.value("hostname").to_string(),
            weight: weight.unwrap_or(i64::from(has_path)),
            http: keep(http, self.is_mapped_http()),
            https: keep(https, self.is_mapped_https()),
        }
    }

    fn has_auth(&self) -> bool {
        self.label("AUTH").is_some()
    }

    /// Whether the map stands for its rule on TLS.
    fn is_mapped_https(&self) -> bool {
        self.label("PATH").is_none() && !self.has_auth()
    }

    /// Whether the map stands for its rule on port 80.
    fn is_mapped_http(&self) -> bool {
        self.is_mapped_https() && !self.is_set("REDIRECT_TO_HTTPS")
    }

    fn with_path(&self) -> (String, String) {
        let http = if self.is_set("REDIRECT_TO_HTTPS") {
            self.filled("HTTP_FRONTEND_ACL_ONLY", HTTP_ACL_ONLY)
                + &self.filled("HTTP_FRONTEND_ACL_ONLY_WITH_PATH", PATH_ONLY)
                + &self.filled("BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH", REDIRECT_WITH_PATH)
        } else if self.has_auth() {
            self.filled("HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH", HTTP_ACL_WITH_AUTH_AND_PATH)
        } else {
            self.filled("HTTP_FRONTEND_ACL_WITH_PATH", HTTP_ACL_WITH_PATH)
        };
        let https = self.filled("HTTPS_FRONTEND_ACL_ONLY_WITH_PATH", PATH_ONLY);
        let https = https
            + &if self.has_auth() {
                self.filled("HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH", HTTPS_ACL_WITH_AUTH_AND_PATH)
            } else {
                self.filled("HTTPS_FRONTEND_ACL_WITH_PATH", HTTPS_ACL_WITH_PATH)
            };
        (http, https)
    }

    fn without_path(&self) -> (String, String) {
        let http = if self.is_set("REDIRECT_TO_HTTPS") {
            self.filled("HTTP_FRONTEND_ACL", HTTP_ACL)
                + &self.filled("BACKEND_REDIRECT_HTTP_TO_HTTPS", REDIRECT)
        } else if self.has_auth() {
            self.filled("HTTP_FRONTEND_ACL_WITH_AUTH", HTTP_ACL_WITH_AUTH)
        } else {
            self.filled("HTTP_FRONTEND_ACL", HTTP_ACL)
        };
        let https = if self.has_auth() {
            self.filled("HTTPS_FRONTEND_ACL_WITH_AUTH", HTTPS_ACL_WITH_AUTH)
        } else {
            self.filled("HTTPS_FRONTEND_ACL", HTTPS_ACL)
        };
        (http, https)
    }
}

/// `re.sub(r'[^a-zA-Z0-9\-]', '_', …)`.
fn cleaned(text: &str) -> String {
    let clean = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    text.chars().map(|letter| if clean(letter) { letter } else { '_' }).collect()
}

/// The first port of an app, if marathon-lb publishes it under a host name.
fn published<'a>(app: &'a Value, group: &str) -> Option<Port<'a>> {
    let labels = &app["labels"];
    let label = |name: &str| labels[format!("HAPROXY_0_{name}")].as_str();
    let groups = label("GROUP").or_else(|| labels["HAPROXY_GROUP"].as_str())?;
    let is_ours = group == "*" || groups.split(',').any(|it| it == group);
    if !is_ours || label("ENABLED") == Some("false") {
        return None;
    }
    let (id, host) =
        (app["id"].as_str()?.trim_start_matches('/').replace('/', "_"), label("VHOST")?);
    let service = &app["container"]["portMappings"][0]["servicePort"];
    let mut auth = label("AUTH").unwrap_or_default().splitn(3, ':').map(str::to_string);
    let mut part = || auth.next().unwrap_or_default();
    let values = vec![
        ("realm", part()),
        ("user", part()),
        ("passwd", part()),
        ("backend", format!("{id}_{service}")),
        ("cleanedUpHostname", format!("{}_{id}", cleaned(host))),
        ("hostname", host.to_string()),
        ("path", label("PATH").unwrap_or_default().to_string()),
    ];
    Some(Port { labels, index: 0, values })
}

/// What marathon-lb writes for these apps; `server` is the address of an app's task, by the app's id.
pub fn written(apps: &[Value], options: &Options, server: impl Fn(&str) -> SocketAddr) -> Written {
    let mut sorted: Vec<&Value> = apps.iter().collect();
    sorted.sort_by_key(|app| app["id"].as_str().unwrap_or_default());
    let (mut rules, mut users, mut backends, mut map) =
        (Vec::new(), String::new(), String::new(), String::new());
    for app in sorted {
        let Some(port) = published(app, &options.group) else { continue };
        let backend = port.value("backend");
        if port.has_auth() {
            let (user, password) = (port.value("user"), port.value("passwd"));
            let _ = writeln!(users, "userlist user_{backend}\n  user {user} password {password}");
        }
        if options.map.is_some() && port.is_mapped_https() {
            let _ = writeln!(map, "{} {backend}", port.value("hostname"));
        }
        rules.push(port.rules(options.map.is_some()));
        let server = server(app["id"].as_str().unwrap_or_default());
        let _ = write!(
            backends,
            "backend {backend}\n  balance roundrobin\n  mode http\n  option forwardfor\n  \
             http-request set-header X-Forwarded-Port %[dst_port]\n  \
             http-request add-header X-Forwarded-Proto https if {{ ssl_fc }}\n  \
             server task {server}\n"
        );
    }
    if let Some(path) = options.map.as_deref().filter(|_| !map.is_empty()) {
        let [http, https] = [MAP_HTTP, MAP_HTTPS].map(|rule| rule.replace("{map}", path));
        rules.push(Rules { host: String::new(), weight: -1, http, https });
    }
    // The sort is stable: among equals the order of the ids remains.
    rules.sort_by_key(|rules| -rules.weight);
    let configuration = head(options, &users)
        + &rules.iter().map(|rules| rules.http.as_str()).collect::<String>()
        + &if options.groups_https { grouped(options, &rules) } else { shared(options, &rules) }
        + &backends;
    Written { configuration, map }
}

fn head(options: &Options, users: &str) -> String {
    format!(
        "global\n  stats socket {} level admin expose-fd listeners\n\
         defaults\n  mode http\n  option redispatch\n  retries 3\n  timeout connect 5s\n  \
         timeout client 30s\n  timeout server 30s\n{users}\
         frontend marathon_http_in\n  bind *:80\n  mode http\n",
        options.socket
    )
}

/// One front end for TLS with the rules of all.
fn shared(options: &Options, rules: &[Rules]) -> String {
    let crt = crt(options);
    let rules: String = rules.iter().map(|rules| rules.https.as_str()).collect();
    format!("frontend marathon_https_in\n  bind *:443 ssl{crt}\n  mode http\n{rules}")
}

/// A front end for TLS for each host with the rules of its own apps alone, and one before them that looks at
/// the SNI and decrypts nothing.
fn grouped(options: &Options, rules: &[Rules]) -> String {
    let hosts: BTreeSet<&str> = rules.iter().map(|it| it.host.as_str()).collect();
    let (mut text, mut behind) = (
        String::from(
            "frontend marathon_https_in\n  bind *:443\n  mode tcp\n  tcp-request inspect-delay 5s\n  \
             tcp-request content accept if { req_ssl_hello_type 1 }\n",
        ),
        String::new(),
    );
    for host in hosts.into_iter().filter(|host| !host.is_empty()) {
        let (name, crt) = (cleaned(host), crt(options));
        let _ = writeln!(text, "  use_backend {name} if {{ req_ssl_sni -i {host} }}");
        let own = rules.iter().filter(|it| it.host == host).map(|it| it.https.as_str());
        let _ = write!(
            behind,
            "backend {name}\n  server loopback-for-tls abns@{name} send-proxy-v2\n\
             frontend {name}\n  mode http\n  bind abns@{name} accept-proxy ssl{crt}\n{}",
            own.collect::<String>()
        );
    }
    text + &behind
}

fn crt(options: &Options) -> String {
    options.certificates.iter().map(|it| format!(" crt {it}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(id: &str, labels: &Value) -> Value {
        json!({"id": id, "labels": labels, "container": {"portMappings": [{"servicePort": 10_000}]}})
    }

    fn of(apps: &[Value], map: Option<&str>) -> Written {
        let options =
            Options { group: "external".into(), map: map.map(Into::into), ..Options::default() };
        written(apps, &options, |_| SocketAddr::from(([127, 0, 0, 1], 8000)))
    }

    #[test]
    fn rules_are_sorted_by_weight_and_then_by_id() {
        let labels = json!({"HAPROXY_GROUP": "a,external", "HAPROXY_0_VHOST": "a.org"});
        let path = json!({"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "b.org",
            "HAPROXY_0_PATH": "/p", "HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH": "  {{ {path} }}\n"});
        let other = json!({"HAPROXY_GROUP": "internal", "HAPROXY_0_VHOST": "c.org"});
        let text =
            of(&[app("/a", &labels), app("/z", &path), app("/c", &other)], None).configuration;
        let rules = "  { /p }\n  acl host_a_org_a hdr(host) -i a.org\n  \
                     use_backend a_10000 if host_a_org_a\nfrontend marathon_https_in\n";
        assert!(text.contains(rules), "{text}");
        let https = "  acl path_z_10000 path_beg /p\n  \
                     use_backend z_10000 if { ssl_fc_sni b.org } path_z_10000\n  \
                     use_backend a_10000 if { ssl_fc_sni a.org }\nbackend ";
        assert!(text.contains(https) && !text.contains("c.org"), "{text}");
    }

    #[test]
    fn the_map_comes_last_and_has_what_needs_no_rule() {
        let plain = json!({"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "a.org"});
        let auth = json!({"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "b.org",
            "HAPROXY_0_AUTH": "realm:user:hash"});
        let found = of(&[app("/a", &plain), app("/b", &auth)], Some("/m"));
        assert_eq!(found.map, "a.org a_10000\n");
        let auth =
            found.configuration.find("http-request auth realm \"realm\" if host_b_org_b !auth");
        let map = found.configuration.find("  use_backend %[req.hdr(host)");
        assert!(auth.is_some() && auth < map, "{}", found.configuration);
        assert!(!found.configuration.contains("host_a_org"), "{}", found.configuration);
    }
    #[test]
    fn each_host_has_a_front_end_with_the_rules_of_its_own_apps() {
        let plain = json!({"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "a.org"});
        let path = json!({"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "b.org",
            "HAPROXY_0_PATH": "/p"});
        let options =
            Options { group: "external".into(), groups_https: true, ..Options::default() };
        let server = |_: &str| SocketAddr::from(([127, 0, 0, 1], 8000));
        let text = written(&[app("/a", &plain), app("/z", &path)], &options, server).configuration;
        let https = "  use_backend a_org if { req_ssl_sni -i a.org }\n  \
                     use_backend b_org if { req_ssl_sni -i b.org }\n\
                     backend a_org\n  server loopback-for-tls abns@a_org send-proxy-v2\n\
                     frontend a_org\n  mode http\n  bind abns@a_org accept-proxy ssl\n  \
                     use_backend a_10000 if { ssl_fc_sni a.org }\nbackend b_org\n";
        assert!(text.contains(https), "{text}");
        let (_, last) = text.split_once("frontend b_org\n").unwrap();
        assert!(last.contains("path_z_10000") && !last.contains("a.org"), "{text}");
    }
}
