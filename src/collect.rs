//! Collections out of iterators, with little code: the standard library's own way sorts first, and
//! each kind of entry that is sorted brings a sort of its own into the program, some 5 KB. Must never
//! be used where a sort is what takes the time.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// What an iterator of entries can become, one entry after the other.
pub trait Collect: Iterator + Sized {
    /// A map of the pairs; of two with one key the later counts, as with `collect`.
    fn into_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        let mut map = BTreeMap::new();
        map.extend(self);
        map
    }

    /// A set of the items; of two that are equal the earlier stays, as with `collect`.
    fn into_set(self) -> BTreeSet<Self::Item>
    where
        Self::Item: Ord,
    {
        let mut set = BTreeSet::new();
        set.extend(self);
        set
    }
}

impl<I: Iterator> Collect for I {}

/// The items in order; those that are equal stay as they stood. There is one sort for all kinds of
/// items: that of their places.
pub fn sorted_by<T>(items: Vec<T>, compare: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let places = places(items.len(), &|left, right| compare(&items[left], &items[right]));
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    places.into_iter().filter_map(|place| items[place].take()).collect()
}

/// [`sorted_by`] the items' own order.
pub fn sorted<T: Ord>(items: Vec<T>) -> Vec<T> {
    sorted_by(items, T::cmp)
}

fn places(many: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..many).collect();
    places.sort_by(|left, right| compare(*left, *right));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_and_a_set_are_what_collect_makes() {
        let pairs = [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd')];
        assert_eq!(pairs.into_iter().into_map(), pairs.into_iter().collect());
        assert_eq!(pairs.into_iter().into_set(), pairs.into_iter().collect());
    }

    #[test]
    fn sorting_keeps_equal_items_as_they_stood() {
        let words = ["pear", "fig", "plum", "date", "nut"].map(String::from);
        let by_length = sorted_by(words.to_vec(), |left, right| left.len().cmp(&right.len()));
        assert_eq!(by_length, ["fig", "nut", "pear", "plum", "date"]);
        assert_eq!(sorted(words.to_vec()), ["date", "fig", "nut", "pear", "plum"]);
        assert!(sorted(Vec::<u8>::new()).is_empty());
    }
}
