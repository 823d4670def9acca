//! What the process uses of its machine, as the system tells it. Never fails: what is not told is
//! missing, as on a machine without `/proc`.

use std::fs;
use std::time::Duration;

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

use crate::machine::Usage;

/// Measures.
pub(super) fn measure() -> Usage {
    Usage {
        resident_bytes: resident_bytes(),
        processor_time: Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok(),
        descriptors: descriptors(),
    }
}

/// The second number of `/proc/self/statm`, which counts pages (proc_pid_statm(5)).
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(page_size()).ok()?)
}

/// The directory shows the descriptor that it is read by, too.
fn descriptors() -> Option<u64> {
    let shown = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(shown).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_something() {
        let before = measure();
        let file = fs::File::open("/proc/self/statm").unwrap();
        let after = measure();
        assert!(before.resident_bytes > Some(1_000_000), "{before:?}");
        assert!(before.processor_time > Some(Duration::ZERO));
        assert!(after.processor_time > before.processor_time);
        // Other tests open files as well.
        assert!(after.descriptors > Some(0));
        drop(file);
    }
}
