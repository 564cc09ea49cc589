//! What a funnel asks of a chain, step by step: the [`Options`] checked against the steps.
//!
//! Steps count from 0 here, in messages from 1. Touches that are excluded, and those that take part without serving a
//! step, are marks: bit `c` of a touch's marks is column `c` of the exclusions, [`AMONG`] the rest.

use super::chain::MOST_STEPS;
use super::options::{Entry, Excluded, OnExcluded, Options, Order, Orders};
use super::steps::Steps;

/// The mark of a touch that takes part without serving a step. There are fewer ranges between steps than bits below it.
pub(super) const AMONG: u32 = 1 << 31;

/// What a funnel asks of a chain.
#[derive(Debug)]
pub(super) struct Terms {
    pub step_count: usize,
    pub entry: Entry,
    pub on_excluded: OnExcluded,
    pub has_hold: bool,
    /// Whether touches that match no step can stand in the way of one.
    pub sees_others: bool,
    /// Whether of those only the ones marked [`AMONG`] do.
    pub has_among: bool,
    /// The text of each column of exclusions.
    pub columns: Vec<String>,
    /// The texts of [`AMONG`].
    pub among: Vec<String>,
    /// Per step.
    steps: Vec<Term>,
}

/// What is asked of a step.
#[derive(Debug, Clone, Copy, Default)]
struct Term {
    order: Order,
    min_gap: Option<i64>,
    max_gap: Option<i64>,
    is_optional: bool,
    /// The columns of touches that are excluded between this step and the next.
    excluded: u32,
}

impl Terms {
    /// Checks options against the steps that they are about, and the window if it is known.
    pub(super) fn new(options: &Options, steps: &Steps<'_>, window: Option<i64>) -> Result<Self, String> {
        let step_count = steps.count();
        let mut terms = vec![Term::default(); step_count];
        set_orders(options, &mut terms)?;
        set_gaps(options, &mut terms)?;
        set_optional(options, steps, &mut terms)?;
        let columns = set_excluded(options, steps, &mut terms)?;
        check_any(options, &terms)?;
        if let Some(window) = window {
            check_window(&terms, window)?;
        }
        let sees_others = match options.rule {
            Some(rule) => rule.keeps_unmatched(),
            None => terms.iter().any(|term| term.order == Order::Next),
        };
        if options.among.is_some() && !sees_others {
            return Err("among tells which touches stand between two steps, and here none can; give it with order \
                        'next', strict_order or posthog_strict"
                .to_owned());
        }
        let among = options.among.clone().unwrap_or_default();
        Steps::marks(among.iter().map(|text| (text.as_str(), AMONG)))
            .map_err(|what| format!("among: an element {what}"))?;
        Ok(Self {
            step_count,
            entry: options.entry,
            on_excluded: options.on_excluded,
            has_hold: options.has_hold,
            sees_others,
            has_among: options.among.is_some(),
            columns,
            among,
            steps: terms,
        })
    }

    pub(super) fn order(&self, step: usize) -> Order {
        self.steps[step].order
    }

    pub(super) fn min_gap(&self, step: usize) -> Option<i64> {
        self.steps[step].min_gap
    }

    pub(super) fn max_gap(&self, step: usize) -> Option<i64> {
        self.steps[step].max_gap
    }

    /// The columns of touches that a chain which goes from a step straight to a later one may not have between.
    pub(super) fn excluded(&self, from: usize, to: usize) -> u32 {
        self.steps[from..to].iter().fold(0, |columns, term| columns | term.excluded)
    }

    /// The first step from which a chain may go straight to `step`, which is not step 0: those between are optional.
    pub(super) fn first_before(&self, step: usize) -> usize {
        (0..step).rev().find(|before| !self.steps[*before].is_optional).unwrap_or(0)
    }

    /// Whether steps may be served in another order.
    pub(super) fn is_unordered(&self) -> bool {
        self.steps.iter().any(|term| term.order == Order::Any)
    }

    /// The steps that are served in any order with `step`, itself included, and the step after them.
    pub(super) fn run(&self, step: usize) -> (u32, usize) {
        let is_any = |step: &usize| self.steps.get(*step).is_some_and(|term| term.order == Order::Any);
        let end = if is_any(&step) { (step..).find(|step| !is_any(step)).unwrap_or(self.step_count) } else { step + 1 };
        let start = if is_any(&step) { (0..step).rev().take_while(is_any).last().unwrap_or(step) } else { step };
        ((start..end).fold(0, |steps, step| steps | 1 << step), end)
    }
}

fn set_orders(options: &Options, terms: &mut [Term]) -> Result<(), String> {
    match &options.orders {
        // Nothing comes before step 1.
        Orders::All(Order::Next) => terms[1..].iter_mut().for_each(|term| term.order = Order::Next),
        Orders::All(order) => terms.iter_mut().for_each(|term| term.order = *order),
        Orders::Each(orders) => {
            expect_one_per_step("order", orders.len(), terms.len())?;
            if orders[0] == Order::Next {
                return Err("order: step 1 is 'next' to nothing; write 'eventually' for it".to_owned());
            }
            let mut runs = orders.chunk_by(|before, after| before == after);
            if runs.any(|run| run == [Order::Any]) {
                return Err("order: 'any' needs a neighbour of its kind; write 'eventually' for a step that has none"
                    .to_owned());
            }
            terms.iter_mut().zip(orders).for_each(|(term, order)| term.order = *order);
        }
    }
    Ok(())
}

fn set_gaps(options: &Options, terms: &mut [Term]) -> Result<(), String> {
    for (name, gaps) in [("min_gaps", &options.min_gaps), ("max_gaps", &options.max_gaps)] {
        let Some(gaps) = gaps else { continue };
        expect_one_per_step(name, gaps.len(), terms.len())?;
        if gaps[0].is_some() {
            return Err(format!("{name}: step 1 has no step before it; write null for it"));
        }
        for (term, gap) in terms.iter_mut().zip(gaps) {
            if name == "min_gaps" { term.min_gap = *gap } else { term.max_gap = *gap }
        }
    }
    for (step, term) in terms.iter().enumerate() {
        if let (Some(min_gap), Some(max_gap)) = (term.min_gap, term.max_gap)
            && min_gap > max_gap
        {
            return Err(format!(
                "step {} cannot match: its min_gaps, {}, is above its max_gaps, {}",
                step + 1,
                in_seconds(min_gap),
                in_seconds(max_gap)
            ));
        }
    }
    Ok(())
}

fn set_optional(options: &Options, steps: &Steps<'_>, terms: &mut [Term]) -> Result<(), String> {
    for number in &options.optional {
        let step = usize::try_from(*number).ok().and_then(|number| number.checked_sub(1));
        match step {
            Some(0) => return Err("optional: step 1 is how a funnel is entered and cannot be optional".to_owned()),
            Some(step) if step < terms.len() => terms[step].is_optional = true,
            _ => return Err(format!("optional: expected numbers from 2 to {}, got {number}", terms.len())),
        }
    }
    for step in 1..terms.len().saturating_sub(1) {
        let is_same = steps.covers(step, steps, step + 1) && steps.covers(step + 1, steps, step);
        if is_same && terms[step].is_optional && !terms[step + 1].is_optional {
            return Err(format!(
                "optional: step {} is the same as step {} after it, which could not be told from it; require it or \
                 leave it out",
                step + 1,
                step + 2
            ));
        }
    }
    Ok(())
}

/// Gives each range the columns that are excluded in it, and returns what each column matches.
fn set_excluded(options: &Options, steps: &Steps<'_>, terms: &mut [Term]) -> Result<Vec<String>, String> {
    let ranges = terms.len() - 1;
    let texts: Vec<Option<&str>> = match &options.excluded {
        Excluded::Nowhere => return Ok(vec![]),
        Excluded::Everywhere(text) => vec![Some(text.as_str()); ranges],
        Excluded::Between(texts) => texts.iter().map(Option::as_deref).collect(),
    };
    if ranges == 0 {
        return Err("excluded: a funnel of one step has nothing between its steps".to_owned());
    }
    if texts.len() != ranges {
        return Err(format!(
            "excluded: expected {ranges} elements, one from each of {} steps to the next, got {}",
            terms.len(),
            texts.len()
        ));
    }
    let mut columns: Vec<String> = vec![];
    for (from, text) in texts.into_iter().enumerate() {
        let Some(text) = text else { continue };
        let excluded = Steps::marks([(text, 1)]).map_err(|what| format!("excluded: an element {what}"))?;
        if let Some(step) = [from, from + 1].into_iter().find(|step| excluded.covers(0, steps, *step)) {
            return Err(format!(
                "excluded: '{text}' holds all that step {} asks for, so nothing could serve it; exclude less, or \
                 between other steps",
                step + 1
            ));
        }
        let column = columns.iter().position(|column| column == text).unwrap_or_else(|| {
            columns.push(text.to_owned());
            columns.len() - 1
        });
        terms[from].excluded = 1 << column;
    }
    Ok(columns)
}

/// Steps in any order leave open which step comes before which.
fn check_any(options: &Options, terms: &[Term]) -> Result<(), String> {
    if terms.iter().all(|term| term.order != Order::Any) {
        return Ok(());
    }
    let has_gaps = terms.iter().any(|term| term.min_gap.is_some() || term.max_gap.is_some());
    let what = if terms.iter().any(|term| term.order == Order::Next) {
        "order 'next'"
    } else if has_gaps {
        "min_gaps and max_gaps"
    } else if terms.iter().any(|term| term.is_optional) {
        "optional steps"
    } else if matches!(options.excluded, Excluded::Between(_)) {
        "exclusions between some of the steps (a single text excludes between all)"
    } else {
        return Ok(());
    };
    Err(format!("order 'any' leaves open which step comes before which, and does not go with {what}"))
}

/// Fails when a step lies further away than the window reaches.
fn check_window(terms: &[Term], window: i64) -> Result<(), String> {
    // The least time from step 1, whichever optional steps are skipped.
    let mut least = vec![0i64; terms.len()];
    for step in 1..terms.len() {
        let before = (0..step).rev();
        let mut nearest = i64::MAX;
        for from in before {
            nearest = nearest.min(least[from]);
            if !terms[from].is_optional {
                break;
            }
        }
        least[step] = nearest.saturating_add(terms[step].min_gap.unwrap_or(0));
        if least[step] > window {
            return Err(format!(
                "step {} cannot match: by min_gaps it comes {} after step 1 at the earliest, and the window is {}",
                step + 1,
                in_seconds(least[step]),
                in_seconds(window)
            ));
        }
    }
    Ok(())
}

/// A span of microseconds as it is read.
fn in_seconds(microseconds: i64) -> String {
    let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
    let digits = format!("{seconds}.{rest:06}");
    let number = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{number} {}", if number == "1" { "second" } else { "seconds" })
}

fn expect_one_per_step(name: &str, count: usize, step_count: usize) -> Result<(), String> {
    debug_assert!(step_count <= MOST_STEPS);
    if count == step_count {
        return Ok(());
    }
    Err(format!("{name}: expected one element per step, {step_count}, got {count}"))
}
