//! A naive matcher, for tests: it takes the pattern as it is written and tries everything, in the order of preference.

use super::pattern::Pattern;
use super::walk::{Kind, Rules, Skip};

/// A finding: kind, first row, number, and the variable of each row with whether it is excluded.
pub(super) type Naive = (Kind, usize, u64, Vec<(u8, bool)>);

/// The first row and the variables of an attempt, the last of which is in question.
pub(super) type Condition<'a> = dyn Fn(usize, &[(u8, bool)]) -> bool + 'a;

struct Attempt<'a> {
    rows: usize,
    start: usize,
    limit: usize,
    condition: &'a Condition<'a>,
    labels: Vec<(u8, bool)>,
    furthest: Vec<(u8, bool)>,
}

type Rest<'a, 'b> = &'a mut dyn FnMut(&mut Attempt<'b>) -> bool;

impl<'b> Attempt<'b> {
    fn row(&self) -> usize {
        self.start + self.labels.len()
    }

    /// Whether the pattern, followed by the rest, leads to a match.
    fn leads(&mut self, pattern: &Pattern, is_excluded: bool, rest: Rest<'_, 'b>) -> bool {
        match pattern {
            Pattern::Empty => rest(self),
            Pattern::Start => self.row() == 0 && rest(self),
            Pattern::End => self.row() == self.rows && rest(self),
            Pattern::Row(variable) => {
                if self.row() >= self.limit {
                    return false;
                }
                self.labels.push((*variable, is_excluded));
                if (self.condition)(self.start, &self.labels) {
                    if self.labels.len() > self.furthest.len() {
                        self.furthest = self.labels.clone();
                    }
                    if rest(self) {
                        return true;
                    }
                }
                self.labels.pop();
                false
            }
            Pattern::Concat(parts) => match parts.split_first() {
                None => rest(self),
                Some((first, others)) => {
                    let others = Pattern::Concat(others.to_vec());
                    self.leads(first, is_excluded, &mut |attempt| attempt.leads(&others, is_excluded, rest))
                }
            },
            Pattern::Alternation(parts) => parts.iter().any(|part| self.leads(part, is_excluded, rest)),
            Pattern::Permute(parts) => {
                orders(parts).into_iter().any(|order| self.leads(&Pattern::Concat(order), is_excluded, rest))
            }
            Pattern::Exclude(pattern) => self.leads(pattern, true, rest),
            Pattern::Repeat { pattern, least, most, is_reluctant } => {
                self.repeats(pattern, *least, *most, *is_reluctant, is_excluded, rest)
            }
        }
    }

    fn repeats(
        &mut self,
        pattern: &Pattern,
        least: u32,
        most: Option<u32>,
        is_reluctant: bool,
        is_excluded: bool,
        rest: Rest<'_, 'b>,
    ) -> bool {
        if least > 0 {
            let most = most.map(|most| most.saturating_sub(1));
            return self.leads(pattern, is_excluded, &mut |attempt| {
                attempt.repeats(pattern, least - 1, most, is_reluctant, is_excluded, rest)
            });
        }
        if most == Some(0) {
            return rest(self);
        }
        if is_reluctant && rest(self) {
            return true;
        }
        let before = self.labels.len();
        let fewer = most.map(|most| most - 1);
        let is_found = self.leads(pattern, is_excluded, &mut |attempt| {
            // A round of an unbounded repetition that takes no row is no round.
            (most.is_some() || attempt.labels.len() > before)
                && attempt.repeats(pattern, 0, fewer, is_reluctant, is_excluded, rest)
        });
        is_found || (!is_reluctant && rest(self))
    }
}

/// All orders of a list, those that begin with its first first.
fn orders(parts: &[Pattern]) -> Vec<Vec<Pattern>> {
    if parts.is_empty() {
        return vec![Vec::new()];
    }
    let begun = (0..parts.len()).flat_map(|first| {
        let mut others = parts.to_vec();
        let first = others.remove(first);
        orders(&others).into_iter().map(move |rest| [vec![first.clone()], rest].concat())
    });
    begun.collect()
}

/// All findings in a partition.
pub(super) fn walk(
    pattern: &Pattern,
    rows: usize,
    rules: Rules,
    limit: impl Fn(usize) -> usize,
    condition: &Condition<'_>,
) -> Result<Vec<Naive>, &'static str> {
    let mut findings: Vec<Naive> = Vec::new();
    let mut start = 0;
    while start < rows {
        let mut attempt =
            Attempt { rows, start, limit: limit(start), condition, labels: Vec::new(), furthest: Vec::new() };
        let is_match = attempt.leads(pattern, false, &mut |_| true);
        let numbered = |findings: &[Naive]| 1 + findings.iter().filter(|(_, _, number, _)| *number > 0).count() as u64;
        let is_covered = |findings: &[Naive], by: &[Kind]| {
            findings.iter().any(|(kind, first, _, labels)| {
                by.contains(kind) && *kind != Kind::Unmatched && first + labels.len() > start
            })
        };
        if is_match {
            let number = numbered(&findings);
            let labels = attempt.labels;
            let is_in = |set: u64| move |label: &(u8, bool)| set & (1 << label.0) != 0;
            let next = match rules.skip {
                _ if labels.is_empty() => start + 1,
                Skip::PastLastRow => start + labels.len(),
                Skip::ToNextRow => start + 1,
                Skip::ToFirst(set) => start + labels.iter().position(is_in(set)).ok_or("missing")?,
                Skip::ToLast(set) => start + labels.iter().rposition(is_in(set)).ok_or("missing")?,
            };
            if next == start {
                return Err("first row");
            }
            findings.push((Kind::Match, start, number, labels));
            start = next;
            continue;
        }
        let may_start = rules.skip == Skip::ToNextRow || !is_covered(&findings, &[Kind::Partial]);
        if rules.shows_partial && !attempt.furthest.is_empty() && may_start {
            let number = numbered(&findings);
            findings.push((Kind::Partial, start, number, attempt.furthest));
        } else if !is_covered(&findings, &[Kind::Match, Kind::Partial]) {
            findings.push((Kind::Unmatched, start, 0, Vec::new()));
        }
        start += 1;
    }
    Ok(findings)
}
