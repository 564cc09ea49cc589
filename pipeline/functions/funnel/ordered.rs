//! Chains whose steps are served in their order: for each step and touch, the best chain that ends there.
//!
//! A node is a touch that serves a step, at the end of a chain. Of all chains that end there it stands for one: the one
//! that entered last, of those the one that skipped the fewest steps before the last, and of those the one whose touch
//! before is the latest (where all enter with one touch, the earliest). As what a step asks of the one before it
//! (gaps, neighbourhood, exclusions) concerns those two touches only, and the window favours the latest entry, no
//! other chain could get further. So a node's chain is the best node of a step before it, with one touch more.
//!
//! Which nodes a touch may follow is a range in journey order whose two ends only ever move on: the beginning with the
//! greatest gap and the last exclusion, the end with the least gap. The latest entry in such a range is kept by a
//! queue in which entries fall: a node that comes later and entered as late or later puts out those before it. (Where
//! the earliest touch counts, one that entered as late waits behind.)
//!
//! Time: a few steps per served step on average. Memory: 16 bytes per served step and 4 to 8 per step that can follow
//!       it.

use super::chain::MOST_STEPS;
use super::options::{Entry, Order};
use super::search::{Reached, View, gap, take_step};
use super::terms::Terms;
use super::touches::Touch;

/// A touch that serves a step, and the chain that it ends.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Index of the touch.
    touch: u32,
    /// Index of the touch that entered.
    entry: u32,
    /// The node before; of no meaning for step 0.
    before: u32,
    step: u32,
}

/// From a step straight to a later one.
#[derive(Debug)]
struct Edge {
    from: usize,
    order: Order,
    min_gap: Option<i64>,
    max_gap: Option<i64>,
    /// The columns of touches that may not come between.
    excluded: u32,
    /// How many nodes of `from` have been in the queue.
    admitted: usize,
    /// Nodes of `from`, from `head` on, in the order in which they came; their entries fall.
    queue: Vec<u32>,
    head: usize,
}

/// The chains of one journey.
#[derive(Debug)]
pub(super) struct Ordered {
    /// Per step, from the nearest step before it.
    edges: Vec<Vec<Edge>>,
    /// Per step: the steps that can follow it.
    followers: Vec<u32>,
    nodes: Vec<Node>,
    /// Per step, its nodes.
    levels: Vec<Vec<u32>>,
    /// The steps that a touch could serve now.
    open: u32,
    furthest: usize,
    /// Whether of touches that are as good the earliest counts, and not the latest.
    prefers_earlier: bool,
}

impl Ordered {
    pub(super) fn new(terms: &Terms) -> Self {
        let edge = |from, step| Edge {
            from,
            order: terms.order(step),
            min_gap: terms.min_gap(step),
            max_gap: terms.max_gap(step),
            excluded: terms.excluded(from, step),
            admitted: 0,
            queue: vec![],
            head: 0,
        };
        let mut edges = vec![vec![]];
        let mut followers = vec![0; terms.step_count];
        for step in 1..terms.step_count {
            let before = (terms.first_before(step)..step).rev();
            before.clone().for_each(|from| followers[from] |= 1 << step);
            edges.push(before.map(|from| edge(from, step)).collect());
        }
        let levels = vec![vec![]; terms.step_count];
        Self {
            edges,
            followers,
            nodes: vec![],
            levels,
            open: 1,
            furthest: 0,
            prefers_earlier: terms.entry != Entry::Last,
        }
    }

    /// Looks for the chains of every entry, and stops when one is complete.
    pub(super) fn every_entry(&mut self, view: View<'_>) {
        self.clear();
        for number in 0..view.touches.len() {
            self.touch(view, number as u32, true);
            if self.furthest == self.levels.len() {
                return;
            }
        }
    }

    /// Looks for the chains of one entry, whose value all touches have to hold, until none of them can go on. Returns
    /// the first touch that is not of this attempt.
    pub(super) fn one_entry(&mut self, view: View<'_>, entry: u32) -> u32 {
        self.clear();
        self.touch(view, entry, true);
        let entered = view.touches[entry as usize];
        for number in entry + 1..view.touches.len() as u32 {
            if self.furthest == self.levels.len() {
                return number;
            }
            take_step();
            let touch = view.touches[number as usize];
            if gap(entered, touch) > view.window {
                return number;
            }
            let is_served = touch.held == entered.held && self.touch(view, number, false);
            // Only where another attempt could begin does it matter whether this one is over.
            if !is_served && touch.steps & 1 == 1 && !self.can_go_on(view, entry, number) {
                return number;
            }
        }
        view.touches.len() as u32
    }

    fn clear(&mut self) {
        self.nodes.clear();
        self.levels.iter_mut().for_each(Vec::clear);
        for edge in self.edges.iter_mut().flatten() {
            edge.admitted = 0;
            edge.queue.clear();
            edge.head = 0;
        }
        self.open = 1;
        self.furthest = 0;
    }

    /// The furthest step that was reached, from 1; 0 for none.
    pub(super) fn furthest(&self) -> usize {
        self.furthest
    }

    /// The first chain to reach a step (from 1) that `is_wanted`, asked with its last touch and its entry.
    pub(super) fn first_arrival(&self, step: usize, is_wanted: impl Fn(u32, u32) -> bool) -> Option<Reached> {
        let nodes = self.levels.get(step.checked_sub(1)?)?.iter().map(|node| (*node, self.nodes[*node as usize]));
        let (chain, node) = nodes.into_iter().find(|(_, node)| is_wanted(node.touch, node.entry))?;
        Some(Reached { arrival: node.touch, entry: node.entry, chain })
    }

    /// Writes the touch of each step of a chain, `None` for a step that it skipped.
    pub(super) fn write(&self, chain: u32, touches: &mut [Option<u32>; MOST_STEPS]) {
        touches.fill(None);
        let mut node = self.nodes[chain as usize];
        while node.step > 0 {
            touches[node.step as usize] = Some(node.touch);
            node = self.nodes[node.before as usize];
        }
        touches[0] = Some(node.touch);
    }

    /// Takes the next touch. Returns whether it serves a step of a chain.
    #[inline]
    fn touch(&mut self, view: View<'_>, number: u32, may_enter: bool) -> bool {
        take_step();
        let mut steps = view.touches[number as usize].steps & self.open;
        let mut is_served = false;
        // From the last, so that it serves a chain once.
        while steps != 0 {
            let step = steps.ilog2() as usize;
            steps ^= 1 << step;
            if step > 0 {
                if let Some(before) = self.best_before(view, number, step) {
                    let entry = self.nodes[before as usize].entry;
                    self.push(Node { touch: number, entry, before, step: step as u32 });
                    is_served = true;
                }
            } else if may_enter {
                self.push(Node { touch: number, entry: number, before: 0, step: 0 });
                is_served = true;
            }
        }
        is_served
    }

    fn push(&mut self, node: Node) {
        let step = node.step as usize;
        self.levels[step].push(self.nodes.len() as u32);
        self.nodes.push(node);
        self.open |= self.followers[step];
        self.furthest = self.furthest.max(step + 1);
    }

    /// The node that a touch best follows to serve a step.
    fn best_before(&mut self, view: View<'_>, number: u32, step: usize) -> Option<u32> {
        let touch = view.touches[number as usize];
        let mut best: Option<(u32, u32)> = None;
        for edge in &mut self.edges[step] {
            take_step();
            let level = &self.levels[edge.from];
            let found = match edge.order {
                Order::Next => edge.neighbour(&self.nodes, level, view, touch),
                Order::Eventually | Order::Any => {
                    edge.latest_entry(&self.nodes, level, view, touch, self.prefers_earlier)
                }
            };
            if let Some(node) = found {
                let entry = self.nodes[node as usize].entry;
                if best.is_none_or(|(latest, _)| entry > latest) {
                    best = Some((entry, node));
                }
            }
        }
        let (entry, node) = best?;
        // A chain that entered earlier lies even less within the window.
        (gap(view.touches[entry as usize], touch) <= view.window).then_some(node)
    }

    /// Whether a touch after `number`, which takes part but serves no chain, could still serve a step of one. All
    /// chains entered with `entry`.
    fn can_go_on(&self, view: View<'_>, entry: u32, number: u32) -> bool {
        let now = view.touches[number as usize];
        let closes_at = view.touches[entry as usize].time.saturating_add(view.window);
        let touch_of = |node: &u32| view.touches[self.nodes[*node as usize].touch as usize];
        self.edges.iter().flatten().filter(|edge| edge.order != Order::Next).any(|edge| {
            let level = &self.levels[edge.from];
            let excluded_at = edge.last_excluded(view, now.position + 1);
            let is_over = |node: &u32| {
                let touch = touch_of(node);
                edge.max_gap.is_some_and(|most| gap(touch, now) > most) || excluded_at > Some(touch.position)
            };
            // Of those that are not over, the earliest waits the least.
            level.get(level.partition_point(is_over)).is_some_and(|node| {
                now.time.max(touch_of(node).time.saturating_add(edge.min_gap.unwrap_or(0))) <= closes_at
            })
        })
    }
}

impl Edge {
    fn last_excluded(&self, view: View<'_>, position: u32) -> Option<u32> {
        if self.excluded == 0 { None } else { view.exclusions?.last_before(self.excluded, position) }
    }

    /// The node of which `touch` is the neighbour.
    fn neighbour(&self, nodes: &[Node], level: &[u32], view: View<'_>, touch: Touch) -> Option<u32> {
        let node = *level.last()?;
        let before = view.touches[nodes[node as usize].touch as usize];
        let gap = gap(before, touch);
        let is_allowed = before.rank + 1 == touch.rank
            && self.min_gap.is_none_or(|least| gap >= least)
            && self.max_gap.is_none_or(|most| gap <= most)
            && self.last_excluded(view, touch.position).is_none_or(|excluded| excluded <= before.position);
        is_allowed.then_some(node)
    }

    /// The node that entered last of those that `touch` may follow; if there are several the latest, or the earliest.
    fn latest_entry(
        &mut self,
        nodes: &[Node],
        level: &[u32],
        view: View<'_>,
        touch: Touch,
        prefers_earlier: bool,
    ) -> Option<u32> {
        let touch_of = |node: u32| view.touches[nodes[node as usize].touch as usize];
        while let Some(node) = level.get(self.admitted)
            && self.min_gap.is_none_or(|least| gap(touch_of(*node), touch) >= least)
        {
            take_step();
            let entry = nodes[*node as usize].entry;
            while let Some(last) = self.queue[self.head..].last() {
                take_step();
                let of_last = nodes[*last as usize].entry;
                if of_last > entry || (of_last == entry && prefers_earlier) {
                    break;
                }
                self.queue.pop();
            }
            self.queue.push(*node);
            self.admitted += 1;
        }
        let excluded_at = self.last_excluded(view, touch.position);
        while let Some(node) = self.queue.get(self.head) {
            take_step();
            let before = touch_of(*node);
            let is_over = self.max_gap.is_some_and(|most| gap(before, touch) > most)
                || excluded_at.is_some_and(|excluded| excluded > before.position);
            if !is_over {
                return Some(*node);
            }
            self.head += 1;
        }
        // Nobody waits: the buffer is free for those to come.
        self.queue.clear();
        self.head = 0;
        None
    }
}
