//! The options told plainly: every chain there is, from the definition in [`manual`](super::manual). Slow, for tests only. It shares nothing with the functions but the names of the choices, and is compared with the whole of them.

use std::cmp::Reverse;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;
use proptest::prelude::*;

use super::super::arguments::item_field;
use super::JourneyFunnel;
use super::options::{Entry, Order};

/// A touch: a touchpoint of one letter, and a value to hold.
#[derive(Debug, Clone, Copy)]
struct Touch {
    time: Option<i64>,
    touchpoint: &'static str,
    held: Option<i32>,
}

/// What a funnel asks.
#[derive(Debug, Clone)]
struct Asked {
    steps: Vec<&'static str>,
    window: i64,
    orders: Vec<Order>,
    entry: Entry,
    min_gaps: Vec<Option<i64>>,
    max_gaps: Vec<Option<i64>>,
    excluded: Vec<Option<&'static str>>,
    is_excluded_everywhere: bool,
    removes: bool,
    /// Steps from 0.
    optional: Vec<usize>,
    has_hold: bool,
    among: Option<Vec<&'static str>>,
}

/// A chain: (step, touch) pairs.
type Chain = Vec<(usize, usize)>;

/// An attempt: the position (from 1) of the touch of each step, and the last entry.
type Attempt = (Vec<Option<i32>>, i32);

fn matches(text: &str, touch: Touch) -> bool {
    text.split('|').any(|alternative| alternative == "*" || alternative == touch.touchpoint)
}

impl Asked {
    fn is_unordered(&self) -> bool {
        self.orders.contains(&Order::Any)
    }

    /// The steps that can begin a chain.
    fn entry_steps(&self) -> Vec<usize> {
        let run = self.orders.iter().take_while(|order| **order == Order::Any).count();
        (0..run.max(1)).collect()
    }
}

/// One journey; only touches with a time are left.
struct Naive<'a> {
    asked: &'a Asked,
    touches: Vec<(i64, Touch, i32)>,
}

impl Naive<'_> {
    fn time(&self, touch: usize) -> i64 {
        self.touches[touch].0
    }

    fn held(&self, touch: usize) -> Option<i32> {
        self.touches[touch].1.held
    }

    fn serves(&self, step: usize, touch: usize) -> bool {
        matches(self.asked.steps[step], self.touches[touch].1) && (!self.asked.has_hold || self.held(touch).is_some())
    }

    fn takes_part(&self, touch: usize) -> bool {
        let touch = self.touches[touch].1;
        let is_step = self.asked.steps.iter().any(|step| matches(step, touch));
        is_step || self.asked.among.as_ref().is_none_or(|among| among.iter().any(|text| matches(text, touch)))
    }

    /// Whether something excluded between the steps `from` and `to` lies among touches.
    fn is_hit(&self, from: usize, to: usize, mut touches: std::ops::Range<usize>) -> bool {
        let excluded = &self.asked.excluded[from.min(self.asked.excluded.len())..to.min(self.asked.excluded.len())];
        touches.any(|touch| excluded.iter().flatten().any(|text| matches(text, self.touches[touch].1)))
    }

    /// The steps that may follow a step directly.
    fn followers(&self, step: usize) -> Vec<usize> {
        let is_optional = |step: &usize| self.asked.optional.contains(step);
        (step + 1..self.asked.steps.len())
            .filter(|next| (step + 1..*next).all(|between| is_optional(&between)))
            .collect()
    }

    /// Every chain that begins with a touch.
    fn chains(&self, entry: usize, minds_exclusions: bool) -> Vec<Chain> {
        if self.asked.is_unordered() {
            return vec![self.unordered_chain(entry, minds_exclusions)];
        }
        let mut open: Vec<Chain> = vec![vec![(0, entry)]];
        let mut chains = vec![];
        while let Some(chain) = open.pop() {
            let (step, last) = chain[chain.len() - 1];
            for next in self.followers(step) {
                for touch in last + 1..self.touches.len() {
                    let gap = self.time(touch) - self.time(last);
                    let is_allowed = self.serves(next, touch)
                        && (!self.asked.has_hold || self.held(touch) == self.held(entry))
                        && self.time(touch) - self.time(entry) <= self.asked.window
                        && self.asked.min_gaps[next].is_none_or(|least| gap >= least)
                        && self.asked.max_gaps[next].is_none_or(|most| gap <= most)
                        && (self.asked.orders[next] != Order::Next
                            || (last + 1..touch).all(|between| !self.takes_part(between)))
                        && !(minds_exclusions && self.is_hit(step, next, last + 1..touch));
                    if is_allowed {
                        open.push([chain.clone(), vec![(next, touch)]].concat());
                    }
                }
            }
            chains.push(chain);
        }
        chains
    }

    /// The chain of an entry that takes every touch that it can.
    fn unordered_chain(&self, entry: usize, minds_exclusions: bool) -> Chain {
        let mut chain: Chain = vec![];
        for touch in entry..self.touches.len() {
            let is_held = !self.asked.has_hold || self.held(touch) == self.held(entry);
            if self.time(touch) - self.time(entry) > self.asked.window {
                break;
            }
            let step = self.waiting(&chain).into_iter().find(|step| is_held && self.serves(*step, touch));
            match step {
                Some(step) => chain.push((step, touch)),
                None if minds_exclusions && self.is_hit(0, self.asked.steps.len(), touch..touch + 1) => break,
                None => {}
            }
        }
        chain
    }

    /// The steps that a chain waits for.
    fn waiting(&self, chain: &Chain) -> Vec<usize> {
        let is_served = |step: &usize| chain.iter().any(|(served, _)| served == step);
        let Some(first) = (0..self.asked.steps.len()).find(|step| !is_served(step)) else { return vec![] };
        let is_any = |step: &usize| self.asked.orders[*step] == Order::Any;
        let run = (first..self.asked.steps.len()).take_while(|step| is_any(step) || *step == first);
        let run: Vec<usize> = run.take_while(|step| is_any(&first) || *step == first).collect();
        run.into_iter().filter(|step| !is_served(step)).collect()
    }

    fn depth(&self, chain: &Chain) -> usize {
        if self.asked.is_unordered() { chain.len() } else { chain[chain.len() - 1].0 + 1 }
    }

    fn entries(&self, from: usize) -> Vec<usize> {
        let enters = |touch: &usize| self.asked.entry_steps().into_iter().any(|step| self.serves(step, *touch));
        (from..self.touches.len()).filter(enters).collect()
    }

    /// Of chains the deepest; of those the first to arrive, the last to enter, and so on from its end.
    fn best(&self, chains: &[Chain]) -> Option<Chain> {
        let sign = if self.asked.entry == Entry::Last { -1 } else { 1 };
        let key = |chain: &Chain| {
            let backwards = chain.iter().rev().map(|(step, touch)| (Reverse(*step), sign * *touch as i32));
            let backwards: Vec<_> = backwards.collect();
            (Reverse(self.depth(chain)), chain[chain.len() - 1].1, Reverse(chain[0].1), backwards)
        };
        chains.iter().min_by_key(|chain| key(chain)).cloned()
    }

    /// Whether a chain of an entry could go on after a touch that is not the last of all.
    fn can_go_on(&self, chains: &[Chain], after: usize) -> bool {
        chains.iter().any(|chain| {
            let chain: Chain = chain.iter().copied().take_while(|(_, touch)| *touch <= after).collect();
            let (step, last) = chain[chain.len() - 1];
            let closes_at = self.time(chain[0].1) + self.asked.window;
            if self.time(after) > closes_at {
                return false;
            }
            if self.asked.is_unordered() {
                return chain.len() < self.asked.steps.len()
                    && !self.is_hit(0, self.asked.steps.len(), last + 1..after + 1);
            }
            self.followers(step).into_iter().any(|next| {
                let earliest = self.time(after).max(self.time(last) + self.asked.min_gaps[next].unwrap_or(0));
                earliest <= closes_at
                    && self.asked.max_gaps[next].is_none_or(|most| earliest <= self.time(last) + most)
                    && !self.is_hit(step, next, last + 1..after + 1)
                    && (self.asked.orders[next] != Order::Next
                        || (last + 1..after + 1).all(|between| !self.takes_part(between)))
            })
        })
    }

    fn attempt(&self, chain: &Chain, last_entry: usize) -> Attempt {
        let last_step = chain.iter().map(|(step, _)| *step).max().unwrap();
        let touch = |step| chain.iter().find(|(served, _)| *served == step).map(|(_, touch)| self.touches[*touch].2);
        ((0..=last_step).map(touch).collect(), self.touches[last_entry].2)
    }

    /// The furthest step and the attempts.
    fn outcome(&self) -> (usize, Vec<Attempt>) {
        let step_count = self.asked.steps.len();
        if self.asked.entry == Entry::Every {
            let (mut furthest, mut attempts, mut from) = (0, vec![], 0);
            while let Some(entry) = self.entries(from).first().copied() {
                let chains = self.chains(entry, true);
                let best = self.best(&chains).unwrap();
                furthest = furthest.max(self.depth(&best));
                attempts.push(self.attempt(&best, entry));
                from = if self.depth(&best) == step_count {
                    best[best.len() - 1].1 + 1
                } else {
                    let serves = |touch: usize| chains.iter().any(|chain| chain.iter().any(|(_, of)| *of == touch));
                    let is_over = |touch: &usize| !serves(*touch) && !self.can_go_on(&chains, *touch);
                    (entry + 1..self.touches.len()).find(is_over).unwrap_or(self.touches.len())
                };
            }
            return (furthest, attempts);
        }
        let entries = match self.asked.entry {
            Entry::First => self.entries(0).into_iter().take(1).collect(),
            _ => self.entries(0),
        };
        let all = |minds_exclusions| -> Vec<Chain> {
            entries.iter().flat_map(|entry| self.chains(*entry, minds_exclusions)).collect()
        };
        let mut chains = all(true);
        if self.asked.removes {
            let furthest = all(false).iter().map(|chain| self.depth(chain)).max().unwrap_or(0);
            chains.retain(|chain| self.depth(chain) == furthest);
            let deepest = chains.clone();
            let latest_entry = |chain: &Chain| {
                let same = deepest.iter().filter(|other| other.last().unwrap().1 == chain.last().unwrap().1);
                same.map(|other| other[0].1).max().unwrap()
            };
            chains.retain(|chain| {
                let closes_at = self.time(latest_entry(chain)) + self.asked.window;
                let last = chain[chain.len() - 1].1;
                let in_time = (last + 1..self.touches.len()).take_while(|touch| self.time(*touch) <= closes_at).count();
                furthest == step_count || !self.is_hit(furthest - 1, furthest, last + 1..last + 1 + in_time)
            });
        }
        let Some(best) = self.best(&chains) else { return (0, vec![]) };
        let last_entry = match self.asked.entry {
            Entry::First => best[0].1,
            _ if self.depth(&best) == step_count => {
                let arrival = best[best.len() - 1].1;
                entries.into_iter().filter(|entry| *entry <= arrival).max().unwrap()
            }
            _ => entries.into_iter().max().unwrap(),
        };
        (self.depth(&best), vec![self.attempt(&best, last_entry)])
    }
}

/// What the definition says.
fn told(asked: &Asked, touches: &[Touch]) -> (usize, Vec<Attempt>) {
    let with_time = (1..).zip(touches).filter_map(|(position, touch)| Some((touch.time?, *touch, position)));
    Naive { asked, touches: with_time.collect() }.outcome()
}

// ---------------------------------------------------------------------------------------------------------------
// The functions themselves
// ---------------------------------------------------------------------------------------------------------------

fn one_row(values: ArrayRef) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    Arc::new(ListArray::new(item_field(values.data_type().clone()), offsets, values, None))
}

fn text_list(texts: Vec<Option<&str>>) -> ArrayRef {
    one_row(Arc::new(StringArray::from(texts)))
}

/// The options as a user writes them.
fn options(asked: &Asked) -> ScalarValue {
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let mut fields: Vec<(&str, ArrayRef)> = vec![];
    let orders = asked.orders.iter().map(|order| match order {
        Order::Eventually => Some("eventually"),
        Order::Next => Some("next"),
        Order::Any => Some("any"),
    });
    fields.push(("order", text_list(orders.collect())));
    fields.push(("min_gaps", one_row(Arc::new(Int64Array::from(asked.min_gaps.clone())))));
    fields.push(("max_gaps", one_row(Arc::new(Int64Array::from(asked.max_gaps.clone())))));
    let entry = match asked.entry {
        Entry::Last => "last",
        Entry::First => "first",
        Entry::Every => "every",
    };
    fields.push(("entry", text(entry)));
    if asked.excluded.iter().any(Option::is_some) {
        let excluded = match asked.is_excluded_everywhere {
            true => text(asked.excluded[0].unwrap()),
            false => text_list(asked.excluded.clone()),
        };
        fields.push(("excluded", excluded));
        fields.push(("on_excluded", text(if asked.removes { "remove" } else { "end" })));
    }
    let optional: Vec<i64> = asked.optional.iter().map(|step| *step as i64 + 1).collect();
    fields.push(("optional", one_row(Arc::new(Int64Array::from(optional)))));
    if let Some(among) = &asked.among {
        fields.push(("among", text_list(among.iter().copied().map(Some).collect())));
    }
    let columns = fields.into_iter();
    let columns = columns.map(|(name, column)| (Arc::new(Field::new(name, column.data_type().clone(), true)), column));
    ScalarValue::Struct(Arc::new(StructArray::from(columns.collect::<Vec<_>>())))
}

/// The answer of a function over one journey.
fn call(function: JourneyFunnel, asked: &Asked, touches: &[Touch]) -> ArrayRef {
    let times = TimestampMicrosecondArray::from(touches.iter().map(|touch| touch.time).collect::<Vec<_>>());
    let column = |array| ColumnarValue::Array(array);
    let mut args = vec![
        column(one_row(Arc::new(times))),
        column(text_list(touches.iter().map(|touch| Some(touch.touchpoint)).collect())),
        column(text_list(vec![None; touches.len()])),
        column(text_list(asked.steps.iter().copied().map(Some).collect())),
        ColumnarValue::Scalar(ScalarValue::from(asked.window)),
        ColumnarValue::Scalar(options(asked)),
    ];
    if asked.has_hold {
        args.push(column(one_row(Arc::new(Int32Array::from(
            touches.iter().map(|touch| touch.held).collect::<Vec<_>>(),
        )))));
    }
    let args = ScalarFunctionArgs {
        args,
        arg_fields: vec![],
        number_rows: 1,
        return_field: Arc::new(Field::new("", DataType::Null, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    let answer = function.invoke_with_args(args).unwrap_or_else(|error| panic!("{error}"));
    answer.into_array(1).unwrap()
}

fn numbers(list: ArrayRef) -> Vec<Option<i32>> {
    list.as_primitive::<Int32Type>().iter().collect()
}

/// The furthest step, the positions and the attempts that the functions return.
fn answered(asked: &Asked, touches: &[Touch]) -> (usize, Vec<Option<i32>>, Vec<Attempt>) {
    let furthest = call(JourneyFunnel::furthest(), asked, touches).as_primitive::<Int32Type>().value(0);
    let positions = numbers(call(JourneyFunnel::positions(), asked, touches).as_list::<i32>().value(0));
    let records = call(JourneyFunnel::attempts(), asked, touches).as_list::<i32>().value(0);
    let (steps, last_entries) = (records.as_struct().column(0).as_list::<i32>(), records.as_struct().column(1));
    let attempts = (0..records.len())
        .map(|attempt| (numbers(steps.value(attempt)), last_entries.as_primitive::<Int32Type>().value(attempt)));
    (furthest as usize, positions, attempts.collect())
}

fn agree(asked: &Asked, touches: &[Touch]) -> Result<(), TestCaseError> {
    let (furthest, attempts) = told(asked, touches);
    let (level, positions, found) = answered(asked, touches);
    prop_assert_eq!((level, &found), (furthest, &attempts));
    let depth = |steps: &Vec<Option<i32>>| match asked.is_unordered() {
        true => steps.iter().flatten().count(),
        false => steps.len(),
    };
    let witness = attempts.iter().map(|(steps, _)| steps).find(|steps| depth(steps) == furthest);
    prop_assert_eq!(positions, witness.cloned().unwrap_or_default());
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------
// Cases
// ---------------------------------------------------------------------------------------------------------------

fn touches() -> impl Strategy<Value = Vec<Touch>> {
    let touchpoint = prop::sample::select(vec!["a", "a", "b", "b", "c", "c", "d", "x", "y"]);
    let touch = (0i64..4, touchpoint, prop::option::weighted(0.9, 0i32..2), prop::bool::weighted(0.95));
    prop::collection::vec(touch, 0..10).prop_map(|touches| {
        let mut now = 0;
        let touch = |(gap, touchpoint, held, has_time)| {
            now += gap;
            Touch { time: Some(now).filter(|_| has_time), touchpoint, held }
        };
        touches.into_iter().map(touch).collect()
    })
}

/// One of the choices as often as not, else the first.
fn choice<T: Clone + std::fmt::Debug + 'static>(choices: Vec<T>) -> impl Strategy<Value = T> {
    let usual = choices[0].clone();
    prop_oneof![Just(usual), prop::sample::select(choices)]
}

fn asked() -> impl Strategy<Value = Asked> {
    let steps = prop::collection::vec(prop::sample::select(vec!["a", "a", "b", "b", "c", "a|b", "b|x", "*"]), 1..=4);
    let orders = prop_oneof![
        Just(vec![Order::Eventually; 4]),
        prop::collection::vec(prop::sample::select(vec![Order::Eventually, Order::Next]), 4),
        prop::collection::vec(prop::sample::select(vec![Order::Eventually, Order::Any, Order::Any]), 4),
    ];
    let gaps = || choice(vec![None, None, Some(0), Some(1), Some(3)]);
    let gaps = prop::collection::vec((gaps(), gaps()), 4);
    let excluded = (prop::collection::vec(choice(vec![None, Some("x"), Some("y"), Some("x|y")]), 3), any::<bool>());
    let optional = prop::collection::vec(choice(vec![false, true]), 4);
    let among = choice(vec![None, Some(vec!["d"]), Some(vec!["x", "y"]), Some(vec![])]);
    let entry = choice(vec![Entry::Last, Entry::First, Entry::Every]);
    let options = (gaps, excluded, any::<bool>(), optional, choice(vec![false, true]), among);
    (steps, 0i64..12, orders, entry, options).prop_map(|(steps, window, mut orders, entry, options)| {
        let (gaps, (mut excluded, is_excluded_everywhere), removes, optional, has_hold, among) = options;
        let count = steps.len();
        orders.truncate(count);
        orders[0] = if orders[0] == Order::Next { Order::Eventually } else { orders[0] };
        let is_unordered = orders.contains(&Order::Any);
        let has_next = orders.contains(&Order::Next);
        excluded.truncate(count - 1);
        let is_excluded_everywhere = (is_excluded_everywhere || is_unordered) && count > 1;
        if is_excluded_everywhere {
            let text = excluded[0];
            excluded.fill(text);
        }
        // A funnel says no to what has no clear meaning.
        let gap = |step: usize, gap: Option<i64>| gap.filter(|_| step > 0 && !is_unordered);
        let min_gaps: Vec<_> = (0..count).map(|step| gap(step, gaps[step].0)).collect();
        let max_gap = |step: usize| gap(step, gaps[step].1).map(|most| most.max(min_gaps[step].unwrap_or(0)));
        let is_optional = |step: &usize| optional[*step] && (*step + 1 == count || steps[*step] != steps[*step + 1]);
        Asked {
            max_gaps: (0..count).map(max_gap).collect(),
            optional: (1..count).filter(is_optional).filter(|_| !is_unordered).collect(),
            removes: removes && entry != Entry::Every && excluded.iter().any(Option::is_some),
            among: among.filter(|_| has_next),
            steps,
            window,
            orders,
            entry,
            min_gaps,
            excluded,
            is_excluded_everywhere,
            has_hold,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn options_agree_with_trying_every_chain(asked in asked(), touches in touches()) {
        agree(&asked, &touches)?;
    }
}
