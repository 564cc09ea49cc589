//! How the models of attribution share out one conversion among the touches before it.

/// A model of attribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::functions) enum Model {
    First,
    Last,
    Linear,
    UShaped,
    JShaped,
    InverseJShaped,
    TimeDecay,
    Participation,
}

/// The models by name; a name that comes second to another means the same.
const MODELS: [(&str, Model); 9] = [
    ("first", Model::First),
    ("last", Model::Last),
    ("linear", Model::Linear),
    ("u_shaped", Model::UShaped),
    ("position_based", Model::UShaped),
    ("j_shaped", Model::JShaped),
    ("inverse_j_shaped", Model::InverseJShaped),
    ("time_decay", Model::TimeDecay),
    ("participation", Model::Participation),
];

impl Model {
    /// Reads a name; says what was expected when there is no such model.
    pub(in crate::functions) fn parse(name: &str) -> Result<Self, String> {
        match MODELS.iter().find(|(known, _)| *known == name) {
            Some((_, model)) => Ok(*model),
            None => {
                let names = MODELS.map(|(name, _)| name).join(", ");
                Err(format!("expected a model ({names}), got '{name}'"))
            }
        }
    }
}

/// What the touches at the ends of a journey get, and those between them together.
struct Shares {
    first: f64,
    between: f64,
    last: f64,
    /// The shares of two touches, which have nothing between them.
    of_two: (f64, f64),
}

// From Adobe Customer Journey Analytics, attribution models.
const U_SHAPED: Shares = Shares { first: 0.4, between: 0.2, last: 0.4, of_two: (0.5, 0.5) };
const J_SHAPED: Shares = Shares { first: 0.2, between: 0.2, last: 0.6, of_two: (0.25, 0.75) };
const INVERSE_J_SHAPED: Shares = Shares { first: 0.6, between: 0.2, last: 0.2, of_two: (0.75, 0.25) };

/// A touch that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::functions) struct Touch {
    /// Where it stands in its journey, from 0.
    pub position: usize,
    /// What it was, by number.
    pub name: u32,
    /// When it was; means nothing to a model that does not ask.
    pub time: i64,
}

/// Shares out conversions, one after another.
#[derive(Debug, Default)]
pub(in crate::functions) struct Attribution {
    touches: Vec<Touch>,
    /// The last conversion for which each name was seen.
    seen: Vec<u32>,
    conversion: u32,
}

impl Attribution {
    /// Begins the next conversion, without touches.
    pub(in crate::functions) fn begin(&mut self) {
        self.touches.clear();
    }

    /// Adds the next touch that counts.
    #[inline]
    pub(in crate::functions) fn touch(&mut self, touch: Touch) {
        self.touches.push(touch);
    }

    /// Writes the weights of the touches, each at its position. A half-life is above 0, in the unit of the times.
    pub(in crate::functions) fn share(&mut self, model: Model, half_life: f64, weights: &mut [f64]) {
        let (Some(first), Some(last)) = (self.touches.first(), self.touches.last()) else {
            return;
        };
        let count = self.touches.len();
        match model {
            Model::First => weights[first.position] = 1.0,
            Model::Last => weights[last.position] = 1.0,
            Model::Linear => self.touches.iter().for_each(|touch| weights[touch.position] = 1.0 / count as f64),
            Model::UShaped => by_position(&self.touches, &U_SHAPED, weights),
            Model::JShaped => by_position(&self.touches, &J_SHAPED, weights),
            Model::InverseJShaped => by_position(&self.touches, &INVERSE_J_SHAPED, weights),
            Model::TimeDecay => by_time(&self.touches, half_life, weights),
            Model::Participation => self.give_each_name(weights),
        }
    }

    /// Gives 1 to the first touch of each name.
    fn give_each_name(&mut self, weights: &mut [f64]) {
        self.conversion = self.conversion.wrapping_add(1);
        if self.conversion == 0 {
            self.seen.fill(0);
            self.conversion = 1;
        }
        for touch in &self.touches {
            let name = touch.name as usize;
            if name >= self.seen.len() {
                self.seen.resize(name + 1, 0);
            }
            // A truth as a number saves a branch that nobody can foresee.
            weights[touch.position] = f64::from(self.seen[name] != self.conversion);
            self.seen[name] = self.conversion;
        }
    }
}

fn by_position(touches: &[Touch], shares: &Shares, weights: &mut [f64]) {
    match touches {
        [] => {}
        [only] => weights[only.position] = 1.0,
        [first, last] => (weights[first.position], weights[last.position]) = shares.of_two,
        [first, between @ .., last] => {
            weights[first.position] = shares.first;
            between.iter().for_each(|touch| weights[touch.position] = shares.between / between.len() as f64);
            weights[last.position] = shares.last;
        }
    }
}

/// Halves a touch's weight for every half-life that it lies before the latest touch, and makes the weights add up to 1.
/// Counted from the conversion instead, all would shrink alike and so come out the same, unless they vanished first.
fn by_time(touches: &[Touch], half_life: f64, weights: &mut [f64]) {
    let Some(latest) = touches.iter().map(|touch| touch.time).max() else {
        return;
    };
    let mut sum = 0.0;
    for touch in touches {
        let age = latest.saturating_sub(touch.time) as f64;
        weights[touch.position] = (-age / half_life).exp2();
        sum += weights[touch.position];
    }
    touches.iter().for_each(|touch| weights[touch.position] /= sum);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn weights(model: Model, touches: &[(u32, i64)], half_life: f64) -> Vec<f64> {
        let mut attribution = Attribution::default();
        let mut weights = vec![0.0; touches.len()];
        attribution.begin();
        for (position, (name, time)) in touches.iter().enumerate() {
            attribution.touch(Touch { position, name: *name, time: *time });
        }
        attribution.share(model, half_life, &mut weights);
        weights
    }

    fn of(name: &str, count: u32) -> Vec<f64> {
        let touches: Vec<(u32, i64)> = (0..count).map(|touch| (touch, i64::from(touch) * DAY)).collect();
        weights(Model::parse(name).unwrap(), &touches, 7.0 * DAY as f64)
    }

    #[test]
    fn one_touch_takes_all() {
        for (name, _) in MODELS {
            assert_eq!(of(name, 1), [1.0], "{name}");
            assert!(of(name, 0).is_empty(), "{name}");
        }
    }

    #[test]
    fn two_touches_have_shares_of_their_own() {
        for (name, expected) in [
            ("first", [1.0, 0.0]),
            ("last", [0.0, 1.0]),
            ("linear", [0.5, 0.5]),
            ("u_shaped", [0.5, 0.5]),
            ("position_based", [0.5, 0.5]),
            ("j_shaped", [0.25, 0.75]),
            ("inverse_j_shaped", [0.75, 0.25]),
            ("participation", [1.0, 1.0]),
        ] {
            assert_eq!(of(name, 2), expected, "{name}");
        }
    }

    #[test]
    fn the_ends_of_longer_journeys_keep_their_shares() {
        for (name, expected) in [
            ("first", [1.0, 0.0, 0.0, 0.0]),
            ("last", [0.0, 0.0, 0.0, 1.0]),
            ("linear", [0.25; 4]),
            ("u_shaped", [0.4, 0.1, 0.1, 0.4]),
            ("j_shaped", [0.2, 0.1, 0.1, 0.6]),
            ("inverse_j_shaped", [0.6, 0.1, 0.1, 0.2]),
            ("participation", [1.0; 4]),
        ] {
            assert_eq!(of(name, 4), expected, "{name}");
        }
        assert_eq!(of("u_shaped", 3), [0.4, 0.2, 0.4]);
    }

    #[test]
    fn a_touch_one_half_life_older_weighs_half() {
        let touches = [(0, 0), (0, 7 * DAY), (0, 14 * DAY)];
        let found = weights(Model::TimeDecay, &touches, 7.0 * DAY as f64);
        assert_eq!(found, [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0]);
        assert_ne!(found, weights(Model::TimeDecay, &touches, 14.0 * DAY as f64));
    }

    #[test]
    fn touches_ages_before_the_latest_do_not_lose_it() {
        let touches = [(0, i64::MIN), (0, 0), (0, i64::MAX - 1), (0, i64::MAX)];
        let found = weights(Model::TimeDecay, &touches, 1.0);
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-15 && found[3] > 0.6, "{found:?}");
    }

    #[test]
    fn each_distinct_touch_participates_once() {
        let touches = [(3, 0), (1, 0), (3, 0), (1, 0), (2, 0)];
        assert_eq!(weights(Model::Participation, &touches, 1.0), [1.0, 1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn conversions_are_told_apart() {
        let mut attribution = Attribution { conversion: u32::MAX - 1, ..Attribution::default() };
        for _ in 0..4 {
            let mut weights = [0.0; 2];
            attribution.begin();
            attribution.touch(Touch { position: 0, name: 5, time: 0 });
            attribution.touch(Touch { position: 1, name: 5, time: 0 });
            attribution.share(Model::Participation, 1.0, &mut weights);
            assert_eq!(weights, [1.0, 0.0]);
        }
    }

    #[test]
    fn an_unknown_model_is_told_the_known_ones() {
        let error = Model::parse("markov").unwrap_err();
        assert!(
            error.starts_with("expected a model (first, last, linear, u_shaped") && error.ends_with("got 'markov'")
        );
    }

    /// The textbook: shares by rank, decay counted from a conversion after the last touch.
    fn naive(model: Model, touches: &[(u32, i64)], half_life: f64, converted_at: i64) -> Vec<f64> {
        let count = touches.len();
        let ends = |first: f64, between: f64, last: f64| match count {
            1 => vec![1.0],
            2 => vec![first / (first + last), last / (first + last)],
            _ => (0..count)
                .map(|touch| match touch {
                    0 => first,
                    touch if touch == count - 1 => last,
                    _ => between / (count as f64 - 2.0),
                })
                .collect(),
        };
        match model {
            Model::First => (0..count).map(|touch| f64::from(touch == 0)).collect(),
            Model::Last => (0..count).map(|touch| f64::from(touch + 1 == count)).collect(),
            Model::Linear => vec![1.0 / count as f64; count],
            Model::UShaped => ends(0.4, 0.2, 0.4),
            Model::JShaped => ends(0.2, 0.2, 0.6),
            Model::InverseJShaped => ends(0.6, 0.2, 0.2),
            Model::TimeDecay => {
                let raw = touches.iter().map(|(_, time)| 2f64.powf(-((converted_at - time) as f64) / half_life));
                let raw: Vec<f64> = raw.collect();
                let sum: f64 = raw.iter().sum();
                raw.iter().map(|weight| weight / sum).collect()
            }
            Model::Participation => (0..count)
                .map(|touch| f64::from(touches[..touch].iter().all(|earlier| earlier.0 != touches[touch].0)))
                .collect(),
        }
    }

    proptest! {
        #[test]
        fn weights_are_those_of_the_textbook_and_add_up_to_one(
            touches in prop::collection::vec((0u32..4, 0i64..40 * DAY), 1..60),
            half_life in 1.0f64..20.0,
        ) {
            let half_life = half_life * DAY as f64;
            for (_, model) in MODELS {
                let found = weights(model, &touches, half_life);
                let expected = naive(model, &touches, half_life, 45 * DAY);
                for (found, expected) in found.iter().zip(&expected) {
                    prop_assert!((found - expected).abs() <= 1e-12, "{:?}: {} instead of {}", model, found, expected);
                }
                if model != Model::Participation {
                    prop_assert!((found.iter().sum::<f64>() - 1.0).abs() <= 1e-12);
                }
            }
        }
    }

    #[test]
    fn even_long_journeys_add_up() {
        let touches: Vec<(u32, i64)> = (0..100_000).map(|touch| (touch % 7, i64::from(touch) * 1_000_003)).collect();
        for (name, model) in MODELS {
            let found = weights(model, &touches, 7.0 * DAY as f64);
            let expected = if model == Model::Participation { 7.0 } else { 1.0 };
            assert!((found.iter().sum::<f64>() - expected).abs() <= 1e-10, "{name}");
        }
    }
}
