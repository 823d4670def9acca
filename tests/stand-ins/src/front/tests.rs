//! The TLS front: which file serves which name, before and after a reload.

use super::*;
use crate::driver::time_now;
use crate::pki::{Pki, pem};

/// A storage directory of its own, gone at the end.
struct Storage(PathBuf);

impl Storage {
    fn new(name: &str) -> Storage {
        let path = std::env::temp_dir().join(format!("front-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("certs")).unwrap();
        Storage(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file as the program writes it: key, leaf, chain.
fn file(pki: &mut Pki, name: &str) -> String {
    let identity = pki.identity(&[name], time_now()).unwrap();
    let chain: String = identity.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    pem("PRIVATE KEY", &identity.key) + &chain
}

fn front(storage: &Storage) -> TlsFront {
    TlsFront::start(TcpListener::bind("127.0.0.1:0").unwrap(), &storage.0).unwrap()
}

#[test]
fn a_certificate_is_picked_by_name_after_a_reload() {
    let mut pki = Pki::new(5, "Front", time_now());
    let config = tls::client_config(pki.root_der()).unwrap();
    let storage = Storage::new("names");
    let front = front(&storage);
    storage.write("default.pem", &file(&mut pki, "default.example.com"));
    assert_eq!(front.reload().unwrap(), 1);
    storage.write("certs/b.example.com.pem", &file(&mut pki, "b.example.com"));
    assert!(tls::shown(front.address(), "b.example.com", &config).is_err(), "not reloaded yet");
    storage.write("certs/a.example.com.pem", &file(&mut pki, "a.example.com"));
    assert_eq!(front.reload().unwrap(), 3);
    for name in ["a.example.com", "b.example.com", "default.example.com"] {
        let (shown, page) = tls::shown(front.address(), name, &config).unwrap();
        assert_eq!(
            (shown.names, shown.issuer.as_str()),
            (vec![name.to_string()], "Front Intermediate")
        );
        assert!(page.ends_with(&format!("This is {name}.\n")), "{page}");
    }
}

#[test]
fn one_bad_file_spoils_the_reload_and_nothing_else() {
    let mut pki = Pki::new(6, "Front", time_now());
    let config = tls::client_config(pki.root_der()).unwrap();
    let storage = Storage::new("bad");
    let front = front(&storage);
    assert!(front.reload().is_err(), "there is no default.pem");
    let (one, other) = (file(&mut pki, "a.example.com"), file(&mut pki, "a.example.com"));
    storage.write("default.pem", &one);
    front.reload().unwrap();
    let key_end = "-----END PRIVATE KEY-----\n";
    let (key, _) = one.split_once(key_end).unwrap();
    let (_, chain) = other.split_once(key_end).unwrap();
    let mismatch = format!("{key}{key_end}{chain}");
    for bad in ["", "hello\n", chain, &format!("{key}{key_end}"), &mismatch] {
        storage.write("certs/x.pem.new", bad);
        let error = front.reload().unwrap_err();
        assert!(error.path.ends_with("certs/x.pem.new"), "{error}");
        assert!(tls::shown(front.address(), "a.example.com", &config).is_ok());
    }
}
