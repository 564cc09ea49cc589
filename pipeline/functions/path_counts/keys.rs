//! The keys of a path: what a model counts of it.

use super::super::symbols::{END, START};
use super::tally::{Counts, Overflow, Tally};

/// What a model counts of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::functions) enum Keys {
    /// Each touch with the `order` touches before it, and the end of the path likewise. Before the first touch lies
    /// the start, as often as needed, so every window has `order + 1` places.
    Windows { order: usize },
    /// The set of its channels, in the order of their numbers.
    Sets,
}

impl Keys {
    /// Counts a path. `scratch` saves an allocation per path.
    pub(in crate::functions) fn count(
        self,
        tally: &mut Tally,
        group: u32,
        path: &[u32],
        counts: Counts,
        scratch: &mut Vec<u32>,
    ) -> Result<(), Overflow> {
        scratch.clear();
        match self {
            Keys::Sets => {
                scratch.extend_from_slice(path);
                scratch.sort_unstable();
                scratch.dedup();
                tally.add(group, scratch, counts)
            }
            Keys::Windows { order } => {
                scratch.resize(order, START);
                scratch.extend_from_slice(path);
                let passing = Counts { value: 0, ..counts };
                for window in scratch.windows(order + 1) {
                    tally.add(group, window, passing)?;
                }
                // The value is counted once, where the path ends.
                scratch.push(END);
                tally.add(group, &scratch[path.len()..], counts)
            }
        }
    }

    /// Brings a key into its one form after its channels have got other numbers.
    pub(in crate::functions) fn normalise(self, key: &mut [u32]) {
        if self == Keys::Sets {
            key.sort_unstable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_of(keys: Keys, path: &[u32]) -> Vec<(Vec<u32>, Counts)> {
        let mut tally = Tally::default();
        let counts = Counts { conversions: 2, nulls: 3, value: 7 };
        keys.count(&mut tally, 0, path, counts, &mut Vec::new()).unwrap();
        (0..tally.len()).map(|entry| (tally.key(entry).to_vec(), tally.counts(entry))).collect()
    }

    #[test]
    fn windows_lead_from_the_start_to_the_end() {
        let counts = Counts { conversions: 2, nulls: 3, value: 7 };
        let passing = Counts { value: 0, ..counts };
        let found = keys_of(Keys::Windows { order: 2 }, &[5, 6, 5]);
        let expected =
            [([START, START, 5], passing), ([START, 5, 6], passing), ([5, 6, 5], passing), ([6, 5, END], counts)];
        assert_eq!(found, expected.map(|(key, counts)| (key.to_vec(), counts)));
        assert_eq!(keys_of(Keys::Windows { order: 2 }, &[]), [(vec![START, START, END], counts)]);
        assert_eq!(
            keys_of(Keys::Windows { order: 3 }, &[5]),
            [(vec![START, START, START, 5], passing), (vec![START, START, 5, END], counts)]
        );
    }

    #[test]
    fn sets_have_no_order_and_no_repetition() {
        let counts = Counts { conversions: 2, nulls: 3, value: 7 };
        assert_eq!(keys_of(Keys::Sets, &[6, 5, 6]), [(vec![5, 6], counts)]);
        assert_eq!(keys_of(Keys::Sets, &[]), [(vec![], counts)]);
    }
}
