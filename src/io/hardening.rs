//! Keeps the process's memory from others: keys and passwords are in it for as long as it lives, and
//! not all of them can be wiped (`secret.rs`). Never ends the program: it works without, too.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on the kernel writes no core of this process, lets no other process of the same user trace
/// it or read its memory, and gives what is in `/proc/PID` to root (`PR_SET_DUMPABLE`, prctl(2)). Since
/// a switch of the user may undo that, it is called again behind one.
///
/// # Errors
/// The system forbids it.
pub fn keep_memory_private() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // The same once more, where cores go to a program (core(5)) that heeds the limit only.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn no_core_is_written() {
        keep_memory_private().unwrap();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }
}
