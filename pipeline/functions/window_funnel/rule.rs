//! The rules by which a funnel is read: ClickHouse's modes, which combine, and presets of products, which do not.

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Rule {
    ClickHouse(Modes),
    PostHog { is_strict: bool },
    Mixpanel,
}

/// ClickHouse's modes; none of them is its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Modes {
    /// `strict_deduplication`: a step from the second on that comes again ends the pass.
    pub deduplication: bool,
    /// `strict_order`: after the first step 1, a row that matches no step, or a step before its turn, ends the pass.
    pub order: bool,
    /// `strict_increase`: each step is later than the one before.
    pub increase: bool,
    /// `strict_once`: a row serves one step of a chain only.
    pub once: bool,
    /// `allow_reentry`: a step before its turn is passed over instead.
    pub reentry: bool,
}

impl Rule {
    /// Reads words joined by commas, bars or spaces; no words are ClickHouse's default. The error says what is wrong.
    pub(in super::super) fn parse(text: &str) -> Result<Self, String> {
        let mut modes = Modes::default();
        let mut preset = None;
        let mut words = 0;
        for word in text.split([',', '|', ' ', '\t', '\n']).filter(|word| !word.is_empty()) {
            words += 1;
            match word {
                "strict_deduplication" => modes.deduplication = true,
                "strict_order" => modes.order = true,
                "strict_increase" => modes.increase = true,
                "strict_once" => modes.once = true,
                "allow_reentry" => modes.reentry = true,
                "posthog_ordered" => preset = Some(Self::PostHog { is_strict: false }),
                "posthog_strict" => preset = Some(Self::PostHog { is_strict: true }),
                "mixpanel" => preset = Some(Self::Mixpanel),
                "strict" => return Err("the mode strict has two meanings; say strict_deduplication".to_owned()),
                other => {
                    return Err(format!(
                        "unknown mode '{other}'; expected strict_deduplication, strict_order, strict_increase, \
                         strict_once, allow_reentry, posthog_ordered, posthog_strict or mixpanel"
                    ));
                }
            }
        }
        if let Some(preset) = preset {
            return match words {
                1 => Ok(preset),
                _ => Err(format!("'{text}' combines a preset with other modes; a preset stands alone")),
            };
        }
        if modes.reentry && !modes.order {
            return Err("allow_reentry has a meaning with strict_order only; add it".to_owned());
        }
        Ok(Self::ClickHouse(modes))
    }

    /// Whether rows that match no step matter.
    pub(in super::super) fn keeps_unmatched(self) -> bool {
        match self {
            Self::ClickHouse(modes) => modes.order,
            Self::PostHog { is_strict } => is_strict,
            Self::Mixpanel => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_joined_in_any_way() {
        let both = Rule::ClickHouse(Modes { increase: true, once: true, ..Modes::default() });
        for text in ["strict_increase, strict_once", "strict_once|strict_increase", " strict_once  strict_increase "] {
            assert_eq!(Rule::parse(text), Ok(both), "{text}");
        }
        assert_eq!(Rule::parse(""), Ok(Rule::ClickHouse(Modes::default())));
        assert_eq!(Rule::parse("posthog_strict"), Ok(Rule::PostHog { is_strict: true }));
        let reentry = Modes { order: true, reentry: true, ..Modes::default() };
        assert_eq!(Rule::parse("allow_reentry|strict_order"), Ok(Rule::ClickHouse(reentry)));
    }

    #[test]
    fn wrong_words_and_combinations_are_told() {
        for (text, message) in [
            ("fixed", "unknown mode 'fixed'"),
            ("Strict_Order", "unknown mode 'Strict_Order'"),
            ("strict", "say strict_deduplication"),
            ("mixpanel, strict_once", "a preset stands alone"),
            ("mixpanel posthog_strict", "a preset stands alone"),
            ("allow_reentry", "with strict_order only"),
        ] {
            assert!(Rule::parse(text).unwrap_err().contains(message), "{text}");
        }
    }

    #[test]
    fn only_rules_of_adjacency_keep_rows_that_match_nothing() {
        for (text, keeps) in [
            ("", false),
            ("strict_order", true),
            ("strict_once strict_deduplication", false),
            ("posthog_ordered", false),
            ("posthog_strict", true),
            ("mixpanel", false),
        ] {
            assert_eq!(Rule::parse(text).unwrap().keeps_unmatched(), keeps, "{text}");
        }
    }
}
