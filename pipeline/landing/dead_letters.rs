//! Dead letters: refused records with their bytes, origin and reason.

use std::sync::Arc;

use arrow::array::{ArrayBuilder, ArrayRef, BinaryBuilder, Int64Array, RecordBatch, StringBuilder};

use super::events::DEAD_LETTER_SCHEMA;
use crate::error::Result;

/// Bytes of records after which rows are closed: offsets within a column have 31 bits.
const CLOSED_BYTES: usize = 64 << 20;

/// Dead letters of a batch, in the order of their records.
pub struct DeadLetters {
    batch: i64,
    source: StringBuilder,
    origin: StringBuilder,
    reason: StringBuilder,
    detail: StringBuilder,
    record: BinaryBuilder,
    closed: Vec<RecordBatch>,
}

impl DeadLetters {
    /// None yet, of this batch.
    pub fn new(batch: i64) -> Self {
        Self {
            batch,
            source: StringBuilder::new(),
            origin: StringBuilder::new(),
            reason: StringBuilder::new(),
            detail: StringBuilder::new(),
            record: BinaryBuilder::new(),
            closed: Vec::new(),
        }
    }

    /// Adds one.
    pub fn push(&mut self, source: &str, origin: &str, reason: &str, detail: &str, record: &[u8]) -> Result<()> {
        self.source.append_value(source);
        self.origin.append_value(origin);
        self.reason.append_value(reason);
        self.detail.append_value(detail);
        self.record.append_value(record);
        let open = self.record.values_slice().len() + self.detail.values_slice().len();
        if open >= CLOSED_BYTES { self.close() } else { Ok(()) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.record.is_empty()
    }

    /// As rows of the `dead_letters` table.
    pub fn finish(mut self) -> Result<Vec<RecordBatch>> {
        self.close()?;
        Ok(self.closed)
    }

    fn close(&mut self) -> Result<()> {
        let count = self.record.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(std::iter::repeat_n(self.batch, count))),
            Arc::new(self.source.finish()),
            Arc::new(self.origin.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.detail.finish()),
            Arc::new(self.record.finish()),
            Arc::new(Int64Array::new_null(count)),
        ];
        self.closed.push(RecordBatch::try_new(DEAD_LETTER_SCHEMA.clone(), columns)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn many_bytes_of_records_become_several_pieces_in_order() {
        let mut letters = DeadLetters::new(3);
        assert!(letters.is_empty());
        for number in 0..5 {
            letters.push("web", &number.to_string(), "json_syntax", "", &vec![b'x'; CLOSED_BYTES / 2]).unwrap();
        }
        let pieces = letters.finish().unwrap();
        assert_eq!(pieces.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(pieces[2].column(2).as_string::<i32>().value(0), "4");
    }
}
