//! The options as arguments of a call: constants, but for `hold`, which is a column.
//!
//! A struct in which `hold` is a column is no constant, so a plan parts the two: `named_struct('entry', 'first',
//! 'hold', channels)` becomes the constant `{entry: 'first'}` and a seventh argument, `channels`. The constants are
//! checked as soon as a plan knows them.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, StructArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_datafusion_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{ColumnarValue, Expr, ReturnFieldArgs, ScalarUDF};
use datafusion::scalar::ScalarValue;

use super::super::arguments::is_text;
use super::super::moments::check_span;
use super::options::{GIVEN_TWICE, Options, check_field, check_hold, texts};
use super::steps::Steps;
use super::terms::Terms;

const WINDOW: usize = 4;
const OPTIONS: usize = 5;
const HOLD: usize = 6;

/// The type of the options as they came, and of what is held.
pub(super) fn coerce(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let Some(options) = types.get(OPTIONS) else { return Ok(vec![]) };
    match options {
        text if is_text(text) || text.is_null() => {}
        DataType::Struct(fields) => {
            fields
                .iter()
                .try_for_each(|field| check_field(field.name(), field.data_type()))
                .map_err(|what| plan_datafusion_err!("{function}: {what}"))?;
        }
        other => return plan_err!("{function}: expected the options to be a text or a struct, got {other}"),
    }
    if let Some(hold) = types.get(HOLD) {
        check_hold(hold).map_err(|what| plan_datafusion_err!("{function}: {what}"))?;
    }
    Ok(types[OPTIONS..].to_vec())
}

/// Checks the constants that a plan knows.
pub(super) fn check(function: &str, args: &ReturnFieldArgs) -> Result<()> {
    let window = check_span(function, "the window", args, WINDOW)?;
    let constant = |position: usize| args.scalar_arguments.get(position).copied().flatten();
    let checked = || {
        let options = constant(OPTIONS).map(Options::parse).transpose()?;
        let options = match (options, args.arg_fields.get(HOLD)) {
            (Some(options), Some(_)) => Some(options.with_hold()?),
            (options, _) => options,
        };
        let Some(steps) = constant(OPTIONS - 2).filter(|steps| !steps.is_null()) else { return Ok(()) };
        let steps = texts(steps)?;
        let steps = Steps::parse(steps.iter().map(Option::as_deref))?;
        if let Some(options) = options {
            Terms::new(&options, &steps, window)?;
        }
        Ok(())
    };
    checked().map_err(|what: String| plan_datafusion_err!("{function}: {what}"))
}

/// The options of a call, and the lists whose values are held.
pub(super) fn of_arguments(function: &str, args: &[ColumnarValue]) -> Result<(Options, Option<ColumnarValue>)> {
    let read = || match args.get(OPTIONS) {
        None => Ok((Options::default(), None)),
        Some(ColumnarValue::Scalar(options)) => {
            let hold = match options {
                ScalarValue::Struct(fields) => hold_of(fields).map(|hold| ScalarValue::try_from_array(hold, 0)),
                _ => None,
            };
            let hold = hold.transpose().map_err(|error| error.to_string())?.filter(|hold| !hold.is_null());
            Ok((Options::parse(options)?, hold.map(ColumnarValue::Scalar)))
        }
        Some(ColumnarValue::Array(array)) => {
            let Some(fields) = array.as_struct_opt() else {
                return Err("expected the options to be constants; write a literal".to_owned());
            };
            let hold = hold_of(fields).map(|hold| ColumnarValue::Array(Arc::clone(hold)));
            Ok((of_rows(fields)?, hold))
        }
    };
    let (options, hold) = read().map_err(|what| exec_datafusion_err!("{function}: {what}"))?;
    match args.get(HOLD) {
        None => Ok((options, hold)),
        Some(hold) => {
            let options = options.with_hold().map_err(|what| exec_datafusion_err!("{function}: {what}"))?;
            Ok((options, Some(hold.clone())))
        }
    }
}

fn hold_of(fields: &StructArray) -> Option<&Arc<dyn Array>> {
    fields.column_by_name("hold")
}

/// Options of which every row has the same, as a plan leaves them that was not simplified.
fn of_rows(fields: &StructArray) -> Result<Options, String> {
    let mut constants = vec![];
    let mut has_hold = false;
    for (name, column) in fields.column_names().into_iter().zip(fields.columns()) {
        if name == "hold" {
            if has_hold {
                return Err(GIVEN_TWICE.to_owned());
            }
            has_hold = true;
            continue;
        }
        let others = column.len().saturating_sub(1);
        if column.slice(0, others) != column.slice(column.len() - others, others) {
            return Err(not_constant(name));
        }
        if !column.is_empty() {
            constants.push((name, ScalarValue::try_from_array(column, 0).map_err(|error| error.to_string())?));
        }
    }
    let options = Options::of_fields(&constants)?;
    if has_hold { options.with_hold() } else { Ok(options) }
}

fn not_constant(name: &str) -> String {
    format!("{name}: expected a constant, got one that changes from row to row; write a literal")
}

/// Parts the options from a column that is held: the arguments of the call without, the column last. `None` where
/// there is none, or a constant is not known yet.
fn parted(args: &[Expr]) -> Result<Option<Vec<Expr>>, String> {
    let Some(options) = args.get(OPTIONS) else { return Ok(None) };
    let pairs = match options {
        Expr::ScalarFunction(ScalarFunction { func, args: pairs }) if func.name() == "named_struct" => pairs,
        changing if changing.any_column_refs() => {
            return Err(format!("expected the options to be constants, got {changing}; write them with named_struct"));
        }
        _ => return Ok(None),
    };
    let mut constants = vec![];
    let mut hold = None;
    for pair in pairs.chunks_exact(2) {
        let Expr::Literal(name, _) = &pair[0] else { return Ok(None) };
        let name = name.try_as_str().flatten().unwrap_or_default();
        match &pair[1] {
            Expr::Literal(value, _) => constants.push((name, value.clone())),
            column if name == "hold" => {
                if hold.replace(column.clone()).is_some() {
                    return Err(GIVEN_TWICE.to_owned());
                }
            }
            changing if changing.any_column_refs() => return Err(not_constant(name)),
            // As the parameter of a prepared statement.
            _ => return Ok(None),
        }
    }
    let Some(hold) = hold else { return Ok(None) };
    if args.len() > HOLD {
        return Err(GIVEN_TWICE.to_owned());
    }
    if constants.is_empty() {
        // A struct has at least one field. This is what holds without it.
        constants.push(("entry", ScalarValue::from("last")));
    }
    let columns = constants.iter().map(|(name, value)| {
        let column = value.to_array().map_err(|error| error.to_string())?;
        Ok((Arc::new(Field::new(*name, value.data_type(), true)), column))
    });
    let columns = columns.collect::<Result<Vec<_>, String>>()?;
    let options = Expr::Literal(ScalarValue::Struct(Arc::new(StructArray::from(columns))), None);
    Ok(Some([&args[..OPTIONS], &[options, hold]].concat()))
}

/// The call with its options parted from a column that is held; `None` where it stays.
pub(super) fn simplify(function: ScalarUDF, args: &[Expr]) -> Result<Option<Expr>> {
    let parted = parted(args).map_err(|what| plan_datafusion_err!("{}: {what}", function.name()))?;
    Ok(parted.map(|args| Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))))
}
