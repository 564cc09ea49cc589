//! The rules told plainly: every chain there is, or the engines' own words one event at a time. Slow, for tests only, and
//! nothing of the implementation is used.

/// A row: its time, and the steps that it meets as bits.
pub(in super::super) type Row = (i64, u32);

/// A chain: the row that met each step.
pub(super) type Chain = Vec<usize>;

/// The (step, row) pairs that are met in one go and, if they interrupt, the steps that they do not.
type Turn = (Vec<(usize, usize)>, Option<Vec<usize>>);

/// More chains than this are not told apart one by one.
const MOST_CHAINS: usize = 2_000;

/// Of more rows than this not all chains are told.
const MOST_ROWS: usize = 12;

/// What the text of a mode says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub deduplication: bool,
    pub order: bool,
    pub increase: bool,
    pub once: bool,
    pub reentry: bool,
}

impl Told {
    pub(super) fn by(text: &str) -> Self {
        Self {
            deduplication: text.contains("strict_deduplication"),
            order: text.contains("strict_order"),
            increase: text.contains("strict_increase"),
            once: text.contains("strict_once"),
            reentry: text.contains("allow_reentry"),
        }
    }
}

/// The level of a funnel and the times of its chain; `None` where there are too many chains to tell.
pub(in super::super) fn answer(mode: &str, rows: &[Row], steps: usize, window: i64) -> Option<(usize, Vec<i64>)> {
    match mode {
        "posthog_ordered" | "posthog_strict" => {
            let is_strict = mode == "posthog_strict";
            let kept: Vec<Row> = rows.iter().copied().filter(|row| is_strict || row.1 != 0).collect();
            let chain = posthog(&kept, is_strict, steps, window);
            Some((chain.len(), times(&kept, &chain)))
        }
        "mixpanel" if rows.len() > MOST_ROWS => None,
        "mixpanel" => {
            let chain = mixpanel(rows, steps, window);
            Some((chain.len(), times(rows, &chain)))
        }
        _ => clickhouse(rows, Told::by(mode), steps, window),
    }
}

pub(super) fn times(rows: &[Row], chain: &[usize]) -> Vec<i64> {
    chain.iter().map(|row| rows[*row].0).collect()
}

/// Every chain by definition: rows that meet step after step, none earlier than the one before, all within the window of
/// the first; `accepts` may ask more of a chain.
pub(super) fn chains(rows: &[Row], steps: usize, window: i64, accepts: &dyn Fn(&[usize]) -> bool) -> Vec<Chain> {
    let mut found: Vec<Chain> = vec![];
    let mut open: Vec<Chain> = vec![vec![]];
    while let Some(chain) = open.pop() {
        for (number, row) in rows.iter().enumerate().filter(|_| chain.len() < steps) {
            let meets = row.1 >> chain.len() & 1 == 1;
            let is_later = chain.last().is_none_or(|before| rows[*before].0 <= row.0);
            let is_within = chain.first().is_none_or(|first| row.0 - rows[*first].0 <= window);
            let longer: Chain = chain.iter().copied().chain([number]).collect();
            if meets && is_later && is_within && accepts(&longer) {
                open.push(longer);
            }
        }
        found.push(chain);
    }
    found
}

/// The length of the longest of them.
pub(super) fn longest(rows: &[Row], steps: usize, window: i64, accepts: &dyn Fn(&[usize]) -> bool) -> usize {
    chains(rows, steps, window, accepts).iter().map(Vec::len).max().unwrap_or(0)
}

pub(super) fn uses_no_row_twice(chain: &[usize]) -> bool {
    chain.iter().enumerate().all(|(position, row)| !chain[..position].contains(row))
}

pub(super) fn always_increases(rows: &[Row], chain: &[usize]) -> bool {
    chain.windows(2).all(|pair| rows[pair[0]].0 < rows[pair[1]].0)
}

/// ClickHouse in its own words: events sorted by (time, step, row), a row once per step that it meets, each extending the
/// chains of the level before. With `strict_increase` alone only the newest chain of a level can go on; otherwise all can.
fn clickhouse(rows: &[Row], told: Told, steps: usize, window: i64) -> Option<(usize, Vec<i64>)> {
    let mut events: Vec<(i64, usize, usize)> = vec![];
    for (number, row) in rows.iter().enumerate() {
        let met = (0..steps).filter(|step| row.1 >> step & 1 == 1);
        events.extend(met.map(|step| (row.0, step + 1, number)));
        if row.1 == 0 && told.order {
            events.push((row.0, 0, number));
        }
    }
    events.sort();
    let mut levels: Vec<Vec<Chain>> = vec![vec![]; steps];
    for (time, step, row) in events {
        // The pass ends with the instant that reaches the last step; with the row that does where a repeat would end it.
        let is_full = levels[steps - 1].last().map(|chain| rows[chain[steps - 1]].0);
        if is_full.is_some_and(|reached_at| told.deduplication || reached_at < time) {
            break;
        }
        let has_begun = !levels[0].is_empty();
        if step == 0 {
            if has_begun {
                break;
            }
            continue;
        }
        let level = step - 1;
        if level > 0 && told.deduplication && !levels[level].is_empty() {
            break;
        }
        if level > 0 && told.order && has_begun && levels[level - 1].is_empty() {
            if told.reentry {
                continue;
            }
            break;
        }
        let before = match level.checked_sub(1) {
            None => vec![vec![]],
            Some(before) if told.increase && !told.once => levels[before].last().cloned().into_iter().collect(),
            Some(before) => levels[before].clone(),
        };
        for chain in before {
            let is_within = chain.first().is_none_or(|first| time - rows[*first].0 <= window);
            let is_unused = !told.once || !chain.contains(&row);
            let is_later = !told.increase || chain.last().is_none_or(|last| rows[*last].0 < time);
            if is_within && is_unused && is_later {
                levels[level].push(chain.into_iter().chain([row]).collect());
            }
        }
        if levels[level].len() > MOST_CHAINS {
            return None;
        }
    }
    let reached = levels.iter().take_while(|chains| !chains.is_empty()).count();
    let of_level = reached.checked_sub(1).map(|level| levels.swap_remove(level)).unwrap_or_default();
    let all: Vec<Vec<i64>> = of_level.iter().map(|chain| times(rows, chain)).collect();
    Some((reached, shown(&all)))
}

/// Of the chains of the furthest level, as times, the one to show: the latest entry, then the latest end, then, from the
/// last step back, the latest of each.
pub(super) fn shown(chains: &[Vec<i64>]) -> Vec<i64> {
    let rank = |times: &&Vec<i64>| (times[0], times.iter().rev().copied().collect::<Vec<i64>>());
    chains.iter().max_by_key(rank).cloned().unwrap_or_default()
}

/// PostHog in its own words: per step the chain that entered it, as (its first time, its rows). Returns the chain that was
/// the first to get furthest.
fn posthog(rows: &[Row], is_strict: bool, steps: usize, window: i64) -> Chain {
    let mut entered: Vec<Option<(i64, Chain)>> = vec![None; steps + 1];
    let mut furthest = vec![];
    let mut rest: Vec<(usize, Row)> = rows.iter().copied().enumerate().collect();
    while !rest.is_empty() && entered[steps].is_none() {
        let time = rest[0].1.0;
        let (instant, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, row)| row.0 == time);
        rest = later;
        entered[0] = Some((time, vec![]));
        let met = |row: &Row| (1..=steps).filter(|step| row.1 >> (step - 1) & 1 == 1).collect::<Vec<_>>();
        let is_alike = instant.iter().all(|(_, row)| row.1 == instant[0].1.1);
        let mut events: Vec<(usize, usize)> = vec![];
        for (number, row) in &instant {
            events.extend(met(row).into_iter().rev().map(|step| (step, *number)));
        }
        if !is_alike {
            events.sort_by_key(|(step, number)| (*step, *number));
        }
        // A strict interruption comes after all steps of its row.
        let mut turns: Vec<Turn> = vec![];
        if is_alike {
            for (number, row) in &instant {
                let own = events.iter().copied().filter(|(_, of)| of == number).collect();
                turns.push((own, is_strict.then(|| met(row))));
            }
        } else {
            turns.push((events, None));
        }
        for (events, interruption) in turns {
            for (step, number) in events {
                let Some((start, chain)) = entered[step - 1].clone() else { continue };
                let is_reached = entered[step].as_ref().is_some_and(|(other, _)| *other == start);
                let is_used = !is_alike && chain.contains(&number);
                if time - start <= window && !is_reached && !is_used {
                    let longer: Chain = chain.into_iter().chain([number]).collect();
                    if step > furthest.len() {
                        furthest = longer.clone();
                    }
                    entered[step] = Some((start, longer));
                }
            }
            if let Some(met) = interruption {
                (1..=steps).filter(|step| !met.contains(step)).for_each(|step| entered[step] = None);
            }
        }
    }
    furthest
}

/// Mixpanel by definition: of the longest chains of rising times that begin at the first time of step 1, the one whose
/// steps are met earliest.
fn mixpanel(rows: &[Row], steps: usize, window: i64) -> Chain {
    let entry = rows.iter().filter(|row| row.1 & 1 == 1).map(|row| row.0).min();
    let accepts = |chain: &[usize]| Some(rows[chain[0]].0) == entry && always_increases(rows, chain);
    let all = chains(rows, steps, window, &accepts);
    let rank = |chain: &&Chain| (std::cmp::Reverse(chain.len()), times(rows, chain));
    all.iter().min_by_key(rank).cloned().unwrap_or_default()
}
