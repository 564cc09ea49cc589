//! `markov_removal`: what would be lost without a channel, by a Markov chain over all paths of a group.
//!
//! Runs of touches are counted as whole numbers ([`path_counts`]), the chain is made of the counts in the order of the
//! channels' names ([`chain`]) and solved without subtractions, by elimination or by sweeps ([`solve`]). So the same
//! rows give the same bits, whatever their order and partitions.
//!
//! [`path_counts`]: super::path_counts

mod chain;
mod solve;

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err, resources_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};

use self::chain::Chain;
use self::solve::{bytes_of_effects, removal_effects};
use super::arguments::empty_list;
use super::call::{Call, Parameterised};
use super::documentation::{Example, Manual, Section, Unlike, WINDOWS};
use super::path_counts::{
    CUT, Credit, Entries, Keys, Model, accumulator_of, coerce_arguments, result_type, state_fields,
};
use super::single_group::{MovingFrame, SingleGroup};

/// The chain of an order.
#[derive(Debug, Clone)]
pub(super) struct Markov {
    order: usize,
}

impl Model for Markov {
    const NAME: &'static str = "markov_removal";
    const MEASURE: &'static str = "removal_effect";

    fn parameter_type(data_type: &DataType) -> Result<DataType> {
        if data_type.is_integer() {
            return Ok(DataType::Int64);
        }
        plan_err!("{}: expected order to be a whole number from 1 to 4, got {data_type}", Self::NAME)
    }

    fn of_parameter(parameter: &ScalarValue) -> Result<Self> {
        match parameter.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(order @ 1..=4)) => Ok(Self { order: order as usize }),
            _ => plan_err!("{}: expected order to be a whole number from 1 to 4, got {parameter}", Self::NAME),
        }
    }

    fn keys(&self) -> Keys {
        Keys::Windows { order: self.order }
    }

    fn credits(&self, windows: &Entries) -> Result<Vec<Credit>> {
        // Each path passes its end once.
        let ends = windows.ends().map_err(|overflow| overflow.of(Self::NAME))?;
        if ends.conversions == 0 {
            let nothing = Credit { measure: None, conversions: Some(0.0), value: (ends.value == 0).then_some(0.0) };
            return Ok(vec![nothing; windows.channels()]);
        }
        let chain = Chain::of_windows(self.order, windows, ends.journeys());
        let converting = ends.conversions as f64 / ends.journeys() as f64;
        let Ok(effects) = removal_effects(&chain, converting) else {
            return resources_err!(
                "{}: a chain of order {} with {} states and {} channels does not settle within its budget; \
                 use a lower order, make rare channels one, or shorten the longest paths",
                Self::NAME,
                self.order,
                chain.len(),
                chain.channel_count
            );
        };
        let sum: f64 = effects.iter().sum();
        let share = |effect: f64, all: f64| (sum > 0.0).then_some(effect / sum * all);
        let credit = |effect: f64| Credit {
            measure: Some(effect),
            conversions: share(effect, ends.conversions as f64),
            value: share(effect, ends.value as f64),
        };
        Ok(effects.into_iter().map(credit).collect())
    }

    fn bytes_of_credits(&self, windows: usize, channels: usize) -> usize {
        // Of the last touches each is a channel, or there is none yet; and every state is left by a window.
        let states = (channels + 1).saturating_pow(self.order as u32).min(windows);
        Chain::size(windows, states) + bytes_of_effects(states)
    }
}

/// The contract, which `markov_attribution` shares.
pub(super) const MANUAL: Manual = Manual {
    section: Section::Attribution,
    syntax: &[
        "markov_removal(order, path, conversions, nulls[, value])",
        "markov_removal(order, touches, goals, starts[, values])",
    ],
    summary: "Returns the exact Markov removal effect of each channel of a group of paths, and its share of the \
              conversions.",
    details: "",
    arguments: &[
        ("order", "Whole number from 1 to 4, a constant: how many touches say where a walk goes next."),
        (
            "path",
            "List of text: the channels of a journey, in order, as they are; `path_collapse` makes equal neighbours \
             one.",
        ),
        ("conversions", "Whole number or boolean: how many journeys took this path and converted."),
        ("nulls", "Whole number or boolean: how many took it and did not convert."),
        ("value", "Decimal or whole number: the value of the conversions of this row; may be left out."),
        CUT[0],
        CUT[1],
        CUT[2],
        CUT[3],
    ],
    example: Example {
        query: "
            select unnest(markov_removal(1, path, conversions, nulls)) as credit
            from (values (['web', 'store'], 3, 3), (['web'], 3, 3)) as paths(path, conversions, nulls)
        ",
        rows: &[
            "credit",
            "{channel: store, removal_effect: 0.5, conversions: 2.0, value: }",
            "{channel: web, removal_effect: 1.0, conversions: 4.0, value: }",
        ],
    },
    returns: "list of records `(channel, removal_effect, conversions, value)`, one per channel, by name. \
              `conversions` and `value` are the channel's part of all conversions and of all value, in proportion to \
              the removal effects, so they add up to them but for rounding; all journeys count towards these, those \
              without a touch as well. A group without rows has no records.",
    parts: &[
        (
            "Model",
            "a state is the last `order` touches, fewer at the start of a path, so that short paths need no padding. From \
         state to state a walk goes as often as the paths do. The removal effect of a channel is the share of the \
         conversions that are lost when every way into it leads to null, from 0 to 1; it is also the share of the \
         converting walks that touch the channel. Without `nulls` every walk converts.",
        ),
        WINDOWS,
    ],
    nulls: "a row without path is skipped, a null count or value is 0, and a row whose counts are both 0 is skipped; \
            so is one whose touches, goals or starts are null, and a null goal or start counts as false; a null in a path is a channel of its own, whose record has a null `channel` and comes last. Without \
            `value` the values are null; so are removal effects where nothing converts, and credits where no channel \
            has a removal effect.",
    order: "none: rows may come in any order and from any partitions, and the same rows give the same bits. Within a \
            path the order is the point.",
    ties: "",
    memory: "per group and distinct run of `order + 1` touches some 100 bytes, whatever the number of rows. For the \
             result of a group, one after another: as much once more, and 160 bytes per state or, with up to 3 900 \
             states, at most 125 MB.",
    errors: "another order, a count or value of another type, a `distinct` call, at planning; lists of different lengths; a negative count; sums \
             of more than 64 bits (of value: 38 digits); a chain that needs more than its budget, which is up to a \
             minute. 120 000 states and 50 channels with walks of 8 touches take 5 seconds, 2 000 states of as many \
             channels 13; 7 000 states, 20 channels and walks of 2 000 touches are too much together.",
    source: "Anderl and others, Mapping the customer journey, 2016; removal effects in closed form, as shares of \
             walks through an absorbing Markov chain.",
    differs: &[Unlike {
        whom: "`markov_model` of ChannelAttribution (R, Python)",
        by: &[
            "there is no random number, where it simulates walks until results differ by less than 5 %; the removal \
             effects of conversions agree within its tolerance",
            "a walk has no longest length, where it counts one longer than the longest path as lost",
            "value is shared like conversions, where it draws a value for each simulated conversion by its last state \
             and has a removal effect of value",
            "a state may follow itself, where it leaves repeats out, which changes no removal effect",
        ],
    }],
};

/// The function `markov_removal`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct MarkovRemoval {
    signature: Signature,
}

impl Default for MarkovRemoval {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Parameterised for MarkovRemoval {
    type Parameters = Markov;

    fn parameters(&self, call: &Call) -> Result<Option<Markov>> {
        let parameter = call.constant(0, "the order")?;
        parameter.as_ref().map(Markov::of_parameter).transpose()
    }

    fn instead_of_distinct(&self) -> &'static str {
        "each row counts; select distinct rows in a subquery"
    }
}

impl AggregateUDFImpl for MarkovRemoval {
    fn name(&self) -> &str {
        Markov::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_arguments::<Markov>(types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(result_type::<Markov>())
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        empty_list(data_type)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::of(accumulator_of(self.parameters_of(&args)?, &args)?)))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(accumulator_of(self.parameters_of(&args)?, &args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(accumulator_of(self.parameters_of(&args)?, &args)?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| MANUAL.document());
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use proptest::prelude::*;

    use super::super::path_counts::testing::{entries_of, paths};
    use super::super::register_all;
    use super::*;

    async fn table(ctx: &SessionContext, sql: &str) -> String {
        let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    }

    /// Six hundred journeys in small batches and several partitions.
    async fn context() -> SessionContext {
        let config = SessionConfig::new().with_target_partitions(4).with_batch_size(7);
        let ctx = SessionContext::new_with_config(config);
        register_all(&ctx);
        let channel = |salt: usize| format!("['web', 'store', 'e-mail', 'call'][1 + (i * {salt} + i / 7) % 4]");
        let sql = format!(
            "create table journeys as select i, i % 5 as goal, array_slice([{}, {}, {}, {}, {}], 1, i % 6) as path, \
             i % 3 as conversions, i % 4 as nulls, arrow_cast(i % 11, 'Decimal128(9, 2)') as value \
             from (select unnest(range(0, 600)) as i)",
            channel(1),
            channel(3),
            channel(5),
            channel(2),
            channel(7)
        );
        ctx.sql(&sql).await.unwrap().collect().await.unwrap();
        ctx
    }

    #[tokio::test]
    async fn phases_partitions_and_sorted_input_do_not_change_a_bit() {
        let ctx = context().await;
        for call in
            ["markov_removal(2, path, conversions, nulls, value)", "shapley('rate', path, conversions, nulls, value)"]
        {
            let sql = format!("select goal, {call} as credits from journeys group by goal order by goal");
            let expected = table(&ctx, &sql).await;
            assert_eq!(expected.matches("channel: web").count(), 5, "{expected}");
            let sorted = sql.replace("from journeys", "from (select * from journeys order by goal, value desc)");
            assert_eq!(table(&ctx, &sorted).await, expected);
            let each = format!("select 1 as goal, {call} as credits from journeys where goal = 1");
            let alone = table(&ctx, &each).await;
            let line = alone.lines().nth(3).unwrap().trim_matches(|c| c == '|' || c == ' ');
            assert!(expected.contains(line.split_once('|').unwrap().1.trim()), "{alone}");
            ctx.sql("set datafusion.execution.skip_partial_aggregation_probe_ratio_threshold = 0").await.unwrap();
            ctx.sql("set datafusion.execution.skip_partial_aggregation_probe_rows_threshold = 0").await.unwrap();
            assert_eq!(table(&ctx, &sql).await, expected);
        }
    }

    #[tokio::test]
    async fn a_window_sees_the_paths_of_its_frame() {
        let ctx = context().await;
        let call = "markov_removal(1, path, conversions, nulls)";
        let running =
            format!("select credits from (select i, {call} over (order by i) as credits from journeys) where i = 99");
        let once = format!("select {call} as credits from journeys where i <= 99");
        assert_eq!(table(&ctx, &running).await, table(&ctx, &once).await);
    }

    /// No path comes 2^64 times, all together do; and values of 38 digits add up to 39.
    #[tokio::test]
    async fn sums_that_do_not_fit_are_told() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        for call in [
            "markov_removal(1, path, conversions, 0)",
            "markov_removal(1, path, 0, conversions)",
            "markov_removal(2, path, 1, 1, value)",
            "shapley('rate', path, conversions, 0)",
            "shapley('rate', path, 0, conversions)",
            "shapley('rate', path, 1, 1, value)",
        ] {
            let sql = format!(
                "select {call} from (select path, 9223372036854775807 as conversions, \
                 cast('99999999999999999999999999999999999999' as decimal(38, 0)) as value \
                 from (values (['a']), (['b']), (['c'])) as paths(path))"
            );
            let error = ctx.sql(&sql).await.unwrap().collect().await.unwrap_err().to_string();
            assert!(error.contains("add up to more than 64 bits, or 38 digits, hold"), "{call}: {error}");
        }
    }

    /// One whose pool has so many bytes.
    fn session(bytes: usize) -> SessionContext {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0).build_arc().unwrap();
        let ctx = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(2), runtime);
        register_all(&ctx);
        ctx
    }

    /// What is counted takes far less than the matrix of the chain, or the coalitions of the game.
    #[tokio::test]
    async fn a_result_that_does_not_fit_into_memory_is_refused() {
        // Every path of five touches on four channels, and as many channels by themselves.
        let paths = "select i % 2 as half, [a[1 + i % 4], a[1 + i / 4 % 4], a[1 + i / 16 % 4], a[1 + i / 64 % 4], \
                     a[1 + i / 256]] as path, ['c-' || (i / 2 % 16)] as single, 1 as conversions, 1 as nulls \
                     from (select ['web', 'store', 'e-mail', 'call'] as a, unnest(range(0, 1024)) as i)";
        for (small, call) in [
            ("markov_removal(1, path, conversions, nulls)", "markov_removal(4, path, conversions, nulls)"),
            ("shapley('conversions', single, conversions, nulls)", "shapley('rate', single, conversions, nulls)"),
        ] {
            for group in ["", "group by 1 + half"] {
                let sql = |call: &str| format!("select {call} from ({paths}) {group}");
                let rows = if group.is_empty() { 1 } else { 2 };
                let fits =
                    async |bytes: usize, call: &str| session(bytes).sql(&sql(call)).await.unwrap().collect().await;
                for (bytes, call) in [(2 << 20, small), (32 << 20, call)] {
                    let batches = fits(bytes, call).await.unwrap();
                    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), rows, "{call} {group}");
                }
                let error = fits(2 << 20, call).await.unwrap_err().to_string();
                assert!(error.contains("Resources exhausted"), "{call} {group}: {error}");
            }
        }
    }

    /// Each country has channels of its own: what is told is that of the five of one, not of the fifty of all.
    #[tokio::test]
    async fn a_group_tells_what_its_own_channels_take() {
        let sql = "select i % 10 as country, shapley('rate', [(i % 10) || '-' || (i / 10 % 5)], 1, 1) as credits \
                   from unnest(range(0, 1000)) as paths(i) group by 1";
        let batches = session(2 << 20).sql(sql).await.unwrap().collect().await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 10);
    }

    proptest! {
        #[test]
        fn credits_add_up_to_all_conversions_and_all_value(order in 1usize..=4, paths in paths(6)) {
            let (windows, _) = entries_of(Keys::Windows { order }, &paths);
            let credits = Markov { order }.credits(&windows).unwrap();
            let sum = |credit: &dyn Fn(&Credit) -> Option<f64>| credits.iter().map(credit).sum::<Option<f64>>();
            let conversions: u64 = paths.iter().map(|path| path.conversions).sum();
            let value: i128 = paths.iter().map(|path| path.value).sum();
            let has_effect = credits.iter().any(|credit| credit.measure.is_some_and(|effect| effect > 0.0));
            prop_assert!(credits.iter().all(|credit| credit.measure.is_none_or(|effect| (0.0..=1.0).contains(&effect))));
            if has_effect {
                prop_assert!((sum(&|credit| credit.conversions).unwrap() - conversions as f64).abs() < 1e-9);
                prop_assert!((sum(&|credit| credit.value).unwrap() - value as f64).abs() < 1e-6);
            } else {
                prop_assert!(conversions == 0 || paths.iter().all(|path| path.conversions == 0 || path.channels.is_empty()));
            }
        }
    }
}
