//! Sees every change in a storage directory at the moment when it is made, and knows which ones a
//! daemon may make there at all. What stood in a folder for an instant only is seen, too.

use std::collections::{BTreeMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use crate::process::{Outcome, expect};
use crate::site::text;

/// What is watched for: names and contents that come, change and go.
const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE);
const BUFFER_BYTES: usize = 64 * 1024;

/// A folder of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    Root,
    Certs,
    Archive,
    Challenges,
    Tmp,
}

impl Folder {
    pub(super) const ALL: [Folder; 5] =
        [Folder::Root, Folder::Certs, Folder::Archive, Folder::Challenges, Folder::Tmp];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Folder::Root => "",
            Folder::Certs => "certs",
            Folder::Archive => "archive",
            Folder::Challenges => "challenges",
            Folder::Tmp => "tmp",
        }
    }

    /// What may happen there once there is an account: whole files come by a rename or a link, and what is
    /// in the archive stays, or is replaced by the same without its key. Nothing is written in place but in
    /// `tmp/`.
    fn permits(self, kind: ReadFlags, name: &str) -> bool {
        let permitted = match self {
            Folder::Root if name == "state.json" => ReadFlags::MOVED_TO,
            // A beat, or a new lock in the place of one that was removed.
            Folder::Root if name == "lock" => ReadFlags::MODIFY | ReadFlags::MOVED_TO,
            Folder::Root => ReadFlags::empty(),
            Folder::Certs if !name.ends_with(".example.com.pem") => ReadFlags::empty(),
            Folder::Certs | Folder::Challenges => ReadFlags::MOVED_TO | ReadFlags::DELETE,
            Folder::Archive => ReadFlags::CREATE | ReadFlags::MOVED_TO,
            Folder::Tmp => {
                let written = ReadFlags::CREATE | ReadFlags::MODIFY;
                written | ReadFlags::MOVED_FROM | ReadFlags::DELETE
            }
        };
        permitted.contains(kind)
    }
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) folder: Folder,
    pub(super) kind: ReadFlags,
    name: String,
}

impl Change {
    /// Whether a name has appeared under which a file is found from now on.
    pub(super) fn is_final(&self) -> bool {
        self.folder != Folder::Tmp && self.kind.intersects(ReadFlags::MOVED_TO | ReadFlags::CREATE)
    }
}

/// The storage under observation.
pub(super) struct Watch {
    inotify: OwnedFd,
    folders: BTreeMap<i32, Folder>,
    seen: VecDeque<Change>,
}

impl Watch {
    /// Begins; every folder must be there.
    pub(super) fn start(storage: &Path) -> Outcome<Watch> {
        let inotify = init(CreateFlags::NONBLOCK).map_err(text)?;
        let mut folders = BTreeMap::new();
        for folder in Folder::ALL {
            let path = storage.join(folder.path());
            folders.insert(add_watch(&inotify, path, WATCHED).map_err(text)?, folder);
        }
        Ok(Watch { inotify, folders, seen: VecDeque::new() })
    }

    /// The next change, or nothing when there is none until then.
    ///
    /// # Errors
    /// It is one that a daemon may not make.
    pub(super) fn next(&mut self, until: Instant) -> Outcome<Option<Change>> {
        while self.seen.is_empty() {
            let rest = until.saturating_duration_since(Instant::now());
            let rest = Timespec::try_from(rest).map_err(text)?;
            let mut polled = [PollFd::new(&self.inotify, PollFlags::IN)];
            match poll(&mut polled, Some(&rest)) {
                Ok(0) => return Ok(None),
                Err(error) if error != Errno::INTR => return Err(text(error)),
                _ => self.read()?,
            }
        }
        let Some(change) = self.seen.pop_front() else { return Ok(None) };
        let permitted = change.folder.permits(change.kind, &change.name);
        expect(permitted, || format!("no daemon may do this: {change:?}"))?;
        Ok(Some(change))
    }

    fn read(&mut self) -> Outcome {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(error) => return Err(text(error)),
            };
            let folder = *self.folders.get(&event.wd()).ok_or("changes were missed")?;
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
            let (kind, name) = (event.events(), name.unwrap_or_default());
            self.seen.push_back(Change { folder, kind, name });
        }
    }
}
