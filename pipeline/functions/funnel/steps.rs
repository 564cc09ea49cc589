//! What the steps of a funnel mean, and which of them a touch matches.
//!
//! A step is one or more alternatives joined by `|`. An alternative is `*` (any touch), a `touchpoint`, or a
//! `channel:touchpoint`. A touchpoint's own name may hold a `:`; so an alternative matches a touch when it equals the
//! touchpoint, or the touch's channel, a `:` and the touchpoint put together. Blanks around an alternative do not
//! count, case does. A touch without a touchpoint matches `*` only; one without a channel matches no
//! `channel:touchpoint`.

use super::chain::MOST_STEPS;

/// The steps of one funnel.
#[derive(Debug)]
pub(in crate::functions) struct Steps<'a> {
    count: usize,
    /// The steps that any touch matches.
    any: u32,
    /// Every other alternative, and the step that it belongs to.
    alternatives: Vec<(&'a str, u32)>,
}

impl<'a> Steps<'a> {
    /// Reads the steps in their order. The error says what is wrong with which step.
    pub(in crate::functions) fn parse(texts: impl IntoIterator<Item = Option<&'a str>>) -> Result<Self, String> {
        let mut steps = Self::none();
        for text in texts {
            if steps.count == MOST_STEPS {
                return Err(format!("expected at most {MOST_STEPS} steps"));
            }
            let bit = 1 << steps.count;
            steps.count += 1;
            let text = text.ok_or_else(|| format!("step {} is null", steps.count))?;
            steps.add(text, bit).map_err(|what| format!("step {} {what}", steps.count))?;
        }
        if steps.count == 0 {
            return Err("expected at least one step".to_owned());
        }
        Ok(steps)
    }

    /// Reads texts in the syntax of steps, each with the bit of what matches it.
    pub(super) fn marks(marks: impl IntoIterator<Item = (&'a str, u32)>) -> Result<Self, String> {
        let mut steps = Self::none();
        for (text, bit) in marks {
            steps.add(text, bit)?;
        }
        Ok(steps)
    }

    fn none() -> Self {
        Self { count: 0, any: 0, alternatives: Vec::new() }
    }

    fn add(&mut self, text: &'a str, bit: u32) -> Result<(), String> {
        for alternative in text.split('|').map(str::trim) {
            match alternative {
                "" => return Err(format!("('{text}') has an empty alternative")),
                "*" => self.any |= bit,
                name => self.alternatives.push((name, bit)),
            }
        }
        Ok(())
    }

    /// How many steps there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether every touch that matches a step of `others` matches ours too, as far as the texts can tell.
    pub(super) fn covers(&self, step: usize, others: &Steps<'_>, other: usize) -> bool {
        let (bit, other_bit) = (1 << step, 1 << other);
        if self.any & bit != 0 {
            return true;
        }
        let ours = || self.alternatives.iter().filter(|(_, of)| *of == bit).map(|(name, _)| *name);
        let is_covered = |wanted: &str| ours().any(|name| name == wanted || channel_before(wanted, name).is_some());
        others.any & other_bit == 0
            && others.alternatives.iter().filter(|(_, of)| *of == other_bit).all(|(wanted, _)| is_covered(wanted))
    }
}

/// The steps that touches match, by the numbers that stand for touchpoints and channels.
#[derive(Debug)]
pub(in crate::functions) struct Matcher {
    /// What each touchpoint matches on any channel.
    on_any_channel: Vec<u32>,
    /// Where what a touchpoint matches on each channel begins in `on_channel`; [`NO_CHANNEL`] if it asks for none.
    /// Empty if no touchpoint does.
    channels_of: Vec<u32>,
    on_channel: Vec<u32>,
}

const NO_CHANNEL: u32 = u32::MAX;

impl Matcher {
    /// Works out once what each touchpoint and channel of a batch matches. The number of a name is its index.
    pub(in crate::functions) fn new(
        steps: &Steps<'_>,
        touchpoints: &[Option<&str>],
        channels: &[Option<&str>],
    ) -> Self {
        let mut on_any_channel = vec![steps.any; touchpoints.len()];
        let mut channels_of = vec![NO_CHANNEL; touchpoints.len()];
        let mut on_channel = vec![];
        for (number, touchpoint) in touchpoints.iter().enumerate() {
            let Some(touchpoint) = touchpoint else { continue };
            for (alternative, bit) in &steps.alternatives {
                if alternative == touchpoint {
                    on_any_channel[number] |= bit;
                    continue;
                }
                let wanted = channel_before(alternative, touchpoint);
                let Some(channel) = wanted.and_then(|wanted| channels.iter().position(|name| *name == Some(wanted)))
                else {
                    continue;
                };
                if channels_of[number] == NO_CHANNEL {
                    channels_of[number] = on_channel.len() as u32;
                    on_channel.resize(on_channel.len() + channels.len(), 0);
                }
                on_channel[channels_of[number] as usize + channel] |= bit;
            }
        }
        if on_channel.is_empty() {
            channels_of.clear();
        }
        Self { on_any_channel, channels_of, on_channel }
    }

    /// What each touchpoint matches, by its number, if no channel matters.
    pub(in crate::functions) fn on_any_channel(&self) -> Option<&[u32]> {
        self.channels_of.is_empty().then_some(self.on_any_channel.as_slice())
    }

    /// Whether a touch of this touchpoint can match anything.
    pub(super) fn can_match(&self, touchpoint: usize) -> bool {
        self.on_any_channel[touchpoint] != 0 || self.channels_of.get(touchpoint).is_some_and(|at| *at != NO_CHANNEL)
    }

    /// The steps that a touch matches: bit `i` is step `i + 1`. Its channel is read only if it matters.
    #[inline]
    pub(in crate::functions) fn matched(&self, touchpoint: u32, channel: impl FnOnce() -> u32) -> u32 {
        let steps = self.on_any_channel[touchpoint as usize];
        match self.channels_of.get(touchpoint as usize) {
            None | Some(&NO_CHANNEL) => steps,
            Some(channels) => steps | self.on_channel[(channels + channel()) as usize],
        }
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
        let bits = Matcher::new(&steps, &[None, touchpoint], &[None, channel]).matched(1, || 1);
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
    fn a_step_covers_what_it_matches_whatever_else_there_is() {
        for (ours, other, covers) in [
            ("a", "a", true),
            ("a|b", "b", true),
            ("a", "a|b", false),
            ("a", "web:a", true),
            ("web:a", "a", false),
            ("*", "a", true),
            ("*", "*", true),
            ("a", "*", false),
            ("a", "ba", false),
        ] {
            let read = |text| Steps::parse([Some("x"), Some(text)]).unwrap();
            assert_eq!(read(ours).covers(1, &read(other), 1), covers, "{ours}, {other}");
        }
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
