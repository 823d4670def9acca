//! `state.json`: whatever the file holds, what is read of it is written so that it reads the same, and
//! what is written stays as it is.

use marathon_acme::daemon::state::SavedState;

/// The file.
pub fn run(bytes: &[u8]) {
    let Ok(memory) = SavedState::parse(bytes) else { return };
    let written = memory.to_bytes();
    let again = SavedState::parse(&written).expect("what is written can be read");
    assert_eq!((again.reload_owed, &again.reloaded), (memory.reload_owed, &memory.reloaded));
    assert_eq!(again.cas, memory.cas);
    for (name, certificate) in &memory.certificates {
        // One of which nothing is remembered is left out.
        let kept = again.certificates.get(name).cloned().unwrap_or_default();
        assert_eq!(kept, *certificate, "{name}");
        let next = certificate.next_try();
        assert!(next.is_none() || certificate.error().is_some());
    }
    assert!(again.certificates.len() <= memory.certificates.len());
    assert_eq!(again.to_bytes(), written);
}
