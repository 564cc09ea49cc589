use super::*;
use crate::config::Project;
use crate::models::given;

/// The dictionary of a project with these queries.
async fn dictionary(queries: &[(&str, &str)]) -> Result<Dictionary> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wayline.toml"), "").unwrap();
    std::fs::create_dir(folder.path().join("queries")).unwrap();
    for (name, sql) in queries {
        std::fs::write(folder.path().join("queries").join(name), sql).unwrap();
    }
    let workspace = Workspace::open(Project::load(folder.path())?)?;
    let graph = Graph::load(&workspace.ctx, &folder.path().join("queries"))?;
    Dictionary::of(&workspace, &graph).await
}

#[tokio::test]
async fn every_column_is_described_and_every_description_has_its_column() {
    let dictionary = dictionary(&[]).await.unwrap();
    let graph = Graph::load(&SessionContext::new(), std::path::Path::new("none")).unwrap();
    assert_eq!(dictionary.tables.len(), graph.models.len() + given::names().count());
    let mut wrong = Vec::new();
    for table in &dictionary.tables {
        assert_eq!(table.problem, None, "{}", table.name);
        assert!(table.description.len() > 20, "{} is described", table.name);
        assert!(!table.columns.is_empty(), "{}", table.name);
        let words = graph.column_words(&table.name).unwrap();
        for column in &table.columns {
            if column.meaning.is_none() {
                wrong.push(format!("{}.{} is not described", table.name, column.name));
            }
            // A number with a fraction is measured in something.
            if ["double", "decimal"].iter().any(|number| column.data_type.starts_with(number)) && column.unit.is_none()
            {
                wrong.push(format!("{}.{} has no unit", table.name, column.name));
            }
            if column.name.ends_with("_seconds") && column.unit.as_deref() != Some("seconds") {
                wrong.push(format!("{}.{} is not in seconds", table.name, column.name));
            }
        }
        for name in words.keys().chain(&table.grain) {
            if !table.columns.iter().any(|column| column.name == *name) {
                wrong.push(format!("{}.{name} is described, or of the grain, and is no column", table.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn lineage_leads_from_the_sources_to_the_marts() {
    let dictionary = dictionary(&[]).await.unwrap();
    let switches = dictionary.table("int_switches").unwrap();
    assert_eq!((switches.kind, switches.reads.as_slice()), (Kind::View, &["journeys".to_string()][..]));
    assert_eq!(switches.marts, ["channel_switches"]);
    for source in ["events", "identity_map", "settings", "as_of", "goals", "touchpoint_stages"] {
        assert!(switches.sources.iter().any(|name| name == source), "{source}: {:?}", switches.sources);
    }
    let events = dictionary.table("events").unwrap();
    assert_eq!(events.kind, Kind::Landed);
    assert!(events.read_by.contains(&"stg_events".to_string()) && events.marts.contains(&"paths".to_string()));
    let journeys = dictionary.table("journeys").unwrap();
    assert_eq!(journeys.path.as_deref(), Some("marts/journeys/started_date=*/part-0.parquet"));
    assert!(journeys.checks.contains(&"unique(journey_id)".to_string()));
    assert!(journeys.checks.contains(&"journeys_end_with_their_goal".to_string()));
    let is_published = |name: &str| journeys.columns.iter().find(|column| column.name == name).unwrap().is_published;
    assert!(is_published("value") && !is_published("times"));
    assert_eq!(dictionary.table("sesions").unwrap_err().remedy(), Some("did you mean `sessions`?"));
}

#[tokio::test]
async fn own_models_may_be_described_or_not_and_one_that_cannot_be_planned_says_why() {
    let own = "-- Own: mine.\n--\n-- columns:\n--   customer_id: who\n--   as in sessions: value\n\
               select customer_id, value, 1 as one from sessions";
    let dictionary = dictionary(&[("own.sql", own), ("broken.sql", "select nothing from sessions")]).await.unwrap();
    let own = dictionary.table("own").unwrap();
    let meanings: Vec<String> = own.columns.iter().map(Column::comment).collect();
    assert_eq!(meanings, ["who", "sum of the values of its events, 0 without any [units of currency]", ""]);
    assert_eq!(dictionary.table("broken").unwrap().columns, []);
    assert!(dictionary.table("broken").unwrap().problem.as_ref().unwrap().contains("nothing"));
}

#[tokio::test]
async fn cells_of_markdown_hold_any_text() {
    let sql = "-- Own: mine.\n--\n-- publish: file\n-- columns:\n--   one: a | b < c\nselect 1 as one, [1] as list";
    let text = dictionary(&[("own.sql", sql)]).await.unwrap().table("own").unwrap().to_markdown();
    assert!(text.contains("| `one` | bigint |  | a \\| b &lt; c |\n"), "{text}");
    assert!(text.contains("| `list` | bigint[] |  |  (in the model, not in the mart) |"), "{text}");
    assert!(text.contains("- published as `marts/own.parquet`"), "{text}");
}
