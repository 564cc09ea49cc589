//! `count_switches` and `count_distinct`: how varied a list is.
//!
//! Neighbours are compared for a whole batch at once, which leaves a bit per element. Distinct elements are counted by
//! number: 4 bytes per element and a hash table of the batch's distinct ones, which every list of the batch uses again.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, Int64Array};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use hashbrown::HashMap;

use super::arguments::{Lists, coerce_list, expect_count, is_text};
use super::changes::{Changes, is_comparable};
use super::documentation::{Example, Manual, Section};
use super::elements::Names;

/// The function `count_switches`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct CountSwitches {
    signature: Signature,
}

impl Default for CountSwitches {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for CountSwitches {
    fn name(&self) -> &str {
        "count_switches"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.name(), types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let changes = Changes::new(&lists.values)?;
        let count = |row| Some(changes.count(lists.range(row)?) as i64);
        let counts: Int64Array = (0..lists.len()).map(count).collect();
        Ok(ColumnarValue::Array(Arc::new(counts)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &["count_switches(list)"],
                summary: "Counts the neighbours of a list that differ: the channel switches of a journey.",
                details: "",
                arguments: &[("list", "List of text, numbers, times or booleans, in journey order.")],
                example: Example {
                    query: "select count_switches(['web', 'web', 'store', 'web']) as switches",
                    rows: &["switches", "2"],
                },
                returns: "`Int64` from 0; 0 for a list of one element or none.",
                parts: &[],
                nulls: "two neighbouring nulls are equal, a null and a value differ; null for a null list.",
                order: "that of the list.",
                ties: "",
                memory: "a bit per element.",
                errors: "an argument that is not a list of plain values, at planning.",
                source: "our own: a switch is a touch on another channel than the touch before.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// The function `count_distinct`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct CountDistinct {
    signature: Signature,
}

impl Default for CountDistinct {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for CountDistinct {
    fn name(&self) -> &str {
        "count_distinct"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.name(), types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let (elements, distinct) = numbered(self.name(), &lists.values)?;
        let mut seen = Seen::new(distinct);
        let count = |row| Some(seen.count(&elements[lists.range(row)?]));
        let counts: Int64Array = (0..lists.len()).map(count).collect();
        Ok(ColumnarValue::Array(Arc::new(counts)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Lists,
                syntax: &["count_distinct(list)"],
                summary: "Counts the distinct elements of a list.",
                details: "",
                arguments: &[("list", "List of text, numbers, times or booleans.")],
                example: Example {
                    query: "select count_distinct(['web', 'web', 'store', null]) as channels",
                    rows: &["channels", "2"],
                },
                returns: "`Int64` from 0.",
                parts: &[],
                nulls: "null elements do not count; null for a null list.",
                order: "none.",
                ties: "",
                memory: "4 bytes per element, and the distinct elements of the batch in hand.",
                errors: "an argument that is not a list of plain values, at planning.",
                source: "as `count(distinct …)` of SQL over the elements.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

fn coerce(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    expect_count(function, types, 1)?;
    Ok(vec![coerce_list(function, &types[0], "plain values", DataType::Utf8, is_comparable)?])
}

/// A number for each element, equal for equal elements and [`Names::NULL`] for null, and a bound of the numbers.
fn numbered(function: &str, values: &ArrayRef) -> Result<(Vec<u32>, usize)> {
    if is_text(values.data_type()) {
        let mut names = Names::new();
        let numbers = names.numbers(function, values)?;
        return Ok((numbers, names.texts().len()));
    }
    let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(values))?;
    let nulls = values.logical_nulls();
    let mut known: HashMap<&[u8], u32> = HashMap::new();
    let number = |position| {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(position)) {
            return Names::NULL;
        }
        let next = known.len() as u32 + 1;
        *known.entry(rows.row(position).data()).or_insert(next)
    };
    let numbers = (0..values.len()).map(number).collect();
    Ok((numbers, known.len() + 1))
}

/// The list in which each number was seen last.
struct Seen {
    in_list: Vec<u32>,
    list: u32,
}

impl Seen {
    /// Nothing seen of numbers below `bound`.
    fn new(bound: usize) -> Self {
        Self { in_list: vec![0; bound], list: 0 }
    }

    /// How many distinct numbers the next list holds, without that of null.
    fn count(&mut self, list: &[u32]) -> i64 {
        self.list += 1;
        // Null counts as seen before; for the rest, adding a truth saves a branch that nobody can foresee.
        self.in_list[Names::NULL as usize] = self.list;
        let mut distinct = 0;
        for number in list {
            let in_list = &mut self.in_list[*number as usize];
            distinct += i64::from(*in_list != self.list);
            *in_list = self.list;
        }
        distinct
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{error_of, in_every_encoding, rows_of};

    #[tokio::test]
    async fn neighbours_and_distinct_elements_are_counted_in_every_encoding() {
        for journeys in in_every_encoding() {
            let sql = format!(
                "select id, count_switches(channels), count_distinct(channels), count_distinct(stages), count_distinct(times) \
                 from ({journeys}) order by id"
            );
            let expected = ["1 | 2 | 2 | 1 | 4", "2 | 1 | 1 | 1 | 1", "3 | 0 | 0 | 0 | 0", "4 |  |  |  | "];
            assert_eq!(rows_of(&sql).await, expected, "{journeys}");
        }
    }

    #[tokio::test]
    async fn lists_of_other_types_are_counted() {
        let sql = "select count_switches([1, 1, null, null, 2]), count_distinct([1, 1, null, null, 2]), \
                   count_distinct([true, false, true]), count_distinct([1.5::decimal(18, 4), 1.5::decimal(18, 4)]), \
                   count_distinct(null), count_switches([])";
        assert_eq!(rows_of(sql).await, ["2 | 2 | 2 | 1 |  | 0"]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (sql, message) in [
            ("select count_switches('a')", "count_switches: expected a list of plain values, got Utf8"),
            ("select count_switches(['a'], 1)", "count_switches: expected 1 arguments, got 2"),
            ("select count_distinct([[1]])", "count_distinct: expected a list of plain values"),
            ("select count_distinct()", "count_distinct"),
        ] {
            let error = error_of(sql).await;
            assert!(error.contains(message), "{sql}: {error}");
        }
    }

    proptest! {
        #[test]
        fn distinct_elements_are_those_of_a_set(lists in prop::collection::vec(prop::collection::vec(0u32..5, 0..8), 0..8)) {
            let mut seen = Seen::new(5);
            for list in lists {
                let set: BTreeSet<&u32> = list.iter().filter(|number| **number != Names::NULL).collect();
                prop_assert_eq!(seen.count(&list), set.len() as i64);
            }
        }
    }
}
