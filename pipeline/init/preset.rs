//! Presets: mappings of shapes that many tools write, and the columns by which each is recognised.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};
use serde::Deserialize;

use super::sample::Sample;
use crate::config::TimeUnit;
use crate::error::{Error, Result};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/pipeline/init/presets");

/// The mapping of a shape.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Its name: that of its file.
    #[serde(skip)]
    pub name: String,
    /// Whose shape it is.
    pub title: String,
    /// Where that is documented.
    pub page: String,
    /// Columns that all are there, as paths joined by dots.
    all: Vec<String>,
    /// Columns of which one is there, if any are named.
    #[serde(default)]
    any: Vec<String>,
    /// Columns that are not there.
    #[serde(default)]
    none: Vec<String>,
    /// Unit of numeric times.
    pub time_unit: Option<TimeUnit>,
    /// Offset of times that name none.
    pub time_offset: Option<String>,
    /// Event columns that differ from user to user and so are guessed.
    #[serde(default)]
    pub guess: Vec<String>,
    /// Expressions by event column.
    event: Expressions,
    /// What is to be said of an expression.
    #[serde(default)]
    why: BTreeMap<String, String>,
    /// Other expressions where some columns are there or are not.
    #[serde(default)]
    when: Vec<When>,
}

/// Expressions by event column, and by kind of identifier.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Expressions {
    /// Of identifiers.
    #[serde(default)]
    pub identifiers: BTreeMap<String, String>,
    /// Of all else.
    #[serde(flatten)]
    pub columns: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    #[serde(default)]
    has: Vec<String>,
    #[serde(default)]
    has_not: Vec<String>,
    event: Expressions,
    #[serde(default)]
    why: BTreeMap<String, String>,
}

/// The names of all presets.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = FILES.files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
    names.sort_unstable();
    names
}

impl Preset {
    /// All presets, by name.
    pub fn all() -> Vec<Self> {
        let mut presets: Vec<Self> = FILES
            .files()
            .map(|file| {
                let name = file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let text = file.contents_utf8().expect("presets are text");
                let preset: Self = toml::from_str(text).expect("a test reads all presets");
                Self { name, ..preset }
            })
            .collect();
        presets.sort_by(|a, b| a.name.cmp(&b.name));
        presets
    }

    /// The preset of a name.
    pub fn named(name: &str) -> Result<Self> {
        let presets = Self::all();
        let names: Vec<String> = presets.iter().map(|preset| preset.name.clone()).collect();
        presets.into_iter().find(|preset| preset.name == name).ok_or_else(|| {
            Error::invalid(format!("no preset is called `{name}`"))
                .hint(format!("there are {}", names.join(", ")))
                .hint_nearest(name, names.iter().map(String::as_str))
        })
    }

    /// The preset whose shape a sample has.
    pub fn recognise(sample: &Sample) -> Option<Self> {
        Self::all().into_iter().find(|preset| {
            preset.all.iter().all(|path| has(sample, path))
                && (preset.any.is_empty() || preset.any.iter().any(|path| has(sample, path)))
                && !preset.none.iter().any(|path| has(sample, path))
        })
    }

    /// The columns by which it is recognised, in words.
    pub fn evidence(&self) -> String {
        format!("has {}", self.all.join(", "))
    }

    /// Its expressions for a sample; without one, those that hold in general.
    pub fn expressions(&self, sample: Option<&Sample>) -> (Expressions, BTreeMap<String, String>) {
        let (mut event, mut why) = (self.event.clone(), self.why.clone());
        for other in &self.when {
            let holds = |sample: &Sample| {
                other.has.iter().all(|path| has(sample, path)) && !other.has_not.iter().any(|path| has(sample, path))
            };
            if sample.is_some_and(holds) {
                event.identifiers.extend(other.event.identifiers.clone());
                event.columns.extend(other.event.columns.clone());
                why.extend(other.why.clone());
            }
        }
        (event, why)
    }
}

fn has(sample: &Sample, path: &str) -> bool {
    sample.has(&path.split('.').collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EventMapping;

    #[test]
    fn every_preset_maps_what_is_required_to_columns_that_events_have() {
        let presets = Preset::all();
        assert!(presets.len() >= 7);
        for preset in presets {
            let (event, why) = preset.expressions(None);
            let columns: toml::Table =
                event.columns.iter().map(|(name, sql)| (name.clone(), toml::Value::String(sql.clone()))).collect();
            let mut columns = columns;
            for guessed in &preset.guess {
                columns.entry(guessed.clone()).or_insert_with(|| toml::Value::String("x".into()));
            }
            columns.remove("identifiers");
            let mapping: EventMapping = columns.try_into().unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            assert!(!mapping.touchpoint.is_empty() && !mapping.occurred_at.is_empty());
            assert!(why.keys().all(|name| event.columns.contains_key(name)), "{}", preset.name);
            assert!(preset.page.starts_with("https://"));
        }
    }

    #[test]
    fn an_unknown_preset_is_an_error_that_names_a_near_one() {
        assert_eq!(Preset::named("segmnt").unwrap_err().remedy(), Some("did you mean `segment`?"));
        assert!(Preset::named("other").unwrap_err().remedy().unwrap().contains("ga4"));
    }
}
