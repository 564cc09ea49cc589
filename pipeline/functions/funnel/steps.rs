//! What the steps of a funnel mean, and which of them a touch matches.
//!
//! A step is one or more alternatives joined by `|`. An alternative is `*` (any touch), a `touchpoint`, or a
//! `channel:touchpoint`. A touchpoint's own name may hold a `:`; so an alternative matches a touch when it equals the
//! touchpoint, or the touch's channel, a `:` and the touchpoint put together. Blanks around an alternative do not count,
//! case does. A touch without a touchpoint matches `*` only; one without a channel matches no `channel:touchpoint`.

use super::chain::MOST_STEPS;

/// The steps of one funnel.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    count: usize,
    /// The steps that any touch matches.
    any: u32,
    /// Every other alternative, and the step that it belongs to.
    alternatives: Vec<(&'a str, u32)>,
}

impl<'a> Steps<'a> {
    /// Reads the steps in their order. The error says what is wrong with which step.
    pub(super) fn parse(texts: impl IntoIterator<Item = Option<&'a str>>) -> Result<Self, String> {
        let mut steps = Self { count: 0, any: 0, alternatives: Vec::new() };
        for text in texts {
            if steps.count == MOST_STEPS {
                return Err(format!("expected at most {MOST_STEPS} steps"));
            }
            let bit = 1 << steps.count;
            steps.count += 1;
            let text = text.ok_or_else(|| format!("step {} is null", steps.count))?;
            for alternative in text.split('|').map(str::trim) {
                match alternative {
                    "" => return Err(format!("step {} ('{text}') has an empty alternative", steps.count)),
                    "*" => steps.any |= bit,
                    name => steps.alternatives.push((name, bit)),
                }
            }
        }
        if steps.count == 0 {
            return Err("expected at least one step".to_owned());
        }
        Ok(steps)
    }

    /// How many steps there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

/// The steps that touches match, by the numbers that stand for touchpoints and channels.
#[derive(Debug)]
pub(super) struct Matcher {
    touchpoints: Vec<Matched>,
}

/// The steps that a touchpoint matches.
#[derive(Debug, Clone, Default)]
struct Matched {
    on_any_channel: u32,
    /// The channels on which it matches more.
    on_channel: Vec<(u32, u32)>,
}

impl Matcher {
    /// Works out once what each touchpoint and channel of a batch matches. The number of a name is its index.
    pub(super) fn new(steps: &Steps<'_>, touchpoints: &[Option<&str>], channels: &[Option<&str>]) -> Self {
        let matched = |touchpoint: &Option<&str>| {
            let mut matched = Matched { on_any_channel: steps.any, on_channel: Vec::new() };
            let Some(touchpoint) = touchpoint else { return matched };
            for (alternative, bit) in &steps.alternatives {
                if alternative == touchpoint {
                    matched.on_any_channel |= bit;
                } else if let Some(wanted) = channel_before(alternative, touchpoint) {
                    let number = channels.iter().position(|channel| *channel == Some(wanted));
                    matched.on_channel.extend(number.map(|number| (number as u32, *bit)));
                }
            }
            matched
        };
        Self { touchpoints: touchpoints.iter().map(matched).collect() }
    }

    /// The steps that a touch matches: bit `i` is step `i + 1`.
    #[inline]
    pub(super) fn matched(&self, touchpoint: u32, channel: u32) -> u32 {
        let matched = &self.touchpoints[touchpoint as usize];
        let mut steps = matched.on_any_channel;
        for (on, more) in &matched.on_channel {
            if *on == channel {
                steps |= more;
            }
        }
        steps
    }
}

/// The channel that `alternative` asks for, if it reads `channel:touchpoint`.
fn channel_before<'a>(alternative: &'a str, touchpoint: &str) -> Option<&'a str> {
    alternative.strip_suffix(touchpoint)?.strip_suffix(':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The steps (from 1) that a touch matches.
    fn matched(steps: &[&str], touchpoint: Option<&str>, channel: Option<&str>) -> Vec<usize> {
        let steps = Steps::parse(steps.iter().copied().map(Some)).unwrap();
        let bits = Matcher::new(&steps, &[None, touchpoint], &[None, channel]).matched(1, 1);
        (1..=steps.count()).filter(|step| bits >> (step - 1) & 1 == 1).collect()
    }

    #[test]
    fn a_touchpoint_matches_on_any_channel() {
        assert_eq!(matched(&["view", "buy"], Some("buy"), Some("web")), [2]);
        assert_eq!(matched(&["view", "buy"], Some("buy"), None), [2]);
        assert!(matched(&["view", "buy"], Some("Buy"), Some("web")).is_empty());
    }

    #[test]
    fn a_channel_and_touchpoint_match_on_that_channel_only() {
        assert_eq!(matched(&["store:buy"], Some("buy"), Some("store")), [1]);
        assert!(matched(&["store:buy"], Some("buy"), Some("web")).is_empty());
        assert!(matched(&["store:buy"], Some("buy"), None).is_empty());
    }

    #[test]
    fn alternatives_match_each_for_itself() {
        let steps = ["view | store:visit", "buy|web:view"];
        assert_eq!(matched(&steps, Some("view"), Some("web")), [1, 2]);
        assert_eq!(matched(&steps, Some("view"), Some("app")), [1]);
        assert_eq!(matched(&steps, Some("visit"), Some("store")), [1]);
        assert!(matched(&steps, Some("visit"), Some("web")).is_empty());
    }

    #[test]
    fn a_star_matches_any_touch() {
        assert_eq!(matched(&["view", "*", "*|buy"], None, None), [2, 3]);
        assert_eq!(matched(&["view", "*"], Some("view"), Some("web")), [1, 2]);
    }

    #[test]
    fn a_touchpoint_may_hold_a_colon() {
        assert_eq!(matched(&["form:sent"], Some("form:sent"), Some("web")), [1]);
        assert_eq!(matched(&["form:sent"], Some("sent"), Some("form")), [1]);
        assert_eq!(matched(&["web:form:sent"], Some("form:sent"), Some("web")), [1]);
        assert_eq!(matched(&["web:form:sent"], Some("sent"), Some("web:form")), [1]);
        assert!(matched(&["web:form:sent"], Some("sent"), Some("web")).is_empty());
    }

    #[test]
    fn a_wrong_step_is_named() {
        let error = |steps: Vec<Option<&str>>| Steps::parse(steps).unwrap_err();
        assert_eq!(error(vec![]), "expected at least one step");
        assert_eq!(error(vec![Some("a"), None]), "step 2 is null");
        assert_eq!(error(vec![Some("a| ")]), "step 1 ('a| ') has an empty alternative");
        assert_eq!(error(vec![Some("a"); 33]), "expected at most 32 steps");
        assert_eq!(Steps::parse(vec![Some("a"); 32]).unwrap().count(), 32);
    }

    proptest! {
        #[test]
        fn agrees_with_comparing_the_texts(
            step in "[a:*|]{0,7}",
            touchpoint in prop::option::of("[a:]{1,3}"),
            channel in prop::option::of("[a:]{1,2}"),
        ) {
            let naive = step.split('|').any(|alternative| {
                alternative == "*"
                    || touchpoint.as_ref().is_some_and(|touchpoint| {
                        alternative == touchpoint
                            || channel.as_ref().is_some_and(|channel| alternative == format!("{channel}:{touchpoint}"))
                    })
            });
            match Steps::parse([Some(step.as_str())]) {
                Ok(_) => {
                    let ours = matched(&[&step], touchpoint.as_deref(), channel.as_deref());
                    prop_assert_eq!(!ours.is_empty(), naive);
                }
                Err(_) => prop_assert!(step.split('|').any(str::is_empty)),
            }
        }
    }
}
