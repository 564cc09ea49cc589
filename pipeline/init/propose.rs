//! Goal, funnel, stages and classes of channels, proposed from the touchpoints and channels that a sample has.

use std::collections::BTreeMap;

use super::words::{self, Names, folded};

/// Alternatives of a step; more would hide what the step is.
const MOST_ALTERNATIVES: usize = 3;
/// Touchpoints that get a stage; beyond them a list helps nobody.
const MOST_STAGED: usize = 120;
/// Words of what leads away from a goal.
const AWAY: Names = &[
    "remove",
    "removed",
    "error",
    "bug",
    "failed",
    "abandoned",
    "refund",
    "return",
    "list",
    "click",
    "impression",
    "support",
];

/// What is proposed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Proposal {
    /// Touchpoints that end a journey as converted.
    pub goal: Vec<String>,
    /// Steps of a funnel towards the goal; empty if there is none.
    pub steps: Vec<String>,
    /// Touchpoints by stage, in the order of a lifecycle.
    pub stages: Vec<(String, Vec<String>)>,
    /// Touchpoints whose words tell no stage.
    pub unstaged: Vec<String>,
    /// Channels of machines.
    pub digital: Vec<String>,
    /// Channels on which people serve.
    pub assisted: Vec<String>,
}

/// The order of a lifecycle.
const LIFECYCLE: [&str; 7] =
    ["awareness", "discovery", "evaluation", "conversion", "experience", "support", "repurchase"];

impl Proposal {
    /// Proposes from counts of touchpoints and of channels.
    pub fn of(touchpoints: &BTreeMap<String, usize>, channels: &BTreeMap<String, usize>) -> Self {
        let mut by_count: Vec<(&str, usize)> =
            touchpoints.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        by_count.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let names: Vec<&str> = by_count.iter().map(|(name, _)| *name).filter(|name| is_plain(name)).collect();
        let goal: Vec<String> = words::goals(&names).into_iter().map(String::from).collect();
        let mut proposal = Self { steps: steps(&names, &goal), ..Self::default() };
        for name in names.iter().take(MOST_STAGED) {
            let is_goal = goal.iter().any(|goal| goal == name);
            match if is_goal { Some("conversion") } else { words::stage_of(name) } {
                Some(stage) => match proposal.stages.iter_mut().find(|(known, _)| known == stage) {
                    Some((_, staged)) => staged.push((*name).to_string()),
                    None => proposal.stages.push((stage.into(), vec![(*name).to_string()])),
                },
                // What a mapping writes where nothing is given.
                None if *name == "unknown" => {}
                None => proposal.unstaged.push((*name).to_string()),
            }
        }
        let place = |stage: &str| LIFECYCLE.iter().position(|known| *known == stage);
        proposal.stages.sort_by_key(|(stage, _)| place(stage));
        for channel in channels.keys() {
            match words::is_assisted(channel) {
                true => proposal.assisted.push(channel.clone()),
                false => proposal.digital.push(channel.clone()),
            }
        }
        proposal.goal = goal;
        proposal
    }
}

/// Whether a touchpoint can stand in a step as it is.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['|', ':', '*', '\n'])
}

fn steps(names: &[&str], goal: &[String]) -> Vec<String> {
    if goal.is_empty() {
        return Vec::new();
    }
    let mut found: [Vec<&str>; words::STEPS.len()] = Default::default();
    for name in names.iter().filter(|name| !goal.iter().any(|goal| goal == *name)) {
        let words = folded(name);
        if words.split('_').any(|word| AWAY.contains(&word)) {
            continue;
        }
        let has = |step: &str| words.starts_with(&format!("{step}_")) || words.ends_with(&format!("_{step}"));
        let exact = words::STEPS.iter().position(|step| step.contains(&words.as_str()));
        // Behind a step that is named exactly, the later of two counts: `product_added_to_cart`.
        let loose = || words::STEPS.iter().rposition(|step| step.iter().any(|step| has(step)));
        if let Some(step) = exact.or_else(loose)
            && found[step].len() < MOST_ALTERNATIVES
        {
            found[step].push(name);
        }
    }
    let mut steps: Vec<String> = found.iter().filter(|names| !names.is_empty()).map(|names| names.join("|")).collect();
    if steps.is_empty() {
        return Vec::new();
    }
    steps.push(goal.join("|"));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(names: &[&str]) -> BTreeMap<String, usize> {
        names.iter().enumerate().map(|(place, name)| ((*name).to_string(), 100 - place)).collect()
    }

    #[test]
    fn goal_steps_and_stages_follow_from_the_words() {
        let touchpoints = counts(&[
            "home",
            "search",
            "product_view",
            "add_to_cart",
            "remove_from_cart",
            "checkout",
            "purchase",
            "refund",
            "wibble",
        ]);
        let found = Proposal::of(&touchpoints, &counts(&["web", "call_center"]));
        assert_eq!(found.goal, ["purchase"]);
        assert_eq!(found.steps, ["product_view", "add_to_cart", "checkout", "purchase"]);
        let stage = |name: &str| found.stages.iter().find(|(stage, _)| stage == name).map(|(_, names)| names.clone());
        assert_eq!(stage("awareness").unwrap(), ["home"]);
        assert_eq!(stage("support").unwrap(), ["refund"]);
        assert_eq!(found.unstaged, ["wibble"]);
        assert_eq!((found.digital, found.assisted), (vec!["web".into()], vec!["call_center".into()]));
    }

    #[test]
    fn without_a_goal_there_is_no_funnel() {
        let found = Proposal::of(&counts(&["home", "product_view"]), &counts(&["web"]));
        assert!(found.goal.is_empty() && found.steps.is_empty());
    }
}
