//! Tracks how much of a bounded store each owner uses, so that one owner can't evict another's entries.
//!
//! A full store evicts the least recently used entry of the owner that uses the most. An owner that uses no more than
//! an equal share loses nothing to others.

use std::collections::HashMap;
use std::hash::Hash;

/// The shares of all owners of a store.
#[derive(Debug)]
pub(super) struct Shares<O> {
    owners: HashMap<O, Share>,
    pub(super) total: Share,
}

/// A number of entries and their total size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    count: usize,
    pub(super) bytes: usize,
}

impl<O> Default for Shares<O> {
    fn default() -> Self {
        Self { owners: HashMap::new(), total: Share::default() }
    }
}

impl<O: Clone + Eq + Hash> Shares<O> {
    /// Adds an entry.
    pub(super) fn add(&mut self, owner: &O, bytes: usize) {
        for share in [self.owners.entry(owner.clone()).or_default(), &mut self.total] {
            share.count += 1;
            share.bytes += bytes;
        }
    }

    /// Removes an entry that was added.
    pub(super) fn remove(&mut self, owner: &O, bytes: usize) {
        let Some(share) = self.owners.get_mut(owner) else { return };
        for share in [&mut *share, &mut self.total] {
            share.count -= 1;
            share.bytes -= bytes;
        }
        if share.count == 0 {
            self.owners.remove(owner);
        }
    }

    /// Returns a predicate for the owners with the largest share of what exceeds its limit, or `None` if nothing does.
    pub(super) fn largest(&self, max_count: usize, max_bytes: usize) -> Option<impl Fn(&O) -> bool> {
        let measure: fn(&Share) -> usize = if self.total.count > max_count {
            |share| share.count
        } else if self.total.bytes > max_bytes {
            |share| share.bytes
        } else {
            return None;
        };
        let most = self.owners.values().map(measure).max().unwrap_or_default();
        Some(move |owner: &O| self.owners.get(owner).is_some_and(|share| measure(share) == most))
    }
}
