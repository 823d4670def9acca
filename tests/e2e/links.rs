//! Links, FIFOs and devices in the storage directory, put there by whoever may write to the volume: they are
//! never followed and never opened, and nothing waits for them. And what becomes of private keys in
//! `archive/`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use marathon_acme::log::message::{
    CERTIFICATE_NOT_A_FILE, FOREIGN_FILE, KEYS_REMOVED, KEYS_WITHOUT_CERTIFICATE, NO_NEW_TOKEN,
    STORAGE_FAILED, STORAGE_RECOVERED,
};
use rcgen::{CertificateParams, KeyPair};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use stand_ins::ca::Settings;

use crate::Test;
use crate::process::{Outcome, Process, Signal, expect, free_port, get, wait_until};
use crate::site::{Site, bare, check_file, text, with_ca};

pub(crate) const TESTS: &[Test] = &[
    ("a_challenge_that_is_no_file_is_served_by_nobody", &[], challenges),
    ("a_directory_that_is_a_link_is_refused_at_the_start", &[], directories),
    ("a_directory_that_becomes_a_link_is_not_followed", &[], swapped),
    ("what_is_no_file_in_certs_is_foreign_and_blocks_nothing", &[], certificates),
    ("a_token_file_that_becomes_a_fifo_blocks_nothing", &[], token),
    ("keys_of_expired_certificates_leave_the_archive", &[], archive),
];

const VICTIM: &str = "of another\n";

fn fifo(path: &Path) -> Outcome {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(text)
}

fn answers(port: u16) -> Outcome {
    let pong = get(port, "/.well-known/acme-challenge/ping")?;
    expect(pong.contains("pong"), || pong)
}

/// Asks for a token that must not be there.
fn unknown(port: u16, token: &str) -> Outcome {
    let answer = get(port, &format!("/.well-known/acme-challenge/{token}"))?;
    expect(answer.starts_with("HTTP/1.1 404 "), || format!("{token}: {answer}"))
}

/// An active instance with a certificate, and a standby on a port of its own.
fn two(site: &Site, arguments: &[String]) -> Outcome<(Process, Process, u16)> {
    site.deploy("/a", "a.example.com");
    let active = site.daemon("active", arguments, &[])?;
    site.wait_for_certificate(&active, "a.example.com")?;
    let port = free_port()?;
    let mut standby = site.instance("standby", port, arguments)?;
    standby.wait_until_standing_by()?;
    Ok((active, standby, port))
}

fn challenges() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    let (_active, _standby, port) = two(&site, &arguments)?;
    let folder = site.storage.join("challenges");
    fs::write(folder.join("whole"), "whole.x").map_err(text)?;
    for (token, target) in [
        ("key", "../client.key"),
        ("certificate", "../certs/a.example.com.pem"),
        ("user", "/etc/passwd"),
        ("zero", "/dev/zero"),
        ("folder", ".."),
        ("whole-too", "whole"),
    ] {
        symlink(target, folder.join(token)).map_err(text)?;
    }
    // A second name of a key is a regular file, but no key authorization.
    fs::hard_link(site.storage.join("client.key"), folder.join("second")).map_err(text)?;
    fifo(&folder.join("fifo"))?;
    fs::create_dir(folder.join("inner")).map_err(text)?;
    let large = fs::File::create(folder.join("large")).map_err(text)?;
    large.set_len(10 << 30).map_err(text)?;
    for port in [port, site.port] {
        for token in [
            "key",
            "certificate",
            "user",
            "zero",
            "folder",
            "whole-too",
            "second",
            "fifo",
            "inner",
            "large",
            "..",
            "..%2fclient.key",
            "../client.key",
            "%2e%2e/client.key",
            "inner/../whole",
        ] {
            unknown(port, token)?;
            answers(port)?;
        }
    }
    // What is a file is served by the standby, as it is read from the shared directory.
    let found = get(port, "/.well-known/acme-challenge/whole")?;
    expect(found.ends_with("\r\n\r\nwhole.x"), || found)
}

/// A directory of somebody else's, with a file in it.
fn elsewhere(site: &Site) -> Outcome<std::path::PathBuf> {
    let other = site.folder().join("elsewhere");
    fs::create_dir_all(&other).map_err(text)?;
    for file in ["token", "a.example.com.pem", "left-over"] {
        fs::write(other.join(file), VICTIM).map_err(text)?;
    }
    Ok(other)
}

fn untouched(other: &Path) -> Outcome {
    let mut found = Vec::new();
    for entry in fs::read_dir(other).map_err(text)? {
        let path = entry.map_err(text)?.path();
        expect(fs::read_to_string(&path).map_err(text)? == VICTIM, || path.display().to_string())?;
        found.push(path);
    }
    expect(found.len() == 3, || format!("{found:?}"))
}

fn directories() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    let other = elsewhere(&site)?;
    let refused = |path: &Path, what: &str, arguments: &[String]| {
        let (status, said) = site.run("refused", arguments, &[])?;
        let named = said.contains(&format!("{what}: it is a ")) && said.contains("move it away");
        expect(status == Some(2) && named, || format!("{}: {status:?} {said}", path.display()))?;
        untouched(&other)
    };
    for folder in ["certs", "unmanaged-certs", "challenges", "archive", "tmp"] {
        let path = site.storage.join(folder);
        symlink(&other, &path).map_err(text)?;
        refused(&path, folder, &arguments)?;
        // Whoever only looks goes there no more than the daemon.
        let checked = Site::command().args(&arguments).arg("--check").output().map_err(text)?;
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        let named = said.contains(&format!("{folder}: it is a symbolic link"));
        expect(checked.status.code() == Some(1) && named, || said)?;
        let listed = Site::command().args(&arguments).arg("--list").output().map_err(text)?;
        let said = String::from_utf8_lossy(&listed.stdout).into_owned();
        expect(!said.contains("a.example.com"), || said)?;
        fs::remove_file(&path).map_err(text)?;
        fs::write(&path, VICTIM).map_err(text)?;
        refused(&path, folder, &arguments)?;
        fs::remove_file(&path).map_err(text)?;
    }
    for file in ["client.key", "state.json", "lock"] {
        let path = site.storage.join(file);
        symlink(other.join("token"), &path).map_err(text)?;
        refused(&path, file, &arguments)?;
        fs::remove_file(&path).map_err(text)?;
        fifo(&path)?;
        refused(&path, file, &arguments)?;
        fs::remove_file(&path).map_err(text)?;
    }
    // The directory that the command line names may be a link.
    let link = site.folder().join("link");
    symlink(&site.storage, &link).map_err(text)?;
    let mut through = arguments;
    through.pop();
    through.push(link.display().to_string());
    site.deploy("/a", "a.example.com");
    let daemon = site.daemon("daemon", &through, &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")
}

fn swapped() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    let (mut active, _standby, port) = two(&site, &arguments)?;
    let other = elsewhere(&site)?;
    let swap = |folder: &str| -> Outcome {
        let (path, kept) = (site.storage.join(folder), site.storage.join(format!("kept-{folder}")));
        fs::rename(&path, kept).map_err(text)?;
        symlink(&other, &path).map_err(text)
    };
    swap("challenges")?;
    unknown(port, "token")?;
    swap("tmp")?;
    site.deploy("/b", "b.example.com");
    active.wait_for("tmp: cannot create a file: Not a directory")?;
    // It is opened again and again, which would empty tmp/.
    active.wait_for(&format!("{STORAGE_FAILED} error=\"challenges: it is a symbolic link"))?;
    untouched(&other)?;
    answers(site.port)?;
    for folder in ["challenges", "tmp"] {
        fs::remove_file(site.storage.join(folder)).map_err(text)?;
    }
    active.wait_for(STORAGE_RECOVERED)?;
    site.wait_for_certificate(&active, "b.example.com")
}

fn is_file(path: &Path) -> Option<()> {
    fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map(drop)
}

fn certificates() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    let other = elsewhere(&site)?;
    for folder in ["certs", "archive"] {
        let folder = site.storage.join(folder);
        fs::create_dir(&folder).map_err(text)?;
        fifo(&folder.join("a.example.com.pem"))?;
        fifo(&folder.join("pipe"))?;
        symlink(other.join("a.example.com.pem"), folder.join("b.example.com.pem")).map_err(text)?;
        symlink("../client.key", folder.join("unwanted.example.com.pem")).map_err(text)?;
        symlink("/dev/zero", folder.join("zero.pem")).map_err(text)?;
    }
    let certs = site.storage.join("certs");
    let looks = |option: &str| {
        let (_, said) = site.run(option.trim_start_matches('-'), &arguments, &[option])?;
        Ok::<_, String>(said)
    };
    let listed = looks("--list")?;
    let rows = ["it is a FIFO", "it is a symbolic link"].iter().all(|row| listed.contains(row));
    expect(rows && !listed.contains(VICTIM.trim()), || listed)?;
    let checked = looks("--check")?;
    let named = "certs/: b.example.com.pem, unwanted.example.com.pem, zero.pem: is not ours: it is a \
                 symbolic link";
    expect(checked.contains(named), || checked)?;
    let revoked = looks("--revoke=b.example.com")?;
    expect(
        revoked.contains("certs/b.example.com.pem: cannot read: it is a symbolic link"),
        || revoked,
    )?;

    site.deploy("/a", "a.example.com");
    site.deploy("/b", "b.example.com");
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    for name in ["a.example.com", "b.example.com"] {
        daemon.wait_for(&format!("{CERTIFICATE_NOT_A_FILE} name={name}"))?;
        let path = site.certificate(name);
        wait_until(name, || is_file(&path)).map_err(|it| format!("{it}\n{}", daemon.output()))?;
        check_file(&path, 0o600)?;
    }
    for file in ["unwanted.example.com.pem", "zero.pem"] {
        daemon.wait_for(&format!("{FOREIGN_FILE} file={file} verdict=unknown"))?;
        let kept = fs::symlink_metadata(certs.join(file)).map_err(text)?.is_symlink();
        expect(kept, || format!("{file} is no link any more"))?;
    }
    daemon.wait_for(&format!("{FOREIGN_FILE} file=pipe verdict=harmless"))?;
    answers(site.port)?;
    let page = get(site.port, "/status.json")?;
    expect(page.contains("unwanted.example.com.pem") && !page.contains("PRIVATE KEY"), || page)?;
    let issued = ca.ca.with(|ca, _| ca.issued().len());
    expect(issued == 2, || format!("{issued} issued"))?;
    untouched(&other)
}

fn token() -> Outcome {
    let (site, _ca, mut arguments) = with_ca(Settings::default())?;
    // As mounted secrets are: a link to a link.
    let (data, file) = (site.folder().join("data"), site.folder().join("token"));
    fs::write(&data, "eyJ.first.sig").map_err(text)?;
    symlink("data", &file).map_err(text)?;
    arguments.push(format!("--marathon-token={}", file.display()));
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_until_attached(site.port)?;
    fs::remove_file(&data).map_err(text)?;
    fifo(&data)?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for(NO_NEW_TOKEN)?;
    answers(site.port)
}

/// A key and a certificate that is valid until the end of a year.
pub(crate) fn pem(year: i32) -> Outcome<(String, String)> {
    let key = KeyPair::generate().map_err(text)?;
    let mut params = CertificateParams::new(vec!["z.example.org".into()]).map_err(text)?;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 12, 31);
    let certificate = params.self_signed(&key).map_err(text)?;
    Ok((key.serialize_pem(), certificate.pem()))
}

fn archive() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    let folder = site.storage.join("archive");
    fs::create_dir(&folder).map_err(text)?;
    let ((key, old), (valid_key, valid)) = (pem(2020)?, pem(2120)?);
    let write = |file: &str, content: String| fs::write(folder.join(file), content).map_err(text);
    for number in 0..300 {
        write(&format!("z{number}.example.org.pem"), format!("{key}{old}"))?;
    }
    write("rejected.example.org.pem", format!("# why\n{key}{old}"))?;
    write("valid.example.org.pem", format!("{valid_key}{valid}"))?;
    write("damaged.example.org.pem", key[..key.len() - 40].to_string())?;
    write("state.json", "{".into())?;
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.join("z0.example.org.pem"), open).map_err(text)?;
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_for(&format!("{KEYS_REMOVED} files=301"))?;
    daemon.wait_for(KEYS_WITHOUT_CERTIFICATE)?;
    let read = |file: &str| fs::read_to_string(folder.join(file)).map_err(text);
    for number in 0..300 {
        let left = read(&format!("z{number}.example.org.pem"))?;
        expect(!left.contains("PRIVATE KEY") && left.ends_with(&old), || left.clone())?;
    }
    let left = read("rejected.example.org.pem")?;
    expect(left.starts_with("# why\n# private key removed") && left.ends_with(&old), || {
        left.clone()
    })?;
    expect(!left.contains("PRIVATE KEY"), || left)?;
    expect(read("valid.example.org.pem")? == format!("{valid_key}{valid}"), || "changed".into())?;
    expect(read("damaged.example.org.pem")? == key[..key.len() - 40], || "changed".into())?;
    let mode = fs::metadata(folder.join("z0.example.org.pem")).map_err(text)?.mode() & 0o777;
    expect(mode == 0o600, || format!("{mode:o}"))?;
    let left = fs::read_dir(site.storage.join("tmp")).map_err(text)?.count();
    expect(left == 0, || format!("{left} files are left in tmp/"))?;

    // A file that is archived while it runs keeps its key, and the next run has nothing to do.
    drop(daemon);
    let mut again = site.daemon("again", &arguments, &[])?;
    again.wait_for(KEYS_WITHOUT_CERTIFICATE)?;
    let said = again.output();
    expect(!said.contains(KEYS_REMOVED), || said)?;
    let mut command = bare("grep");
    command.args(["-rl", "PRIVATE KEY"]).arg(&folder);
    let found = command.output().map_err(text)?.stdout;
    let count = String::from_utf8_lossy(&found).lines().count();
    expect(count == 2, || String::from_utf8_lossy(&found).into_owned())
}
