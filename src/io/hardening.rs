//! Keeps the process's memory from others: keys and passwords are in it for as long as it lives, and
//! not all of them can be wiped (`secret.rs`). Gives up what the program never needs: new privileges by
//! starting another program. Never ends the program: it works without, too.

use std::io;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

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

/// From now on no program that this process starts has more privileges than it (`PR_SET_NO_NEW_PRIVS`,
/// prctl(2)), nor any capability (capabilities(7), bounding set). The program starts none: this binds
/// an attacker who makes it run code. To be called before a switch of the user, which takes
/// away the capability that the second part needs; without that one the bounding set stays as it is.
///
/// # Errors
/// The system forbids the first part.
pub fn give_up_new_privileges() -> io::Result<()> {
    set_no_new_privs(true)?;
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Beyond the last one that the kernel knows, or without CAP_SETPCAP.
            Err(Errno::INVAL | Errno::PERM) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Gives up every capability. A switch of the user leaves those that programs would inherit.
///
/// # Errors
/// The system forbids it.
pub fn give_up_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(set_capabilities(None, none)?)
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};
    use rustix::thread::no_new_privs;

    use super::*;

    #[test]
    fn no_core_is_written() {
        keep_memory_private().unwrap();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }

    /// In a thread of its own, since all of it is of one thread.
    #[test]
    fn privileges_are_given_up_with_and_without_the_leave_to() {
        let given_up = || {
            give_up_new_privileges().unwrap();
            give_up_capabilities().unwrap();
            // Without CAP_SETPCAP now, it is no error.
            give_up_new_privileges().unwrap();
            no_new_privs().unwrap()
        };
        assert!(std::thread::spawn(given_up).join().unwrap());
    }
}
