//! What a call of `channel_switches` tells beside channels and times: two more lists, or a struct of options.
//!
//! Which of them are given is known at planning, and says which fields a switch has; see [`Given`].

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::ColumnarValue;

use super::super::arguments::{Lists, coerce_booleans, coerce_texts};
use super::super::moments::{Spans, coerce_span};
use super::FUNCTION;

const TOUCHPOINTS: &str = "touchpoints";
const SESSION_IDS: &str = "session_ids";
const SESSION_GAP: &str = "session_gap";
const TIMEOUT: &str = "timeout";
const GOALS: &str = "goals";

/// Which options a call has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub touchpoints: bool,
    pub sessions: bool,
    pub goals: bool,
}

impl Given {
    /// Reads the types of the arguments behind the times.
    pub(super) fn of_types(types: &[DataType]) -> Result<Self> {
        match types {
            [] => Ok(Self::default()),
            [DataType::Struct(fields)] => {
                let has = |name: &str| fields.iter().any(|field| field.name() == name);
                for field in fields {
                    coerced(field.name(), field.data_type())?;
                }
                if has(SESSION_IDS) && has(SESSION_GAP) {
                    return plan_err!("{FUNCTION}: expected either session_ids or session_gap, got both");
                }
                Ok(Self {
                    touchpoints: has(TOUCHPOINTS),
                    sessions: has(SESSION_IDS) || has(SESSION_GAP),
                    goals: has(GOALS),
                })
            }
            [other] => plan_err!("{FUNCTION}: expected a struct of options, got {other}"),
            _ => Ok(Self { touchpoints: true, sessions: true, goals: false }),
        }
    }
}

/// The type as which an option is read.
fn coerced(name: &str, data_type: &DataType) -> Result<DataType> {
    let place = format!("{FUNCTION}: {name}");
    match name {
        TOUCHPOINTS | SESSION_IDS => coerce_texts(&place, data_type),
        GOALS => coerce_booleans(&place, data_type),
        SESSION_GAP | TIMEOUT => coerce_span(&place, data_type),
        other => plan_err!(
            "{FUNCTION}: no option {other}; known are {TOUCHPOINTS}, {SESSION_IDS}, {SESSION_GAP}, {TIMEOUT}, {GOALS}"
        ),
    }
}

/// The options of a batch.
#[derive(Default)]
pub(super) struct Options {
    pub touchpoints: Option<Lists>,
    pub session_ids: Option<Lists>,
    pub session_gaps: Option<Spans>,
    pub timeouts: Option<Spans>,
    pub goals: Option<Lists>,
    /// Rows whose struct is null.
    nulls: Option<NullBuffer>,
}

impl Options {
    /// Reads the arguments behind the times.
    pub(super) fn of_arguments(arguments: &[ColumnarValue], rows: usize) -> Result<Self> {
        let mut options = Self::default();
        match arguments {
            [] => {}
            [given] => {
                let given = given.to_array(rows)?;
                let given = given.as_struct();
                options.nulls = given.nulls().cloned();
                for (name, column) in given.column_names().into_iter().zip(given.columns()) {
                    options.read(name, column)?;
                }
            }
            lists => {
                for (name, list) in [TOUCHPOINTS, SESSION_IDS].into_iter().zip(lists) {
                    options.read(name, &list.to_array(rows)?)?;
                }
            }
        }
        Ok(options)
    }

    fn read(&mut self, name: &str, column: &ArrayRef) -> Result<()> {
        let column = cast(column, &coerced(name, column.data_type())?)?;
        let spans = || Spans::of_argument(FUNCTION, &ColumnarValue::Array(ArrayRef::clone(&column))).map(Some);
        let lists = || Lists::of_array(FUNCTION, &column).map(Some);
        match name {
            TOUCHPOINTS => self.touchpoints = lists()?,
            SESSION_IDS => self.session_ids = lists()?,
            GOALS => self.goals = lists()?,
            SESSION_GAP => self.session_gaps = spans()?,
            _ => self.timeouts = spans()?,
        }
        Ok(())
    }

    /// The lists that are given, each with its name.
    pub(super) fn lists(&self) -> impl Iterator<Item = (&'static str, &Lists)> {
        let all = [(TOUCHPOINTS, &self.touchpoints), (SESSION_IDS, &self.session_ids), (GOALS, &self.goals)];
        all.into_iter().filter_map(|(name, lists)| Some((name, lists.as_ref()?)))
    }

    /// Whether switches have a scope.
    pub(super) fn has_scope(&self) -> bool {
        self.session_ids.is_some() || self.session_gaps.is_some()
    }

    /// Whether an option of a row is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        let spans = [&self.session_gaps, &self.timeouts];
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
            || self.lists().any(|(_, lists)| lists.is_null(row))
            || spans.into_iter().flatten().any(|spans| spans.get(row).is_none())
    }
}
