//! The dashboard: one page that shows what the marts say.
//!
//! Tiles are declared in `dashboard.toml` (`tiles`), each a query that the read-only session of `wayline sql` answers and a
//! kind of chart (`kind`). Their rows become plain values (`rows`), no more of them than a chart can show (`fold`),
//! with a sentence that says what they say (`finding`). All of it is one [`Document`]; [`page`] puts it into a file
//! that needs nothing else, [`live`] answers with it over HTTP as long as runs publish.

mod build;
mod finding;
mod fold;
mod kind;
pub mod live;
pub mod page;
mod rows;
mod tiles;
mod words;

use serde::Serialize;

pub use self::build::build;
pub use self::kind::Kind;
pub use self::rows::{Column, Rows, Type};
pub use self::tiles::{FILE_NAME, Width};
use crate::error::Error;

/// All that a page shows.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// Title of the page.
    pub title: String,
    /// What the tiles are of.
    pub about: About,
    /// The tiles in order.
    pub tiles: Vec<Tile>,
    /// What follows the tiles.
    pub sections: Vec<Section>,
}

/// What the tiles are of.
#[derive(Debug, Clone, Default, Serialize)]
pub struct About {
    /// The run that published last.
    pub run_id: String,
    /// Logical time of that run, RFC 3339.
    pub as_of: Option<String>,
    /// Number of events.
    pub events: u64,
    /// Day of the first event, and of the newest up to as-of.
    pub days: Option<(String, String)>,
}

/// One tile.
#[derive(Debug, Clone, Serialize)]
pub struct Tile {
    /// Its name, unique on the page.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// What its rows say.
    pub finding: Option<String>,
    /// How it is drawn.
    pub kind: Kind,
    /// How much of the page's width it takes.
    pub width: Width,
    /// How to read it, and what is left out.
    pub notes: Vec<String>,
    /// How many of the columns are drawn.
    pub drawn: usize,
    /// Its rows.
    #[serde(flatten)]
    pub rows: Rows,
}

/// A part of the page behind the tiles: tables under a headline, each closed until it is asked for. All of it is text.
#[derive(Debug, Clone, Serialize)]
pub struct Section {
    /// Its name, unique on the page.
    pub name: String,
    /// Its headline.
    pub title: String,
    /// What stands under the headline.
    pub text: String,
    /// Its tables.
    pub tables: Vec<SectionTable>,
}

/// One table of a section.
#[derive(Debug, Clone, Serialize)]
pub struct SectionTable {
    /// Its headline.
    pub title: String,
    /// What stands above the rows.
    pub text: String,
    /// Its rows.
    #[serde(flatten)]
    pub rows: Rows,
}

/// A tile that is not on the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub tile: String,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl LeftOut {
    fn of(tile: &str, error: &Error) -> Self {
        Self { tile: tile.into(), reason: error.to_string(), hint: error.remedy().map(str::to_string) }
    }
}
