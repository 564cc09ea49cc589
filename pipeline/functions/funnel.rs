//! `journey_funnel`, `journey_funnel_positions` and `journey_funnel_attempts`: how far a journey gets in a funnel, with
//! which touches, and in which attempts.
//!
//! A touch becomes the set of the steps that it matches, worked out once per batch and pair of names ([`steps`]). Without
//! options one pass over the touches of a journey keeps the newest chain of each level ([`chain`]); with them the touches
//! that take part are laid out first ([`touches`]), and [`ordered`] or, where steps may come in any order,
//! [`unordered`] searches them. A mode asks the rules of `window_funnel` ([`preset`]). What the words mean stands in
//! [`manual`].

mod chain;
mod constants;
mod journeys;
mod manual;
mod options;
#[cfg(test)]
mod oracle;
mod ordered;
mod outcome;
mod preset;
mod search;
mod steps;
mod terms;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_chains;
#[cfg(test)]
mod tests_of_options;
mod touches;
mod unordered;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, Int32Array, Int32Builder};
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use self::journeys::for_each_journey;
pub(super) use self::steps::{Matcher, Steps};
use super::arguments::{coerce_texts, coerce_times, item_field, list_type, returned_field};
use super::elements::{Rows, record_fields, records_type};
use super::moments::coerce_span;

/// What a function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Returns {
    Furthest,
    Positions,
    Attempts,
}

/// The function `journey_funnel`, `journey_funnel_positions` or `journey_funnel_attempts`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct JourneyFunnel {
    returns: Returns,
    signature: Signature,
}

impl JourneyFunnel {
    /// The function `journey_funnel`.
    pub fn furthest() -> Self {
        Self::returning(Returns::Furthest)
    }

    /// The function `journey_funnel_positions`.
    pub fn positions() -> Self {
        Self::returning(Returns::Positions)
    }

    /// The function `journey_funnel_attempts`.
    pub fn attempts() -> Self {
        Self::returning(Returns::Attempts)
    }

    fn returning(returns: Returns) -> Self {
        Self { returns, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn furthest_steps(&self, args: &ScalarFunctionArgs) -> Result<ArrayRef> {
        let mut furthest = Int32Builder::with_capacity(args.number_rows);
        for_each_journey(self.name(), args, false, |outcome| {
            furthest.append_option(outcome.map(|outcome| outcome.furthest() as i32));
            Ok(())
        })?;
        Ok(Arc::new(furthest.finish()))
    }

    fn positions_of_witnesses(&self, args: &ScalarFunctionArgs) -> Result<ArrayRef> {
        let mut positions = vec![];
        let mut rows = Rows::with_capacity(args.number_rows);
        for_each_journey(self.name(), args, true, |outcome| {
            let Some(outcome) = outcome else {
                rows.null();
                return Ok(());
            };
            positions.extend(outcome.witness().iter().map(position));
            rows.end(self.name(), positions.len())
        })?;
        rows.finish(item_field(DataType::Int32), Arc::new(Int32Array::from(positions)))
    }

    fn records_of_attempts(&self, args: &ScalarFunctionArgs) -> Result<ArrayRef> {
        let (mut positions, mut last_entries) = (vec![], vec![]);
        let mut journeys = Rows::with_capacity(args.number_rows);
        let mut attempts = Rows::with_capacity(args.number_rows);
        for_each_journey(self.name(), args, true, |outcome| {
            let Some(outcome) = outcome else {
                journeys.null();
                return Ok(());
            };
            for (steps, last_entry) in outcome.attempts() {
                positions.extend(steps.iter().map(position));
                attempts.end(self.name(), positions.len())?;
                last_entries.push(position(&Some(last_entry)));
            }
            journeys.end(self.name(), last_entries.len())
        })?;
        let positions = attempts.finish(item_field(DataType::Int32), Arc::new(Int32Array::from(positions)))?;
        let columns = vec![positions, Arc::new(Int32Array::from(last_entries)) as ArrayRef];
        journeys.finish_records(attempt_fields(), columns)
    }
}

/// The position of a touch as it is returned, from 1.
fn position(touch: &Option<u32>) -> Option<i32> {
    touch.map(|touch| touch as i32 + 1)
}

/// The fields of an attempt.
fn attempt_fields() -> Fields {
    record_fields([("step_positions", list_type(DataType::Int32)), ("last_entry", DataType::Int32)])
}

impl ScalarUDFImpl for JourneyFunnel {
    fn name(&self) -> &str {
        match self.returns {
            Returns::Furthest => "journey_funnel",
            Returns::Positions => "journey_funnel_positions",
            Returns::Attempts => "journey_funnel_attempts",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        // A seventh is what a plan makes of a column that is held.
        if !(5..=7).contains(&types.len()) {
            return plan_err!("{}: expected 5 arguments, or 6 with options, got {}", self.name(), types.len());
        }
        let function = self.name();
        let mut coerced = vec![
            coerce_times(function, &types[0])?,
            coerce_texts(function, &types[1])?,
            coerce_texts(function, &types[2])?,
            coerce_texts(function, &types[3])?,
            coerce_span(function, &types[4])?,
        ];
        coerced.extend(constants::coerce(function, types)?);
        Ok(coerced)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(match self.returns {
            Returns::Furthest => DataType::Int32,
            Returns::Positions => list_type(DataType::Int32),
            Returns::Attempts => records_type(attempt_fields()),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        constants::check(self.name(), &args)?;
        returned_field(self, &args)
    }

    fn simplify(&self, args: Vec<Expr>, _info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let same = ScalarUDF::from(Self::returning(self.returns));
        Ok(match constants::simplify(same, &args)? {
            Some(call) => ExprSimplifyResult::Simplified(call),
            None => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(match self.returns {
            Returns::Furthest => self.furthest_steps(&args)?,
            Returns::Positions => self.positions_of_witnesses(&args)?,
            Returns::Attempts => self.records_of_attempts(&args)?,
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static FURTHEST: LazyLock<Documentation> = LazyLock::new(|| manual::FURTHEST.document());
        static POSITIONS: LazyLock<Documentation> = LazyLock::new(|| manual::POSITIONS.document());
        static ATTEMPTS: LazyLock<Documentation> = LazyLock::new(|| manual::ATTEMPTS.document());
        Some(match self.returns {
            Returns::Furthest => &FURTHEST,
            Returns::Positions => &POSITIONS,
            Returns::Attempts => &ATTEMPTS,
        })
    }
}
