//! A project to start from: a small sample, or the mapping of the user's own files, guessed from some of their records.
//!
//! A guess is tried before it is written: the records that were looked at go through the mapping as landing would take
//! them, and what would refuse some for a value that no event needs is mended or left out, with the reason beside it.

mod configuration;
mod files;
mod guess;
mod money;
pub mod preset;
mod propose;
mod sample;
mod times;
mod unify;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use include_dir::{Dir, include_dir};
use serde::Serialize;

use self::files::Group;
pub use self::guess::EVENT_COLUMNS;
use self::guess::{Guess, Guesses, grouped};
use self::preset::Preset;
pub use self::propose::Proposal;
use self::sample::Sample;
use self::unify::{OfSource, unify};
use crate::config::{self, Config, FILE_NAME, Format, Project, Source};
use crate::error::{Context, Error, Result};
use crate::landing::trial::{Refused, attempt};
use crate::landing::{self, Listed};
use crate::sources::{self, FileEntry};
use crate::workspace::Workspace;

static STARTER: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/pipeline/init/starter");

/// Name of the JSON schema beside the configuration.
pub const SCHEMA_FILE: &str = "wayline.schema.json";
/// Records that are looked at in all files of a source, and files.
const MOST_RECORDS: usize = 10_000;
const MOST_FILES: usize = 8;
/// Files that a folder may have already: they stay as they are.
const SPARED: [&str; 2] = ["README.md", ".gitignore"];
/// Share of columns that files of one source have in common at least.
const ALIKE: f64 = 0.5;
/// Times that a mapping is mended.
const ROUNDS: usize = 6;

/// What to begin with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The folder of the project.
    pub folder: PathBuf,
    /// Files, folders, patterns and URLs of the user's data; none for the sample of ours.
    pub from: Vec<String>,
    /// The preset that all of them have.
    pub preset: Option<String>,
}

/// What was written.
#[derive(Debug, Default, Serialize)]
pub struct Made {
    /// The files, below the folder.
    pub files: Vec<String>,
    /// Files that were there already and stay as they are.
    pub spared: Vec<String>,
    /// The sources that were guessed.
    pub sources: Vec<Guessed>,
    /// What could not become a source, and why.
    pub left_out: Vec<(String, String)>,
    /// What was proposed for all sources.
    pub proposal: Proposal,
}

/// A source that was guessed.
#[derive(Debug, Serialize)]
pub struct Guessed {
    /// Its name.
    pub name: String,
    /// The pattern of its files.
    pub pattern: String,
    /// Files that were looked at.
    pub files: usize,
    /// Records that were looked at.
    pub records: usize,
    /// Those of them that become events.
    pub events: usize,
    /// Reason, count and an example of the others.
    pub refused: Vec<(String, usize, String)>,
    /// The preset and what spoke for it.
    pub preset: Option<(String, String)>,
    /// Expression and evidence by event column.
    pub columns: BTreeMap<String, Guess>,
    /// The same by kind of identifier.
    pub identifiers: BTreeMap<String, Guess>,
    /// Columns that no expression reads.
    pub kept: Vec<String>,
    #[serde(skip)]
    format: Option<Format>,
    #[serde(skip)]
    delimiter: char,
    #[serde(skip)]
    guesses: Guesses,
    #[serde(skip)]
    seen: Seen,
}

/// What the events of a sample have.
#[derive(Debug, Default)]
struct Seen {
    touchpoints: BTreeMap<String, usize>,
    channels: BTreeMap<String, usize>,
    /// Values by kind of identifier.
    identifiers: BTreeMap<String, BTreeSet<String>>,
}

/// Writes a project. Nothing is written over: what is there already is an error.
pub async fn init(options: &Options) -> Result<Made> {
    let mut written = BTreeMap::new();
    let mut made = Made::default();
    let starter = |path: &str| {
        let file = STARTER.get_file(path).expect("the starter holds it");
        file.contents_utf8().expect("the starter is text").to_string()
    };
    written.insert(SCHEMA_FILE.to_string(), config::schema::text());
    written.insert(".gitignore".into(), starter("gitignore"));
    written.insert("queries/channel_days.sql".into(), starter("queries/channel_days.sql"));
    if options.from.is_empty() && options.preset.is_none() {
        for path in ["README.md", FILE_NAME, "landing-zone/web.jsonl", "landing-zone/store.csv"] {
            written.insert(path.into(), starter(path));
        }
    }
    refuse_existing(&options.folder, written.keys().map(String::as_str).chain([FILE_NAME]))?;
    if !options.from.is_empty() {
        let preset = options.preset.as_deref().map(Preset::named).transpose()?;
        guess_all(options, preset.as_ref(), &mut made).await?;
        written.insert(FILE_NAME.into(), configuration::text(&made.sources, &made.proposal));
        written.insert("README.md".into(), starter("README.from.md"));
    } else if let Some(name) = &options.preset {
        made.sources.push(without_files(&Preset::named(name)?));
        written.insert(FILE_NAME.into(), configuration::text(&made.sources, &made.proposal));
        written.insert("README.md".into(), starter("README.from.md"));
    }
    let is_there = |path: &&str| options.folder.join(path).exists();
    made.spared = SPARED.into_iter().filter(is_there).map(String::from).collect();
    written.retain(|path, _| !made.spared.contains(path));
    write(&options.folder, &written)?;
    made.files = written.into_keys().collect();
    Ok(made)
}

fn refuse_existing<'p>(folder: &Path, paths: impl Iterator<Item = &'p str>) -> Result<()> {
    let is_there = |path: &&str| !SPARED.contains(path) && folder.join(path).symlink_metadata().is_ok();
    let there: BTreeSet<&str> = paths.filter(is_there).collect();
    match there.is_empty() {
        true => Ok(()),
        false => {
            let names: Vec<&str> = there.into_iter().collect();
            Err(Error::invalid(format!("{} holds {} already", folder.display(), names.join(", ")))
                .hint("name another folder: wayline init DIR"))
        }
    }
}

/// Writes files, the configuration last: with it the project is there.
fn write(folder: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    let mut paths: Vec<&String> = files.keys().collect();
    paths.sort_by_key(|path| *path == FILE_NAME);
    for path in paths {
        let place = folder.join(path);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).context(parent.display())?;
        }
        let mut file = std::fs::File::create_new(&place).context(place.display())?;
        std::io::Write::write_all(&mut file, files[path].as_bytes()).context(place.display())?;
    }
    Ok(())
}

/// A source of a preset whose files are yet to come.
fn without_files(preset: &Preset) -> Guessed {
    let mut guesses = Guesses::of_preset(preset, &Sample::default(), &preset.name);
    if !guesses.event.contains_key("channel") {
        let evidence = "the preset tells none: write the medium".to_string();
        guesses.event.insert("channel", Guess { expression: format!("'{}'", preset.name), evidence });
    }
    Guessed {
        name: preset.name.clone(),
        pattern: format!("landing-zone/{}/*", preset.name),
        files: 0,
        records: 0,
        events: 0,
        refused: Vec::new(),
        preset: Some((preset.name.clone(), "as asked for".into())),
        columns: columns_of(&guesses),
        identifiers: guesses.identifiers.iter().cloned().collect(),
        kept: Vec::new(),
        format: None,
        delimiter: ',',
        guesses,
        seen: Seen::default(),
    }
}

async fn guess_all(options: &Options, preset: Option<&Preset>, made: &mut Made) -> Result<()> {
    let folder = std::path::absolute(&options.folder)?;
    let workspace = Workspace::open(Project { folder: folder.clone(), config: Config::default() })?;
    let mut first_error = None;
    for group in groups(&workspace, options).await? {
        match guess_source(&workspace, &group, preset).await {
            Ok(guessed) => made.sources.push(guessed),
            // One of many that is no table of events need not keep the others back.
            Err(error) => {
                made.left_out.push((group.pattern.clone(), error.to_string()));
                first_error.get_or_insert(error.context(&group.pattern));
            }
        }
    }
    if let Some(error) = first_error.filter(|_| made.sources.is_empty()) {
        return Err(error);
    }
    let identifiers = made.sources.iter_mut().map(|source| OfSource {
        name: &source.name,
        guesses: &mut source.guesses.identifiers,
        values: &mut source.seen.identifiers,
    });
    unify(&mut identifiers.collect::<Vec<_>>());
    for source in &mut made.sources {
        source.identifiers = source.guesses.identifiers.iter().cloned().collect();
    }
    let mut all = Seen::default();
    for Guessed { seen, .. } in &made.sources {
        add(&mut all.touchpoints, &seen.touchpoints);
        add(&mut all.channels, &seen.channels);
    }
    made.proposal = Proposal::of(&all.touchpoints, &all.channels);
    Ok(())
}

fn add(all: &mut BTreeMap<String, usize>, some: &BTreeMap<String, usize>) {
    some.iter().for_each(|(name, count)| *all.entry(name.clone()).or_default() += count);
}

/// The sources that the given files make.
async fn groups(workspace: &Workspace, options: &Options) -> Result<Vec<Group>> {
    let mut literal = Vec::new();
    let mut groups = Vec::new();
    for given in &options.from {
        let pattern = files::pattern_of(given, &options.folder)?;
        let listed = list(workspace, &pattern).await?;
        if files::is_literal(&pattern) {
            if listed.files.is_empty() && listed.refused.iter().all(|(_, reason, _)| *reason != "unknown_format") {
                return Err(nothing_of(given, &listed));
            }
            if !literal.contains(&pattern) {
                literal.push(pattern);
            }
            continue;
        }
        if listed.files.is_empty() {
            return Err(nothing_of(given, &listed));
        }
        let shown: Vec<String> = listed.files.keys().cloned().collect();
        let parts = files::group(&shown);
        match are_alike(workspace, &listed, &parts).await? {
            true => groups.push(Group {
                name: files::name_of(&pattern),
                pattern: files::with_ending(&pattern, &shown),
                files: shown,
            }),
            false => groups.extend(parts),
        }
    }
    let mut together = files::group(&literal);
    for group in &mut together {
        let found = list(workspace, &group.pattern).await?;
        let is_of_another = |path: &String| literal.contains(path) && !group.files.contains(path);
        if found.files.keys().any(is_of_another) {
            group.pattern = group.pattern.replace('*', "[0-9a-f]*");
        }
    }
    groups.extend(together);
    files::tell_apart(&mut groups);
    Ok(groups)
}

async fn list(workspace: &Workspace, pattern: &str) -> Result<Listed> {
    landing::list_source(workspace, &Source::of("sample", pattern)).await
}

fn nothing_of(given: &str, listed: &Listed) -> Error {
    match listed.refused.first() {
        Some((path, reason, detail)) => Error::invalid(format!("{path}: {reason}: {detail}")),
        None => Error::invalid(format!("no file matches {given}"))
            .hint("a file ends in .jsonl, .csv or .parquet, maybe .gz or .zst"),
    }
}

/// Whether the first files of several groups have the same columns by and large.
async fn are_alike(workspace: &Workspace, listed: &Listed, parts: &[Group]) -> Result<bool> {
    let mut first: Option<(Option<sources::Format>, BTreeSet<String>)> = None;
    for part in parts.iter().take(MOST_FILES) {
        let path = &part.files[0];
        let files = [(path.clone(), listed.files[path].clone())];
        let mut source = Source::of("sample", path);
        if is_csv(&source, path) {
            source.delimiter = sample::delimiter(workspace, &source, listed, &files).await?;
        }
        let sample = Sample::read(workspace, &source, listed, &files, 200).await?;
        let names: BTreeSet<String> = sample.top_names().into_iter().map(String::from).collect();
        let format = sources::Format::from_name(path);
        match &first {
            None => first = Some((format, names)),
            Some((of_first, columns)) => {
                let (shared, all) = (columns.intersection(&names).count(), columns.union(&names).count());
                if *of_first != format || (shared as f64) < ALIKE * all as f64 {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

fn is_csv(source: &Source, path: &str) -> bool {
    match source.format {
        Some(format) => format == Format::Csv,
        None => sources::Format::from_name(path) == Some(sources::Format::Csv),
    }
}

async fn guess_source(workspace: &Workspace, group: &Group, preset: Option<&Preset>) -> Result<Guessed> {
    let mut source = Source::of(&group.name, &group.pattern);
    let mut listed = landing::list_source(workspace, &source).await?;
    if listed.files.is_empty() {
        (source.format, listed) = with_format(workspace, &source).await?;
    }
    let files = chosen(&listed);
    if is_csv(&source, &files[0].0) {
        source.delimiter = sample::delimiter(workspace, &source, &listed, &files).await?;
    }
    let most = MOST_RECORDS.div_ceil(files.len());
    let sample = Sample::read(workspace, &source, &listed, &files, most).await?;
    if sample.rows == 0 {
        return Err(match sample.damaged.first() {
            Some((path, reason, detail)) => Error::invalid(format!("{path}: {reason}: {detail}")),
            None => match sample.refused.iter().next() {
                Some((reason, _)) => {
                    let count: usize = sample.refused.values().sum();
                    Error::invalid(format!("all {count} records are refused, such as for {reason}"))
                        .hint(format!("wayline explain {reason}"))
                }
                None => Error::invalid("the file holds no records"),
            },
        });
    }
    if is_csv(&source, &files[0].0) {
        sample::refuse_data_as_header(&sample, &files[0].0)?;
    }
    sample::refuse_lists_of_events(&sample)?;
    let recognised = preset.cloned().or_else(|| Preset::recognise(&sample));
    let guesses = match &recognised {
        Some(preset) => Guesses::of_preset(preset, &sample, &group.name),
        None => Guesses::of_sample(&sample, &group.name)?,
    };
    let mut guessed = Guessed {
        name: group.name.clone(),
        pattern: group.pattern.clone(),
        files: files.len(),
        records: 0,
        events: 0,
        refused: Vec::new(),
        preset: recognised.map(|of| {
            let why = if preset.is_some() { "as asked for".into() } else { of.evidence() };
            (of.name, why)
        }),
        columns: BTreeMap::new(),
        identifiers: BTreeMap::new(),
        kept: Vec::new(),
        format: source.format,
        delimiter: source.delimiter,
        guesses,
        seen: Seen::default(),
    };
    for _ in 0..ROUNDS {
        let (mapped, refused) = try_out(workspace, &mut guessed, &source, &listed, &files, most).await?;
        source = mapped;
        if !mend(&mut guessed.guesses, &refused, guessed.records) {
            break;
        }
    }
    guessed.columns = columns_of(&guessed.guesses);
    guessed.identifiers = guessed.guesses.identifiers.iter().cloned().collect();
    let read: BTreeSet<String> = guessed
        .columns
        .values()
        .chain(guessed.identifiers.values())
        .flat_map(|guess| landing::paths_read(&guess.expression).unwrap_or_default())
        .map(|mut path| path.remove(0))
        .collect();
    guessed.kept = sample.top_names().into_iter().filter(|name| !read.contains(*name)).map(String::from).collect();
    Ok(guessed)
}

fn columns_of(guesses: &Guesses) -> BTreeMap<String, Guess> {
    guesses.event.iter().map(|(name, guess)| ((*name).to_string(), guess.clone())).collect()
}

/// The format by which a file without a telling name can be read.
async fn with_format(workspace: &Workspace, source: &Source) -> Result<(Option<Format>, Listed)> {
    for format in [Format::Parquet, Format::Jsonl, Format::Csv] {
        let tried = Source { format: Some(format), ..source.clone() };
        let listed = landing::list_source(workspace, &tried).await?;
        let files = chosen(&listed);
        if files.is_empty() {
            continue;
        }
        let sample = Sample::read(workspace, &tried, &listed, &files[..1], 100).await?;
        if sample.rows > 0 && sample.refused.is_empty() && sample.damaged.is_empty() {
            return Ok((Some(format), listed));
        }
    }
    Err(Error::invalid("its name tells no format, and it reads as none of jsonl, csv and parquet"))
}

/// Some files of all, from the first to the last.
fn chosen(listed: &Listed) -> Vec<(String, FileEntry)> {
    let files: Vec<_> = listed.files.iter().filter(|(_, file)| file.size > 0).collect();
    let files = if files.is_empty() { listed.files.iter().collect() } else { files };
    let count = files.len().min(MOST_FILES);
    let at = |number: usize| if count > 1 { number * (files.len() - 1) / (count - 1) } else { 0 };
    (0..count).map(|number| files[at(number)]).map(|(path, file)| (path.clone(), file.clone())).collect()
}

/// Maps the files that were looked at as landing would, and counts what comes of it.
async fn try_out(
    workspace: &Workspace,
    guessed: &mut Guessed,
    source: &Source,
    listed: &Listed,
    files: &[(String, FileEntry)],
    most: usize,
) -> Result<(Source, Vec<Refused>)> {
    let Guesses { time_unit, time_offset, .. } = &guessed.guesses;
    let source = Source {
        time_unit: *time_unit,
        time_offset: time_offset.as_ref().map(|(offset, _)| offset.clone()),
        event: guessed.guesses.mapping(),
        ..source.clone()
    };
    let mut refused = Vec::new();
    (guessed.events, guessed.seen) = (0, Seen::default());
    for (_, file) in files {
        let tried = attempt(workspace, &source, listed, file, most).await?;
        guessed.events += tried.events.num_rows();
        let count = |column: &str, counts: &mut BTreeMap<String, usize>| {
            let values = tried.events.column_by_name(column).expect("events have it").as_string::<i32>().clone();
            values.iter().flatten().for_each(|value| *counts.entry(value.to_string()).or_default() += 1);
        };
        count("touchpoint", &mut guessed.seen.touchpoints);
        count("channel", &mut guessed.seen.channels);
        add_identifiers(&tried.events, &mut guessed.seen.identifiers);
        refused.extend(tried.refused);
    }
    guessed.records = guessed.events + refused.len();
    let mut reasons: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for Refused { reason, detail, .. } in &refused {
        reasons.entry(reason).or_insert_with(|| (0, detail.clone())).0 += 1;
    }
    guessed.refused = reasons.into_iter().map(|(reason, (count, example))| (reason.into(), count, example)).collect();
    Ok((source, refused))
}

fn add_identifiers(events: &RecordBatch, seen: &mut BTreeMap<String, BTreeSet<String>>) {
    let lists = events.column_by_name("identifiers").expect("events have it").as_list::<i32>();
    let entries = lists.values().as_struct();
    let (kinds, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    for (kind, value) in kinds.iter().zip(values).filter_map(|(kind, value)| Some((kind?, value?))) {
        match seen.get_mut(kind) {
            Some(values) if values.len() >= MOST_RECORDS => {}
            Some(values) => {
                values.insert(value.to_string());
            }
            None => {
                seen.insert(kind.to_string(), BTreeSet::from([value.to_string()]));
            }
        }
    }
}

/// Mends the column that refuses most records, if an event can do without what it says; tells whether it did.
fn mend(guesses: &mut Guesses, refused: &[Refused], records: usize) -> bool {
    let mut by_column: BTreeMap<&str, (usize, &Refused)> = BTreeMap::new();
    for refused in refused.iter().filter(|refused| refused.position.is_some()) {
        if let Some(column) = refused.column() {
            by_column.entry(column).or_insert((0, refused)).0 += 1;
        }
    }
    let mut worst: Vec<_> = by_column.into_iter().collect();
    worst.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    for (column, (count, Refused { reason, detail, .. })) in worst {
        let Some((name, guess)) = guesses.event.iter_mut().find(|(name, _)| **name == column) else { continue };
        let name: &'static str = name;
        let of_records = format!("{} of {} records", grouped(count), grouped(records));
        match name {
            "occurred_at" => continue,
            "touchpoint" | "channel" if *reason == "missing_field" && !guess.expression.contains("'unknown'") => {
                guess.expression = format!("coalesce(nullif(trim({}), ''), 'unknown')", guess.expression);
                guess.evidence.push_str(&format!("; {of_records} have none"));
            }
            "touchpoint" | "channel" => continue,
            "value" | "score" if !guess.expression.starts_with("try_cast") => {
                guess.expression = format!("try_cast({} as decimal(18, 4))", guess.expression);
                guess.evidence.push_str(&format!("; {of_records} hold no number there and get none"));
            }
            _ => {
                let why = format!("{} does not fit {of_records}: {detail}", guess.expression);
                guesses.event.remove(name);
                guesses.open.insert(name, why);
            }
        }
        return true;
    }
    false
}
