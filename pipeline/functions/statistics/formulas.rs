//! The formulas, over plain numbers. Counts may be any numbers with `0 <= successes <= trials` and `trials > 0`.

use statrs::function::erf::{erf_inv, erfc, erfc_inv};
use statrs::function::gamma::checked_gamma_ur;

/// An interval of values that the data leave plausible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    pub lower: f64,
    pub upper: f64,
}

/// How many of how many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Proportion {
    pub successes: f64,
    pub trials: f64,
}

impl Proportion {
    pub(super) fn rate(self) -> f64 {
        self.successes / self.trials
    }
}

/// The distance from 0, in standard deviations, within which a normal variable lies with the given probability.
pub(super) fn critical_value(confidence: f64) -> f64 {
    // Each form where it takes no difference of nearly equal numbers: 1 - 1e-20 is 1.
    let quantile = if confidence < 0.5 { erf_inv(confidence) } else { erfc_inv(1.0 - confidence) };
    std::f64::consts::SQRT_2 * quantile
}

/// The score interval of E. B. Wilson (Probable inference, J. Am. Stat. Assoc. 22, 1927), without continuity correction.
///
/// Its bounds are the roots of a quadratic. The lower one is taken from their product, which has no cancellation. No
/// success gives exactly 0, and nothing but successes exactly 1, however small or large `z` and the counts are.
pub(super) fn wilson_interval(proportion: Proportion, z: f64) -> Interval {
    let Proportion { successes, trials } = proportion;
    let (rate, failure_rate) = (proportion.rate(), (trials - successes) / trials);
    let blur = z * z / trials;
    let reach = z / trials.sqrt() * (rate * failure_rate + blur / 4.0).sqrt();
    let upper = ((rate + blur / 2.0 + reach) / (1.0 + blur)).clamp(rate, 1.0);
    let lower = (rate / upper * (rate / (1.0 + blur))).min(rate);
    Interval { lower: if successes == 0.0 { 0.0 } else { lower }, upper: if successes == trials { 1.0 } else { upper } }
}

/// The difference of two rates, the first minus the second, and how likely chance alone is to make one as large.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TwoProportionTest {
    pub difference: f64,
    pub z: f64,
    pub p: f64,
}

/// The two-sided z test with the pooled rate, without continuity correction; its `z²` is Pearson's chi-square.
///
/// Where nobody or everybody succeeded the rates are equal and tell nothing: `z` is 0 and `p` is 1.
pub(super) fn two_proportion_test(a: Proportion, b: Proportion) -> TwoProportionTest {
    let difference = a.rate() - b.rate();
    let pooled = (a.successes + b.successes) / (a.trials + b.trials);
    let variance = pooled * (1.0 - pooled) * (1.0 / a.trials + 1.0 / b.trials);
    if variance <= 0.0 {
        return TwoProportionTest { difference, z: 0.0, p: 1.0 };
    }
    let z = difference / variance.sqrt();
    TwoProportionTest { difference, z, p: erfc(z.abs() / std::f64::consts::SQRT_2) }
}

/// The hybrid score interval of R. G. Newcombe (Interval estimation for the difference between independent
/// proportions: comparison of eleven methods, Stat. Med. 17, 1998, method 10) for the first rate minus the second.
pub(super) fn difference_interval(a: Proportion, b: Proportion, z: f64) -> Interval {
    let (interval_a, interval_b) = (wilson_interval(a, z), wilson_interval(b, z));
    let (rate_a, rate_b) = (a.rate(), b.rate());
    let difference = rate_a - rate_b;
    let below = (rate_a - interval_a.lower).hypot(interval_b.upper - rate_b);
    let above = (interval_a.upper - rate_a).hypot(rate_b - interval_b.lower);
    Interval { lower: (difference - below).max(-1.0), upper: (difference + above).min(1.0) }
}

/// The probability of a chi-square variable to exceed `statistic`.
pub(super) fn chi_square_p(statistic: f64, degrees_of_freedom: f64) -> f64 {
    if statistic <= 0.0 {
        return 1.0;
    }
    // The arguments are above 0; what remains to go wrong is an infinite statistic, which nothing exceeds.
    checked_gamma_ur(degrees_of_freedom / 2.0, statistic / 2.0).unwrap_or(0.0)
}

/// Pearson's chi-square statistic of counts against shares, which are made to add up to 1.
pub(super) fn chi_square(counts: impl Iterator<Item = f64> + Clone, shares: impl Iterator<Item = f64> + Clone) -> f64 {
    let total: f64 = counts.clone().sum();
    let whole: f64 = shares.clone().sum();
    counts
        .zip(shares)
        .map(|(count, share)| {
            let expected = total * share / whole;
            (count - expected) * (count - expected) / expected
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proportion(successes: f64, trials: f64) -> Proportion {
        Proportion { successes, trials }
    }

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        let error = (found - expected).abs();
        assert!(error <= 1e-9 * expected.abs() || error <= 1e-15, "{found} instead of {expected}");
    }

    #[test]
    fn critical_values_are_those_of_tables() {
        // scipy 1.17.1, norm.ppf((1 + confidence) / 2).
        for (confidence, z) in [
            (0.3, 0.3853204664075677),
            (0.4999999, 0.6744895928528362),
            (0.5, 0.6744897501960817),
            (0.8, 1.2815515655446004),
            (0.9, 1.6448536269514722),
            (0.95, 1.959963984540054),
            (0.99, 2.5758293035489004),
            (0.999, 3.2905267314918945),
            (0.999999, 4.89163847569859),
        ] {
            assert_near(critical_value(confidence), z);
        }
        // So close to 0 the density is flat: confidence times the square root of half a circle.
        for confidence in [1e-300, 1e-17, 1e-9] {
            let flat = (std::f64::consts::PI / 2.0).sqrt();
            assert_near(critical_value(confidence) / confidence, flat);
        }
    }

    #[test]
    fn wilson_intervals_are_those_of_scipy_and_statsmodels() {
        // The counts of the first four are those of the examples in Newcombe, Two-sided confidence intervals for the
        // single proportion, Stat. Med. 17, 1998. Digits from the closed form at 40 digits, which scipy 1.17.1
        // (binomtest) and statsmodels 0.15.0 (proportion_confint) confirm.
        for (successes, trials, confidence, lower, upper) in [
            (81.0, 263.0, 0.95, 0.2552885198782742, 0.36620957698280004),
            (15.0, 148.0, 0.95, 0.062386399530736276, 0.16048724172330803),
            (0.0, 20.0, 0.95, 0.0, 0.16112515805281938),
            (1.0, 29.0, 0.95, 0.00611321429276266, 0.17175521879320288),
            (29.0, 29.0, 0.95, 0.8830302015002592, 1.0),
            (10.0, 20.0, 0.99, 0.2504477003217795, 0.7495522996782205),
            (3.0, 7.0, 0.8, 0.22598811161452573, 0.6583029463790934),
            (123_456.0, 10_000_000.0, 0.95, 0.012277347608366313, 0.01241422705234903),
            (5.0, 5.0, 0.9, 0.6488834992348986, 1.0),
        ] {
            let interval = wilson_interval(proportion(successes, trials), critical_value(confidence));
            assert_near(interval.lower, lower);
            assert_near(interval.upper, upper);
        }
    }

    #[test]
    fn bounds_are_exact_where_all_or_none_succeed_at_any_confidence_and_of_any_number() {
        for confidence in [f64::MIN_POSITIVE, 1e-300, 1e-160, 1e-17, 1e-9, 0.05, 0.5, 0.95, 1.0 - 1e-16] {
            let z = critical_value(confidence);
            for trials in [1e-300, 1e-9, 1.0, 20.0, 1e9, 1e200, f64::MAX] {
                let none = wilson_interval(proportion(0.0, trials), z);
                let all = wilson_interval(proportion(trials, trials), z);
                let some = wilson_interval(proportion(trials / 4.0, trials), z);
                let name = format!("{confidence} of {trials}");
                assert_eq!((none.lower, all.upper), (0.0, 1.0), "{name}");
                assert!((0.0..=1.0).contains(&none.upper) && (0.0..=1.0).contains(&all.lower), "{name}");
                assert!(0.0 <= some.lower && some.lower <= 0.25 && 0.25 <= some.upper && some.upper <= 1.0, "{name}");
            }
        }
        // A confidence of next to nothing leaves the rate alone.
        let interval = wilson_interval(proportion(3.0, 10.0), critical_value(1e-300));
        assert_eq!((interval.lower, interval.upper), (0.3, 0.3));
    }

    #[test]
    fn differences_have_the_published_intervals() {
        // Newcombe, Interval estimation for the difference between independent proportions: comparison of eleven methods,
        // Stat. Med. 17, 1998, table II, method 10, examples (a) to (h): four digits, as printed there.
        for (a, b, lower, upper) in [
            ((56.0, 70.0), (48.0, 80.0), 0.0524, 0.3339),
            ((9.0, 10.0), (3.0, 10.0), 0.1705, 0.8090),
            ((6.0, 7.0), (2.0, 7.0), 0.0582, 0.8062),
            ((5.0, 56.0), (0.0, 29.0), -0.0381, 0.1926),
            ((0.0, 10.0), (0.0, 20.0), -0.1611, 0.2775),
            ((0.0, 10.0), (0.0, 10.0), -0.2775, 0.2775),
            ((10.0, 10.0), (0.0, 20.0), 0.6791, 1.0),
            ((10.0, 10.0), (0.0, 10.0), 0.6075, 1.0),
        ] {
            let interval = difference_interval(proportion(a.0, a.1), proportion(b.0, b.1), critical_value(0.95));
            let printed = |bound: f64| (bound * 1e4).round() / 1e4;
            assert_eq!((printed(interval.lower), printed(interval.upper)), (lower, upper), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn differences_have_the_intervals_of_statsmodels() {
        // The counts of the first eight are those of the examples in Newcombe 1998, table II. Digits from statsmodels
        // 0.15.0, confint_proportions_2indep(method='newcomb').
        for (a, b, confidence, lower, upper) in [
            ((56.0, 70.0), (48.0, 80.0), 0.95, 0.05243147240236498, 0.333872654036906),
            ((9.0, 10.0), (3.0, 10.0), 0.95, 0.17052272393450302, 0.8090179735354881),
            ((6.0, 7.0), (2.0, 7.0), 0.95, 0.0582279274823122, 0.8062496375242277),
            ((5.0, 56.0), (0.0, 29.0), 0.95, -0.03813714790353688, 0.19256001385511162),
            ((0.0, 10.0), (0.0, 20.0), 0.95, -0.16112515805281938, 0.2775327998628892),
            ((0.0, 10.0), (0.0, 10.0), 0.95, -0.2775327998628892, 0.2775327998628892),
            ((10.0, 10.0), (0.0, 20.0), 0.95, 0.6790860371419147, 1.0),
            ((10.0, 10.0), (0.0, 10.0), 0.95, 0.6075093504305242, 1.0),
            ((1200.0, 24_000.0), (1100.0, 23_900.0), 0.99, -0.0010604460884205231, 0.009014519199122257),
        ] {
            let interval = difference_interval(proportion(a.0, a.1), proportion(b.0, b.1), critical_value(confidence));
            assert_near(interval.lower, lower);
            assert_near(interval.upper, upper);
        }
    }

    #[test]
    fn two_proportions_are_tested_as_elsewhere() {
        // statsmodels 0.15.0, proportions_ztest, as prop.test(correct = FALSE) of R; p at 40 digits from its z.
        for (a, b, z, p) in [
            ((56.0, 70.0), (48.0, 80.0), 2.6501719512585336, 0.008045081368196585),
            ((83.0, 86.0), (90.0, 93.0), -0.09751163391198005, 0.9223200957342685),
            ((1200.0, 24_000.0), (1100.0, 23_900.0), 2.0344718871392056, 0.041904040278861465),
            ((5.0, 10.0), (5.0, 10.0), 0.0, 1.0),
            ((1.0, 1000.0), (30.0, 1000.0), -5.24939545316719, 1.5259917410197916e-7),
            ((0.0, 50.0), (4.0, 50.0), -2.041241452319315, 0.0412268333371637),
            ((500.0, 1000.0), (900.0, 1000.0), -19.518001458970662, 7.719934594295456e-85),
        ] {
            let test = two_proportion_test(proportion(a.0, a.1), proportion(b.0, b.1));
            assert_near(test.difference, a.0 / a.1 - b.0 / b.1);
            assert_near(test.z, z);
            assert_near(test.p, p);
        }
    }

    #[test]
    fn rates_of_nothing_or_everything_do_not_differ() {
        for successes in [0.0, 1.0] {
            let test = two_proportion_test(proportion(successes * 10.0, 10.0), proportion(successes * 20.0, 20.0));
            assert_eq!(test, TwoProportionTest { difference: 0.0, z: 0.0, p: 1.0 });
        }
    }

    #[test]
    fn counts_are_tested_against_shares_as_elsewhere() {
        // The first two are the examples of scipy.stats.chisquare; the third is an experiment of Fabijan and others
        // (Diagnosing sample ratio mismatch, KDD 2019), printed there as p = 1.8e-6. Digits at 40 digits.
        let cases: [(&[f64], &[f64], f64); 9] = [
            (&[16.0, 18.0, 16.0, 14.0, 12.0, 12.0], &[1.0; 6], 0.8491450360846097),
            (&[16.0, 18.0, 16.0, 14.0, 12.0, 12.0], &[16.0, 16.0, 16.0, 16.0, 16.0, 8.0], 0.623387627749582),
            (&[821_588.0, 815_482.0], &[0.5, 0.5], 1.8217928726191873e-6),
            (&[50.0, 50.0], &[1.0, 1.0], 1.0),
            (&[1200.0, 1100.0, 1050.0], &[0.34, 0.33, 0.33], 0.047821503147269656),
            (&[100_000.0, 101_500.0], &[0.5, 0.5], 0.0008329868712024004),
            (&[10.0, 0.0], &[1.0, 1.0], 0.0015654022580025497),
            (&[505.0, 495.0, 498.0, 502.0], &[1.0; 4], 0.9898505497740377),
            (&[600_000.0, 400_000.0], &[1.0, 1.0], 0.0),
        ];
        for (counts, shares, p) in cases {
            let statistic = chi_square(counts.iter().copied(), shares.iter().copied());
            assert_near(chi_square_p(statistic, counts.len() as f64 - 1.0), p);
        }
        assert_eq!(chi_square_p(f64::INFINITY, 1.0), 0.0);
    }

    /// The integral of a function from 0, by Simpson's rule.
    fn integral(end: f64, function: impl Fn(f64) -> f64) -> f64 {
        const STEPS: usize = 2_000;
        let step = end / STEPS as f64;
        let weight = |place: usize| match place {
            0 | STEPS => 1.0,
            place if place % 2 == 1 => 4.0,
            _ => 2.0,
        };
        (0..=STEPS).map(|place| weight(place) * function(place as f64 * step)).sum::<f64>() * step / 3.0
    }

    /// The values from which a rate lies `z` of their standard deviations away, found by halving.
    fn naive_wilson(proportion: Proportion, z: f64) -> Interval {
        let is_inside = |value: f64| {
            let deviation = (value * (1.0 - value) / proportion.trials).sqrt();
            (proportion.rate() - value).abs() < z * deviation
        };
        let bound = |mut outside: f64| {
            let mut inside = proportion.rate();
            for _ in 0..100 {
                let middle = (outside + inside) / 2.0;
                *(if is_inside(middle) { &mut inside } else { &mut outside }) = middle;
            }
            inside
        };
        Interval { lower: bound(0.0), upper: bound(1.0) }
    }

    proptest! {
        #[test]
        fn intervals_are_those_of_their_definitions(
            a in (1u32..5000).prop_flat_map(|trials| (0..=trials, Just(trials))),
            b in (1u32..5000).prop_flat_map(|trials| (0..=trials, Just(trials))),
            confidence in 0.2f64..0.9999,
        ) {
            let z = critical_value(confidence);
            let density = |value: f64| (-value * value / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            prop_assert!((2.0 * integral(z, density) - confidence).abs() < 1e-9);
            let (a, b) = (proportion(a.0.into(), a.1.into()), proportion(b.0.into(), b.1.into()));
            let (naive_a, naive_b) = (naive_wilson(a, z), naive_wilson(b, z));
            let found = wilson_interval(a, z);
            prop_assert!((found.lower - naive_a.lower).abs() < 1e-9, "{:?} instead of {:?}", found, naive_a);
            prop_assert!((found.upper - naive_a.upper).abs() < 1e-9, "{:?} instead of {:?}", found, naive_a);
            let below = ((a.rate() - naive_a.lower).powi(2) + (naive_b.upper - b.rate()).powi(2)).sqrt();
            let above = ((naive_a.upper - a.rate()).powi(2) + (b.rate() - naive_b.lower).powi(2)).sqrt();
            let found = difference_interval(a, b, z);
            prop_assert!((found.lower - (a.rate() - b.rate() - below)).abs() < 1e-9, "{:?}", found);
            prop_assert!((found.upper - (a.rate() - b.rate() + above)).abs() < 1e-9, "{:?}", found);
        }

        #[test]
        fn counts_against_shares_have_the_tail_of_their_density(
            counts in prop::collection::vec((0u32..300, 1u32..50), 2..8),
        ) {
            let observed: Vec<f64> = counts.iter().map(|(count, _)| f64::from(*count)).collect();
            let shares: Vec<f64> = counts.iter().map(|(_, share)| f64::from(*share)).collect();
            let (total, whole) = (observed.iter().sum::<f64>(), shares.iter().sum::<f64>());
            prop_assume!(total > 0.0);
            let squares = observed.iter().zip(&shares).map(|(count, share)| count * count / (total * share / whole));
            let naive = squares.sum::<f64>() - total;
            let statistic = chi_square(observed.iter().copied(), shares.iter().copied());
            prop_assert!((statistic - naive).abs() <= 1e-9 * (1.0 + naive));
            let degrees = counts.len() - 1;
            // Of the square root of the statistic, where the density has no pole.
            let gamma = (0..).map(|step| degrees as f64 / 2.0 - f64::from(step)).take_while(|left| *left > 0.5);
            let gamma = gamma.map(|left| if left == 1.0 { 1.0 } else { left - 1.0 }).product::<f64>();
            let gamma = if degrees % 2 == 1 { gamma * std::f64::consts::PI.sqrt() } else { gamma };
            let scale = 2.0 / (2f64.powf(degrees as f64 / 2.0) * gamma);
            let density = |root: f64| scale * root.powi(degrees as i32 - 1) * (-root * root / 2.0).exp();
            let tail = 1.0 - integral(statistic.sqrt().min(40.0), density);
            let p = chi_square_p(statistic, degrees as f64);
            prop_assert!((p - tail).abs() < 1e-7, "{} instead of {} of {} with {}", p, tail, statistic, degrees);
        }
    }

    proptest! {
        #[test]
        fn intervals_hold_the_estimate_and_stay_possible(
            a in (1u32..5000).prop_flat_map(|trials| (0..=trials, Just(trials))),
            b in (1u32..5000).prop_flat_map(|trials| (0..=trials, Just(trials))),
            confidence in 0.5f64..0.9999,
        ) {
            let z = critical_value(confidence);
            let (a, b) = (proportion(a.0.into(), a.1.into()), proportion(b.0.into(), b.1.into()));
            let wilson = wilson_interval(a, z);
            prop_assert!(0.0 <= wilson.lower && wilson.lower <= a.rate());
            prop_assert!(a.rate() <= wilson.upper && wilson.upper <= 1.0);
            let (there, back) = (difference_interval(a, b, z), difference_interval(b, a, z));
            let difference = a.rate() - b.rate();
            prop_assert!(-1.0 <= there.lower && there.lower <= difference + 1e-12);
            prop_assert!(difference <= there.upper + 1e-12 && there.upper <= 1.0);
            prop_assert!((there.lower + back.upper).abs() < 1e-12 && (there.upper + back.lower).abs() < 1e-12);
        }

        /// The z test of two rates is Pearson's test of the two by two table.
        #[test]
        fn the_test_of_two_rates_is_the_chi_square_of_their_table(
            a in (1u32..500).prop_flat_map(|trials| (0..=trials, Just(trials))),
            b in (1u32..500).prop_flat_map(|trials| (0..=trials, Just(trials))),
        ) {
            let test = two_proportion_test(proportion(a.0.into(), a.1.into()), proportion(b.0.into(), b.1.into()));
            let rows = [[a.0, a.1 - a.0], [b.0, b.1 - b.0]].map(|row| row.map(f64::from));
            let total: f64 = rows.iter().flatten().sum();
            let mut statistic = 0.0;
            for row in rows {
                for column in 0..2 {
                    let expected = (row[0] + row[1]) * (rows[0][column] + rows[1][column]) / total;
                    if expected > 0.0 {
                        statistic += (row[column] - expected).powi(2) / expected;
                    }
                }
            }
            prop_assert!((test.z * test.z - statistic).abs() <= 1e-9 * (1.0 + statistic));
            prop_assert!((test.p - chi_square_p(statistic, 1.0)).abs() <= 1e-9);
        }
    }
}
