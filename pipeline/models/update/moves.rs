//! What became of the customers that a step changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use hashbrown::HashSet;

use super::CUSTOMER;
use crate::error::{Error, Result};

/// Which customer the identifiers of customers that changed belonged to, and belong to.
#[derive(Default)]
pub(super) struct Moves {
    /// Customers all of whose identifiers went to one other.
    renamed: BTreeMap<String, String>,
    /// Identity keys of customers that fell apart, who are gone as they were.
    pub(super) scattered_keys: HashSet<String>,
    scattered: HashSet<String>,
}

impl Moves {
    pub(super) fn of(moves: &RecordBatch) -> Result<Self> {
        let text = |name: &str| -> Result<&StringArray> {
            let column = moves.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            column.ok_or_else(|| Error::internal(format!("moves have no text `{name}`")))
        };
        let (keys, before, now) = (text("identity_key")?, text("customer_before")?, text("customer_id")?);
        let mut now_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for row in (0..moves.num_rows()).filter(|row| before.is_valid(*row)) {
            now_of.entry(before.value(row)).or_default().insert(now.value(row));
        }
        let mut found = Self::default();
        for (before, now) in &now_of {
            match now.iter().next() {
                Some(only) if now.len() == 1 && only != before => {
                    found.renamed.insert((*before).to_string(), (*only).to_string());
                }
                _ if now.len() > 1 => {
                    found.scattered.insert((*before).to_string());
                }
                _ => {}
            }
        }
        for row in (0..moves.num_rows()).filter(|row| before.is_valid(*row)) {
            if found.scattered.contains(before.value(row)) {
                found.scattered_keys.insert(keys.value(row).to_string());
            }
        }
        Ok(found)
    }

    /// Rows kept of customers that are still one, under the ids that these have now.
    pub(super) fn renamed(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let at = rows.schema().index_of(CUSTOMER)?;
        let customers = rows.column(at).as_string::<i32>();
        let is_one: BooleanArray =
            customers.iter().map(|customer| customer.map(|customer| !self.scattered.contains(customer))).collect();
        let name = |customer: &str| self.renamed.get(customer).cloned().unwrap_or_else(|| customer.to_string());
        let names: StringArray = customers.iter().map(|customer| customer.map(name)).collect();
        let mut columns = rows.columns().to_vec();
        columns[at] = Arc::new(names);
        let renamed = RecordBatch::try_new(rows.schema(), columns)?;
        Ok(filter_record_batch(&renamed, &is_one)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::ArrayRef;

    #[test]
    fn customers_go_on_under_another_id_or_fall_apart() {
        let moves = [
            ("a", Some("ann"), "ann"),
            ("b", Some("bob"), "ann"),
            ("c", Some("eve"), "eve"),
            ("d", Some("eve"), "joe"),
            ("e", None, "new"),
        ];
        let columns: [(&str, ArrayRef); 3] = [
            ("identity_key", Arc::new(StringArray::from_iter_values(moves.map(|(key, ..)| key)))),
            ("customer_before", Arc::new(StringArray::from(moves.map(|(_, before, _)| before).to_vec()))),
            ("customer_id", Arc::new(StringArray::from_iter_values(moves.map(|(.., now)| now)))),
        ];
        let moves = Moves::of(&RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap());
        let moves = moves.unwrap();
        assert_eq!(moves.renamed, BTreeMap::from([("bob".to_string(), "ann".to_string())]));
        assert_eq!(moves.scattered_keys, HashSet::from(["c".to_string(), "d".to_string()]));
        let customers = StringArray::from(vec!["ann", "bob", "eve", "zoe"]);
        let rows = RecordBatch::try_from_iter([(CUSTOMER, Arc::new(customers) as ArrayRef)]).unwrap();
        let renamed = moves.renamed(&rows).unwrap();
        assert_eq!(renamed.column(0).as_string::<i32>(), &StringArray::from(vec!["ann", "ann", "zoe"]));
    }
}
