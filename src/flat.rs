//! Sorted maps and sets of few entries, each in one `Vec`. They exist for the size of the program:
//! with `BTreeMap` and `BTreeSet` instead, the static binary is 212,992 bytes larger, which exceeds
//! its budget (`make size`). Must never hold what grows with the number of apps or domains: an
//! insertion or removal moves all entries behind it.

use std::borrow::Borrow;
use std::fmt::{self, Debug, Formatter};
use std::{iter, slice, vec};

use serde::{Serialize, Serializer};

/// A map of few entries, in the order of their keys.
#[derive(Clone, PartialEq, Eq)]
pub struct FlatMap<K, V>(Vec<(K, V)>);

/// A set of few items, in their order.
#[derive(Clone, PartialEq, Eq)]
pub struct FlatSet<T>(FlatMap<T, ()>);

/// The entries of a [`FlatMap`].
pub type Iter<'a, K, V> = iter::Map<slice::Iter<'a, (K, V)>, fn(&'a (K, V)) -> (&'a K, &'a V)>;

/// The items of a [`FlatSet`].
pub type Items<'a, T> = iter::Map<slice::Iter<'a, (T, ())>, fn(&'a (T, ())) -> &'a T>;

impl<K: Ord, V> FlatMap<K, V> {
    /// An empty map.
    pub const fn new() -> FlatMap<K, V> {
        FlatMap(Vec::new())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place of a key, or else the one where it belongs.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key).ok()?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    /// Whether a key is there.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Puts an entry in; the value that its key had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(place) => Some(std::mem::replace(&mut self.0[place].1, value)),
            Err(place) => {
                self.0.insert(place, (key, value));
                None
            }
        }
    }

    /// The value of a key, which is made where there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = self.find(&key).unwrap_or_else(|place| {
            self.0.insert(place, (key, make()));
            place
        });
        &mut self.0[place].1
    }

    /// Takes an entry out; its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key).ok()?;
        Some(self.0.remove(place).1)
    }

    /// Takes the entry with the least key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        if self.is_empty() { None } else { Some(self.0.remove(0)) }
    }

    /// Keeps what is to stay.
    pub fn retain(&mut self, mut stays: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| stays(key, value));
    }

    /// Takes what goes out, as far as the iterator is driven.
    pub fn extract_if(
        &mut self,
        mut goes: impl FnMut(&K, &mut V) -> bool,
    ) -> impl Iterator<Item = (K, V)> {
        self.0.extract_if(.., move |(key, value)| goes(key, value))
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The entries.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The entries, whose values may be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// The keys.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<T: Ord> FlatSet<T> {
    /// An empty set.
    pub const fn new() -> FlatSet<T> {
        FlatSet(FlatMap::new())
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an item is there.
    pub fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.contains_key(item)
    }

    /// Puts an item in; whether it was missing.
    pub fn insert(&mut self, item: T) -> bool {
        self.0.insert(item, ()).is_none()
    }

    /// Takes an item out; whether it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.remove(item).is_some()
    }

    /// The least item.
    pub fn first(&self) -> Option<&T> {
        self.0.0.first().map(|(item, ())| item)
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The items.
    pub fn iter(&self) -> Items<'_, T> {
        self.0.0.iter().map(|(item, ())| item)
    }
}

impl<K: Ord, V> Default for FlatMap<K, V> {
    fn default() -> FlatMap<K, V> {
        FlatMap::new()
    }
}

impl<T: Ord> Default for FlatSet<T> {
    fn default() -> FlatSet<T> {
        FlatSet::new()
    }
}

impl<K: Ord, V> Extend<(K, V)> for FlatMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<T: Ord> Extend<T> for FlatSet<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        self.0.extend(items.into_iter().map(|item| (item, ())));
    }
}

/// Of two entries with one key the later counts.
impl<K: Ord, V> FromIterator<(K, V)> for FlatMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> FlatMap<K, V> {
        let mut map = FlatMap::new();
        map.extend(entries);
        map
    }
}

impl<T: Ord> FromIterator<T> for FlatSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> FlatSet<T> {
        let mut set = FlatSet::new();
        set.extend(items);
        set
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for FlatMap<K, V> {
    fn from(entries: [(K, V); N]) -> FlatMap<K, V> {
        entries.into_iter().collect()
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for FlatSet<T> {
    fn from(items: [T; N]) -> FlatSet<T> {
        items.into_iter().collect()
    }
}

impl<K, V> IntoIterator for FlatMap<K, V> {
    type Item = (K, V);
    type IntoIter = vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T> IntoIterator for FlatSet<T> {
    type Item = T;
    type IntoIter = iter::Map<vec::IntoIter<(T, ())>, fn((T, ())) -> T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.0.into_iter().map(|(item, ())| item)
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a FlatMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T: Ord> IntoIterator for &'a FlatSet<T> {
    type Item = &'a T;
    type IntoIter = Items<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord + Debug, V: Debug> Debug for FlatMap<K, V> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self).finish()
    }
}

impl<T: Ord + Debug> Debug for FlatSet<T> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self).finish()
    }
}

impl<K: Ord + Serialize, V: Serialize> Serialize for FlatMap<K, V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self)
    }
}

impl<T: Ord + Serialize> Serialize for FlatSet<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Numbers that look like chance, the same in each run.
    fn numbers(many: usize) -> impl Iterator<Item = u32> {
        iter::successors(Some(1_u32), |last| {
            Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
        })
        .map(|number| number >> 27)
        .take(many)
    }

    #[test]
    fn a_map_does_what_the_standard_librarys_does() {
        let (mut flat, mut tree) = (FlatMap::new(), BTreeMap::new());
        for (cx, key) in numbers(500).enumerate() {
            match cx % 5 {
                0 | 1 => assert_eq!(flat.insert(key, cx), tree.insert(key, cx)),
                2 => assert_eq!(flat.remove(&key), tree.remove(&key)),
                3 => {
                    let made = flat.get_or_insert_with(key, || cx);
                    assert_eq!(made, tree.entry(key).or_insert(cx));
                    *made += 1;
                    tree.entry(key).and_modify(|value| *value += 1);
                }
                _ => {
                    assert_eq!(flat.get(&key), tree.get(&key));
                    assert_eq!(flat.get_mut(&key), tree.get_mut(&key));
                    assert_eq!(flat.contains_key(&key), tree.contains_key(&key));
                }
            }
            assert_eq!((flat.len(), flat.is_empty()), (tree.len(), tree.is_empty()));
            assert!(flat.iter().eq(&tree) && flat.keys().eq(tree.keys()));
            assert!(flat.values().eq(tree.values()));
        }
        assert_eq!(format!("{flat:?}"), format!("{tree:?}"));
        assert_eq!(serde_json::to_string(&flat).unwrap(), serde_json::to_string(&tree).unwrap());
        flat.values_mut().for_each(|value| *value += 7);
        tree.values_mut().for_each(|value| *value += 7);
        flat.retain(|key, value| (*key as usize + *value).is_multiple_of(2));
        tree.retain(|key, value| (*key as usize + *value).is_multiple_of(2));
        let fifth = |key: &u32, _: &mut usize| key.is_multiple_of(5);
        assert!(flat.extract_if(fifth).eq(tree.extract_if(.., fifth)));
        flat.iter_mut().for_each(|(key, value)| *value += *key as usize);
        tree.iter_mut().for_each(|(key, value)| *value += *key as usize);
        assert!(flat.len() > 3);
        assert_eq!(flat.pop_first(), tree.pop_first());
        assert!(flat.into_iter().eq(tree));
    }

    #[test]
    fn a_set_does_what_the_standard_librarys_does() {
        let (mut flat, mut tree) = (FlatSet::new(), BTreeSet::new());
        for (cx, item) in numbers(300).enumerate() {
            match cx % 3 {
                0 => assert_eq!(flat.insert(item), tree.insert(item)),
                1 => assert_eq!(flat.remove(&item), tree.remove(&item)),
                _ => assert_eq!(flat.contains(&item), tree.contains(&item)),
            }
            assert_eq!((flat.len(), flat.is_empty()), (tree.len(), tree.is_empty()));
            assert!(flat.iter().eq(&tree) && flat.first() == tree.first());
        }
        assert_eq!(format!("{flat:?}"), format!("{tree:?}"));
        assert_eq!(serde_json::to_string(&flat).unwrap(), serde_json::to_string(&tree).unwrap());
        assert!(flat.len() > 3);
        assert!(flat.clone().into_iter().eq(tree));
        flat.clear();
        assert_eq!(flat, FlatSet::default());
    }

    #[test]
    fn of_two_entries_with_one_key_the_later_counts() {
        let map = FlatMap::from([("b", 1), ("a", 2), ("b", 3)]);
        assert!(map.iter().eq([(&"a", &2), (&"b", &3)]));
        assert_eq!(FlatSet::from(["b", "a", "b"]).into_iter().collect::<String>(), "ab");
        assert_eq!(FlatMap::<u8, u8>::new().pop_first(), None);
    }
}
