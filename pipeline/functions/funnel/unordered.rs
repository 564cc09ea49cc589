//! Chains with steps that may be served in any order.
//!
//! Neighbouring steps of this kind are a run: a touch is put in the first step of the run that it matches and that is
//! not served yet, and the step after the run waits until all of it is served. From its entry on a chain takes every
//! touch that it can, so that an entry has one chain.
//!
//! A chain goes from touch to touch by the places of the steps that it waits for, not through what lies between: an
//! entry costs as many searches as the funnel has steps, squared, however long its window.
//!
//! Memory: 4 bytes per touch and step that it matches, and 12 per entry.

use std::cmp::Reverse;

use super::chain::MOST_STEPS;
use super::search::{Reached, View, gap, take_step};
use super::terms::Terms;
use super::touches::{Touch, bits};

/// The chains of one journey.
#[derive(Debug)]
pub(super) struct Unordered {
    /// Per step, the steps of its run and the step after it.
    runs: Vec<(u32, usize)>,
    /// The columns of touches that end a chain.
    excluded: u32,
    /// Per step, the touches that match it.
    places: Vec<Vec<u32>>,
    /// By arrival, of those the one that entered last first.
    chains: Vec<Chain>,
    furthest: usize,
}

/// How far the chain of an entry got.
#[derive(Debug, Clone, Copy)]
struct Chain {
    entry: u32,
    /// Its last touch.
    arrival: u32,
    /// How many steps it served.
    depth: u32,
}

impl Unordered {
    pub(super) fn new(terms: &Terms) -> Self {
        Self {
            runs: (0..terms.step_count).map(|step| terms.run(step)).collect(),
            excluded: terms.excluded(0, terms.step_count),
            places: vec![vec![]; terms.step_count],
            chains: vec![],
            furthest: 0,
        }
    }

    /// The steps with which a chain can begin.
    pub(super) fn entry_steps(&self) -> u32 {
        self.runs[0].0
    }

    fn clear(&mut self) {
        self.places.iter_mut().for_each(Vec::clear);
        self.chains.clear();
        self.furthest = 0;
    }

    fn add(&mut self, chain: Chain) {
        self.furthest = self.furthest.max(chain.depth as usize);
        self.chains.push(chain);
    }

    /// Looks for the chain of every entry.
    pub(super) fn every_entry(&mut self, view: View<'_>) {
        self.clear();
        for (number, touch) in (0..).zip(view.touches) {
            bits(touch.steps).for_each(|step| self.places[step].push(number));
        }
        let entry_steps = self.entry_steps();
        let mut complete_at = u32::MAX;
        for (entry, touch) in (0..).zip(view.touches) {
            // What enters after a chain is complete arrives later.
            if touch.steps & entry_steps == 0 || entry > complete_at {
                continue;
            }
            let chain = self.follow(view, entry, |after, steps, _| next_place(&self.places, after, steps), |_, _| {});
            if chain.depth as usize == self.runs.len() {
                complete_at = complete_at.min(chain.arrival);
            }
            self.add(chain);
        }
        self.chains.sort_unstable_by_key(|chain| (chain.arrival, Reverse(chain.entry)));
    }

    /// Looks for the chain of one entry, whose value all touches have to hold. Returns the first touch that is not of
    /// this attempt.
    pub(super) fn one_entry(&mut self, view: View<'_>, entry: u32) -> u32 {
        self.clear();
        let chain = self.follow(view, entry, next_touch(view, entry), |_, _| {});
        self.add(chain);
        if chain.depth as usize == self.runs.len() {
            return chain.arrival + 1;
        }
        let entered = view.touches[entry as usize];
        let later = &view.touches[entry as usize..];
        let excluded_at = self.excluded_after(view, chain.arrival);
        let is_over = |touch: &Touch| {
            gap(entered, *touch) > view.window || excluded_at.is_some_and(|position| touch.position >= position)
        };
        entry + later.partition_point(|touch| !is_over(touch)) as u32
    }

    /// The furthest step that was reached, from 1; 0 for none.
    pub(super) fn furthest(&self) -> usize {
        self.furthest
    }

    /// Of the chains that serve as many steps and arrive with one touch the one that entered last stands for all: the
    /// first to arrive that `is_wanted`, asked with last touch and entry.
    pub(super) fn first_arrival(&self, steps: usize, is_wanted: impl Fn(u32, u32) -> bool) -> Option<Reached> {
        let mut arrival = None;
        let mut as_far = self.chains.iter().filter(|chain| chain.depth as usize == steps);
        let first = as_far.find(|chain| {
            let is_first_there = arrival.replace(chain.arrival) != Some(chain.arrival);
            is_first_there && is_wanted(chain.arrival, chain.entry)
        })?;
        Some(Reached { arrival: first.arrival, entry: first.entry, chain: first.entry })
    }

    /// Writes the touch of each step of the chain of an entry, `None` for a step that it did not serve.
    pub(super) fn write(&self, view: View<'_>, entry: u32, touches: &mut [Option<u32>; MOST_STEPS]) {
        touches.fill(None);
        self.follow(view, entry, next_touch(view, entry), |step, touch| touches[step] = Some(touch));
    }

    /// Follows the chain of an entry and shows which touch serves which step. `next` finds the first touch after
    /// another that matches one of some steps, if its position is not beyond a last one.
    fn follow(
        &self,
        view: View<'_>,
        entry: u32,
        next: impl Fn(u32, u32, u32) -> Option<u32>,
        mut show: impl FnMut(usize, u32),
    ) -> Chain {
        let entered = view.touches[entry as usize];
        let mut chain = Chain { entry, arrival: entry, depth: 0 };
        let (mut waiting, mut end) = self.runs[0];
        let mut found = Some(entry);
        while let Some(number) = found {
            take_step();
            let touch = view.touches[number as usize];
            let step = (touch.steps & waiting).trailing_zeros() as usize;
            show(step, number);
            chain.arrival = number;
            chain.depth += 1;
            waiting ^= 1 << step;
            if waiting == 0 {
                let Some(run) = self.runs.get(end) else { break };
                (waiting, end) = *run;
            }
            let last_position = self.excluded_after(view, number).unwrap_or(u32::MAX);
            let is_in_reach = |number: &u32| {
                let touch = view.touches[*number as usize];
                touch.position <= last_position && gap(entered, touch) <= view.window
            };
            found = next(number, waiting, last_position).filter(is_in_reach);
        }
        chain
    }

    /// The position of the first excluded touch after another.
    fn excluded_after(&self, view: View<'_>, number: u32) -> Option<u32> {
        if self.excluded == 0 {
            return None;
        }
        let position = view.touches[number as usize].position;
        view.exclusions?.first_after(self.excluded, position).map(|(excluded, _)| excluded)
    }
}

/// The first place after a touch of one of some steps.
fn next_place(places: &[Vec<u32>], after: u32, steps: u32) -> Option<u32> {
    let next = |step: usize| {
        take_step();
        let places = &places[step];
        places.get(places.partition_point(|place| *place <= after)).copied()
    };
    bits(steps).filter_map(next).min()
}

/// The same by looking at touch after touch, for a single entry, whose value they have to hold; none beyond its window.
fn next_touch(view: View<'_>, entry: u32) -> impl Fn(u32, u32, u32) -> Option<u32> {
    let entered = view.touches[entry as usize];
    move |after, steps, last_position| {
        let later = (after + 1..).zip(&view.touches[after as usize + 1..]);
        let mut in_reach =
            later.take_while(|(_, touch)| touch.position <= last_position && gap(entered, **touch) <= view.window);
        let is_next = |touch: &Touch| {
            take_step();
            touch.steps & steps != 0 && touch.held == entered.held
        };
        in_reach.find(|(_, touch)| is_next(touch)).map(|(number, _)| number)
    }
}
