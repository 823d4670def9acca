//! What a person may try against the most likely mistakes: the one table of hints, and what is
//! complained of with one. The evidence is read in `hint/evidence.rs`, for a CA's errors in
//! `acme/evidence.rs`. A hint is a text of ours, so that no peer has a word in it; where the evidence
//! is not clear there is none. The README's section "Troubleshooting" has the same table, in the same
//! order, and a test compares them.

use std::fmt;
use std::ops::Deref;

mod evidence;

macro_rules! hints {
    ($($(#[$doc:meta])* $name:ident = $id:literal: $text:literal,)*) => {
        /// What may help.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Hint {
            $($(#[$doc])* $name,)*
        }

        impl Hint {
            /// All there are, in the README's order.
            pub const ALL: &[Hint] = &[$(Hint::$name,)*];

            /// By this it is remembered.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Hint::$name => $id,)*
                }
            }

            /// What to try, in one sentence.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Hint::$name => $text,)*
                }
            }
        }
    };
}

hints! {
    /// A validation: nobody listens at port 80.
    PortClosed = "port-closed": "let marathon-lb listen on port 80 of the address that the name has; \
        the CA comes by plain HTTP",
    /// A validation: nothing comes back from port 80.
    PortFiltered = "port-filtered": "let port 80 through every firewall on the way, for the whole \
        world; a CA comes from anywhere",
    /// A validation went to an IPv6 address in vain.
    StrayIpv6 = "stray-ipv6": "let the name's IPv6 address lead to marathon-lb too, or remove its AAAA \
        record",
    /// The name has no address.
    NoAddress = "no-address": "give the name an A or AAAA record that leads to marathon-lb, or correct \
        the label",
    /// The name's servers do not answer the CA.
    NameServers = "name-servers": "mend the name servers of the domain; they answer the CA with an \
        error or not at all",
    /// The challenge is redirected.
    Redirected = "redirected": "leave the challenge path out of redirects, or give marathon-acme's app \
        HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH",
    /// Somebody else answers at the challenge's place.
    AnotherServer = "another-server": "send /.well-known/acme-challenge/ to marathon-acme: check where \
        the name leads, and the labels of marathon-acme's own app",
    /// A password is asked for at the challenge's place.
    RouteAuth = "route-auth": "let challenges pass before HAPROXY_n_AUTH: give marathon-acme's app the \
        two labels with http-request allow that --print-app-definition shows",
    /// Another answer to the challenge came than ours.
    AnotherClient = "another-client": "let one ACME client alone answer for the name, and give all \
        instances of marathon-acme one storage",
    /// The CAA records say no.
    Caa = "caa": "allow this CA in the CAA record of the name or of a domain above it, or remove that \
        record",
    /// The CA never certifies the name.
    NameRejected = "name-rejected": "take the name out of the label, or order it from another CA; this \
        one does not certify it",
    /// The CA has paused the name.
    Paused = "paused": "mend the validation, open the CA's page for unpausing that the error names, \
        then restart the app",
    /// Too many failed validations.
    LimitFailures = "limit-failures": "mend what the validations failed of; the next one comes by \
        itself when the CA allows it",
    /// The same names too often.
    LimitSame = "limit-same": "keep the storage, so that certificates outlive restarts; the next order \
        comes by itself when the CA allows it",
    /// Too many certificates of a domain.
    LimitDomain = "limit-domain": "ask the CA for more, or put names together with --san; the next \
        order comes by itself when the CA allows it",
    /// Too many orders.
    LimitOrders = "limit-orders": "wait; the orders go on by themselves when the CA allows it",
    /// Too many accounts.
    LimitAccounts = "limit-accounts": "keep client.key, so that the account is made once; the next try \
        comes by itself",
    /// Any other limit.
    Limited = "limited": "wait; the next try comes by itself when the CA allows it",
    /// Nonces are refused again and again.
    Nonces = "nonces": "if it lasts, take away whatever caches or changes answers between here and the \
        CA",
    /// An account needs a binding.
    BindingMissing = "binding-missing": "get a key id and an HMAC key from the CA, and name them with \
        --eab-kid and --eab-hmac-key",
    /// The binding is refused.
    BindingWrong = "binding-wrong": "check --eab-kid and --eab-hmac-key, or get new ones; many CAs take \
        them only once",
    /// The contact is refused.
    Contact = "contact": "correct --email, or leave it out",
    /// The account is refused.
    Account = "account": "if the account was deactivated, move client.key away, so that a new one is \
        made",
    /// The account's key is refused.
    AccountKey = "account-key": "move client.key away, so that a new key is made",
    /// The CA waits for a person.
    Terms = "terms": "do what the CA's words ask for, as a rule to read its new terms; then start \
        marathon-acme again",
    /// There is no such profile.
    Profile = "profile": "name one of the profiles that the CA offers with --profile, or leave it out",
    /// It is no ACME directory.
    CaUrl = "ca-url": "check --acme: it is the URL of the CA's ACME directory, not of its web site",
    /// It is ACME v1.
    AcmeV1 = "acme-v1": "ACME v1 is switched off everywhere; name an ACME v2 directory",
    /// The CA's issuer is not known.
    AcmeCa = "acme-ca": "name the root of the CA's own certificate with --acme-ca or SSL_CERT_FILE, if \
        it is not a public one",
    /// Marathon's issuer is not known.
    MarathonCa = "marathon-ca": "name the root of Marathon's certificate with --marathon-ca or \
        SSL_CERT_FILE",
    /// The certificate is another host's.
    WrongHost = "wrong-host": "write the host into the URL as the other side's certificate has it",
    /// Our clock or the other side's is wrong.
    Clock = "clock": "set this machine's clock right, as by NTP; if it is, the other side is out of date",
    /// That port speaks no TLS.
    NoTls = "no-tls": "write http instead of https into the URL, or the port that speaks TLS",
    /// The certificate is of a form that is not verified.
    ServerCertificate = "server-certificate": "give the other side an X.509 version 3 certificate for \
        servers: its host as subjectAltName, SHA-256, no odd critical extension",
    /// A CA's certificate is used as a server's.
    CaAsServer = "ca-as-server": "put the server's own certificate into the file of --acme-ca or \
        --marathon-ca, or give the server one without CA:TRUE",
    /// No version or cipher suite in common.
    TlsOffer = "tls-offer": "let the other side offer TLS 1.2 or 1.3 with ECDHE and AES-GCM; it may also \
        require a client certificate, which there is none of",
    /// A client certificate is required.
    ClientCertificate = "client-certificate": "let the other side require no client certificate on that \
        port, or name a port where it does not; marathon-acme has none",
    /// Marathon wants a password or a token, or another one.
    Password = "password": "put user:password@ into the URL of MARATHON_ACME_MARATHON, or name the file of \
        a token with --marathon-token, or correct them",
    /// It is no Marathon.
    MarathonUrl = "marathon-url": "check --marathon: its port is 8080 or 8443 as a rule, behind a proxy \
        with a path",
    /// The name is not known.
    NameUnknown = "name-unknown": "correct the host in the URL, or let /etc/resolv.conf name the \
        servers that know it, such as Mesos-DNS",
    /// The resolver has no answer.
    Resolver = "resolver": "check the name servers in /etc/resolv.conf; they fail or do not answer",
    /// Nobody listens there.
    PeerRefused = "peer-refused": "start what should listen there, or correct host and port in the URL",
    /// Nothing comes back.
    PeerSilent = "peer-silent": "let this machine reach that address and port; a firewall drops it, or \
        nothing runs there",
    /// The proxy is the trouble.
    Proxy = "proxy": "check the proxy in HTTPS_PROXY or HTTP_PROXY and its password, or list the host \
        in NO_PROXY",
    /// marathon-lb takes no signals.
    LbMode = "lb-mode": "run marathon-lb in poll or sse mode and look into its log; only then it takes \
        the signal",
    /// It is no marathon-lb.
    LbUrl = "lb-url": "check --lb: it is the URL of marathon-lb's own port, 9090 as a rule",
    /// HAProxy did not reload.
    LbNoReload = "lb-no-reload": "look into marathon-lb's log: HAProxy may refuse its configuration or \
        a file in certs/",
    /// HAProxy serves another file.
    LbOtherFile = "lb-other-file": "let marathon-lb load the certs/ of this storage directory, and take \
        away what has the same name there and comes first by its file name",
    /// HAProxy serves an earlier file.
    LbLagging = "lb-lagging": "wait, where its directory is a copy or shows new files late; else let \
        marathon-lb load the certs/ of this storage directory",
    /// Nothing is seen where HAProxy should speak TLS.
    LbUnseen = "lb-unseen": "check --lb-verify-port or --lb-verify: HAProxy speaks TLS there, and this \
        machine may connect to it",
    /// A file in `certs/` is not ours and does harm.
    ForeignFile = "foreign-file": "move the file out of certs/, into unmanaged-certs/ if it is needed; \
        marathon-acme never touches it",
    /// No label says whose load balancers it is for.
    NoGroup = "no-group": "give the app the label HAPROXY_GROUP with the group that --group names, \
        external by default",
    /// There is no port of that index.
    PortIndex = "port-index": "count the app's ports from 0 and correct the number in the label",
    /// An app has more domains than it may have.
    DomainsOfApp = "domains-per-app": "part the domains over several apps, or raise --max-domains-per-app",
    /// All apps together have more domains than they may have.
    DomainsOfAll = "domains-total": "give some of the apps a group of their own, and another marathon-acme",
    /// With `--san`, another app has the domain.
    DomainTaken = "domain-taken": "leave it in the label of one app",
    /// The volume is full.
    StorageFull = "storage-full": "make room on the volume of the storage directory, or raise its quota",
    /// The directories are another user's.
    StorageDenied = "storage-denied": "let the storage directory and all below it belong to the user that \
        marathon-acme runs as",
    /// The volume cannot be written.
    StorageReadOnly = "storage-read-only": "mount the volume of the storage directory writable; if it was, \
        check the kernel log for disk errors",
    /// The disk or its server fails.
    StorageFails = "storage-fails": "check the disk or the file server of the storage directory, and the \
        kernel log",
    /// The file server has forgotten the directory.
    StorageStale = "storage-stale": "if it lasts, mount the volume again and restart marathon-acme; its \
        file server was restarted or has moved it",
    /// The directories are several volumes.
    StorageSplit = "storage-split": "mount the storage directory as one volume; files are moved between \
        tmp/, certs/, challenges/ and archive/",
    /// Too few descriptors, or too little memory.
    Limits = "limits": "raise the limits on open files and memory of marathon-acme or of the machine \
        (ulimit -n, LimitNOFILE)",
    /// A directory is gone.
    StorageMissing = "storage-missing": "mount the volume of the storage directory again; something in \
        it is gone",
    /// Something of another kind is in the way.
    StorageOdd = "storage-odd": "move it away: links are not followed below the storage directory, which \
        may be mounted or linked as a whole",
    /// Another program has the port.
    PortTaken = "port-taken": "stop the program that has the port, or choose another",
}

impl Hint {
    /// The one that is remembered by this; an older or a newer program may know others.
    pub fn by_id(id: &str) -> Option<Hint> {
        Hint::ALL.iter().copied().find(|hint| hint.id() == id)
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// What went wrong, in words, and what may help.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaint {
    /// What was said and seen.
    pub text: String,
    /// What may help.
    pub hint: Option<Hint>,
}

impl Complaint {
    /// With what may help.
    pub fn new(text: impl Into<String>, hint: Option<Hint>) -> Complaint {
        Complaint { text: text.into(), hint }
    }

    /// All of it in one line.
    pub fn advised(&self) -> String {
        advised(&self.text, self.hint)
    }
}

/// What went wrong and what may help, in one line.
pub fn advised(text: impl fmt::Display, hint: Option<Hint>) -> String {
    match hint {
        Some(hint) => format!("{text}; try: {hint}"),
        None => text.to_string(),
    }
}

impl<T: Into<String>> From<T> for Complaint {
    fn from(text: T) -> Complaint {
        Complaint::new(text, None)
    }
}

/// As its words alone.
impl Deref for Complaint {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const README: &str = include_str!("../README.md");
    const CHARS_MAX: usize = 140;

    /// The rows of the README's table: what is seen, why, and what to do, without its markup.
    fn rows() -> Vec<[String; 3]> {
        let (_, section) = README.split_once("\n## Troubleshooting\n").expect("the section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let table = section.lines().filter(|line| line.starts_with("| ")).skip(1);
        let cells = |line: &str| -> [String; 3] {
            let cells = line.trim_matches('|').split(" | ").map(|it| it.trim().replace('`', ""));
            cells.collect::<Vec<_>>().try_into().expect("three cells")
        };
        table.map(cells).collect()
    }

    #[test]
    fn the_readme_has_the_same_table() {
        let rows = rows();
        let told: Vec<&str> = rows.iter().map(|[_, _, what]| what.as_str()).collect();
        let known: Vec<&str> = Hint::ALL.iter().map(|hint| hint.text()).collect();
        assert_eq!(told, known);
        assert!(rows.iter().flatten().all(|cell| !cell.is_empty()));
    }

    #[test]
    fn each_is_one_short_sentence_with_a_name_of_its_own() {
        for hint in Hint::ALL {
            let text = hint.text();
            assert!(text.chars().count() <= CHARS_MAX, "{text}: {}", text.chars().count());
            assert!(!text.contains(['\n', '"', '|', '`']) && !text.ends_with('.'), "{text}");
            assert_eq!(Hint::by_id(hint.id()), Some(*hint));
        }
        let ids: BTreeSet<&str> = Hint::ALL.iter().map(|hint| hint.id()).collect();
        assert_eq!((ids.len(), Hint::by_id("x")), (Hint::ALL.len(), None));
    }

    #[test]
    fn a_complaint_is_its_words() {
        let complaint = Complaint::new("status 401", Some(Hint::Contact));
        assert_eq!((&*complaint, complaint.to_string().as_str()), ("status 401", "status 401"));
        assert_eq!(complaint.advised(), "status 401; try: correct --email, or leave it out");
        assert_eq!(Complaint::from("x").advised(), "x");
    }
}
