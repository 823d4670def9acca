//! The questions of one part that have no answer yet, each by the request that it is. Some dozens at most:
//! looking through them beats a map.

use crate::client::RequestId;

/// Questions under way.
#[derive(Debug)]
pub(super) struct Open<Q>(Vec<(RequestId, Q)>);

impl<Q> Default for Open<Q> {
    fn default() -> Open<Q> {
        Open(Vec::new())
    }
}

impl<Q> Open<Q> {
    pub(super) fn insert(&mut self, request: RequestId, question: Q) {
        self.0.push((request, question));
    }

    /// What a request was for; it is over then, unless it is put in again.
    pub(super) fn take(&mut self, request: RequestId) -> Option<Q> {
        self.position(request).map(|index| self.0.swap_remove(index).1)
    }

    /// What every request was for: all are over.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Q> + use<Q> {
        std::mem::take(&mut self.0).into_iter().map(|(_, question)| question)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn position(&self, request: RequestId) -> Option<usize> {
        self.0.iter().position(|(it, _)| *it == request)
    }
}
