//! The query engine: a DataFusion session with our functions, bounded memory and the lake's store.

mod bounded;
mod complexity;
mod diagnosis;
mod late_table;
mod memory;
mod pool;
mod spill;

use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
};
use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{ScalarUDF, Volatility};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};

pub use self::bounded::register as bound_functions;
pub use self::diagnosis::{diagnose, locate};
pub use self::late_table::{LateRows, LateTable};
pub use self::memory::{rows_within_memory, within_memory};
use self::pool::JoinsOnce;
use self::spill::Spills;
use crate::config;
use crate::error::Result;
use crate::functions;
use crate::lake::Lake;

/// Consumers named in the message when memory runs out.
const NAMED_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(5).expect("five is not zero");

/// Memory that a merge may take for each spilled file, at the default size of batches and with rows of some hundred bytes.
const BYTES_PER_MERGED_FILE: usize = 8 << 20;

/// Sorts of one thread that are provided for: those of a plan, in several queries.
const SORTS_AT_ONCE: usize = 32;

/// A session over `lake`. Operators that can spill do so beyond the configured memory.
pub fn session(lake: &Lake, settings: &config::Engine) -> Result<SessionContext> {
    let memory = settings.memory_bytes()?;
    let pool = FairSpillPool::new(memory);
    // A merge would open as many spilled files as fit and leave itself no room for what comes out.
    let merged_at_once = (memory / settings.thread_count() / BYTES_PER_MERGED_FILE).clamp(2, 64);
    let spills = DiskManagerBuilder::default()
        .with_max_spill_merge_fan_in(merged_at_once)
        .with_temp_file_factory(Arc::new(Spills::default()));
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(spills)
        .with_memory_pool(Arc::new(JoinsOnce(TrackConsumersPool::new(pool, NAMED_CONSUMERS))))
        .build_arc()?;
    runtime.register_object_store(lake.url(), lake.store().clone());
    // So much is set aside for each sort, be it ever so small.
    let reserved_to_sort = (memory / settings.thread_count() / SORTS_AT_ONCE).clamp(1 << 20, 10 << 20);
    let config =
        config().with_target_partitions(settings.thread_count()).with_sort_spill_reservation_bytes(reserved_to_sort);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_physical_optimizer_rules(functions::single_phase_first())
        .build();
    let ctx = SessionContext::new_with_state(state);
    functions::register_all(&ctx);
    bound_functions(&ctx);
    Ok(ctx)
}

/// Settings of every session.
fn config() -> SessionConfig {
    let config = SessionConfig::new()
        .with_information_schema(true)
        .with_default_catalog_and_schema("wayline", "public")
        // Rows on their way to another thread are spilled each batch into a file of its own. In this version of the engine two
        // threads that write at once open two files, and who reads waits for ever for the older one
        // (<https://github.com/apache/datafusion/issues/24883>), unless a file is closed as soon as it has a batch: then
        // only for a write that is under way.
        .set_usize("datafusion.execution.max_spill_file_size_bytes", 1);
    // Errors then know their place in the query.
    memory::gated(config.set_bool("datafusion.sql_parser.collect_spans", true))
}

/// A session with the functions, memory and settings of another and no tables.
pub fn beside(ctx: &SessionContext) -> SessionContext {
    let mut state = ctx.state();
    let names = state.config_options().catalog.clone();
    let (catalogs, catalog) = (MemoryCatalogProviderList::new(), MemoryCatalogProvider::new());
    catalog
        .register_schema(&names.default_schema, Arc::new(MemorySchemaProvider::new()))
        .expect("a new catalog takes a schema");
    catalogs.register_catalog(names.default_catalog, Arc::new(catalog));
    // Built from an existing state, another would register all functions again, in no order: ours take names of others.
    state.register_catalog_list(Arc::new(catalogs));
    SessionContext::new_with_state(state)
}

/// A session over the same tables whose operators pass on so many rows at a time: columns of long records must fit 31
/// bits.
pub fn in_batches_of(ctx: &SessionContext, rows: usize) -> SessionContext {
    let state = ctx.state();
    let config = state.config().clone().with_batch_size(rows);
    SessionContext::new_with_state(SessionStateBuilder::new_from_existing(state).with_config(config).build())
}

/// A session over the same tables whose scans read other columns only for the rows that a filter keeps: faster where
/// it keeps few.
pub fn reading_few_rows(ctx: &SessionContext) -> SessionContext {
    let mut state = ctx.state();
    state.config_mut().options_mut().execution.parquet.pushdown_filters = true;
    SessionContext::new_with_state(state)
}

/// Plans one query, read-only: SQL as DataFusion knows it, `match_recognize` as the standard spells it, and
/// `show functions` with ours.
pub async fn query(ctx: &SessionContext, sql: &str) -> Result<DataFrame> {
    complexity::check(sql)?;
    plan(ctx, sql).await.map_err(|error| diagnose(ctx, sql, error))
}

async fn plan(ctx: &SessionContext, sql: &str) -> Result<DataFrame, DataFusionError> {
    let state = ctx.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(&functions::standard_sql(sql), &dialect)?;
    if let Some(functions) = functions::show_functions(ctx, &statement)? {
        return Ok(functions);
    }
    let plan = state.statement_to_plan(statement).await?;
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(&plan)?;
    ctx.execute_logical_plan(plan).await
}

/// Whether a function gives another answer each time: a clock or chance.
pub fn is_clock(function: &ScalarUDF) -> bool {
    const CLOCKS: [&str; 5] = ["now", "current_date", "current_time", "current_timestamp", "today"];
    function.signature().volatility == Volatility::Volatile || CLOCKS.contains(&function.name())
}

/// Names of the tables of a session.
pub fn table_names(ctx: &SessionContext) -> Vec<String> {
    let names = ctx.state().config_options().catalog.clone();
    let schema = ctx.catalog(&names.default_catalog).and_then(|catalog| catalog.schema(&names.default_schema));
    let mut tables = schema.map(|schema| schema.table_names()).unwrap_or_default();
    tables.sort();
    tables
}

/// Names of the functions of a session, each once.
pub fn function_names(ctx: &SessionContext) -> Vec<String> {
    let mut names: Vec<String> = functions::known_to(&ctx.state()).into_iter().map(|function| function.name).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;
