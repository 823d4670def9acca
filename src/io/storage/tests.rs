//! Tests of the storage on a real file system.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::machine::ConnId;

mod faults;

fn storage() -> (tempfile::TempDir, Storage) {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = Storage::new(dir.path().into(), 0o640, 1);
    open(&mut storage).unwrap();
    (dir, storage)
}

fn open(storage: &mut Storage) -> Result<Inventory, StoreError> {
    match storage.load(Load::Storage) {
        Loaded::Storage(result) => result,
        other => panic!("{other:?}"),
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_directory_gets_its_folders_and_nothing_else() {
    let (dir, mut storage) = storage();
    let expected = ["archive", "certs", "challenges", "lock", "tmp", "unmanaged-certs"];
    assert_eq!(names(dir.path()), expected);
    assert!(names(&dir.path().join("tmp")).is_empty());
    let again = open(&mut storage).unwrap();
    assert!(again.certificates.is_empty() && again.account_key.is_none() && !again.has_fallback);
}

#[test]
fn files_have_their_modes_and_contents() {
    let (dir, mut storage) = storage();
    storage.change(Change::AccountKey(secret("key"))).unwrap();
    storage.change(Change::Fallback(secret("fallback"))).unwrap();
    storage.change(Change::Certificate(domain("a.org"), secret("one"))).unwrap();
    storage.change(Change::Certificate(domain("a.org"), secret("two"))).unwrap();
    storage.change(Change::State(b"{}".to_vec())).unwrap();
    let (token, key_authorization) = ("to-k_en".to_string(), "to-k_en.x".to_string());
    storage.change(Change::Publish { token, key_authorization }).unwrap();
    let expected = [
        ("client.key", "key", 0o600),
        ("default.pem", "fallback", 0o640),
        ("certs/a.org.pem", "two", 0o640),
        ("state.json", "{}", 0o600),
        ("challenges/to-k_en", "to-k_en.x", 0o644),
    ];
    for (path, content, bits) in expected {
        let path = dir.path().join(path);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(mode(&path), bits, "{}", path.display());
    }
    assert!(names(&dir.path().join("tmp")).is_empty());
    let inventory = open(&mut storage).unwrap();
    assert_eq!(inventory.account_key, Some(secret("key")));
    assert_eq!(inventory.certificates, [domain("a.org")]);
    assert_eq!(inventory.challenges, ["to-k_en"]);
    assert_eq!((inventory.has_fallback, inventory.state), (true, Some(b"{}".to_vec())));
    storage.change(Change::Withdraw { token: "to-k_en".into() }).unwrap();
    storage.change(Change::Withdraw { token: "to-k_en".into() }).unwrap();
    assert!(names(&dir.path().join("challenges")).is_empty());
}

/// Even where the umask forbids nothing. Looks as often as it can while files come and go.
#[test]
fn no_file_is_open_to_others_for_a_moment() {
    const FILES: usize = 2000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    let seen = std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            for _ in 0..FILES {
                drop(RealFiles::default().create(&path, 0o600).unwrap());
                fs::remove_file(&path).unwrap();
            }
        });
        let mut seen = std::collections::BTreeMap::new();
        while !maker.is_finished() {
            if let Ok(found) = fs::metadata(&path) {
                *seen.entry(found.permissions().mode() & 0o777).or_insert(0) += 1;
            }
        }
        seen
    });
    rustix::process::umask(umask);
    println!("looks by mode: {seen:?}");
    assert!(seen.keys().all(|mode| mode & 0o077 == 0), "{seen:?}");
}

#[test]
fn keys_and_the_fallback_are_never_overwritten() {
    let (dir, mut storage) = storage();
    storage.change(Change::AccountKey(secret("first"))).unwrap();
    // Again, as after a try of which only the last flush failed.
    storage.change(Change::AccountKey(secret("first"))).unwrap();
    let longer = storage.change(Change::AccountKey(secret("first and more")));
    assert_eq!(longer.expect_err("refused").kind, StoreErrorKind::Exists);
    let error = storage.change(Change::AccountKey(secret("second"))).expect_err("refused");
    assert_eq!(error.kind, StoreErrorKind::Exists);
    storage.change(Change::Fallback(secret("first"))).unwrap();
    storage.change(Change::Fallback(secret("second"))).unwrap();
    for file in ["client.key", "default.pem"] {
        assert_eq!(fs::read_to_string(dir.path().join(file)).unwrap(), "first");
    }
    assert!(names(&dir.path().join("tmp")).is_empty());
}

#[test]
fn tokens_never_leave_their_folder() {
    let (dir, mut storage) = storage();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    for token in ["", ".", "..", "../secret", "/etc/passwd", "a/b", "a\0", &long] {
        let (token, key_authorization) = (token.to_string(), String::new());
        let publish = Change::Publish { token: token.clone(), key_authorization };
        assert_eq!(storage.change(publish).expect_err("refused").kind, StoreErrorKind::Malformed);
        let conn = ConnId::Accepted(1);
        let loaded = storage.load(Load::Challenge(conn, token));
        assert!(matches!(loaded, Loaded::Challenge(_, _, None)), "{loaded:?}");
    }
    fs::write(dir.path().join("challenges/long"), "x".repeat(2000)).unwrap();
    let loaded = storage.load(Load::Challenge(ConnId::Accepted(1), "long".into()));
    assert!(matches!(loaded, Loaded::Challenge(_, _, None)), "{loaded:?}");
}

#[test]
fn what_is_archived_never_takes_the_place_of_another() {
    let (dir, mut storage) = storage();
    for content in ["one", "two", "three"] {
        storage.change(Change::Certificate(domain("a.org"), secret(content))).unwrap();
        storage.change(Change::Archive(domain("a.org"))).unwrap();
    }
    assert!(names(&dir.path().join("certs")).is_empty());
    let archived = ["a.org.1.pem", "a.org.2.pem", "a.org.pem"];
    assert_eq!(names(&dir.path().join("archive")), archived);
    assert_eq!(fs::read_to_string(dir.path().join("archive/a.org.pem")).unwrap(), "one");
    // Gone already, as after a try of which only the last flush failed, is gone.
    storage.change(Change::Archive(domain("a.org"))).unwrap();
    assert_eq!(names(&dir.path().join("archive")), archived);
}

#[test]
fn a_state_is_archived_like_a_certificate() {
    let (dir, mut storage) = storage();
    for content in ["one", "two"] {
        storage.change(Change::State(content.into())).unwrap();
        storage.change(Change::ArchiveState).unwrap();
    }
    assert_eq!(names(&dir.path().join("archive")), ["state.1.json", "state.json"]);
    assert_eq!(open(&mut storage).unwrap().state, None);
}

#[test]
fn bytes_that_are_no_text_are_the_readers_matter() {
    let (dir, mut storage) = storage();
    for file in ["client.key", "state.json", "certs/a.org.pem"] {
        fs::write(dir.path().join(file), b"caf\xe9\n").unwrap();
    }
    let inventory = open(&mut storage).unwrap();
    assert_eq!(inventory.account_key, Some(secret("caf\u{fffd}\n")));
    assert_eq!(inventory.state.as_deref(), Some(&b"caf\xe9\n"[..]));
    let loaded = storage.load(Load::Certificate(domain("a.org")));
    let Loaded::Certificate(_, Ok(pem)) = loaded else { panic!("{loaded:?}") };
    assert_eq!(pem, secret("caf\u{fffd}\n"));
}

#[test]
fn foreign_files_and_left_overs_are_told_apart() {
    let (dir, mut storage) = storage();
    for file in ["README", "A.org.pem", "x.pem.new", "a.org.pem"] {
        fs::write(dir.path().join("certs").join(file), "x").unwrap();
    }
    fs::write(dir.path().join("tmp/7"), "half").unwrap();
    let inventory = open(&mut storage).unwrap();
    assert_eq!(inventory.certificates, [domain("a.org")]);
    assert!(names(&dir.path().join("tmp")).is_empty());
}

#[test]
fn one_instance_holds_the_lock() {
    let (dir, storage) = storage();
    let mut second = Storage::new(dir.path().into(), 0o600, 2);
    assert_eq!(open(&mut second).expect_err("locked").kind, StoreErrorKind::Locked);
    drop(storage);
    open(&mut second).unwrap();
    let lock = dir.path().join("lock");
    let other =
        Command::new("flock").args(["-n", lock.to_str().unwrap(), "true"]).status().unwrap();
    assert!(!other.success(), "another process must not get the lock");
}

#[test]
fn check_tells_a_file_and_nothing_from_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Storage::check(dir.path()), Ok(()));
    let missing = Storage::check(&dir.path().join("missing")).expect_err("missing");
    assert_eq!(missing.kind, StoreErrorKind::Missing);
    fs::write(dir.path().join("file"), "").unwrap();
    let file = Storage::check(&dir.path().join("file")).expect_err("a file");
    assert_eq!(file.kind, StoreErrorKind::NotADirectory);
}

#[test]
fn what_is_rejected_is_kept_beside_all_that_was_archived() {
    let (dir, mut storage) = storage();
    let archived = |file: &str| fs::read_to_string(dir.path().join("archive").join(file));
    storage.change(Change::Certificate(domain("a.org"), secret("old"))).unwrap();
    storage.change(Change::Archive(domain("a.org"))).unwrap();
    storage.change(Change::Certificate(domain("a.org"), secret("in service"))).unwrap();
    let reason = "odd\n-----BEGIN \u{1b}[2Jword";
    for pem in ["first", "second"] {
        let (name, pem, reason) = (domain("a.org"), secret(pem), reason.to_string());
        storage.change(Change::Reject { name, pem, reason }).unwrap();
    }
    let head = "# marathon-acme did not put this into certs/a.org.pem:\n\
                # odd\u{fffd}-----BEGIN \u{fffd}[2Jword\n";
    assert_eq!(archived("a.org.pem").unwrap(), "old");
    assert_eq!(archived("a.org.1.pem").unwrap(), format!("{head}first"));
    assert_eq!(archived("a.org.2.pem").unwrap(), format!("{head}second"));
    let mode = fs::metadata(dir.path().join("archive/a.org.1.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_to_string(dir.path().join("certs/a.org.pem")).unwrap(), "in service");
    assert!(names(&dir.path().join("tmp")).is_empty());
}

#[test]
fn a_folder_in_the_way_is_an_error_and_leaves_nothing() {
    let (dir, mut storage) = storage();
    fs::create_dir(dir.path().join("certs/a.org.pem")).unwrap();
    let error = storage.change(Change::Certificate(domain("a.org"), secret("x"))).expect_err("dir");
    assert_eq!(error.path, "certs/a.org.pem");
    assert!(names(&dir.path().join("tmp")).is_empty());
}

#[test]
fn a_file_beyond_its_limit_is_not_read() {
    let (dir, mut storage) = storage();
    let file = fs::File::create(dir.path().join("certs/a.org.pem")).unwrap();
    file.set_len(FILE_BYTES_MAX + 1).unwrap();
    let loaded = storage.load(Load::Certificate(domain("a.org")));
    let Loaded::Certificate(_, Err(error)) = loaded else { panic!("{loaded:?}") };
    assert_eq!(error.kind, StoreErrorKind::Malformed);
}

#[test]
fn the_systems_errors_are_told_apart() {
    let kinds = [
        (Errno::NOSPC, StoreErrorKind::Full),
        (Errno::DQUOT, StoreErrorKind::Full),
        (Errno::ROFS, StoreErrorKind::ReadOnly),
        (Errno::ACCESS, StoreErrorKind::NotWritable),
        (Errno::PERM, StoreErrorKind::NotWritable),
        (Errno::NOTDIR, StoreErrorKind::NotADirectory),
        (Errno::IO, StoreErrorKind::Io),
        (Errno::NOTCONN, StoreErrorKind::Io),
        (Errno::STALE, StoreErrorKind::Stale),
        (Errno::MFILE, StoreErrorKind::Limit),
        (Errno::XDEV, StoreErrorKind::Split),
    ];
    for (errno, expected) in kinds {
        assert_eq!(kind(&io::Error::from(errno)), expected, "{errno}");
    }
}

/// Puts something into the place of a path that is not a regular file, or leads elsewhere.
fn replace(path: &Path, odd: &str) {
    let _ = fs::remove_file(path);
    match odd {
        "fifo" => mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
        "folder" => fs::create_dir(path).unwrap(),
        "device" => symlink("/dev/zero", path).unwrap(),
        target => symlink(target, path).unwrap(),
    }
}

fn elsewhere() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.org.pem"), "of another").unwrap();
    let file = dir.path().join("a.org.pem").to_str().unwrap().to_string();
    (dir, file)
}

#[test]
fn what_is_not_a_regular_file_is_never_opened() {
    let (other, target) = elsewhere();
    let (dir, mut storage) = storage();
    for odd in [&*target, "nowhere", "fifo", "folder", "device"] {
        let (dir, mut storage) = storage_in(dir.path().join(odd.replace('/', "_")));
        replace(&dir.join("challenges/token"), odd);
        let loaded = storage.load(Load::Challenge(ConnId::Accepted(1), "token".into()));
        assert!(matches!(loaded, Loaded::Challenge(_, _, None)), "{odd}: {loaded:?}");
        replace(&dir.join("certs/a.org.pem"), odd);
        let Loaded::Certificate(_, Err(error)) = storage.load(Load::Certificate(domain("a.org")))
        else {
            panic!("{odd}")
        };
        assert_eq!(error.kind, StoreErrorKind::NotAFile, "{odd}");
        let error = storage.change(Change::Archive(domain("a.org"))).expect_err("not a file");
        assert_eq!(error.kind, StoreErrorKind::NotAFile, "{odd}");
        assert_eq!(names(&dir.join("archive")).len(), 0);
        replace(&dir.join("archive/a.org.pem"), odd);
        let Loaded::Archived(_, Err(error)) = storage.load(Load::Archived("a.org.pem".into()))
        else {
            panic!("{odd}")
        };
        assert_eq!(error.kind, StoreErrorKind::NotAFile, "{odd}");
        // A certificate takes the place of the link, and not of what it leads to; never of a folder.
        let written = storage.change(Change::Certificate(domain("a.org"), secret("ours")));
        match odd {
            "folder" => assert_eq!(written.unwrap_err().kind, StoreErrorKind::NotAFile),
            _ => {
                written.unwrap();
                assert!(fs::symlink_metadata(dir.join("certs/a.org.pem")).unwrap().is_file());
            }
        }
        assert!(names(&dir.join("tmp")).is_empty());
    }
    for file in [OWN_FILES.as_slice(), &[FALLBACK]].concat() {
        for odd in [&*target, "fifo", "folder"] {
            if file == FALLBACK && odd == target {
                continue;
            }
            drop(storage.lock.take());
            replace(&dir.path().join(file), odd);
            let error = open(&mut storage).expect_err("not a file");
            assert_eq!((error.kind, &*error.path), (StoreErrorKind::NotAFile, file), "{odd}");
            let _ = fs::remove_dir(dir.path().join(file));
            let _ = fs::remove_file(dir.path().join(file));
        }
    }
    open(&mut storage).unwrap();
    assert_eq!(fs::read_to_string(other.path().join("a.org.pem")).unwrap(), "of another");
}

fn storage_in(dir: PathBuf) -> (PathBuf, Storage) {
    fs::create_dir_all(&dir).unwrap();
    let mut storage = Storage::new(dir.clone(), 0o600, 1);
    open(&mut storage).unwrap();
    (dir, storage)
}

#[test]
fn a_directory_of_ours_that_is_a_link_is_refused_and_not_followed() {
    for folder in FOLDERS {
        let (other, _) = elsewhere();
        let (dir, mut storage) = storage();
        let place = dir.path().join(folder);
        fs::remove_dir_all(&place).unwrap();
        symlink(other.path(), &place).unwrap();
        let error = storage.check_layout().expect_err("a link");
        assert_eq!((error.kind, &*error.path), (StoreErrorKind::NotADirectory, folder));
        // Swapped while it runs, before anything is opened again.
        let loaded = storage.load(Load::Challenge(ConnId::Accepted(1), "a".into()));
        assert!(matches!(loaded, Loaded::Challenge(_, _, None)), "{loaded:?}");
        let read = storage.read_text(&format!("{folder}/a.org.pem"), FILE_BYTES_MAX);
        assert_eq!(read.unwrap_err().kind, StoreErrorKind::NotADirectory);
        assert!(storage.names(folder).is_err());
        let written = storage.change(Change::Certificate(domain("a.org"), secret("ours")));
        let published = storage
            .change(Change::Publish { token: "token".into(), key_authorization: "token.x".into() });
        assert_eq!(written.is_ok(), !["certs", "tmp"].contains(&folder), "{written:?}");
        assert_eq!(published.is_ok(), !["challenges", "tmp"].contains(&folder), "{published:?}");
        let archived = storage.change(Change::Archive(domain("a.org")));
        assert_eq!(archived.is_ok(), !["certs", "archive"].contains(&folder), "{archived:?}");
        assert_eq!(open(&mut storage).unwrap_err().kind, StoreErrorKind::NotADirectory);
        assert_eq!(names(other.path()), ["a.org.pem"], "{folder}");
        let kept = fs::read_to_string(other.path().join("a.org.pem")).unwrap();
        assert_eq!(kept, "of another");
    }
    // The storage directory itself may be one.
    let (dir, storage) = storage();
    drop(storage);
    let link = dir.path().join("link");
    symlink(".", &link).unwrap();
    assert_eq!(Storage::check(&link), Ok(()));
    let mut storage = Storage::new(link, 0o600, 1);
    open(&mut storage).unwrap();
    storage.change(Change::Certificate(domain("a.org"), secret("ours"))).unwrap();
}

#[test]
fn archived_files_are_listed_in_pieces_and_replaced_whole() {
    let (dir, mut storage) = storage();
    for file in ["b.pem", "a.pem", "c.pem"] {
        fs::write(dir.path().join("archive").join(file), "old").unwrap();
    }
    let mut listed = |after: Option<&str>| match storage
        .load(Load::Archive { after: after.map(str::to_string) })
    {
        Loaded::Archive(Ok(names)) => names,
        other => panic!("{other:?}"),
    };
    assert_eq!(listed(None), ["a.pem", "b.pem", "c.pem"]);
    assert_eq!(listed(Some("a.pem")), ["b.pem", "c.pem"]);
    assert_eq!(listed(Some("c.pem")), [""; 0]);
    let replace = |file: &str| Change::ReplaceArchived { file: file.into(), pem: secret("new") };
    storage.change(replace("b.pem")).unwrap();
    let read = |file: &str| fs::read_to_string(dir.path().join("archive").join(file)).unwrap();
    assert_eq!([read("a.pem"), read("b.pem")], ["old", "new"]);
    assert_eq!(mode(&dir.path().join("archive/b.pem")), 0o600);
    assert!(names(&dir.path().join("tmp")).is_empty());
    for file in ["", ".", "..", "../client.key", "a/b"] {
        assert_eq!(storage.change(replace(file)).unwrap_err().kind, StoreErrorKind::Malformed);
        let loaded = storage.load(Load::Archived(file.into()));
        assert!(matches!(loaded, Loaded::Archived(_, Err(_))), "{loaded:?}");
    }
    assert!(!dir.path().join("client.key").exists());
}

#[test]
fn a_file_that_an_option_names_may_be_a_link_and_is_never_waited_for() {
    let (dir, mut storage) = storage();
    fs::write(dir.path().join("secret"), "token").unwrap();
    replace(&dir.path().join("link"), "secret");
    replace(&dir.path().join("fifo"), "fifo");
    let mut load = |file: &str| match storage.load(Load::Token(dir.path().join(file))) {
        Loaded::Token(result) => result,
        other => panic!("{other:?}"),
    };
    assert_eq!(load("link"), Ok(secret("token")));
    for file in ["fifo", "tmp"] {
        assert_eq!(load(file).unwrap_err().kind, StoreErrorKind::NotAFile);
    }
    assert_eq!(load("/dev/zero").unwrap_err().kind, StoreErrorKind::NotAFile);
}

#[test]
fn what_stands_in_the_way_of_one_file_is_no_failure_of_the_storage() {
    let (dir, mut storage) = storage();
    fs::create_dir(dir.path().join("certs/a.org.pem")).unwrap();
    let refused = storage.change(Change::Certificate(domain("a.org"), secret("pem")));
    let error = refused.expect_err("a directory has that name");
    assert!(!error.kind.is_storage_failure(), "{error:?}");
    storage.change(Change::Certificate(domain("b.org"), secret("pem"))).unwrap();
    // A directory in tmp/ is not ours, and nothing of ours needs its name.
    fs::create_dir(dir.path().join("tmp/left")).unwrap();
    assert_eq!(open(&mut storage).unwrap().certificates.len(), 2);
    for (errno, is_failure) in [
        (Errno::NOSPC, true),
        (Errno::DQUOT, true),
        (Errno::ROFS, true),
        (Errno::IO, true),
        (Errno::ACCESS, true),
        (Errno::NAMETOOLONG, false),
        (Errno::LOOP, false),
        (Errno::ISDIR, false),
        (Errno::NOTDIR, true),
        (Errno::BUSY, false),
        (Errno::INVAL, false),
    ] {
        assert_eq!(kind(&errno.into()).is_storage_failure(), is_failure, "{errno}");
    }
    // A permission that is missing for a file in a directory that may be changed, as of one that is
    // immutable.
    let refused = storage.refused("certs/b.org.pem", "remove", &Errno::PERM.into());
    assert_eq!(refused.kind, StoreErrorKind::File);
    let refused = storage.refused("certs/b.org.pem", "remove", &Errno::ROFS.into());
    assert_eq!(refused.kind, StoreErrorKind::ReadOnly);
}
