//! Shapley values of channels, for two games over the sets of channels that journeys touch.

use std::collections::BTreeMap;

use super::super::path_counts::{Counts, Entries, Overflow};

/// The most channels of the game of rates, which asks for the rate of every coalition.
pub(super) const MOST_CHANNELS: usize = 20;

/// A channel's Shapley value, and what it is credited with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Credit {
    pub shapley_value: f64,
    pub conversions: f64,
    pub value: f64,
}

/// Worth of a coalition: the conversions of the journeys whose channels all lie inside it.
///
/// Each set of channels is a game of its own, in which only the whole set is worth something, so its members share
/// alike: a channel gets the conversions of each set that it is in, divided by the size of the set.
pub(super) fn of_conversions(sets: &Entries) -> Result<Vec<Credit>, Overflow> {
    // Whole numbers as long as possible: by channel and size of set, so that no order of addition shows.
    let mut sums: BTreeMap<(u32, usize), Counts> = BTreeMap::new();
    for (set, counts) in sets.iter() {
        for channel in set {
            let sum = sums.entry((*channel, set.len())).or_default();
            *sum = sum.checked_add(counts).ok_or(Overflow)?;
        }
    }
    let mut credits = vec![Credit { shapley_value: 0.0, conversions: 0.0, value: 0.0 }; sets.channels()];
    for ((channel, size), sum) in sums {
        let credit = &mut credits[channel as usize - 1];
        credit.conversions += sum.conversions as f64 / size as f64;
        credit.value += sum.value as f64 / size as f64;
        credit.shapley_value = credit.conversions;
    }
    Ok(credits)
}

/// Worth of a coalition: the share that converts of the journeys whose channels all lie inside it; 0 without journeys.
///
/// The values add up to the share of all journeys that convert, less that of the journeys without touches. A value
/// times the number of journeys is the number of conversions that it stands for. At most [`MOST_CHANNELS`] channels.
pub(super) fn of_rates(sets: &Entries) -> Result<Vec<Credit>, Overflow> {
    let channels = sets.channels();
    let worth = worth_of_coalitions(sets);
    let all = Counts::sum(sets.iter().map(|(_, counts)| counts))?;
    let value_of_conversion = if all.conversions == 0 { 0.0 } else { all.value as f64 / all.conversions as f64 };
    let credit = |channel: usize| {
        let mut gains = vec![0.0; channels];
        for coalition in (0..worth.len()).filter(|coalition| coalition & (1 << channel) == 0) {
            gains[coalition.count_ones() as usize] += worth[coalition | (1 << channel)] - worth[coalition];
        }
        // |S|! (n - |S| - 1)! / n! = 1 / (n C(n - 1, |S|))
        let mut weight = 1.0 / channels as f64;
        let mut shapley_value = 0.0;
        for (size, gain) in gains.iter().enumerate() {
            shapley_value += weight * gain;
            weight *= (size + 1) as f64 / (channels - 1).saturating_sub(size).max(1) as f64;
        }
        let credited = shapley_value * all.journeys() as f64;
        Credit { shapley_value, conversions: credited, value: credited * value_of_conversion }
    };
    Ok((0..channels).map(credit).collect())
}

/// Bytes that [`of_rates`] takes: journeys and worth of each coalition.
pub(super) fn bytes_of_rates(channels: usize) -> usize {
    let per_coalition = size_of::<[u128; 2]>() + size_of::<f64>();
    per_coalition << channels.min(MOST_CHANNELS)
}

/// The worth of each coalition, as a bit mask of channels.
fn worth_of_coalitions(sets: &Entries) -> Vec<f64> {
    let coalitions = 1usize << sets.channels();
    let mut journeys = vec![[0u128; 2]; coalitions];
    for (set, counts) in sets.iter() {
        let coalition = set.iter().fold(0, |coalition, channel| coalition | 1 << (channel - 1));
        journeys[coalition] = [u128::from(counts.conversions), counts.journeys()];
    }
    for channel in 0..sets.channels() {
        for coalition in (0..coalitions).filter(|coalition| coalition & (1 << channel) != 0) {
            let [converted, all] = journeys[coalition ^ (1 << channel)];
            journeys[coalition][0] += converted;
            journeys[coalition][1] += all;
        }
    }
    journeys.iter().map(|[converted, all]| if *all == 0 { 0.0 } else { *converted as f64 / *all as f64 }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::super::path_counts::Keys;
    use super::super::super::path_counts::testing::{Path, entries_of, path, paths};
    use super::*;

    /// The formula of Shapley, over every order in which the channels may join.
    fn naive(paths: &[Path], worth: impl Fn(&BTreeSet<&str>) -> f64) -> Vec<f64> {
        fn join<'a>(
            waiting: &[&'a str],
            joined: &mut BTreeSet<&'a str>,
            worth: &dyn Fn(&BTreeSet<&str>) -> f64,
            gain: &mut dyn FnMut(&'a str, f64),
        ) {
            for channel in waiting {
                let before = worth(joined);
                joined.insert(channel);
                let orders: f64 = (1..waiting.len()).map(|rest| rest as f64).product();
                gain(channel, (worth(joined) - before) * orders);
                let rest: Vec<&str> = waiting.iter().copied().filter(|other| other != channel).collect();
                join(&rest, joined, worth, gain);
                joined.remove(channel);
            }
        }
        let channels: BTreeSet<&str> = paths.iter().flat_map(|path| path.channels.iter().copied()).collect();
        let channels: Vec<&str> = channels.into_iter().collect();
        let orders: f64 = (1..=channels.len()).map(|count| count as f64).product();
        let mut values = vec![0.0; channels.len()];
        let mut gain = |channel: &str, gain: f64| {
            values[channels.iter().position(|other| *other == channel).unwrap()] += gain / orders;
        };
        join(&channels, &mut BTreeSet::new(), &worth, &mut gain);
        values
    }

    fn inside<'a>(paths: &'a [Path], coalition: &BTreeSet<&str>) -> impl Iterator<Item = &'a Path> {
        paths.iter().filter(|path| path.channels.iter().all(|channel| coalition.contains(channel)))
    }

    fn conversions(paths: &[Path], coalition: &BTreeSet<&str>) -> f64 {
        inside(paths, coalition).map(|path| path.conversions as f64).sum()
    }

    fn rate(paths: &[Path], coalition: &BTreeSet<&str>) -> f64 {
        let all: f64 = inside(paths, coalition).map(|path| (path.conversions + path.nulls) as f64).sum();
        if all == 0.0 { 0.0 } else { conversions(paths, coalition) / all }
    }

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9 * (1.0 + expected.abs()), "{found} instead of {expected}");
    }

    #[test]
    fn a_journey_is_shared_by_its_distinct_channels() {
        let (sets, names) = entries_of(Keys::Sets, &[path("a > b > a", 3, 7), path("b", 1, 0), path("c", 0, 5)]);
        assert_eq!(names, ["a", "b", "c"]);
        let found = of_conversions(&sets).unwrap();
        assert_eq!(found.iter().map(|credit| credit.conversions).collect::<Vec<_>>(), [1.5, 2.5, 0.0]);
        assert_eq!(found.iter().map(|credit| credit.value).collect::<Vec<_>>(), [1500.0, 2500.0, 0.0]);
    }

    #[test]
    fn a_rate_may_be_negative_where_a_channel_meets_those_who_do_not_convert() {
        let (sets, _) = entries_of(Keys::Sets, &[path("a", 8, 2), path("a > b", 1, 9)]);
        let found = of_rates(&sets).unwrap();
        // v(a) = 0.8, v(b) = 0, v(ab) = 0.45
        assert_close(found[0].shapley_value, (0.8 + 0.45) / 2.0);
        assert_close(found[1].shapley_value, (0.0 + 0.45 - 0.8) / 2.0);
        assert_close(found[1].conversions, -3.5);
        assert_close(found[0].value + found[1].value, 9000.0);
    }

    #[test]
    fn sums_that_do_not_fit_are_told() {
        let (sets, _) = entries_of(Keys::Sets, &[path("a", u64::MAX, 0), path("a > b", 1, 0)]);
        assert!(of_conversions(&sets).is_ok(), "the sums of channel and size fit");
        assert_eq!(of_rates(&sets), Err(Overflow));
        let (sets, _) = entries_of(Keys::Sets, &[path("a > b", u64::MAX, 0), path("a > c", 1, 0)]);
        assert_eq!(of_conversions(&sets), Err(Overflow));
        let digits = |channels: &'static str| Path { value: 9 * 10i128.pow(37), ..path(channels, 1, 0) };
        let (sets, _) = entries_of(Keys::Sets, &[digits("a > b"), digits("a > c")]);
        assert_eq!((of_conversions(&sets), of_rates(&sets)), (Err(Overflow), Err(Overflow)));
    }

    #[test]
    fn as_many_channels_as_allowed_come_out() {
        let all: &'static str = "a>b>c>d>e>f>g>h>i>j>k>l>m>n>o>p>q>r>s>t";
        let (sets, names) = entries_of(Keys::Sets, &[path(all, 3, 1), path("a", 1, 3)]);
        assert_eq!(names.len(), MOST_CHANNELS);
        let sum: f64 = of_rates(&sets).unwrap().iter().map(|credit| credit.shapley_value).sum();
        assert_close(sum, 0.5);
    }

    proptest! {
        #[test]
        fn values_are_those_of_every_order_of_joining(paths in paths(5)) {
            let (sets, _) = entries_of(Keys::Sets, &paths);
            let expected = naive(&paths, |coalition| conversions(&paths, coalition));
            for (credit, expected) in of_conversions(&sets).unwrap().iter().zip(&expected) {
                assert_close(credit.shapley_value, *expected);
                assert_close(credit.conversions, *expected);
            }
            let found = of_rates(&sets).unwrap();
            let expected = naive(&paths, |coalition| rate(&paths, coalition));
            prop_assert_eq!(found.len(), expected.len());
            let journeys: u64 = paths.iter().map(|path| path.conversions + path.nulls).sum();
            for (credit, expected) in found.iter().zip(&expected) {
                assert_close(credit.shapley_value, *expected);
                assert_close(credit.conversions, *expected * journeys as f64);
            }
        }

        #[test]
        fn credits_add_up(paths in paths(5)) {
            let (sets, names) = entries_of(Keys::Sets, &paths);
            let touching = || paths.iter().filter(|path| !path.channels.is_empty());
            let credits = of_conversions(&sets).unwrap();
            assert_close(credits.iter().map(|credit| credit.conversions).sum(), touching().map(|path| path.conversions as f64).sum());
            assert_close(credits.iter().map(|credit| credit.value).sum(), touching().map(|path| path.value as f64).sum());
            let everybody: BTreeSet<&str> = names.iter().map(String::as_str).collect();
            let rates: f64 = of_rates(&sets).unwrap().iter().map(|credit| credit.shapley_value).sum();
            assert_close(rates, if names.is_empty() { 0.0 } else { rate(&paths, &everybody) - rate(&paths, &BTreeSet::new()) });
        }
    }
}
