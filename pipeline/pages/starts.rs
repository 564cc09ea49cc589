//! Where the lists of a page begin, told by its repetition levels.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::Result;

use super::hybrid::zeros;

/// Where lists begin, of the page that was read last. Parallel lists that were written side by side have pages of the same
/// levels, which are decoded once.
#[derive(Debug, Clone, Default)]
pub struct Starts(Arc<Mutex<Option<Page>>>);

#[derive(Debug)]
struct Page {
    levels: Bytes,
    count: usize,
    starts: Arc<[u32]>,
}

impl Starts {
    /// The places of those of a page's `count` levels that begin a list.
    pub fn of_page(&self, levels: Bytes, count: usize) -> Result<Arc<[u32]>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = last.as_ref().filter(|page| page.count == count && page.levels == levels) {
            return Ok(page.starts.clone());
        }
        let starts: Arc<[u32]> = zeros(&levels, count)?.into();
        *last = Some(Page { levels, count, starts: starts.clone() });
        Ok(starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_levels_or_of_more_have_starts_of_their_own() {
        let starts = Starts::default();
        // Eight levels packed into a byte, then eight that are all 1.
        let levels = |packed: u8| Bytes::from(vec![3, packed, 16, 1]);
        let first = starts.of_page(levels(0b0111_1010), 16).unwrap();
        assert_eq!(*first, [0, 2, 7]);
        assert!(Arc::ptr_eq(&first, &starts.of_page(levels(0b0111_1010), 16).unwrap()));
        assert_eq!(*starts.of_page(levels(0b0111_1010), 6).unwrap(), [0, 2]);
        assert_eq!(*starts.of_page(levels(0b1111_1110), 6).unwrap(), [0]);
        assert!(starts.of_page(levels(0b1111_1110), 17).is_err());
    }
}
