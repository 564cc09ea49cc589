//! `wayline.toml`: what a project reads, where it writes and what its words mean.
//!
//! Unknown keys and wrong values are errors that show the line. Every default stands in this file. A variable
//! `WAYLINE__SECTION__KEY` overrides `[section] key`; secrets come from the environment or a file only.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

pub mod schema;

/// Name of the configuration file in a project's folder.
pub const FILE_NAME: &str = "wayline.toml";
/// Environment variable that holds the key of pseudonyms; `…_FILE` names a file instead.
pub const PSEUDONYM_KEY: &str = "WAYLINE_PSEUDONYM_KEY";
const OVERRIDE_PREFIX: &str = "WAYLINE__";
/// A funnel's steps fit a bit mask, as in ClickHouse.
const MAX_FUNNEL_STEPS: usize = 32;

/// A whole project.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the lake lies.
    #[serde(default)]
    pub lake: Lake,
    /// What is pseudonymised at landing.
    #[serde(default)]
    pub privacy: Privacy,
    /// How files are landed.
    #[serde(default)]
    pub landing: Landing,
    /// Where events come from. Without any, nothing new is landed.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// How identifiers become customers.
    #[serde(default)]
    pub identity: Identity,
    /// What a session is.
    #[serde(default)]
    pub sessions: Sessions,
    /// What a journey is.
    #[serde(default)]
    pub journeys: Journeys,
    /// Class of each channel: `digital = ["web"]`.
    #[serde(default)]
    pub channels: BTreeMap<String, Vec<String>>,
    /// Touchpoints of each lifecycle stage: `evaluation = ["product_view"]`.
    #[serde(default)]
    pub stages: BTreeMap<String, Vec<String>>,
    /// Funnels to measure.
    #[serde(default)]
    pub funnels: Vec<Funnel>,
    /// What the query engine may use.
    #[serde(default)]
    pub engine: Engine,
    /// When marts are published.
    #[serde(default)]
    pub marts: Marts,
    /// Where runs tell what they read and wrote.
    #[serde(default)]
    pub lineage: Lineage,
}

/// `[lake]`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lake {
    /// A folder (relative to the project) or an object store URL.
    pub url: String,
    /// Whether writes to a folder count only when they lie on the disk. Without it a lake is written faster and a loss of
    /// power may damage it; for lakes that can be made anew, such as those of tests.
    pub durable: bool,
}

impl Default for Lake {
    fn default() -> Self {
        Self { url: "lake".into(), durable: true }
    }
}

/// `[privacy]`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// Identifier kinds that are replaced by keyed pseudonyms before anything is written.
    pub pseudonymize: Vec<String>,
}

/// `[landing]`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Landing {
    /// What to do with a file whose content changed after it was taken.
    pub changed_files: ChangedFiles,
    /// Longest record in bytes; longer ones become dead letters.
    pub max_record_bytes: usize,
    /// Bytes of files after which a batch is full; compressed files and those of Parquet count as eight times their size.
    /// A file is never divided, so a batch may be larger by one file.
    pub max_batch_bytes: u64,
    /// Batches that a run lands at most. Left out, `run` lands all that is there and `watch` one in each cycle.
    pub max_batches: Option<NonZeroUsize>,
    /// Events further in the future than this, seen from `received_at` or from the time of their batch, do not move as-of.
    pub future_tolerance: Span,
}

impl Default for Landing {
    fn default() -> Self {
        Self {
            changed_files: ChangedFiles::Error,
            max_record_bytes: 1 << 20,
            max_batch_bytes: 512 << 20,
            max_batches: None,
            future_tolerance: Span::from_hours(24),
        }
    }
}

/// What to do with a file that changed after it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangedFiles {
    /// Refuse the run and name the file.
    Error,
    /// Leave the new content alone.
    Ignore,
    /// Take the file again; events known by id are counted as duplicates.
    Land,
}

/// `[[sources]]`: files of one shape and how their columns become events.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name of the source, `[a-z0-9_-]{1,64}`.
    pub name: String,
    /// Glob of its files: relative to the project, absolute, or an object store URL.
    pub path: String,
    /// Format of the files; told from the extension when left out.
    #[serde(default)]
    pub format: Option<Format>,
    /// Delimiter of CSV fields: one ASCII character, no quote and no line end.
    #[serde(default = "default_delimiter")]
    pub delimiter: char,
    /// Unit of numeric times; without it a number is refused as a time.
    #[serde(default)]
    pub time_unit: Option<TimeUnit>,
    /// Offset of times that name none, such as `Z` or `+02:00`; without it they are refused as text, and taken for UTC in
    /// typed columns of Parquet. What an expression computes is UTC.
    #[serde(default)]
    pub time_offset: Option<String>,
    /// Event column = SQL expression over the source's columns.
    pub event: EventMapping,
}

impl Source {
    /// A source of which nothing but name and files is known yet.
    pub fn of(name: &str, path: &str) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            format: None,
            delimiter: default_delimiter(),
            time_unit: None,
            time_offset: None,
            event: EventMapping::default(),
        }
    }
}

fn default_delimiter() -> char {
    ','
}

/// File formats that sources may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// Unit of numeric times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TimeUnit {
    /// Seconds since 1970-01-01 UTC.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
}

/// `[sources.event]`: a SQL expression per event column.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventMapping {
    /// Unique id; derived from content and origin when left out.
    pub event_id: Option<String>,
    /// When it happened; required.
    pub occurred_at: String,
    /// When the source got it; the time of the batch when left out.
    pub received_at: Option<String>,
    /// Named place of contact; required.
    pub touchpoint: String,
    /// Medium; required.
    pub channel: String,
    /// `inbound` or `outbound`; `inbound` when left out.
    pub direction: Option<String>,
    /// Lifecycle stage; told from `[stages]` when left out.
    pub stage: Option<String>,
    /// Identifier kind = expression.
    #[serde(default)]
    pub identifiers: BTreeMap<String, String>,
    /// Campaign name.
    pub campaign: Option<String>,
    /// Experiment name.
    pub experiment: Option<String>,
    /// Variant of the experiment.
    pub variant: Option<String>,
    /// Money.
    pub value: Option<String>,
    /// Currency code of `value`.
    pub currency: Option<String>,
    /// `csat`, `ces` or `nps`.
    pub score_kind: Option<String>,
    /// Score given.
    pub score: Option<String>,
}

/// `[identity]`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Most distinct values of a kind that one customer may have. 0 is no limit.
    pub limits: BTreeMap<String, usize>,
    /// Values that identify nobody, added to the built-in list.
    pub blocked: Vec<String>,
    /// Kinds from the strongest to the weakest: an event belongs to the customer of its strongest identifier.
    pub priority: Vec<String>,
    /// An identifier linked with more identifiers of stronger kinds than this is shared (a kiosk's cookie, `info@shop`):
    /// all its links are refused. 0 is no limit.
    pub max_links: usize,
    /// Most identifiers that one customer may have; a link that would make more is refused. 0 is no limit.
    pub max_identifiers: usize,
}

impl Default for Identity {
    fn default() -> Self {
        let priority = ["user_id", "customer_id", "loyalty_id", "email", "phone", "device_id", "anonymous_id"];
        Self {
            limits: BTreeMap::new(),
            blocked: Vec::new(),
            priority: priority.map(String::from).to_vec(),
            max_links: 50,
            max_identifiers: 50,
        }
    }
}

/// `[sessions]`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// A longer gap between two events opens a new session.
    pub timeout: Span,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { timeout: Span(Duration::from_secs(30 * 60)) }
    }
}

/// `[journeys]`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Journeys {
    /// A longer gap between two events ends a journey.
    pub timeout: Span,
    /// Touchpoints (or `channel:touchpoint`) that end a journey as converted.
    pub goal: Vec<String>,
}

impl Default for Journeys {
    fn default() -> Self {
        Self { timeout: Span::from_hours(30 * 24), goal: Vec::new() }
    }
}

/// `[[funnels]]`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Funnel {
    /// Name, unique.
    pub name: String,
    /// Steps in order: `touchpoint`, `channel:touchpoint`, alternatives joined by `|`, or `*`.
    pub steps: Vec<String>,
    /// Time allowed from the first step to the last.
    pub window: Span,
}

/// `[engine]`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Memory that queries may hold before they spill, such as `1G` or `512M`. What does not fit is run again alone, with joins
    /// that sort and spill, and on one thread, before it is refused.
    pub memory: String,
    /// Threads; 0 is one per core.
    pub threads: usize,
    /// Share of new events, from 0 to 1, beyond which tables are built whole instead of changed where they were touched:
    /// with many customers touched that is cheaper.
    pub rebuild_share: f64,
}

impl Default for Engine {
    fn default() -> Self {
        Self { memory: "1500M".into(), threads: 0, rebuild_share: 0.2 }
    }
}

/// `[marts]`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Marts {
    /// Marts that are published again at most so often, by name: `{ customers = "10m" }`. Until then their files are those of
    /// the last time, which `catalog.json` tells. All others are published by every run that changes them.
    pub every: BTreeMap<String, Span>,
}

/// `[lineage]`: events of OpenLineage. The usual variables `OPENLINEAGE_URL`, `OPENLINEAGE_NAMESPACE`, … go before it; the
/// key of a receiver comes from `OPENLINEAGE_API_KEY` alone.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lineage {
    /// File to which each run appends its events, one a line; relative to the project.
    pub file: Option<PathBuf>,
    /// Receiver, to whose `api/v1/lineage` events are posted.
    pub url: Option<String>,
    /// Namespace of jobs.
    pub namespace: String,
    /// Name of the project's jobs; that of its folder when left out.
    pub job: Option<String>,
}

impl Default for Lineage {
    fn default() -> Self {
        Self { file: None, url: None, namespace: "wayline".into(), job: None }
    }
}

impl Engine {
    /// Threads to use.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            threads => threads,
        }
    }

    /// Bytes of memory that queries may hold.
    pub fn memory_bytes(&self) -> Result<usize> {
        let digits = self.memory.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
        let unit = match self.memory[digits.len()..].to_ascii_uppercase().as_str() {
            "K" | "KIB" => Some(10),
            "M" | "MIB" => Some(20),
            "G" | "GIB" => Some(30),
            _ => None,
        };
        unit.zip(digits.trim().parse::<usize>().ok())
            .and_then(|(shift, number)| number.checked_mul(1 << shift))
            .filter(|bytes| *bytes >= 64 << 20)
            .ok_or_else(|| {
                Error::invalid(format!("[engine] memory is `{}`, expected a size of at least 64M", self.memory))
                    .hint("write it as `1500M` or `2G`")
            })
    }
}

/// A length of time, written as `30m`, `7d` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    const fn from_hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours * 3600))
    }

    /// Whole microseconds.
    pub fn micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Self).map_err(|_| {
            serde::de::Error::custom(format!(
                "invalid length of time `{text}`, expected one like `30m`, `7d` or `1h 30m`"
            ))
        })
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

/// A loaded project: its folder and configuration.
#[derive(Debug, Clone)]
pub struct Project {
    /// Folder that holds `wayline.toml`.
    pub folder: PathBuf,
    /// What it says.
    pub config: Config,
}

impl Project {
    /// Reads and checks `wayline.toml` in `folder`, with overrides from the environment.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join(FILE_NAME);
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Error::invalid(format!("could not read {}: {error}", file.display()))
                .hint("run inside a project, or name one with --project DIR")
        })?;
        let overrides = environment().filter(|(name, _)| name.starts_with(OVERRIDE_PREFIX));
        let config = parse(&text, overrides).map_err(|error| error.context(file.display()))?;
        Ok(Self { folder: folder.to_path_buf(), config })
    }

    /// The key of pseudonyms, if the configuration asks for pseudonyms. Without a key the run is refused.
    pub fn pseudonym_key(&self) -> Result<Option<Secret>> {
        if self.config.privacy.pseudonymize.is_empty() {
            return Ok(None);
        }
        let file_variable = format!("{PSEUDONYM_KEY}_FILE");
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let key = match (given(PSEUDONYM_KEY), given(&file_variable)) {
            (Some(key), _) => key,
            (None, Some(path)) => {
                std::fs::read_to_string(&path).context(format!("{file_variable}, {path}")).map_err(|error| {
                    error.hint(format!("let {file_variable} name a file that can be read and holds the key"))
                })?
            }
            (None, None) => String::new(),
        };
        let key = key.trim();
        if key.len() < 16 {
            return Err(Error::invalid("[privacy] asks for pseudonyms, but there is no key of at least 16 characters")
                .hint(format!("set {PSEUDONYM_KEY}, or {PSEUDONYM_KEY}_FILE to the path of a file that holds it")));
        }
        Ok(Some(Secret(key.as_bytes().to_vec())))
    }
}

/// The variables of the environment, as far as they are text.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Bytes that are never printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret that nobody knows and that is gone with the process.
    pub fn made_up() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string().into_bytes())
    }

    /// The bytes, for the one who needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Parses and checks a configuration, then applies overrides as (`WAYLINE__SECTION__KEY`, value) pairs.
fn parse(text: &str, overrides: impl Iterator<Item = (String, String)>) -> Result<Config> {
    let mut config: Config = toml::from_str(text).map_err(from_toml)?;
    let overrides: BTreeMap<String, String> = overrides.collect();
    if !overrides.is_empty() {
        let mut table: toml::Table = toml::from_str(text).map_err(from_toml)?;
        for (name, value) in &overrides {
            set(&mut table, name, value)?;
        }
        let names = overrides.keys().cloned().collect::<Vec<_>>().join(", ");
        config = table.try_into().map_err(|error| from_toml(error).context(format!("overrides {names}")))?;
    }
    check(&config, text)?;
    Ok(config)
}

/// Puts one override into the table; the value is read as TOML where it is TOML, else as text.
fn set(table: &mut toml::Table, name: &str, value: &str) -> Result<()> {
    let path = name[OVERRIDE_PREFIX.len()..].to_lowercase();
    let (section, key) = path.split_once("__").ok_or_else(|| {
        Error::invalid(format!("override {name} names no key")).hint("write it as WAYLINE__SECTION__KEY")
    })?;
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}")).ok().and_then(|mut t| t.remove("value"));
    let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    let section = section
        .as_table_mut()
        .ok_or_else(|| Error::invalid(format!("override {name} names a list, only [section] key can be overridden")))?;
    section.insert(key.into(), parsed.unwrap_or_else(|| toml::Value::String(value.into())));
    Ok(())
}

/// Keeps the caret and line that the TOML parser draws, and adds a hint for a near miss.
pub(crate) fn from_toml(error: toml::de::Error) -> Error {
    let hint = nearest(error.message());
    let invalid = Error::invalid(error.to_string().trim_end());
    match hint {
        Some(name) => invalid.hint(format!("did you mean `{name}`?")),
        None => invalid,
    }
}

/// Of a message "unknown field `x`, expected `a`, `b`" the expected name nearest to `x`; a variant is told so too.
fn nearest(message: &str) -> Option<String> {
    let names = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "))?;
    let mut names = names.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    names
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_string())
}

/// Rules that the shape alone cannot say. `text` tells the line of what breaks one.
fn check(config: &Config, text: &str) -> Result<()> {
    let wrong = |key: &str, value: &str, message: String| Error::invalid(at_line(text, key, value, message));
    let named = |name: &str, message| wrong("name", &format!("\"{name}\""), message);
    let mut names = std::collections::BTreeSet::new();
    for source in &config.sources {
        let name = &source.name;
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(legal) {
            return Err(named(name, format!("source name `{name}` is not of the form [a-z0-9_-]{{1,64}}")));
        }
        if !names.insert(name) {
            return Err(named(name, format!("two sources are named `{name}`")));
        }
        if !source.delimiter.is_ascii() || matches!(source.delimiter, '"' | '\n' | '\r') {
            let message = format!("source `{name}`: delimiter must be one ASCII character, no quote and no line end");
            return Err(wrong("delimiter", &source.delimiter.escape_default().to_string(), message));
        }
    }
    check_mapped_kinds(config, text)?;
    let mut funnels = std::collections::BTreeSet::new();
    for Funnel { name, steps, .. } in &config.funnels {
        if !funnels.insert(name) {
            return Err(named(name, format!("two funnels are named `{name}`")));
        }
        if steps.is_empty() || steps.len() > MAX_FUNNEL_STEPS {
            let message = format!("funnel `{name}` has {} steps, expected 1 to {MAX_FUNNEL_STEPS}", steps.len());
            return Err(named(name, message));
        }
    }
    let mut staged = BTreeMap::new();
    for (stage, touchpoints) in &config.stages {
        for touchpoint in touchpoints {
            if let Some(other) = staged.insert(touchpoint, stage) {
                let message = format!("touchpoint `{touchpoint}` is in stages `{other}` and `{stage}`");
                return Err(wrong(stage, touchpoint, message));
            }
        }
    }
    let mut classed = BTreeMap::new();
    for (class, channels) in &config.channels {
        for channel in channels {
            if let Some(other) = classed.insert(channel, class) {
                return Err(wrong(
                    class,
                    channel,
                    format!("channel `{channel}` is in classes `{other}` and `{class}`"),
                ));
            }
        }
    }
    if config.sessions.timeout.0.is_zero() || config.journeys.timeout.0 < config.sessions.timeout.0 {
        let message = "[journeys] timeout must be at least [sessions] timeout, and that above zero";
        return Err(wrong("timeout", "", message.into()));
    }
    config.engine.memory_bytes()?;
    check_kinds(config, text)?;
    check_steps(config, text)
}

/// Kinds of identifiers, wherever they are named. `event` names the customers of events that nothing identifies.
fn check_kinds(config: &Config, text: &str) -> Result<()> {
    let of_sources = config.sources.iter().flat_map(|source| source.event.identifiers.keys());
    let of_rules = config.identity.limits.keys().chain(&config.identity.priority).chain(&config.privacy.pseudonymize);
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    for kind in of_sources.chain(of_rules) {
        if kind.is_empty() || !kind.chars().all(legal) || kind == "event" {
            let message = format!("identifier kind `{kind}` is not of the form [a-z0-9_]+");
            return Err(
                Error::invalid(at_line(text, "", kind, message)).hint("write it like `user_id`; `event` is taken")
            );
        }
    }
    Ok(())
}

/// What the steps of funnels say, and that a journey can get from each to the next.
fn check_steps(config: &Config, text: &str) -> Result<()> {
    // A step with a `:` that is no goal as it stands may be a touchpoint of that very name.
    let is_goal = |name: &str| config.journeys.goal.iter().any(|goal| goal == name);
    for Funnel { name, steps, .. } in &config.funnels {
        for (number, step) in (1..).zip(steps) {
            if step.split('|').any(|alternative| alternative.trim().is_empty()) {
                let message = format!("funnel `{name}`: step {number} (`{step}`) has an empty alternative");
                return Err(Error::invalid(at_line(text, "steps", step, message))
                    .hint("write touchpoint, channel:touchpoint, such alternatives joined by |, or *"));
            }
            if number < steps.len() && step.split('|').all(|alternative| is_goal(alternative.trim())) {
                let what = "is a goal and ends the journey, so no later step is reached";
                let message = format!("funnel `{name}`: step {number} (`{step}`) {what}");
                return Err(Error::invalid(at_line(text, "steps", step, message))
                    .hint("end the funnel there, or take it out of [journeys] goal"));
            }
        }
    }
    Ok(())
}

/// A kind that no source maps and that is none of the usual ones is a slip, which would land raw what was to be
/// pseudonymised. So is a usual one beside a mapped kind of nearly the same name.
fn check_mapped_kinds(config: &Config, text: &str) -> Result<()> {
    let mapped = || config.sources.iter().flat_map(|source| source.event.identifiers.keys());
    let pseudonymized = config.privacy.pseudonymize.iter().map(|kind| ("pseudonymize", kind));
    let limited = config.identity.limits.keys().map(|kind| ("limits", kind));
    for (key, kind) in pseudonymized.chain(limited) {
        if mapped().any(|name| name == kind) || config.sources.is_empty() {
            continue;
        }
        let is_meant_elsewhere = |name: &&String| config.privacy.pseudonymize.contains(name);
        let likeness = |name: &&String| strsim::jaro_winkler(&kind.to_lowercase(), &name.to_lowercase());
        let near = mapped()
            .filter(|name| !is_meant_elsewhere(name) && likeness(name) > 0.8)
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let message = || at_line(text, key, kind, format!("{key} names `{kind}`, a kind that no source maps"));
        match near {
            Some(near) => return Err(Error::invalid(message()).hint(format!("did you mean `{near}`?"))),
            None if config.identity.priority.contains(kind) => {}
            None => {
                return Err(Error::invalid(message())
                    .hint("map it in `identifiers` of a source, or name it in [identity] priority"));
            }
        }
    }
    Ok(())
}

/// A message with the line of the configuration on which a key stands with a value, or the value alone; the last such
/// line, if there is one.
fn at_line(text: &str, key: &str, value: &str, message: String) -> String {
    let lines = || text.lines().enumerate();
    let with_key = lines().filter(|(_, line)| line.contains(key) && line.contains(value)).last();
    let quoted = format!("\"{value}\"");
    match with_key.or_else(|| lines().filter(|(_, line)| line.contains(&quoted)).last()) {
        Some((number, line)) => format!("line {}, `{}`: {message}", number + 1, line.trim()),
        None => message,
    }
}

#[cfg(test)]
mod tests;
