//! `sequence_next_node`: the value of the row that comes after, or before, a chain of rows.
//!
//! A row is 16 bytes: its time, and a number that stands for its kind, a value and what is met with it, which is kept once
//! with some 25 bytes beside the value. A partial state holds 12 bytes per row, and the kinds of a group once in it.

mod accumulate;
mod nodes;
mod question;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};

use self::accumulate::{NextNodes, kind_fields, row_fields};
use self::question::Question;
#[cfg(test)]
pub(super) use self::question::tests::{FORMS, naive};
use super::arguments::{coerce_text, list_type};
use super::call::{Call, Parameterised};
use super::conditions::{MOST_CONDITIONS, coerce_condition};
use super::documentation::{Example, Manual, NULL_ARGUMENTS, NULL_CONDITIONS, Section, TIMES, Unlike, WINDOWS};
use super::moments::coerce_moment;
use super::single_group::{MovingFrame, SingleGroup};

const NAME: &str = "sequence_next_node";

/// How many arguments come before the conditions.
const LEADING: usize = 5;

/// The function `sequence_next_node`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SequenceNextNode {
    signature: Signature,
}

impl Default for SequenceNextNode {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Parameterised for SequenceNextNode {
    type Parameters = Question;

    fn parameters(&self, call: &Call) -> Result<Option<Question>> {
        let (Some(direction), Some(base)) = (call.text(0, "the direction")?, call.text(1, "the base")?) else {
            return Ok(None);
        };
        let question = Question::new(&direction, &base, call.types().len() - LEADING);
        question.map(Some).map_err(|what| plan_datafusion_err!("{NAME}: {what}"))
    }
}

impl AggregateUDFImpl for SequenceNextNode {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [direction, base, time, value, conditions @ ..] = types else {
            return plan_err!(
                "{NAME}: expected a direction, a base, a time, a value and 1 to {} conditions, got {} arguments",
                MOST_CONDITIONS + 1,
                types.len()
            );
        };
        if conditions.is_empty() || conditions.len() > MOST_CONDITIONS + 1 {
            return plan_err!(
                "{NAME}: expected a base condition and up to {MOST_CONDITIONS} conditions after the value, got {}",
                conditions.len()
            );
        }
        let mut coerced = vec![
            coerce_text(NAME, direction)?,
            coerce_text(NAME, base)?,
            coerce_moment(NAME, "the time", time)?,
            coerce_text(NAME, value)?,
        ];
        for (position, condition) in conditions.iter().enumerate() {
            let what = if position == 0 { "the base condition".into() } else { format!("condition {position}") };
            coerced.push(coerce_condition(NAME, &what, condition)?);
        }
        Ok(coerced)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name, fields| {
            Arc::new(Field::new(format_state_name(args.name, name), list_type(DataType::Struct(fields)), true))
        };
        Ok(vec![field("kinds", kind_fields()), field("rows", row_fields())])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::of(NextNodes::new(self.parameters_of(&args)?))))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(NextNodes::new(self.parameters_of(&args)?)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(NextNodes::new(self.parameters_of(&args)?))))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> =
            LazyLock::new(|| {
                Manual {
                section: Section::Sequences,
                syntax: &["sequence_next_node(direction, base, ts, value, base_cond, cond1, …, condN)"],
                summary: "Returns the value of the row that comes next to a chain of rows, forward or backward in \
                          time.",
                details: "The base must meet `base_cond` and `cond1`, the row next to it `cond2`, and so on, with \
                          nothing between.",
                arguments: &[
                    ("direction", "Text, a constant: `'forward'` or `'backward'` in time."),
                    ("base", "Text, a constant: where the chain begins; see Base."),
                    ("ts", "Timestamp of any unit and zone, date or integer."),
                    ("value", "Text of any encoding."),
                    ("base_cond", "Boolean: whether the row may be the base."),
                    (
                        "cond1, …, condN",
                        "Up to 32 booleans: what the rows of the chain meet, one after another; with `'head'` and \
                         `'tail'` there may be none.",
                    ),
                ],
                example: Example {
                    query: "
                        select customer,
                          sequence_next_node('forward', 'first_match', at, touch, true, touch = 'cart') as next_touch
                        from (values
                          ('ann', 1, 'view'), ('ann', 2, 'cart'), ('ann', 3, 'help'), ('ann', 4, 'cart'),
                          ('bob', 1, 'view'), ('bob', 2, 'cart')
                        ) as events(customer, at, touch)
                        group by customer order by customer
                    ",
                    rows: &["customer | next_touch", "ann | help", "bob | "],
                },
                returns: "`Utf8View`, the value of the row next to the chain; without `cond1` that of the base \
                          itself. Null where the base or the chain is not found, where the chain is the end, and for \
                          an empty group.",
                parts: &[(
                    "Base",
                    "one of\n\
                     - `'head'`, the very first row of the group, and `'tail'`, its very last: if that row is no \
                     base, nothing is found;\n\
                     - `'first_match'` and `'last_match'`, the first and the last row that meets `base_cond` and \
                     `cond1`: if the chain fails there, no other row is tried.",
                ), WINDOWS],
                nulls: "rows whose `ts` or `value` is null do not exist: their neighbours are next to each other; a \
                        null condition counts as false.",
                order: "rows may come in any order and from any partitions; they are taken in the order of time.",
                ties: "rows of equal `ts` are taken in the order of their values, by bytes; those of equal values by \
                       what they meet, as a number whose lowest bit is `cond1` and whose highest is `base_cond`.",
                memory: "16 bytes per row, and each distinct value once for each set of conditions met with it, with \
                         some 25 bytes beside it. A partial state holds 12 bytes per row, and the values of a group \
                         once in it, with 16 bytes beside each.",
                errors: "an unknown direction or base, `'head'` with `'backward'`, `'tail'` with `'forward'`, a match \
                         without `cond1`, a `distinct` call, other types: all at planning; more than 2 billion \
                         distinct values.",
                source: "ClickHouse `sequenceNextNode` \
                         (src/AggregateFunctions/AggregateFunctionSequenceNextNode.cpp), which must be allowed by a \
                         setting there.",
                differs: &[Unlike {
                    whom: "ClickHouse's `sequenceNextNode`",
                    by: &[
                        NULL_CONDITIONS,
                        NULL_ARGUMENTS,
                        TIMES,
                        "rows of equal time and value are taken in the order of their conditions, where it takes them \
                         in that of their arrival",
                        "at most 32 conditions, where it takes up to 64",
                    ],
                }],
            }
            .document()
            });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::super::elements::testing::{error_of, rows_of};
    use super::super::register_all;

    /// A customer who walks from home to a product and back, then to the basket; in no order.
    const EVENTS: &str = "(values (4, 'home'), (1, 'home'), (3, 'product'), (2, 'search'), (5, 'basket')) \
                          as events(second, page)";

    async fn next(arguments: &str) -> String {
        let sql = format!("select sequence_next_node({arguments}) from {EVENTS}");
        rows_of(&sql).await.concat()
    }

    /// Source: ClickHouse's documentation of `sequenceNextNode`: its three directions and bases.
    #[tokio::test]
    async fn finds_what_the_documents_of_clickhouse_say() {
        let pages = "(values (1, 'Home'), (2, 'Gift'), (3, 'Exit'), (4, 'Home'), (5, 'Home'), (6, 'Gift'), (7, 'Home'), \
                     (8, 'Gift'), (9, 'Basket')) as pages(second, page)";
        let find = async |range: &str, form: &str, rest: &str| {
            let sql = format!("select sequence_next_node({form}, second, page, {rest}) from {pages} where {range}");
            rows_of(&sql).await.concat()
        };
        let (first, second, third) = ("second < 4", "second between 4 and 6", "second > 6");
        let head = "page = 'Home', page = 'Home', page = 'Gift'";
        assert_eq!(find(first, "'forward', 'head'", head).await, "Exit");
        assert_eq!(find(second, "'forward', 'head'", head).await, "");
        assert_eq!(find(third, "'forward', 'head'", head).await, "Basket");
        let tail = "page = 'Basket', page = 'Basket', page = 'Gift'";
        assert_eq!(find(third, "'backward', 'tail'", tail).await, "Home");
        assert_eq!(find(first, "'backward', 'tail'", tail).await, "");
        let gift = "page = 'Gift', page = 'Gift'";
        assert_eq!(find(first, "'forward', 'first_match'", gift).await, "Exit");
        assert_eq!(find(second, "'forward', 'first_match'", gift).await, "");
        assert_eq!(find(third, "'forward', 'first_match'", gift).await, "Basket");
        assert_eq!(find(second, "'backward', 'last_match'", &format!("{gift}, page = 'Home'")).await, "Home");
    }

    #[tokio::test]
    async fn every_direction_and_base_finds_its_own() {
        for (arguments, expected) in [
            ("'forward', 'head', second, page, true", "home"),
            ("'forward', 'head', second, page, page = 'home', page = 'home'", "search"),
            ("'forward', 'head', second, page, page = 'search', page = 'home'", ""),
            ("'backward', 'tail', second, page, true, page = 'basket', page = 'home'", "product"),
            ("'forward', 'first_match', second, page, true, page = 'home'", "search"),
            ("'forward', 'last_match', second, page, true, page = 'home'", "basket"),
            ("'backward', 'first_match', second, page, true, page = 'home'", ""),
            ("'backward', 'last_match', second, page, true, page = 'home'", "product"),
            ("'forward', 'first_match', second, page, second > 1, page = 'home'", "basket"),
            ("'forward', 'first_match', second, page, true, page = 'home', page = 'product'", ""),
        ] {
            assert_eq!(next(arguments).await, expected, "{arguments}");
        }
    }

    #[tokio::test]
    async fn values_and_times_of_every_type_are_read() {
        let encodings = ["Utf8", "LargeUtf8", "Utf8View", "Dictionary(Int32, Utf8)", "Dictionary(UInt8, LargeUtf8)"];
        for encoding in encodings {
            for time in ["Int8", "UInt64", "Date32", "Date64", "Timestamp(s)", "Timestamp(ns, \"+02:00\")"] {
                let time = match time {
                    "Date64" => "arrow_cast(arrow_cast(second, 'Date32'), 'Date64')".to_owned(),
                    other if other.contains("ns") => {
                        format!("arrow_cast(arrow_cast(second, 'Timestamp(s)'), '{other}')")
                    }
                    other => format!("arrow_cast(second, '{other}')"),
                };
                let arguments =
                    format!("'backward', 'last_match', {time}, arrow_cast(page, '{encoding}'), true, page = 'home'");
                assert_eq!(next(&arguments).await, "product", "{arguments}");
            }
        }
    }

    #[tokio::test]
    async fn rows_without_time_or_value_do_not_exist() {
        let next = async |rows: &str| {
            let sql = format!(
                "select sequence_next_node('forward', 'head', second, page, true, page = 'a') \
                 from (values {rows}) as events(second, page)"
            );
            rows_of(&sql).await.concat()
        };
        assert_eq!(next("(1, 'a'), (2, null), (3, 'b')").await, "b");
        assert_eq!(next("(1, 'a'), (null, 'c'), (3, 'b')").await, "b");
        assert_eq!(next("(null, 'a'), (2, 'a'), (3, 'b')").await, "b");
        assert_eq!(next("(1, 'a')").await, "");
    }

    #[tokio::test]
    async fn null_conditions_are_false_and_filters_and_windows_hold() {
        assert_eq!(next("'forward', 'head', second, page, null, page = 'home'").await, "");
        assert_eq!(next("'forward', 'head', second, page, true, null").await, "");
        let sql = format!(
            "select sequence_next_node('forward', 'first_match', second, page, true, page = 'home') \
             filter (where second > 1 or page <> 'home') from {EVENTS}"
        );
        assert_eq!(rows_of(&sql).await, ["basket"]);
        let sql = format!(
            "select second, sequence_next_node('backward', 'tail', second, page, true, true) over (order by second) \
             from {EVENTS} order by second"
        );
        assert_eq!(rows_of(&sql).await, ["1 | ", "2 | home", "3 | search", "4 | product", "5 | home"]);
        let sql = format!("select sequence_next_node('forward', 'head', second, page, true) from {EVENTS} where false");
        assert_eq!(rows_of(&sql).await, [""]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            (
                "'forward', 'head', second, page",
                "expected a base condition and up to 32 conditions after the value, got 0",
            ),
            ("'forward', 'head', second", "expected a direction, a base, a time, a value and 1 to 33 conditions"),
            ("'up', 'head', second, page, true", "expected direction 'forward' or 'backward', got 'up'"),
            ("'forward', 'middle', second, page, true", "expected base 'head', 'tail', 'first_match' or 'last_match'"),
            ("'backward', 'head', second, page, true", "nothing comes before the head"),
            ("'forward', 'tail', second, page, true", "nothing comes after the tail"),
            ("'forward', 'first_match', second, page, true", "add a condition"),
            ("page, 'head', second, page, true", "expected the direction to be a constant"),
            ("'forward', page, second, page, true", "expected the base to be a constant"),
            ("'forward', null, second, page, true", "expected the base to be a text"),
            ("'forward', 'head', page, page, true", "expected the time to be a timestamp, a date or a whole number"),
            ("'forward', 'head', second, second, true", "expected text, got Int64"),
            ("'forward', 'head', second, page, 1", "expected the base condition to be boolean, got Int64"),
            ("'forward', 'head', second, page, true, page", "expected condition 1 to be boolean, got Utf8"),
            ("distinct 'forward', 'head', second, page, true", "distinct is not supported"),
        ] {
            let error = error_of(&format!("select sequence_next_node({arguments}) from {EVENTS}")).await;
            assert!(error.contains("sequence_next_node: ") && error.contains(message), "{arguments}: {error}");
        }
    }

    #[tokio::test]
    async fn a_wrong_combination_is_an_error_of_planning() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let sql = format!("select sequence_next_node('forward', 'tail', second, page, true) from {EVENTS}");
        let error = ctx.sql(&sql).await.unwrap().create_physical_plan().await.unwrap_err();
        assert!(error.to_string().contains("sequence_next_node: nothing comes after the tail"), "{error}");
    }
}
