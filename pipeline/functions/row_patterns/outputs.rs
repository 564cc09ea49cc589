//! The rows of the result, column by column.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanBuilder, Int64Builder, ListArray, StringArray, StringBuilder, UInt64Array, UInt64Builder,
    new_empty_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::scalar::ScalarValue;

use super::aggregate::Running;
use super::partition::VALUES;
use super::program::Label;
use super::spec::{Aggregate, Leaf, Place, Shape, Sight, Spec};
use super::walk::{Finding, Findings, Kind};

/// One field of the result while it is made.
enum Column {
    /// Rows of the argument.
    Taken(UInt64Builder),
    Texts(StringBuilder),
    Numbers(Int64Builder),
    Flags(BooleanBuilder),
    Scalars(Vec<ScalarValue>),
    /// Rows of the argument whose elements make a list, and the end of each list; `None` for null.
    Lists {
        rows: Vec<u64>,
        ends: Vec<Option<usize>>,
    },
    /// The same of texts.
    TextLists {
        texts: Vec<u8>,
        ends: Vec<Option<usize>>,
    },
}

/// The fields of the result.
pub(super) struct Outputs<'a> {
    spec: &'a Spec,
    fields: &'a Fields,
    columns: Vec<Column>,
    rows: usize,
}

/// A row of the result: a row of the partition, and how many rows of the match come up to it.
#[derive(Clone, Copy)]
struct Shown {
    row: usize,
    seen: usize,
}

/// A finding as the leaves see it.
struct View<'f> {
    finding: &'f Finding,
    labels: &'f [Label],
    /// The rows of the partition among all rows.
    first: usize,
    rows: usize,
    variables: usize,
    /// Rows of the match by the variables that they bear.
    known: Vec<(u64, Vec<usize>)>,
}

impl<'a> Outputs<'a> {
    pub(super) fn new(spec: &'a Spec, fields: &'a Fields) -> Self {
        let column = |leaf: &Leaf| match leaf {
            Leaf::Row | Leaf::Value(_) => Column::Taken(UInt64Builder::new()),
            Leaf::Label(_) => Column::Texts(StringBuilder::new()),
            Leaf::Number => Column::Numbers(Int64Builder::new()),
            Leaf::Reached(_) | Leaf::IsComplete | Leaf::IsMatched => Column::Flags(BooleanBuilder::new()),
            Leaf::Aggregate { function: Aggregate::Collect, .. } => {
                Column::Lists { rows: Vec::new(), ends: Vec::new() }
            }
            Leaf::AggregateLabels { function: Aggregate::Collect, .. } => {
                Column::TextLists { texts: Vec::new(), ends: Vec::new() }
            }
            Leaf::Aggregate { .. } | Leaf::AggregateLabels { .. } => Column::Scalars(Vec::new()),
        };
        Self { spec, fields, columns: spec.outputs.iter().map(column).collect(), rows: 0 }
    }

    /// The number of rows so far.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Adds what was found in the partition of rows `first..end`.
    pub(super) fn append(&mut self, columns: &[ArrayRef], first: usize, end: usize, findings: &Findings) -> Result<()> {
        let values = columns[VALUES].as_struct();
        let mut shown = Vec::new();
        for finding in &findings.list {
            let labels = &findings.labels[finding.labels.clone()];
            shown.clear();
            self.show(finding, labels, &mut shown);
            if shown.is_empty() {
                continue;
            }
            self.rows += shown.len();
            let (variables, rows) = (self.spec.labels.len(), end - first);
            let mut view = View { finding, labels, first, rows, variables, known: Vec::new() };
            for (number, leaf) in self.spec.outputs.iter().enumerate() {
                let data_type = self.fields[number].data_type();
                let argument = values.column(number);
                append(&mut self.columns[number], *leaf, &mut view, &shown, argument, data_type, &self.spec.labels)?;
            }
        }
        Ok(())
    }

    /// Which rows of a finding are shown.
    fn show(&self, finding: &Finding, labels: &[Label], shown: &mut Vec<Shown>) {
        let at_start = Shown { row: finding.start, seen: 0 };
        match (self.spec.shape, finding.kind) {
            (Shape::OneRow, Kind::Unmatched) => {}
            (Shape::OneRow, _) => {
                let last = labels.len().saturating_sub(1);
                shown.push(Shown { row: finding.start + last, seen: labels.len() });
            }
            (Shape::AllRows { shows_unmatched, .. }, Kind::Unmatched) => {
                shown.extend(shows_unmatched.then_some(at_start))
            }
            (Shape::AllRows { shows_empty, .. }, _) if labels.is_empty() => {
                shown.extend(shows_empty.then_some(at_start))
            }
            (Shape::AllRows { .. }, _) => {
                let kept = labels.iter().enumerate().filter(|(_, label)| !label.is_excluded);
                shown.extend(kept.map(|(index, _)| Shown { row: finding.start + index, seen: index + 1 }));
            }
        }
    }

    /// The fields; `columns` are those given to [`Self::append`].
    pub(super) fn finish(self, columns: Option<&[ArrayRef]>) -> Result<Vec<ArrayRef>> {
        let Some(columns) = columns else {
            return Ok(self.fields.iter().map(|field| new_empty_array(field.data_type())).collect());
        };
        let values = columns[VALUES].as_struct();
        let parts = self.columns.into_iter().zip(values.columns()).zip(self.fields.iter());
        parts.map(|((column, argument), field)| finish(column, argument, field, &self.spec.labels)).collect()
    }
}

impl View<'_> {
    /// The rows of the match that bear one of the variables.
    fn among(&mut self, variables: u64) -> &[usize] {
        let known = self.known.iter().position(|(known, _)| *known == variables);
        let known = known.unwrap_or_else(|| {
            let labels = self.labels.iter().enumerate();
            let rows = labels.filter(|(_, label)| variables >> label.variable & 1 == 1).map(|(row, _)| row).collect();
            self.known.push((variables, rows));
            self.known.len() - 1
        });
        &self.known[known].1
    }

    /// The place as a row of the partition, seen from a row of the match.
    fn locate(&mut self, place: Place, shown: Shown) -> Option<usize> {
        let seen = if place.among.is_final { self.labels.len() } else { shown.seen };
        let is_any = place.among.variables.count_ones() as usize == self.variables;
        let pick = |length: usize| {
            if place.is_first {
                Some(place.offset).filter(|row| *row < length)
            } else {
                length.checked_sub(place.offset.checked_add(1)?)
            }
        };
        let row = if is_any {
            pick(seen)?
        } else {
            let rows = self.among(place.among.variables);
            rows[pick(rows.partition_point(|row| *row < seen))?]
        };
        let limit = self.rows as i64;
        let row = (self.finding.start + row) as i64 + place.shift.clamp(-limit, limit);
        (0..limit).contains(&row).then_some(row as usize)
    }

    /// The variable of a row of the partition, if it belongs to the match.
    fn label(&self, row: Option<usize>) -> Option<u8> {
        self.labels.get(row?.checked_sub(self.finding.start)?).map(|label| label.variable)
    }

    /// For each shown row, how many of the rows of the variables are seen.
    fn seen(&mut self, over: Sight, shown: &[Shown]) -> Vec<usize> {
        let all = self.labels.len();
        let rows = self.among(over.variables);
        let seen = |shown: &Shown| if over.is_final { all } else { shown.seen };
        shown.iter().map(|shown| rows.partition_point(|row| *row < seen(shown))).collect()
    }
}

fn append(
    column: &mut Column,
    leaf: Leaf,
    view: &mut View,
    shown: &[Shown],
    argument: &ArrayRef,
    data_type: &DataType,
    names: &[String],
) -> Result<()> {
    let is_matched = view.finding.kind != Kind::Unmatched;
    let start = view.first + view.finding.start;
    match (column, leaf) {
        (Column::Taken(rows), Leaf::Row) => {
            shown.iter().for_each(|shown| rows.append_value((view.first + shown.row) as u64))
        }
        (Column::Taken(rows), Leaf::Value(place)) => {
            for shown in shown {
                rows.append_option(view.locate(place, *shown).map(|row| (view.first + row) as u64));
            }
        }
        (Column::Texts(texts), Leaf::Label(place)) => {
            for shown in shown {
                let row = view.locate(place, *shown);
                texts.append_option(view.label(row).map(|variable| &names[usize::from(variable)]));
            }
        }
        (Column::Numbers(numbers), _) => {
            let number = is_matched.then_some(view.finding.number as i64);
            shown.iter().for_each(|_| numbers.append_option(number));
        }
        (Column::Flags(flags), Leaf::Reached(place)) => {
            for shown in shown {
                flags.append_value(view.locate(place, *shown).is_some());
            }
        }
        (Column::Flags(flags), Leaf::IsComplete) => {
            let is_complete = is_matched.then_some(view.finding.kind == Kind::Match);
            shown.iter().for_each(|_| flags.append_option(is_complete));
        }
        (Column::Flags(flags), _) => shown.iter().for_each(|_| flags.append_value(is_matched)),
        (Column::Lists { rows, ends }, Leaf::Aggregate { over, .. }) => {
            let seen = view.seen(over, shown);
            let members = view.among(over.variables);
            for seen in seen {
                rows.extend(members[..seen].iter().map(|row| (start + row) as u64));
                ends.push((seen > 0).then_some(rows.len()));
            }
        }
        (Column::TextLists { texts, ends }, Leaf::AggregateLabels { over, .. }) => {
            for seen in view.seen(over, shown) {
                let labels = view.labels;
                let members = view.among(over.variables);
                texts.extend(members[..seen].iter().map(|row| labels[*row].variable));
                ends.push((seen > 0).then_some(texts.len()));
            }
        }
        (Column::Scalars(scalars), Leaf::Aggregate { function, over } | Leaf::AggregateLabels { function, over }) => {
            let takes_labels = matches!(leaf, Leaf::AggregateLabels { .. });
            let mut running = Running::new(function, ScalarValue::try_new_null(data_type)?);
            let mut added = 0;
            for seen in view.seen(over, shown) {
                let labels = view.labels;
                for row in &view.among(over.variables)[added..seen] {
                    running.add(match (takes_labels, function) {
                        (true, Aggregate::Count) => ScalarValue::Int64(Some(1)),
                        (true, _) => ScalarValue::from(names[usize::from(labels[*row].variable)].as_str()),
                        (false, _) => ScalarValue::try_from_array(argument, start + row)?,
                    })?;
                }
                added = seen;
                let result = if is_matched { running.result() } else { ScalarValue::try_new_null(data_type)? };
                scalars.push(result);
            }
        }
        _ => return exec_err!("match_rows: an output does not fit its column"),
    }
    Ok(())
}

fn finish(column: Column, argument: &ArrayRef, field: &FieldRef, names: &[String]) -> Result<ArrayRef> {
    Ok(match column {
        Column::Taken(mut rows) => take(argument, &rows.finish(), None)?,
        Column::Texts(mut texts) => Arc::new(texts.finish()),
        Column::Numbers(mut numbers) => Arc::new(numbers.finish()),
        Column::Flags(mut flags) => Arc::new(flags.finish()),
        Column::Scalars(scalars) if scalars.is_empty() => new_empty_array(field.data_type()),
        Column::Scalars(scalars) => ScalarValue::iter_to_array(scalars)?,
        Column::Lists { rows, ends } => {
            let lists = argument.as_list::<i32>();
            // Each row holds a list of one element.
            let elements = rows.iter().map(|row| lists.value_offsets()[*row as usize] as u64);
            let elements = take(lists.values(), &UInt64Array::from_iter_values(elements), None)?;
            list(elements, ends, field)?
        }
        Column::TextLists { texts, ends } => {
            let texts = texts.iter().map(|variable| Some(names[usize::from(*variable)].as_str()));
            list(Arc::new(texts.collect::<StringArray>()), ends, field)?
        }
    })
}

/// Lists of the given elements; a list without an end is null.
fn list(elements: ArrayRef, ends: Vec<Option<usize>>, field: &FieldRef) -> Result<ArrayRef> {
    let DataType::List(item) = field.data_type() else {
        return exec_err!("match_rows: expected a list, got {}", field.data_type());
    };
    let is_valid = ends.iter().map(Option::is_some).collect::<Vec<bool>>();
    let mut offsets = vec![0i32];
    for end in ends {
        let last = offsets[offsets.len() - 1];
        let end = end.map(i32::try_from).transpose();
        let end = end.map_err(|_| exec_datafusion_err!("match_rows: more than {} elements at once", i32::MAX))?;
        offsets.push(end.unwrap_or(last));
    }
    let lists =
        ListArray::try_new(Arc::clone(item), OffsetBuffer::new(offsets.into()), elements, Some(is_valid.into()))?;
    Ok(Arc::new(lists))
}
