//! The events of one run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Builder;

use super::Settings;
use super::columns::Column;
use super::datasets::{self, Dataset};
use crate::error::Result;
use crate::lake;
use crate::marts::Catalog;
use crate::models::checks::judges;
use crate::models::column_lineage::Source;
use crate::models::graph::{Graph, Model};
use crate::models::header::Build;
use crate::models::{NodeResult, Status};
use crate::run::report::{Report, RunStatus, instant, micros};
use crate::workspace::Workspace;

const PRODUCER: &str = concat!("urn:wayline:", env!("CARGO_PKG_VERSION"));
const EVENT_SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const FACETS: &str = "https://openlineage.io/spec/facets";

/// A run and all that its events are made of.
pub struct Story<'a> {
    pub workspace: &'a Workspace,
    pub graph: &'a Graph,
    pub report: &'a Report,
    pub settings: &'a Settings,
    pub columns: BTreeMap<String, Vec<Column>>,
}

/// What one job of the run read and wrote.
struct Told {
    job: String,
    kind: &'static str,
    started_at: String,
    ended_at: String,
    error: Option<String>,
    sql: Option<String>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
}

impl Story<'_> {
    /// All events in the order in which they are told: the run begins, its jobs begin and end, the run ends.
    pub async fn events(&self) -> Result<Vec<Value>> {
        let whole = self.whole();
        let mut events = vec![self.event(&whole, "START", &whole.started_at)];
        let catalog = Catalog::load(&self.workspace.lake).await?;
        let mut parts = Vec::new();
        parts.extend(self.landing()?);
        for line in &self.report.results {
            match line.unique_id.split_once(".wayline.") {
                Some(("model", name)) if line.status != Status::Skipped => parts.extend(self.model(line, name)?),
                Some(("mart", name)) => parts.push(self.mart(line, name, &catalog)?),
                _ => {}
            }
        }
        for part in &parts {
            events.push(self.event(part, "START", &part.started_at));
            events.push(self.event(part, part.ending(), &part.ended_at));
        }
        events.push(self.event(&whole, whole.ending(), &whole.ended_at));
        Ok(events)
    }

    fn event(&self, told: &Told, kind: &str, time: &str) -> Value {
        let (namespace, run_id) = (&self.settings.namespace, &self.report.metadata.invocation_id);
        let is_end = kind != "START";
        let mut run_facets = Map::new();
        run_facets.extend(self.parent(told).map(|parent| ("parent".to_string(), parent)));
        if let (Some(message), true) = (&told.error, is_end) {
            let error = json!({"message": message, "programmingLanguage": "Rust"});
            run_facets.insert("errorMessage".into(), facet("1-0-1/ErrorMessageRunFacet.json", error));
        }
        let job_type = json!({"processingType": "BATCH", "integration": "WAYLINE", "jobType": told.kind});
        let mut job_facets = Map::from_iter([("jobType".into(), facet("2-0-3/JobTypeJobFacet.json", job_type))]);
        if let Some(sql) = &told.sql {
            let sql = json!({"query": sql, "dialect": "datafusion"});
            job_facets.insert("sql".into(), facet("1-1-0/SQLJobFacet.json", sql));
        }
        let datasets = |all: &[Value]| if is_end { all.to_vec() } else { Vec::new() };
        json!({
            "eventType": kind,
            "eventTime": time,
            "producer": PRODUCER,
            "schemaURL": EVENT_SCHEMA,
            "run": {"runId": run_of(run_id, &told.job), "facets": run_facets},
            "job": {"namespace": namespace, "name": told.job, "facets": job_facets},
            "inputs": datasets(&told.inputs),
            "outputs": datasets(&told.outputs),
        })
    }

    /// The run that started this one: of a part the run itself, of the run that of a scheduler.
    fn parent(&self, told: &Told) -> Option<Value> {
        let (namespace, job, run) = if told.job == self.settings.job {
            let parent = self.settings.parent.as_ref()?;
            (&parent.namespace, &parent.job, parent.run.clone())
        } else {
            let run = run_of(&self.report.metadata.invocation_id, &self.settings.job);
            (&self.settings.namespace, &self.settings.job, run)
        };
        let parent = json!({"run": {"runId": run}, "job": {"namespace": namespace, "name": job}});
        Some(facet("1-1-0/ParentRunFacet.json", parent))
    }

    fn whole(&self) -> Told {
        let Report { metadata, error, status, results, .. } = self.report;
        let failed = || {
            let names: Vec<_> = results.iter().filter(|line| !line.is_well()).map(|line| &line.unique_id).collect();
            (*status == RunStatus::Failed).then(|| format!("{names:?} failed"))
        };
        Told {
            job: self.settings.job.clone(),
            kind: "RUN",
            started_at: metadata.started_at.clone(),
            ended_at: metadata.generated_at.clone(),
            error: error.clone().or_else(failed),
            sql: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Landing: sources by their globs, and the events and dead letters that came of them.
    fn landing(&self) -> Result<Option<Told>> {
        let landed = &self.report.landed;
        if landed.batches.is_empty() {
            return Ok(None);
        }
        let sources = &self.workspace.project.config.sources;
        let mut inputs = Vec::new();
        for source in sources.iter().filter(|source| landed.sources.contains_key(&source.name)) {
            let counts = &landed.sources[&source.name];
            let mut input = Dataset::at(&lake::resolve(&self.workspace.project.folder, &source.path)?).json();
            let statistics = json!({"rowCount": counts.rows_in, "fileCount": counts.files, "size": counts.bytes});
            let statistics = facet("1-0-0/InputStatisticsInputDatasetFacet.json", statistics);
            input["inputFacets"] = json!({"inputStatistics": statistics});
            inputs.push(input);
        }
        let total = landed.total();
        let mut outputs = Vec::new();
        for (table, rows) in [("events", total.landed), ("dead_letters", total.dead_letters)] {
            if let (Some(dataset), true) = (self.dataset(table)?, rows > 0) {
                let mut output = dataset.json();
                output["facets"] = json!({"symlinks": symlink(table)});
                output["outputFacets"] = json!({"outputStatistics": written(Some(rows as usize), None)});
                outputs.push(output);
            }
        }
        let started_at = &self.report.metadata.started_at;
        let seconds = self.report.stages.get("land").copied().unwrap_or_default();
        let ended_at = micros(started_at).map(|started| instant(started + (seconds * 1e6) as i64));
        Ok(Some(Told {
            job: format!("{}.landing", self.settings.job),
            kind: "LANDING",
            started_at: started_at.clone(),
            ended_at: ended_at.unwrap_or_else(|| started_at.clone()),
            error: None,
            sql: None,
            inputs,
            outputs,
        }))
    }

    fn model(&self, line: &NodeResult, name: &str) -> Result<Option<Told>> {
        let (Some(model), Some(dataset)) = (self.graph.model(name), self.dataset(name)?) else { return Ok(None) };
        let mut inputs = BTreeSet::new();
        for table in self.tables_read(model) {
            inputs.extend(self.dataset(&table)?);
        }
        let mut output = dataset.json();
        let mut facets = self.facets(model)?;
        facets.insert("symlinks".into(), symlink(name));
        output["facets"] = facets.into();
        output["outputFacets"] = json!({"outputStatistics": written(line.rows, line.bytes)});
        Ok(Some(Told {
            sql: Some(model.sql.clone()),
            inputs: inputs.iter().map(Dataset::json).collect(),
            outputs: vec![output],
            ..self.part(line, name, "MODEL")
        }))
    }

    /// What is known of the rows of a model, wherever they are kept.
    fn facets(&self, model: &Model) -> Result<Map<String, Value>> {
        let (name, mut facets) = (model.name.as_str(), Map::new());
        if !model.header.description.is_empty() {
            let text = json!({"description": model.header.description});
            facets.insert("documentation".into(), facet("1-0-1/DocumentationDatasetFacet.json", text));
        }
        if let Some(columns) = self.columns.get(name) {
            let fields: Vec<_> =
                columns.iter().map(|column| json!({"name": column.name, "type": column.data_type})).collect();
            facets.insert("schema".into(), facet("1-1-1/SchemaDatasetFacet.json", json!({"fields": fields})));
            let lineage = json!({"fields": self.column_lineage(columns)?});
            facets.insert("columnLineage".into(), facet("1-2-0/ColumnLineageDatasetFacet.json", lineage));
        }
        facets.extend(self.assertions(name).map(|assertions| ("dataQualityAssertions".to_string(), assertions)));
        Ok(facets)
    }

    fn mart(&self, line: &NodeResult, name: &str, catalog: &Catalog) -> Result<Told> {
        let mut outputs = Vec::new();
        if let Some(mart) = catalog.marts.get(name) {
            // A mart by day is its folder.
            let path: Vec<&str> = mart.path.split('/').take_while(|part| !part.contains('*')).collect();
            let mut output = Dataset::at(&self.workspace.lake.folder_url(&path.join("/"))?).json();
            output["outputFacets"] = json!({"outputStatistics": written(line.rows, line.bytes)});
            // A view has no table that tells it.
            if let Some(view) = self.view(name) {
                output["facets"] = self.facets(view)?.into();
            }
            outputs.push(output);
        }
        let mut inputs = BTreeSet::from_iter(self.dataset(name)?);
        for table in self.view(name).map(|view| self.tables_read(view)).unwrap_or_default() {
            inputs.extend(self.dataset(&table)?);
        }
        let inputs = inputs.iter().map(Dataset::json).collect();
        Ok(Told { inputs, outputs, ..self.part(line, &format!("{name}.publish"), "MART") })
    }

    fn part(&self, line: &NodeResult, name: &str, kind: &'static str) -> Told {
        let metadata = &self.report.metadata;
        let timing = line.timing.first();
        Told {
            job: format!("{}.{name}", self.settings.job),
            kind,
            started_at: timing.map_or(&metadata.started_at, |timing| &timing.started_at).clone(),
            ended_at: timing.map_or(&metadata.generated_at, |timing| &timing.completed_at).clone(),
            error: (!line.is_well()).then(|| line.message.clone()),
            sql: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    fn dataset(&self, table: &str) -> Result<Option<Dataset>> {
        datasets::of_table(self.workspace, self.graph, table)
    }

    /// What a model reads, through views.
    fn tables_read(&self, model: &Model) -> BTreeSet<String> {
        let mut tables = self.graph.expanded(&model.reads);
        tables.retain(|read| self.view(read).is_none());
        tables
    }

    fn view(&self, name: &str) -> Option<&Model> {
        self.graph.model(name).filter(|model| model.header.build == Build::View)
    }

    fn column_lineage(&self, columns: &[Column]) -> Result<Map<String, Value>> {
        let mut fields = Map::new();
        for column in columns {
            let mut sources = BTreeSet::new();
            column.sources.iter().for_each(|source| self.follow(source, &mut sources));
            let mut inputs = Vec::new();
            for (table, field) in sources {
                if let Some(dataset) = self.dataset(&table)? {
                    inputs.push(json!({"namespace": dataset.namespace, "name": dataset.name, "field": field}));
                }
            }
            if !inputs.is_empty() {
                fields.insert(column.name.clone(), json!({"inputFields": inputs}));
            }
        }
        Ok(fields)
    }

    /// A column of a table, or those that one of a view is made of.
    fn follow(&self, source: &Source, into: &mut BTreeSet<Source>) {
        let (table, name) = source;
        let of_view =
            self.view(table).and_then(|_| self.columns.get(table)?.iter().find(|column| column.name == *name));
        match of_view {
            Some(column) => column.sources.iter().for_each(|source| self.follow(source, into)),
            None => _ = into.insert(source.clone()),
        }
    }

    /// The checks of this run that judge a model.
    fn assertions(&self, model: &str) -> Option<Value> {
        let judged = judges(self.graph);
        let assertions: Vec<_> = self
            .report
            .results
            .iter()
            .filter_map(|line| Some((line.unique_id.strip_prefix("test.wayline.")?, line)))
            .filter(|(check, _)| judged.get(*check).is_some_and(|models| models.contains(model)))
            .map(|(check, line)| json!({"assertion": check, "success": line.is_well()}))
            .collect();
        let body = json!({"assertions": assertions});
        (!assertions.is_empty()).then(|| facet("1-0-1/DataQualityAssertionsDatasetFacet.json", body))
    }
}

impl Told {
    fn ending(&self) -> &'static str {
        if self.error.is_some() { "FAIL" } else { "COMPLETE" }
    }
}

/// Id of a job's run within one of ours: a UUID made of both, so that what is told again is the same.
fn run_of(run_id: &str, job: &str) -> String {
    let digest = Sha256::digest(format!("{run_id}\n{job}"));
    let bytes = digest[..16].try_into().expect("a digest has 32 bytes");
    Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

fn facet(schema: &str, mut body: Value) -> Value {
    let name = schema.rsplit('/').next().unwrap_or(schema).trim_end_matches(".json");
    body["_producer"] = PRODUCER.into();
    body["_schemaURL"] = format!("{FACETS}/{schema}#/$defs/{name}").into();
    body
}

fn symlink(table: &str) -> Value {
    let identifiers = json!([{"namespace": "wayline", "name": table, "type": "TABLE"}]);
    facet("1-0-1/SymlinksDatasetFacet.json", json!({ "identifiers": identifiers }))
}

fn written(rows: Option<usize>, bytes: Option<u64>) -> Value {
    // What is not known is left out: the facet knows no null.
    let mut known = Map::new();
    known.extend(rows.map(|rows| ("rowCount".to_string(), rows.into())));
    known.extend(bytes.map(|bytes| ("size".to_string(), bytes.into())));
    facet("1-0-2/OutputStatisticsOutputDatasetFacet.json", known.into())
}
