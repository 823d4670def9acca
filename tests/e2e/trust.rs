//! Whom the daemon believes and whom it follows: TLS peers that are not who they should be are told
//! nothing, and no redirect takes credentials or signatures where they do not belong.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use marathon_acme::hint::Hint;
use marathon_acme::log::message::{NO_STREAM, REGISTRATION_FAILED};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use stand_ins::driver::{Driver, Options, time_now};
use stand_ins::http::{Reply, Request};
use stand_ins::marathon::{Marathon, Role, Settings};
use stand_ins::peer::Time;
use stand_ins::pki::{Identity, Pki, pem};
use stand_ins::tls::server_config;

use crate::Test;
use crate::fixed::Fixed;
use crate::process::{Outcome, expect, local, wait_until};
use crate::site::{Site, app, play, text, tls_options, with_ca};
use crate::stand::stop;

pub(crate) const TESTS: &[Test] = &[
    ("a_tls_peer_with_another_name_is_told_nothing", &[], other_name),
    ("a_tls_peer_that_is_expired_is_told_nothing", &[], expired),
    ("a_tls_peer_that_vouches_for_itself_is_told_nothing", &[], self_signed),
    ("a_servers_own_certificate_may_stand_for_its_ca", &[], pinned),
    ("a_servers_tls_that_is_refused_is_said_with_a_remedy", &[], remedies),
    ("a_server_may_have_critical_policies", &[], critical_policies),
    ("a_tls_peer_of_another_ca_is_told_nothing", &[], another_ca),
    ("tls_below_1_2_is_not_spoken", &[], old_tls),
    ("the_machines_bundle_is_trusted_where_none_is_named", &[], machines_bundle),
    ("credentials_never_follow_a_redirect_from_https_to_http", &[], downgrade),
    ("credentials_follow_a_redirect_to_a_marathon_only", &[], elsewhere),
    ("redirects_in_a_ring_end", &[], ring),
    ("a_ca_that_redirects_is_not_followed", &[], ca_redirect),
    ("a_ca_cannot_have_this_machines_servers_asked", &[], ca_here),
];

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What a peer was asked, line by line.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn note(&self, request: &Request) {
        if let Ok(mut asked) = self.0.lock() {
            asked.push(format!("{} {}", request.method, request.target));
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().map(|asked| asked.clone()).unwrap_or_default()
    }
}

/// A server that notes what it is asked, then answers.
fn noting(
    options: Options,
    answer: impl Fn(&Request) -> Reply + Send + 'static,
) -> Outcome<(Driver<Fixed>, Asked)> {
    let asked = Asked::default();
    let notes = asked.clone();
    let rule = move |request: &Request| {
        notes.note(request);
        answer(request)
    };
    Ok((play(Fixed::new(rule), options)?, asked))
}

/// Lets a daemon that trusts `root` go to `peer` as its CA and as its Marathon, with a password. It
/// must say both times why it does not, in these words.
fn refuses(peer: SocketAddr, root: &str, words: &str) -> Outcome {
    refuses_with(peer, root, words, None)
}

/// The same; where there is a remedy, with that.
fn refuses_with(peer: SocketAddr, root: &str, words: &str, hint: Option<Hint>) -> Outcome {
    let site = Site::new()?;
    let file = site.folder().join("root.pem");
    std::fs::write(&file, root).map_err(text)?;
    let mut arguments = site.arguments(&format!("https://{peer}/directory"), &file);
    arguments.push(format!("--marathon=https://user:password@{peer}"));
    arguments.push(format!("--marathon-ca={}", file.display()));
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    for line in [REGISTRATION_FAILED, NO_STREAM] {
        daemon.wait_for(line)?;
        let said = daemon.line(line);
        expect(said.contains(words) && said.contains(&peer.to_string()), || said.clone())?;
        let remedied = |hint: Hint| said.contains(&format!(" hint={:?}", hint.text()));
        expect(hint.is_none_or(remedied), || said.clone())?;
    }
    stop(&mut daemon)
}

/// A TLS server with an identity that rustls would not serve by itself, and with this cryptography.
fn serving(identity: &Identity, provider: CryptoProvider) -> Outcome<Arc<ServerConfig>> {
    let key = PrivatePkcs8KeyDer::from(identity.key.clone()).into();
    let key = provider.key_provider.load_private_key(key).map_err(text)?;
    let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    Ok(Arc::new(config))
}

/// What an operator can change about a server's TLS is said with how.
fn remedies() -> Outcome {
    let mut pki = Pki::new(1, "Right", time_now());
    let sound = pki.identity(&["127.0.0.1"], time_now()).map_err(text)?;
    // [0] version: 3, and 1.
    let (v3, v1) = ([0xa0, 3, 2, 1, 2], [0xa0, 3, 2, 1, 0]);
    let mut old = sound.clone();
    let place = old.chain[0].windows(v3.len()).position(|it| it == v3).ok_or("no version")?;
    old.chain[0][place..place + v1.len()].copy_from_slice(&v1);
    pki.set_critical_extension(Some(&[1, 3, 6, 1, 4, 1, 11129, 2, 4, 3]));
    let odd = pki.identity(&["127.0.0.1"], time_now()).map_err(text)?;
    let mut authority = CertificateParams::new(["127.0.0.1".to_string()]).map_err(text)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().map_err(text)?;
    let chain = vec![authority.self_signed(&key).map_err(text)?.der().to_vec()];
    let authority = Identity { chain, key: key.serialize_der() };
    let mut chacha = default_provider();
    chacha.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("CHACHA20"));
    let all = default_provider;
    let cases = [
        (&old, all(), "UnsupportedCertVersion", Hint::ServerCertificate),
        (&odd, all(), "UnsupportedCriticalExtension", Hint::ServerCertificate),
        (&authority, all(), "CaUsedAsEndEntity", Hint::CaAsServer),
        (&sound, chacha, "received fatal alert: HandshakeFailure", Hint::TlsOffer),
    ];
    for (identity, provider, words, hint) in cases {
        let tls = Some(serving(identity, provider)?);
        let (peer, asked) = noting(Options { tls, route: None }, |_| Reply::empty(200))?;
        refuses_with(peer.address(), &pki.root_pem(), words, Some(hint))?;
        expect(asked.all().is_empty(), || asked.all().join("\n"))?;
    }
    // One that wants to know its clients by certificate.
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pki.root_der().to_vec())).map_err(text)?;
    let provider = Arc::new(default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivatePkcs8KeyDer::from(sound.key.clone()).into();
    let chain = sound.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_client_cert_verifier(clients.build().map_err(text)?)
        .with_single_cert(chain, key)
        .map_err(text)?;
    let tls = Some(Arc::new(config));
    let (peer, asked) = noting(Options { tls, route: None }, |_| Reply::empty(200))?;
    let (words, hint) = ("received fatal alert: CertificateRequired", Hint::ClientCertificate);
    refuses_with(peer.address(), &pki.root_pem(), words, Some(hint))?;
    expect(asked.all().is_empty(), || asked.all().join("\n"))
}

/// Critical certificate policies, as CAs of states and banks have them: behind a CA of one's own, and as a
/// certificate of one's own. OpenSSL and browsers accept such a server.
fn critical_policies() -> Outcome {
    let mut pki = Pki::new(1, "Right", time_now());
    pki.set_critical_extension(Some(&[2, 5, 29, 32]));
    let identity = pki.identity(&["127.0.0.1"], time_now()).map_err(text)?;
    believed(serving(&identity, default_provider())?, &pki.root_pem())?;
    believed(serving(&identity, default_provider())?, &pem("CERTIFICATE", &identity.chain[0]))?;
    // Its names and its issuer are verified all the same.
    let elsewhere = pki.identity(&["127.0.0.2"], time_now()).map_err(text)?;
    let refused = |identity: &Identity, root: &str, words: &str| {
        let tls = Some(serving(identity, default_provider())?);
        let (peer, asked) = noting(Options { tls, route: None }, |_| Reply::empty(200))?;
        refuses(peer.address(), root, words)?;
        expect(asked.all().is_empty(), || asked.all().join("\n"))
    };
    refused(&elsewhere, &pki.root_pem(), "certificate not valid for name")?;
    let other = Pki::new(2, "Right", time_now());
    refused(&identity, &other.root_pem(), "invalid peer certificate")?;
    let mut forged = identity.clone();
    *forged.chain[0].last_mut().ok_or("no certificate")? ^= 1;
    refused(&forged, &pki.root_pem(), "invalid peer certificate: BadSignature")
}

/// Lets a daemon that is given this file go to a server as its CA and as its Marathon: both hear it.
fn believed(config: Arc<ServerConfig>, file: &str) -> Outcome {
    let options = Options { tls: Some(config), route: None };
    let (peer, asked) = noting(options, |_| Reply::empty(404))?;
    let site = Site::new()?;
    let path = site.folder().join("own.pem");
    std::fs::write(&path, file).map_err(text)?;
    let mut arguments = site.arguments(&format!("https://{}/directory", peer.address()), &path);
    arguments.push(format!("--marathon=https://{}", peer.address()));
    arguments.push(format!("--marathon-ca={}", path.display()));
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    let both = || {
        asked.all().iter().any(|it| it.contains("/directory"))
            && asked.all().iter().any(|it| it.contains("/v2/"))
    };
    let heard = wait_until("it is asked as both", || both().then_some(()));
    heard.map_err(|error| format!("{error}\n{}", daemon.output()))?;
    stop(&mut daemon)
}

/// A TLS peer that is refused, and hears nothing.
fn refused(identity: &Identity, root: &str, words: &str) -> Outcome {
    let tls = Some(server_config(identity).map_err(text)?);
    let (peer, asked) = noting(Options { tls, route: None }, |_| Reply::empty(200))?;
    refuses(peer.address(), root, words)?;
    expect(asked.all().is_empty(), || asked.all().join("\n"))
}

fn other_name() -> Outcome {
    let mut pki = Pki::new(1, "Right", time_now());
    let identity = pki.identity(&["other.example.com", "127.0.0.2"], time_now()).map_err(text)?;
    refused(&identity, &pki.root_pem(), "certificate not valid for name \\\"127.0.0.1\\\"")
}

fn expired() -> Outcome {
    let now = time_now();
    let then = Time { unix_ms: now.unix_ms - 400 * DAY_MS, ..now };
    let mut pki = Pki::new(1, "Right", then);
    let identity = pki.identity(&["127.0.0.1"], then).map_err(text)?;
    refused(&identity, &pki.root_pem(), "certificate expired")
}

fn self_signed() -> Outcome {
    let pki = Pki::new(1, "Right", time_now());
    let key = KeyPair::generate().map_err(text)?;
    let certificate = CertificateParams::new(["127.0.0.1".to_string()])
        .and_then(|params| params.self_signed(&key))
        .map_err(text)?;
    let identity = Identity { chain: vec![certificate.der().to_vec()], key: key.serialize_der() };
    refused(&identity, &pki.root_pem(), "UnknownIssuer")
}

/// A server with one certificate of its own, as `openssl req -x509` makes it: it is named in place of a CA's.
fn pinned() -> Outcome {
    let own = |name: &str, until: i32| -> Outcome<(Identity, String)> {
        let key = KeyPair::generate().map_err(text)?;
        let mut params = CertificateParams::new([name.to_string()]).map_err(text)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&key).map_err(text)?;
        let chain = vec![certificate.der().to_vec()];
        Ok((Identity { chain, key: key.serialize_der() }, certificate.pem()))
    };
    let (identity, file) = own("127.0.0.1", 2100)?;
    believed(server_config(&identity).map_err(text)?, &file)?;
    // Another one with the same name, one for another name, and one that has expired are not believed.
    let (other, _) = own("127.0.0.1", 2100)?;
    refused(&other, &file, "invalid peer certificate")?;
    let (elsewhere, file) = own("127.0.0.2", 2100)?;
    refused(&elsewhere, &file, "certificate not valid for name")?;
    let (expired, file) = own("127.0.0.1", 2020)?;
    refused(&expired, &file, "invalid peer certificate: Expired")
}

fn another_ca() -> Outcome {
    let (right, mut wrong) = (Pki::new(1, "Same", time_now()), Pki::new(2, "Same", time_now()));
    let mut identity = wrong.identity(&["127.0.0.1"], time_now()).map_err(text)?;
    refused(&identity, &right.root_pem(), "invalid peer certificate")?;
    // Nor does the real one's certificate help, sent along.
    identity.chain.push(right.intermediate_der().to_vec());
    refused(&identity, &right.root_pem(), "invalid peer certificate")?;
    // And what any CA of the world could vouch for is nothing to who named one.
    let root = pem("CERTIFICATE", right.root_der());
    refused(&identity, &root, "invalid peer certificate")
}

fn machines_bundle() -> Outcome {
    let (site, ca, mut arguments) = with_ca(Default::default())?;
    arguments.retain(|word| !word.starts_with("--acme-ca="));
    let (tls, root) = tls_options(site.folder(), "marathon")?;
    let marathon = play(Marathon::new(Settings::default()), tls)?;
    marathon.with(|peer, now| peer.put_app(now, app("/a", "a.example.com")));
    arguments.push(format!("--marathon=https://{}", marathon.address()));
    let read = |path: &Path| std::fs::read_to_string(path).map_err(text);
    let bundle = site.folder().join("bundle.pem");
    std::fs::write(&bundle, read(&ca.root)? + &read(&root)?).map_err(text)?;
    let bundle = bundle.display().to_string();
    let variables = [("SSL_CERT_FILE", bundle.as_str())];

    // Who has a bundle of its own is judged by that alone.
    let own = format!("--acme-ca={}", root.display());
    let mut daemon = site.daemon_in("own", &variables, &arguments, &[&own])?;
    daemon.wait_until_attached(site.port)?;
    daemon.wait_for(REGISTRATION_FAILED)?;
    let said = daemon.line(REGISTRATION_FAILED);
    expect(said.contains("invalid peer certificate"), || said.clone())?;
    stop(&mut daemon)?;

    let mut daemon = site.daemon_in("daemon", &variables, &arguments, &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    stop(&mut daemon)
}

/// A server hello of TLS 1.0 or 1.1 (RFC 4346 section 7.4.1.3), with a cipher suite of that time.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.extend([0, 0, 0x2f, 0]);
    let length = body.len() as u8;
    [&[22, 3, minor, 0, length + 4, 2, 0, 0, length][..], &body].concat()
}

fn old_tls() -> Outcome {
    let root = Pki::new(1, "Right", time_now()).root_pem();
    for minor in [1, 2] {
        let listener = TcpListener::bind(local(0)).map_err(text)?;
        let peer = listener.local_addr().map_err(text)?;
        // It ends with the test's process; the daemon comes more than once.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&hello(minor));
                let _ = stream.read(&mut [0; 4096]);
            }
        });
        refuses(peer, &root, "ServerDoesNotSupportTls12Or13")?;
    }
    Ok(())
}

/// A Marathon behind TLS whose leader is to be spoken to in the clear, and another that is well.
fn downgrade() -> Outcome {
    let (site, _ca, mut arguments) = with_ca(Default::default())?;
    let (leader, asked) = noting(Options::default(), |_| Reply::empty(200))?;
    let (tls, root) = tls_options(site.folder(), "marathon")?;
    let basic_auth = Some(("user".to_string(), "password".to_string()));
    let role = Role::Standby { leader: format!("http://{}", leader.address()) };
    let settings = Settings { role, basic_auth: basic_auth.clone(), ..Settings::default() };
    let standby = play(Marathon::new(settings), tls)?;
    let second = Options { tls: tls_options(site.folder(), "marathon")?.0.tls, route: None };
    let second = play(Marathon::new(Settings { basic_auth, ..Settings::default() }), second)?;
    let urls =
        [standby.address(), second.address()].map(|at| format!("https://user:password@{at}"));
    arguments.push(format!("--marathon={}", urls.join(",")));
    arguments.push(format!("--marathon-ca={}", root.display()));
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_until_attached(site.port)?;
    let said = daemon.line(NO_STREAM);
    let why = format!("a redirect from https to http (http://{}/v2/events", leader.address());
    expect(said.contains(&why) && said.contains(&standby.address().to_string()), || said.clone())?;
    expect(second.with(|it, _| it.stream_count()) == 1, || "not at the second".into())?;
    expect(asked.all().is_empty(), || asked.all().join("\n"))?;
    stop(&mut daemon)
}

/// A Marathon that sends its clients to another server, and another one that is well.
fn elsewhere() -> Outcome {
    let (site, _ca, mut arguments) = with_ca(Default::default())?;
    let (other, asked) = noting(Options::default(), |_| Reply::empty(200))?;
    let basic_auth = Some(("user".to_string(), "password".to_string()));
    // Neither a host of --marathon nor the same port.
    let role = Role::Standby { leader: format!("http://localhost:{}", other.address().port()) };
    let settings = Settings { role, basic_auth: basic_auth.clone(), ..Settings::default() };
    let standby = play(Marathon::new(settings), Options::default())?;
    let second = Marathon::new(Settings { basic_auth, ..Settings::default() });
    let second = play(second, Options::default())?;
    let urls = [standby.address(), second.address()].map(|at| format!("http://user:password@{at}"));
    arguments.push(format!("--marathon={}", urls.join(",")));
    let (_, said) = site.run("check", &arguments, &["--check"])?;
    let why = format!("a redirect to another server (http://localhost:{}", other.address().port());
    expect(said.contains(&why) && asked.all().is_empty(), || said.clone())?;
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    wait_until("the stream of the second", || {
        second.with(|it, _| (it.stream_count() == 1).then_some(()))
    })?;
    let said = daemon.line(NO_STREAM);
    expect(said.contains(&why), || said.clone())?;
    expect(asked.all().is_empty(), || asked.all().join("\n"))?;
    stop(&mut daemon)
}

/// Two that take each other for the leader.
fn ring() -> Outcome {
    let (site, _ca, arguments) = with_ca(Default::default())?;
    let other = Arc::new(OnceLock::<SocketAddr>::new());
    let to = Arc::clone(&other);
    let (first, asked_first) = noting(Options::default(), move |request| {
        let to = to.get().map(ToString::to_string).unwrap_or_default();
        Reply::empty(302).with("Location", format!("http://{to}{}", request.target))
    })?;
    let back = first.address();
    let (second, asked_second) = noting(Options::default(), move |request| {
        Reply::empty(302).with("Location", format!("http://{back}{}", request.target))
    })?;
    let _ = other.set(second.address());
    let marathon = format!("--marathon=http://{back}");
    let mut daemon = site.daemon("daemon", &arguments, &[&marathon])?;
    daemon.wait_for(NO_STREAM)?;
    let asked = [asked_first.all(), asked_second.all()].map(|all| all.first().cloned());
    expect(asked[0].is_some() && asked[0] == asked[1], || format!("{asked:?}"))?;
    stop(&mut daemon)
}

fn ca_redirect() -> Outcome {
    let (tls, _) = tls_options(Site::new()?.folder(), "other")?;
    let (other, asked) = noting(tls, |_| Reply::empty(200))?;
    let to = format!("https://{}/moved", other.address());
    // The directory has moved; or all is well until something signed is sent, and that has.
    for (status, moved) in
        [(301, "/directory"), (302, "/directory"), (307, "/account"), (308, "/account")]
    {
        let site = Site::new()?;
        let (tls, root) = tls_options(site.folder(), "ca")?;
        let base = Arc::new(OnceLock::<String>::new());
        let (url, to) = (Arc::clone(&base), to.clone());
        let (ca, _) = noting(tls, move |request| {
            let url = |path: &str| format!("{}{path}", url.get().cloned().unwrap_or_default());
            let reply = match request.path() {
                path if path == moved => Reply::empty(status).with("Location", to.clone()),
                "/directory" => {
                    let directory = json!({"newNonce": url("/nonce"), "newAccount": url("/account"),
                        "newOrder": url("/order")});
                    Reply::new(200, "application/json", directory.to_string())
                }
                _ => Reply::empty(200),
            };
            reply.with("Replay-Nonce", "nonce")
        })?;
        let _ = base.set(format!("https://{}", ca.address()));
        let directory = format!("https://{}/directory", ca.address());
        let mut daemon = site.daemon("daemon", &site.arguments(&directory, &root), &[])?;
        daemon.wait_for(REGISTRATION_FAILED)?;
        let line = daemon.line(REGISTRATION_FAILED);
        let why = format!(": a redirect to https://{}/moved", other.address());
        let why = format!("status {status} from https://{}{moved}{why}", ca.address());
        expect(line.contains(&why), || line.clone())?;
        stop(&mut daemon)?;
    }
    expect(asked.all().is_empty(), || asked.all().join("\n"))
}

/// A CA that has an account made by a server of this machine, which is no CA.
fn ca_here() -> Outcome {
    let (victim, asked) = noting(Options::default(), |_| Reply::empty(200))?;
    let site = Site::new()?;
    let (tls, root) = tls_options(site.folder(), "ca")?;
    let base = Arc::new(OnceLock::<String>::new());
    let url = Arc::clone(&base);
    let here = format!("http://{}/_mlb_signal/usr1", victim.address());
    let (ca, _) = noting(tls, move |_| {
        let url = |path: &str| format!("{}{path}", url.get().cloned().unwrap_or_default());
        let directory =
            json!({"newNonce": url("/nonce"), "newAccount": here, "newOrder": url("/order")});
        Reply::new(200, "application/json", directory.to_string()).with("Replay-Nonce", "nonce")
    })?;
    let _ = base.set(format!("https://{}", ca.address()));
    let directory = format!("https://{}/directory", ca.address());
    let arguments = site.arguments(&directory, &root);
    let (_, said) = site.run("check", &arguments, &["--check"])?;
    let why = "the CA's directory has no proper newAccount";
    expect(said.contains(why), || said.clone())?;
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_for(REGISTRATION_FAILED)?;
    let line = daemon.line(REGISTRATION_FAILED);
    expect(line.contains(why) && asked.all().is_empty(), || line.clone())?;
    stop(&mut daemon)
}
