//! `identity_key`: the strongest identifier of an event, as one text that joins to `identity_map`.
//!
//! Usage: `identity_key(identifiers)`
//! - `identifiers`: list of struct (`kind`, `value`), text in any encoding
//!
//! Returns: `Utf8`, `kind:value` of the strongest usable identifier; null when there is none or the list is null.
//! Ties:    within a kind the smaller value by bytes.
//! Memory:  the text of its result.
//! Errors:  an argument that is no list of (`kind`, `value`), at planning.
//!
//! Kinds are strong in the order of the project's `[identity] priority`; those it does not name follow by name.
//! Blocked values are passed over. Both are settings, so the function is made per project and not registered with the
//! others.

use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::columns::{IdentifierLists, is_identifier_list};
use crate::identifiers::Blocked;

/// The function `identity_key` for a priority of kinds and blocked values.
pub fn identity_key_udf(priority: Vec<String>, blocked: Arc<Blocked>) -> ScalarUDF {
    ScalarUDF::from(IdentityKey { signature: Signature::any(1, Volatility::Immutable), priority, blocked })
}

/// The key of an identifier, as in `identity_map.identity_key`.
pub fn identity_key(kind: &str, value: &str) -> String {
    format!("{kind}:{value}")
}

#[derive(Debug)]
struct IdentityKey {
    signature: Signature,
    priority: Vec<String>,
    blocked: Arc<Blocked>,
}

impl PartialEq for IdentityKey {
    fn eq(&self, other: &Self) -> bool {
        self.priority == other.priority && Arc::ptr_eq(&self.blocked, &other.blocked)
    }
}

impl Eq for IdentityKey {}

impl Hash for IdentityKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.priority.hash(state);
    }
}

impl ScalarUDFImpl for IdentityKey {
    fn name(&self) -> &str {
        "identity_key"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [list] if is_identifier_list(list) => Ok(DataType::Utf8),
            _ => plan_err!("identity_key: expected one list of struct (kind, value) of text, got {types:?}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let column = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(self.keys(&column)?))
    }
}

impl IdentityKey {
    fn keys(&self, column: &ArrayRef) -> Result<ArrayRef> {
        let lists = IdentifierLists::new(column.as_list::<i32>())
            .map_err(|error| exec_datafusion_err!("identity_key: {error}"))?;
        let mut keys = StringBuilder::with_capacity(column.len(), 48 * column.len());
        for row in 0..column.len() {
            match self.strongest(lists.row(row)) {
                Some((kind, value)) => {
                    write!(keys, "{kind}:{value}").expect("a builder in memory takes any text");
                    keys.append_value("");
                }
                None => keys.append_null(),
            }
        }
        Ok(Arc::new(keys.finish()))
    }

    /// The strongest usable identifier. A verdict takes less time than remembering it would, and is asked for only
    /// where an identifier would be the strongest so far.
    fn strongest<'a>(&self, identifiers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<(&'a str, &'a str)> {
        let mut strongest: Option<(usize, &str, &str)> = None;
        for (kind, value) in identifiers {
            let rank = self.priority.iter().position(|named| named == kind).unwrap_or(usize::MAX);
            let candidate = (rank, kind, value);
            if strongest.is_none_or(|strongest| candidate < strongest) && self.blocked.is_usable(kind, value) {
                strongest = Some(candidate);
            }
        }
        strongest.map(|(_, kind, value)| (kind, value))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, ListArray, StringArray};
    use arrow::compute::nullif;

    use super::super::columns::tests::identifier_lists;
    use super::*;

    fn keys(lists: ListArray) -> Vec<Option<String>> {
        let priority = ["user_id", "email"].map(String::from).to_vec();
        let blocked = Arc::new(Blocked::new(&["kiosk-1".to_string()], None));
        let function = IdentityKey { signature: Signature::any(1, Volatility::Immutable), priority, blocked };
        let column: ArrayRef = Arc::new(lists);
        assert_eq!(function.return_type(&[column.data_type().clone()]).unwrap(), DataType::Utf8);
        let keys = function.keys(&column).unwrap();
        keys.as_any().downcast_ref::<StringArray>().unwrap().iter().map(|key| key.map(String::from)).collect()
    }

    #[test]
    fn the_strongest_usable_identifier_is_the_key() {
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: [Case<'_>; 8] = [
            (&[("anonymous_id", "x"), ("email", "a@b.example"), ("user_id", "u1")], Some("user_id:u1")),
            (&[("user_id", "null"), ("email", "a@b.example")], Some("email:a@b.example")),
            (&[("user_id", "u2"), ("user_id", "u10")], Some("user_id:u10")),
            (&[("phone", "5550100"), ("device_id", "d1")], Some("device_id:d1")),
            (&[("device_id", "Kiosk-1"), ("phone", "5550100")], Some("phone:5550100")),
            (&[("device_id", "kiosk-1"), ("user_id", "")], None),
            (&[], None),
            (&[("zebra", "u1"), ("email", "a@b.example")], Some("email:a@b.example")),
        ];
        let lists = identifier_lists(&cases.map(|(identifiers, _)| identifiers));
        assert_eq!(keys(lists), cases.map(|(_, key)| key.map(String::from)));
    }

    #[test]
    fn a_null_list_has_no_key() {
        let lists = identifier_lists(&[&[("user_id", "u1")], &[("user_id", "u2")]]);
        let lists = nullif(&lists, &BooleanArray::from(vec![true, false])).unwrap();
        assert_eq!(keys(lists.as_list::<i32>().clone()), [None, Some("user_id:u2".to_string())]);
    }

    #[test]
    fn another_argument_is_refused_at_planning() {
        let function = identity_key_udf(Vec::new(), Arc::new(Blocked::default()));
        let error = function.return_type(&[DataType::Utf8]).unwrap_err();
        assert!(error.to_string().contains("identity_key: expected one list"), "{error}");
    }
}
