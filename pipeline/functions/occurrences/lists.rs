//! A list of times per group, for the functions that tell when.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ListArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, resources_err};

use super::super::arguments::item_field;
use super::super::moments::returned_moments;

/// Lists of times under construction, of which none is null.
#[derive(Debug)]
pub(in super::super) struct TimeLists {
    time_type: DataType,
    times: Vec<i64>,
    /// Where each list ends.
    ends: Vec<i32>,
}

impl TimeLists {
    /// No lists yet, of times that came in as `time_type`.
    pub(in super::super) fn new(time_type: DataType) -> Self {
        Self { time_type, times: Vec::new(), ends: Vec::new() }
    }

    /// Adds a list.
    pub(in super::super) fn push(&mut self, function: &str, times: &[i64]) -> Result<()> {
        self.times.extend_from_slice(times);
        let Ok(end) = i32::try_from(self.times.len()) else {
            return resources_err!("{function}: more than 2 billion times in one result; raise target_partitions");
        };
        self.ends.push(end);
        Ok(())
    }

    /// The lists, which leave.
    pub(in super::super) fn finish(&mut self) -> Result<ArrayRef> {
        let times = returned_moments(std::mem::take(&mut self.times), &self.time_type);
        let offsets: Vec<i32> = std::iter::once(0).chain(self.ends.drain(..)).collect();
        let item = item_field(times.data_type().clone());
        Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::new(ScalarBuffer::from(offsets)), times, None)?))
    }

    /// Bytes on the heap.
    pub(in super::super) fn size(&self) -> usize {
        self.times.capacity() * size_of::<i64>() + self.ends.capacity() * size_of::<i32>()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn lists_leave_when_they_are_finished() {
        let mut lists = TimeLists::new(DataType::Int64);
        lists.push("f", &[1, 2]).unwrap();
        lists.push("f", &[]).unwrap();
        let array = lists.finish().unwrap();
        let read: Vec<_> = array.as_list::<i32>().iter().flatten().collect();
        assert_eq!(read[0].as_primitive::<Int64Type>().values(), &[1, 2]);
        assert_eq!((read.len(), read[1].len()), (2, 0));
        assert_eq!(lists.finish().unwrap().len(), 0);
    }
}
