//! Subscribers by pattern: found by walking the key, never by scanning them.

use std::collections::HashMap;

use greenroom_model::topic::Element;
use greenroom_model::{Key, Pattern};

/// A tree over patterns. Finding who wants a key costs what the key's length and the matching patterns cost, however many
/// other subscribers there are.
#[derive(Debug)]
pub struct TopicIndex<T> {
    root: Node<T>,
    len: usize,
}

#[derive(Debug)]
struct Node<T> {
    exact: HashMap<Element, Node<T>>,
    any: Option<Box<Node<T>>>,
    here: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), any: None, here: Vec::new() }
    }
}

impl<T> Default for TopicIndex<T> {
    fn default() -> Self {
        Self { root: Node::default(), len: 0 }
    }
}

impl<T: PartialEq> TopicIndex<T> {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry. The same entry under the same pattern counts once.
    pub fn insert(&mut self, pattern: &Pattern, entry: T) {
        let mut node = &mut self.root;
        for element in &pattern.0 {
            node = match element {
                Some(element) => node.exact.entry(element.clone()).or_default(),
                None => node.any.get_or_insert_default(),
            };
        }
        if !node.here.contains(&entry) {
            node.here.push(entry);
            self.len += 1;
        }
    }

    /// Removes an entry; empty branches go with it.
    pub fn remove(&mut self, pattern: &Pattern, entry: &T) {
        if self.root.remove(&pattern.0, entry) {
            self.len -= 1;
        }
    }

    /// Calls `found` for each entry that wants `key`, once per pattern that selects it.
    pub fn matching<'a>(&'a self, key: &Key, mut found: impl FnMut(&'a T)) {
        self.root.matching(&key.0, &mut found);
    }
}

impl<T: PartialEq> Node<T> {
    fn remove(&mut self, pattern: &[Option<Element>], entry: &T) -> bool {
        let Some((first, rest)) = pattern.split_first() else {
            let found = self.here.iter().position(|e| e == entry);
            return found.map(|at| self.here.swap_remove(at)).is_some();
        };
        match first {
            Some(element) => {
                let Some(child) = self.exact.get_mut(element) else { return false };
                let removed = child.remove(rest, entry);
                if child.is_empty() {
                    self.exact.remove(element);
                }
                removed
            }
            None => {
                let Some(child) = &mut self.any else { return false };
                let removed = child.remove(rest, entry);
                if child.is_empty() {
                    self.any = None;
                }
                removed
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.any.is_none() && self.exact.is_empty()
    }

    fn matching<'a>(&'a self, key: &[Element], found: &mut impl FnMut(&'a T)) {
        match key.split_first() {
            None => self.here.iter().for_each(found),
            Some((first, rest)) => {
                if let Some(child) = self.exact.get(first) {
                    child.matching(rest, found);
                }
                if let Some(child) = &self.any {
                    child.matching(rest, found);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: &[&str] = &[
        "builds/*/*",
        "builds/4/*",
        "*/*/*",
        "builds/*/finished",
        "builds/4/finished",
        "steps/*/*",
        "",
        "builds/*",
    ];

    #[test]
    fn it_finds_what_a_scan_would_find() {
        let mut index = TopicIndex::new();
        for (i, pattern) in PATTERNS.iter().enumerate() {
            index.insert(&Pattern::parse(pattern), i);
        }
        assert_eq!(index.len(), PATTERNS.len());
        for key in ["builds/4/finished", "builds/5/new", "steps/4/new", "builds/4", "logs", "", "a/b/c/d"] {
            let key = Key::parse(key);
            let mut found = Vec::new();
            index.matching(&key, |i| found.push(*i));
            found.sort_unstable();
            let wanted: Vec<usize> =
                (0..PATTERNS.len()).filter(|i| Pattern::parse(PATTERNS[*i]).matches(&key)).collect();
            assert_eq!(found, wanted, "{key}");
        }
    }

    #[test]
    fn removing_leaves_nothing_behind() {
        let mut index = TopicIndex::new();
        for (i, pattern) in PATTERNS.iter().enumerate() {
            index.insert(&Pattern::parse(pattern), i);
        }
        for (i, pattern) in PATTERNS.iter().enumerate() {
            index.remove(&Pattern::parse(pattern), &(i + 1)); // not there
            index.remove(&Pattern::parse(pattern), &i);
            index.remove(&Pattern::parse(pattern), &i);
        }
        assert!(index.is_empty());
        assert!(index.root.is_empty());
    }
}
