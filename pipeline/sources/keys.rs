//! The memory of keys: a key met again is recognised by one comparison.
//!
//! Records of a source repeat their keys in the same order. Each key remembers which one followed it last time; the
//! guess is right nearly always, and the key is then neither scanned nor hashed.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::limits::Limits;
use super::plan::Plan;

/// Keys remembered before the memory starts anew, so that keys that are really data (ids as keys) cannot fill it.
const REMEMBERED: usize = 4_096;
/// Bytes of a key that are compared at once.
const HEAD_BYTES: usize = 16;
/// No key, no node, no member.
pub(super) const NONE: u32 = u32::MAX;

/// A key seen in the objects of a node.
pub(super) struct Key {
    pub text: Box<str>,
    /// Index among the members of the plan's node, if the plan names it.
    pub member: u32,
    /// The node of its value, if that is an object.
    pub child: u32,
    /// The member of the record that is read and equals this key but for case.
    pub folds_to: u32,
    /// The member of the record that must not be copied, or not whole, and equals this key but for case.
    pub withheld: u32,
    /// The object in which it was last seen, and its value there.
    pub object: u64,
    pub value: (u32, u32),
    node: u32,
    /// It is written without escapes, so that comparing bytes recognises it.
    is_plain: bool,
    /// Its first bytes, up to and with the quote behind it, and which bits of them count.
    head: [u64; 2],
    mask: [u64; 2],
    /// The key that followed this one last time.
    next: u32,
}

/// Keys by number.
pub(super) struct Keys<'p> {
    plan: &'p Plan,
    keys: Vec<Key>,
    /// The first key of each node's last object.
    first: Vec<u32>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<'p> Keys<'p> {
    pub fn new(plan: &'p Plan, limits: &Limits) -> Self {
        Self {
            plan,
            keys: Vec::new(),
            // arrays and objects at the deepest level still look for the node below them
            first: vec![NONE; plan.nodes.len() + limits.depth + 3],
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Objects that the plan does not know share one node per depth: at one depth, an object ends before the next
    /// begins, so that a key's last object tells whether the key is a duplicate.
    pub fn node_at(&self, depth: usize) -> u32 {
        (self.plan.nodes.len() + depth) as u32
    }

    /// The key that likely follows `previous` in an object of `node`.
    #[inline]
    pub fn guess(&self, node: u32, previous: u32) -> u32 {
        match previous {
            NONE => self.first[node as usize],
            previous => self.keys[previous as usize].next,
        }
    }

    /// If the key with this number stands at `at`, behind its opening quote: where it ends, its quote included.
    #[inline(always)]
    pub fn recognise(&self, key: u32, bytes: &[u8], at: usize) -> Option<usize> {
        let key = self.keys.get(key as usize).filter(|key| key.is_plain)?;
        let end = at + key.text.len();
        if let Some(head) = bytes[at..].first_chunk() {
            let [low, high] = words(*head);
            if (low ^ key.head[0]) & key.mask[0] | (high ^ key.head[1]) & key.mask[1] != 0 {
                return None;
            }
            if key.text.len() < HEAD_BYTES {
                return Some(end + 1);
            }
        }
        let is_same = bytes.get(end) == Some(&b'"') && &bytes[at..end] == key.text.as_bytes();
        is_same.then_some(end + 1)
    }

    /// The number of a key that follows `previous` in an object of `node`; a new one if it was never seen there.
    pub fn learn(&mut self, node: u32, previous: u32, text: &str, is_plain: bool) -> u32 {
        let key = self.find_or_insert(node, text, is_plain);
        match previous {
            NONE => self.first[node as usize] = key,
            previous => self.keys[previous as usize].next = key,
        }
        key
    }

    /// The key with this number.
    #[inline]
    pub fn get(&self, key: u32) -> &Key {
        &self.keys[key as usize]
    }

    /// The key with this number.
    #[inline]
    pub fn get_mut(&mut self, key: u32) -> &mut Key {
        &mut self.keys[key as usize]
    }

    /// Forgets all keys if they are too many; not within a record, for numbers lose their meaning.
    #[inline]
    pub fn forget_if_full(&mut self) {
        if self.keys.len() > REMEMBERED {
            self.keys.clear();
            self.table.clear();
            self.first.fill(NONE);
        }
    }

    fn find_or_insert(&mut self, node: u32, text: &str, is_plain: bool) -> u32 {
        let hash = self.hasher.hash_one((node, text));
        let keys = &self.keys;
        let is_same = |key: &u32| keys[*key as usize].node == node && *keys[*key as usize].text == *text;
        if let Some(&found) = self.table.find(hash, is_same) {
            self.keys[found as usize].is_plain |= is_plain;
            return found;
        }
        let key = self.key(node, text, is_plain);
        let index = self.keys.len() as u32;
        self.keys.push(key);
        let (hasher, keys) = (&self.hasher, &self.keys);
        self.table.insert_unique(hash, index, |key| {
            let key = &keys[*key as usize];
            hasher.hash_one((key.node, &*key.text))
        });
        index
    }

    fn key(&self, node: u32, text: &str, is_plain: bool) -> Key {
        let members = self.plan.nodes.get(node as usize).map_or(&[][..], |node| &node.members);
        let member = members.iter().position(|member| member.name == text);
        let folds_to = match (node, member) {
            (0, None) => {
                let folded = text.to_lowercase();
                members.iter().position(|member| member.slot.is_some() && member.name.to_lowercase() == folded)
            }
            _ => None,
        };
        let withheld = match (node, member) {
            (0, None) => {
                let found = self.plan.find_withheld(0, text);
                found.and_then(|found| members.iter().position(|member| member.name == found.name))
            }
            _ => None,
        };
        let planned = member.and_then(|member| members[member].node);
        let as_index = |found: Option<usize>| found.map_or(NONE, |index| index as u32);
        let mut head = [0; HEAD_BYTES];
        let mut mask = [0; HEAD_BYTES];
        for (at, byte) in text.bytes().chain([b'"']).take(HEAD_BYTES).enumerate() {
            head[at] = byte;
            mask[at] = 0xff;
        }
        Key {
            text: text.into(),
            member: as_index(member),
            child: planned.map_or_else(|| self.unplanned_child(node), |node| node as u32),
            folds_to: as_index(folds_to),
            withheld: as_index(withheld),
            object: 0,
            value: (0, 0),
            node,
            is_plain,
            head: words(head),
            mask: words(mask),
            next: NONE,
        }
    }

    /// The node of objects below a key that the plan does not name.
    fn unplanned_child(&self, parent: u32) -> u32 {
        let depth = match (parent as usize).checked_sub(self.plan.nodes.len()) {
            Some(depth) => depth,
            None => self.plan.nodes[parent as usize].depth,
        };
        self.node_at(depth + 1)
    }
}

fn words(bytes: [u8; HEAD_BYTES]) -> [u64; 2] {
    let both = u128::from_le_bytes(bytes);
    [both as u64, (both >> 64) as u64]
}
