//! Slices of a column that outlive its batch.
//!
//! A slice keeps the whole buffer that it was cut from, so one of up to half of it is copied. Of those that stay no two are of
//! one buffer then, and each may tell its whole buffer as what it holds.

use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::ArrowNativeType;

/// The slice, or a copy of it.
pub(super) fn kept<T: ArrowNativeType>(slice: ScalarBuffer<T>) -> ScalarBuffer<T> {
    match 2 * slice.inner().len() > slice.inner().capacity() {
        true => slice,
        false => slice.to_vec().into(),
    }
}

/// Bytes held by a slice that was kept.
pub(super) fn held<T: ArrowNativeType>(slice: &ScalarBuffer<T>) -> usize {
    slice.inner().capacity()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slices_of_one_buffer_hold_is_told_once() {
        let whole: ScalarBuffer<u64> = (0..1000).collect();
        let bytes = held(&whole);
        for (parts, expected) in [
            // A part of the half and more keeps all; the other parts are copied.
            (vec![(0, 700), (700, 300)], bytes + 300 * 8),
            (vec![(0, 500), (500, 500)], 2 * 500 * 8),
            (vec![(10, 1)], 8),
            (vec![(0, 0)], 0),
            (vec![(0, 1000)], bytes),
        ] {
            let slices: Vec<_> = parts.iter().map(|(start, length)| kept(whole.slice(*start, *length))).collect();
            assert_eq!(slices.iter().map(held).sum::<usize>(), expected, "{parts:?}");
            for (slice, (start, length)) in slices.iter().zip(parts) {
                assert_eq!(slice.to_vec(), whole[start..start + length]);
            }
        }
    }
}
