//! Derived tables: Delta tables that are replaced whole, or changed in the rows of some keys, each with a record of what
//! it was built from.

pub mod build;
mod built_from;
pub mod changes;
pub mod fold;
pub mod keys;
mod layered;
pub mod multiset;
pub mod one_of;
pub mod storage;
pub mod summed;
pub mod window;

pub use built_from::{BUILT_FROM, BuiltFrom, Prints, Stale};

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::prelude::{DataFrame, SessionContext};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use self::changes::{Changes, Over, Sums};
use crate::delta::{self, Change, Pages, Part, Table};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Application of the commits that build tables; its number counts the builds.
pub const APPLICATION: &str = "wayline.build";

/// What a build wrote.
#[derive(Debug, Clone, Copy, Default)]
pub struct Built {
    /// Rows written.
    pub rows: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Built {
    /// Rows and bytes of these files.
    pub fn of(parts: &[Part]) -> Self {
        Self { rows: parts.iter().map(|part| part.rows).sum(), bytes: parts.iter().map(|part| part.size).sum() }
    }
}

/// A derived table as it stands: its Delta table and the changes over it.
#[derive(Debug, Clone)]
pub struct Derived {
    lake: Lake,
    folder: String,
    /// The Delta table.
    pub table: Table,
    /// What lies over it.
    pub over: Option<Over>,
    /// Both as a DataFusion table, once it was asked for: the keys of all layers are read for it.
    provider: Arc<OnceCell<Arc<dyn TableProvider>>>,
}

impl Derived {
    /// Opens a table; `None` when it was never built.
    pub async fn open(lake: &Lake, changes: &Changes, folder: &str) -> Result<Option<Self>> {
        let Some(table) = Table::open(lake, folder).await? else { return Ok(None) };
        // Changes are made for one version: a table that was built whole since has them already, or is beyond them.
        let stands_on = (table.id()?, table.version());
        let over = changes.tables.get(folder).filter(|over| over.table == stands_on).cloned();
        Ok(Some(Self { lake: lake.clone(), folder: folder.to_string(), table, over, provider: Arc::default() }))
    }

    /// The record of what the rows were built from; `None` when there is none that can be read.
    pub fn built_from(&self) -> Result<Option<BuiltFrom>> {
        match &self.over {
            Some(over) => Ok(Some(over.built_from.clone())),
            None => Ok(self.table.property(BUILT_FROM)?.and_then(|json| serde_json::from_str(&json).ok())),
        }
    }

    /// The schema in which rows of it are written.
    pub fn stored_schema(&self) -> Result<SchemaRef> {
        let schema = self.table.schema()?;
        storage::stored_schema(&schema)
    }

    /// The rows as a DataFusion table.
    pub async fn provider(&self, ctx: &SessionContext) -> Result<Arc<dyn TableProvider>> {
        let provider = self.provider.get_or_try_init(|| async {
            match &self.over {
                // The rows that lie lowest are sums already.
                Some(over) if over.sums.is_some() && over.layers.len() > usize::from(over.replaces_all) => {
                    summed::provider(ctx, &self.lake, &self.folder, &self.table, over)
                }
                Some(over) => layered::provider(&self.lake, &self.folder, &self.table, over).await,
                None => self.table.provider(&self.lake, &self.folder),
            }
        });
        provider.await.cloned()
    }

    /// The rows of a table of sums that have the keys of some row of `keys`.
    pub async fn sums_of(&self, ctx: &SessionContext, sums: &Sums, keys: &DataFrame) -> Result<DataFrame> {
        let of_keys = |rows| summed::of_keys(rows, sums, keys);
        match &self.over {
            Some(over) if over.sums.is_some() => {
                summed::rows(ctx, &self.lake, &self.folder, &self.table, over, of_keys)
            }
            _ => of_keys(ctx.read_table(self.provider(ctx).await?)?),
        }
    }

    /// Takes over what lies over the table now.
    pub fn change(&mut self, over: Option<Over>) {
        (self.over, self.provider) = (over, Arc::default());
    }

    /// Files that hold rows, those of changes included; some of the rows may be gone.
    pub fn files(&self) -> Result<Vec<Part>> {
        let mut files = match &self.over {
            Some(over) if over.replaces_all => Vec::new(),
            _ => self.table.files()?,
        };
        files.extend(self.over.iter().flat_map(|over| &over.layers).flat_map(|layer| layer.rows().cloned()));
        Ok(files)
    }
}

/// Makes tables ready to be read, one on each thread at a time: of those with changes over them the keys are read.
pub async fn make_ready<'a>(ctx: &SessionContext, tables: impl IntoIterator<Item = &'a Derived>) -> Result<()> {
    let (threads, mut waiting) = (ctx.copied_config().target_partitions(), tables.into_iter());
    // Those at work are stopped with the first error.
    let mut at_work = JoinSet::new();
    loop {
        while at_work.len() < threads
            && let Some(table) = waiting.next()
        {
            let (ctx, table) = (ctx.clone(), table.clone());
            at_work.spawn(async move { table.provider(&ctx).await.map(drop) });
        }
        let Some(done) = at_work.join_next().await else { return Ok(()) };
        done.map_err(|error| Error::internal(format!("a table could not be read: {error}")))??;
    }
}

/// The record of what a table was built from; `None` when it was never built or has none that can be read.
pub fn built_from(table: Option<&Derived>) -> Result<Option<BuiltFrom>> {
    table.map_or(Ok(None), Derived::built_from)
}

/// Files that were written as the whole content of a table, and are not in it yet.
#[derive(Debug)]
pub struct Written {
    /// Columns of the table.
    pub schema: SchemaRef,
    /// The files.
    pub parts: Vec<Part>,
    /// How large their pages are.
    pub pages: Pages,
}

/// Table property that is there where pages are small, so that they stay so when the table is folded.
const HAS_SMALL_PAGES: &str = "wayline.hasSmallPages";

/// How large the pages of a table are.
pub fn pages(table: &Table) -> Result<Pages> {
    Ok(if table.property(HAS_SMALL_PAGES)?.is_some() { Pages::Small } else { Pages::Large })
}

/// Commits files as the whole content of a table; changes that lie over it mean nothing from then on.
pub async fn replace(
    lake: &Lake,
    folder: &str,
    table: Option<&Table>,
    written: Written,
    built_from: &BuiltFrom,
    failpoint: &'static str,
) -> Result<Built> {
    let Written { schema, parts, pages } = written;
    let built = Built::of(&parts);
    let last = match table {
        Some(table) => table.transaction(APPLICATION).await?.unwrap_or(0),
        None => 0,
    };
    let mut properties = vec![(BUILT_FROM.into(), built_from.to_json())];
    if pages == Pages::Small {
        properties.push((HAS_SMALL_PAGES.into(), "true".into()));
    }
    let change = Change {
        transaction: (APPLICATION.into(), last + 1),
        schema,
        partition_by: Vec::new(),
        properties,
        replace: delta::Replace::All,
        parts,
        failpoint,
    };
    delta::commit(lake, folder, table, change).await?.version()?;
    Ok(built)
}
