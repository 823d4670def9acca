//! What must hold of a storage directory whenever a daemon has ended, however it ended. Reads with
//! other code than the daemon's, but for `state.json`, which nobody else reads.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use marathon_acme::daemon::state::SavedState;
use rcgen::{KeyPair, PublicKeyData as _};
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use crate::process::{Outcome, expect};
use crate::site::{check_file, text};

/// The storage, and what was in it when it was looked at last.
pub(super) struct Whole {
    storage: PathBuf,
    account_key: Vec<u8>,
    /// Names of files in `certs/`.
    stored: Vec<String>,
    archived: BTreeMap<String, Vec<u8>>,
}

/// What a look found.
#[derive(Default)]
pub(super) struct Found {
    /// Files in `tmp/`: a write was cut off there.
    pub(super) unfinished: usize,
    /// Of these, without content.
    pub(super) empty: usize,
    /// Certificates in `certs/` and `archive/` at once: the move was cut off.
    pub(super) half_archived: usize,
}

impl Whole {
    /// A storage that has its account key.
    pub(super) fn new(storage: &Path) -> Outcome<Whole> {
        let account_key = fs::read(storage.join("client.key")).map_err(text)?;
        let storage = storage.to_path_buf();
        Ok(Whole { storage, account_key, stored: Vec::new(), archived: BTreeMap::new() })
    }

    /// Looks at every file.
    pub(super) fn check(&mut self) -> Outcome<Found> {
        let key = fs::read(self.storage.join("client.key")).map_err(text)?;
        let key_text = String::from_utf8_lossy(&key);
        expect(key == self.account_key, || "client.key has changed".into())?;
        KeyPair::from_pem(&key_text).map_err(|error| format!("client.key: {error}"))?;
        let state = fs::read(self.storage.join("state.json")).map_err(text)?;
        SavedState::parse(&state).map_err(|_| format!("state.json of {} bytes", state.len()))?;
        let archived = self.check_archive()?;
        let stored = entries(&self.storage.join("certs"))?;
        let mut found = Found::default();
        for name in &stored {
            let path = self.storage.join("certs").join(name);
            certificate(&path).map_err(|error| format!("certs/{name}: {error}"))?;
            // With a second name it is on its way to the archive.
            found.half_archived += usize::from(fs::metadata(&path).map_err(text)?.nlink() > 1);
        }
        for gone in self.stored.iter().filter(|name| !stored.contains(name)) {
            let stem = gone.strip_suffix("pem").unwrap_or(gone);
            let kept = archived.keys().any(|name| name.starts_with(stem));
            expect(kept, || format!("{gone} is neither in certs/ nor in archive/"))?;
        }
        (self.stored, self.archived) = (stored, archived);
        for name in entries(&self.storage.join("tmp"))? {
            let left = fs::metadata(self.storage.join("tmp").join(name)).map_err(text)?;
            found.unfinished += 1;
            found.empty += usize::from(left.len() == 0);
        }
        Ok(found)
    }

    /// All that was in the archive is there as it was, or without the key of a certificate that has
    /// expired, as they do here within seconds.
    fn check_archive(&self) -> Outcome<BTreeMap<String, Vec<u8>>> {
        let folder = self.storage.join("archive");
        let mut archived = BTreeMap::new();
        for name in entries(&folder)? {
            let path = folder.join(&name);
            let content = fs::read_to_string(&path).map_err(text)?;
            // One that was refused says why before that.
            if content.contains("# private key removed") {
                let whole = content.ends_with("-----END CERTIFICATE-----\n");
                expect(whole && !content.contains("PRIVATE KEY"), || format!("{name}: {content}"))?;
            } else {
                certificate(&path).map_err(|error| format!("archive/{name}: {error}"))?;
            }
            archived.insert(name, content.into_bytes());
        }
        let chain = |content: &[u8]| {
            let text = String::from_utf8_lossy(content);
            text.find("-----BEGIN CERTIFICATE").map(|begin| text[begin..].to_string())
        };
        let lost = self.archived.iter().find(|(name, content)| {
            archived.get(*name).is_none_or(|now| chain(now) != chain(content))
        });
        expect(lost.is_none(), || format!("archive/{lost:?} was lost"))?;
        Ok(archived)
    }

    /// How many certificates are in the archive.
    pub(super) fn archived(&self) -> usize {
        self.archived.len()
    }
}

/// The names in a folder.
pub(crate) fn entries(folder: &Path) -> Outcome<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(text)?;
    entries
        .map(|entry| entry.map(|it| it.file_name().to_string_lossy().into_owned()).map_err(text))
        .collect()
}

/// Checks a certificate file: private key, leaf, chain; the key is the leaf's, the leaf is for the
/// file's name, each certificate is signed by the next.
pub(crate) fn certificate(path: &Path) -> Outcome {
    check_file(path, 0o600)?;
    let bytes = fs::read(path).map_err(text)?;
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(&bytes).collect();
    let blocks = blocks.map_err(text)?;
    let (key, chain) = blocks.split_first().ok_or("an empty file")?;
    let key = KeyPair::try_from(key.contents.as_slice()).map_err(text)?;
    let chain: Result<Vec<X509Certificate<'_>>, _> = chain.iter().map(Pem::parse_x509).collect();
    let chain = chain.map_err(text)?;
    let leaf = chain.first().ok_or("no certificate")?;
    let same = leaf.public_key().raw == key.subject_public_key_info();
    expect(same, || "the key is another certificate's".into())?;
    for pair in chain.windows(2) {
        pair[0].verify_signature(Some(pair[1].public_key())).map_err(text)?;
    }
    let names = crate::stand::names(&blocks[1].contents)?;
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
    // One that was archived may bear a number.
    let fits =
        file.is_some_and(|file| names.iter().any(|name| file.starts_with(&format!("{name}."))));
    expect(fits, || format!("it is for {names:?}"))
}
