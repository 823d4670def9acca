//! The texts that the program prints for those who run it, as the programs read them that they are for;
//! and the program as systemd starts it.

use std::fs;
use std::path::Path;
use std::process::Command;

use marathon_acme::marathon::{App, Selection, claims};

use crate::privileges::{check_exposure, printed_unit};
use crate::process::{Outcome, expect};
use crate::site::{PROGRAM, bare, text};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("printed_units_are_verified_and_tight", &[Tool::SystemdAnalyze], units),
    ("a_printed_app_is_read_by_our_own_reader", &[], app),
    ("a_printed_manual_page_has_no_faults", &[Tool::Groff], manual),
];

/// `systemd-analyze security` counts from 0, nothing to be had, to 10.
const EXPOSURE_MAX: f64 = 2.0;

fn units() -> Outcome {
    let folder = tempfile::tempdir().map_err(text)?;
    let lines: [&[&str]; 5] = [
        &[],
        &["--listen=:80", "--email=a@b.org", "--group=*", "--preferred-chain=A \"$B\" %c \\d"],
        &["--marathon=http://user:secret@marathon:8080,http://other:8080", "/srv/storage of ours"],
        &["--eab-kid=k", "--eab-hmac-key=/etc/100%/key", "--acme-ca=/home/a/ca.pem"],
        &["--cert-mode=0644", "--san", "/var/lib/acme/certificates"],
    ];
    for arguments in lines {
        let unit = printed_unit(folder.path(), arguments)?;
        let mut command = Command::new("systemd-analyze");
        let verified = command.arg("verify").arg(&unit).output().map_err(text)?;
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        let about_it = said.lines().any(|line| line.contains("marathon-acme"));
        expect(verified.status.success() && !about_it, || format!("{arguments:?}: {said}"))?;
        check_exposure(&unit, EXPOSURE_MAX)?;
        let printed = fs::read_to_string(&unit).map_err(text)?;
        expect(!printed.contains("secret"), || printed.clone())?;
    }
    Ok(())
}

fn app() -> Outcome {
    let mut command = bare(PROGRAM);
    command.args(["--print-app-definition", "--group=internal", "/mnt/shared"]);
    let output = command.env("MARATHON_ACME_EMAIL", "a@b.org").output().map_err(text)?;
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    expect(output.status.success() && notes.lines().count() == 2, || notes.clone())?;
    expect(notes.lines().all(|note| note.starts_with("marathon-acme: ")), || notes.clone())?;
    let app = App::parse(&output.stdout).map_err(text)?;
    expect((app.id.as_str(), app.ports) == ("/marathon-acme", 1), || format!("{app:?}"))?;
    let group = app.labels.get("HAPROXY_GROUP").map(String::as_str);
    expect(group == Some("internal"), || format!("{app:?}"))?;
    // It asks for no certificate; with a label that does, it gets one.
    let mut asking = app.clone();
    asking.labels.insert("MARATHON_ACME_0_DOMAIN".into(), "a.example.com".into());
    for (app, count) in [(app, 0), (asking, 1)] {
        let claims = claims(&app, "internal", Selection::First);
        let fits = claims.certificates.len() == count && claims.notices.is_empty();
        expect(fits && claims.rejected.is_empty(), || format!("{claims:?}"))?;
    }
    Ok(())
}

/// What a program says of a page that is not as it should be.
fn faults(program: &str, arguments: &[&str], page: &Path) -> Outcome<String> {
    let output = Command::new(program).args(arguments).arg(page).output().map_err(text)?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn manual() -> Outcome {
    let folder = tempfile::tempdir().map_err(text)?;
    let page = folder.path().join("marathon-acme.8");
    let printed = bare(PROGRAM).arg("--print-man").output().map_err(text)?;
    expect(printed.status.success() && printed.stderr.is_empty(), || format!("{printed:?}"))?;
    fs::write(&page, printed.stdout).map_err(text)?;
    let said = faults("groff", &["-man", "-ww", "-z"], &page)?;
    expect(said.is_empty(), || said)?;
    let shown = faults("groff", &["-man", "-Tascii", "-P-cbou"], &page)?;
    for words in ["--print-systemd-unit", "-m, --marathon URL[,URL...]", "EXIT STATUS"] {
        expect(shown.contains(words), || shown.clone())?;
    }
    match faults("mandoc", &["-Tlint", "-Werror"], &page) {
        Ok(said) => expect(said.is_empty(), || said),
        // The second reader is not on every machine.
        Err(_) => Ok(()),
    }
}
