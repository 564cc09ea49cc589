//! All deliveries in the order in which they are received, a slice of time after the other.
//!
//! Memory: one entry of 16 bytes per customer who will come again, and the touches of visits under way.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::Options;
use super::clock::{DAY, MINUTE};
use super::customers::{Population, Visit};
use super::visits::{Touch, walk};
use crate::error::{Error, Result};

/// Touches that a slice should hold: enough to keep all threads busy, little enough to stay in cache.
const TOUCHES_PER_SLICE: u64 = 40_000;
/// Customers that one task of the census walks through.
const CUSTOMERS_PER_TASK: u32 = 512;

/// How many customers it takes to have the number of records asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) customers: u32,
    /// Records that the last customer may still give.
    last_customer_records: u64,
}

impl Census {
    /// Walks through customers, in order and without keeping them, until they have given `records`.
    pub(super) fn take(population: &Population, records: u64) -> Result<Self> {
        let mut customers = 0_u32;
        let mut left = records;
        while left > 0 {
            // A customer gives more than four records on average, so that little is walked in vain.
            let tasks = (left / 4 / u64::from(CUSTOMERS_PER_TASK)).clamp(1, 256) as u32;
            let end = customers.checked_add(tasks * CUSTOMERS_PER_TASK);
            end.ok_or_else(|| Error::invalid(format!("{records} events are more than four billion customers have")))?;
            let counts: Vec<Vec<u64>> = (0..tasks)
                .into_par_iter()
                .map(|task| {
                    let first = customers + task * CUSTOMERS_PER_TASK;
                    (first..first + CUSTOMERS_PER_TASK).map(|customer| count(population, customer)).collect()
                })
                .collect();
            for count in counts.into_iter().flatten() {
                customers += 1;
                if count >= left {
                    return Ok(Self { customers, last_customer_records: left });
                }
                left -= count;
            }
        }
        Ok(Self { customers, last_customer_records: 0 })
    }
}

/// Records that a customer gives.
fn count(population: &Population, customer: u32) -> u64 {
    let mut touches = Vec::new();
    let mut next = first_visit(population, customer);
    while let Some(visit) = next {
        let ended = walk(population, visit, &mut touches);
        next = population.next_visit(visit, ended);
    }
    touches.len() as u64
}

fn first_visit(population: &Population, customer: u32) -> Option<Visit> {
    let start = population.clock.calendar(population.arrival(customer))?;
    Some(Visit { start, customer, ordinal: 0 })
}

/// The stream of deliveries.
pub(super) struct Stream<'a> {
    population: &'a Population,
    census: Census,
    /// Length of a slice and number of the present one.
    slice: i64,
    number: i64,
    /// Customers who arrive before this time are on the agenda.
    arrived_until: i64,
    visits: Agenda<Visit>,
    touches: Agenda<Touch>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(population: &'a Population, census: Census, options: &Options) -> Self {
        let period = i64::from(options.days) * DAY;
        let slices = (options.events / TOUCHES_PER_SLICE + 1) as i64;
        Self {
            population,
            census,
            slice: (period / slices).clamp(MINUTE, DAY),
            number: 0,
            arrived_until: 0,
            visits: Agenda::default(),
            touches: Agenda::default(),
        }
    }

    /// The deliveries of the next slice, ordered by when they were received; `None` after the last.
    pub(super) fn next_slice(&mut self) -> Option<Vec<Touch>> {
        let end = (self.number + 1) * self.slice;
        self.welcome(end);
        if self.arrived_until >= self.population.clock.length() && self.visits.is_empty() && self.touches.is_empty() {
            return None;
        }
        let mut visits = self.visits.take();
        while !visits.is_empty() {
            visits = self.walk_all(&visits);
        }
        let mut touches = self.touches.take();
        touches.par_sort_unstable_by_key(|touch| (touch.received, touch.number, touch.delivery));
        self.number += 1;
        Some(touches)
    }

    /// Puts the first visits of all who arrive before `end` on the agenda, a day at a time.
    fn welcome(&mut self, end: i64) {
        let clock = &self.population.clock;
        while self.arrived_until < end.min(clock.length()) {
            let today = clock.active(self.arrived_until)..clock.active(self.arrived_until + DAY);
            let first_visits: Vec<Visit> = (0..self.census.customers)
                .into_par_iter()
                .with_min_len(1 << 14)
                .filter(|customer| today.contains(&self.population.arrival(*customer)))
                .filter_map(|customer| first_visit(self.population, customer))
                .collect();
            for visit in first_visits {
                self.visits.put(visit.start / self.slice, visit);
            }
            self.arrived_until += DAY;
        }
    }

    /// Walks the visits of the present slice. Returns those that follow within the slice.
    fn walk_all(&mut self, visits: &[Visit]) -> Vec<Visit> {
        let walked: Vec<(Vec<Touch>, Vec<Visit>)> = visits
            .par_chunks(512)
            .map(|visits| {
                let mut touches = Vec::with_capacity(visits.len() * 6);
                let mut next = Vec::with_capacity(visits.len());
                for visit in visits {
                    let ended = walk(self.population, *visit, &mut touches);
                    next.extend(self.population.next_visit(*visit, ended));
                }
                (touches, next)
            })
            .collect();
        let mut again = Vec::new();
        for (touches, next) in walked {
            for touch in touches {
                if touch.customer() + 1 == self.census.customers {
                    if self.census.last_customer_records == 0 {
                        continue;
                    }
                    self.census.last_customer_records -= 1;
                }
                self.touches.put(touch.received / self.slice, touch);
            }
            for visit in next {
                match visit.start / self.slice {
                    slice if slice == self.number => again.push(visit),
                    slice => self.visits.put(slice, visit),
                }
            }
        }
        again
    }
}

/// What is due in the present slice of time and in those ahead.
struct Agenda<T> {
    /// Number of the first slice that was not taken.
    first: i64,
    slices: VecDeque<Vec<T>>,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { first: 0, slices: VecDeque::new() }
    }
}

impl<T> Agenda<T> {
    fn put(&mut self, slice: i64, item: T) {
        let ahead = usize::try_from(slice - self.first).expect("nothing is due in the past");
        if self.slices.len() <= ahead {
            self.slices.resize_with(ahead + 1, Vec::new);
        }
        self.slices[ahead].push(item);
    }

    /// What is due in the first slice.
    fn take(&mut self) -> Vec<T> {
        self.first += 1;
        self.slices.pop_front().unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }
}
