//! `dashboard.toml`: the tiles that a dashboard shows, each a saved query and a kind of chart.
//!
//! A project's own file adds to the built-in tiles, which stand in `built_in.toml` in the same form; a tile of the same
//! name replaces one, and `built_in` says which of them are shown.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use crate::config::from_toml;
use crate::error::{Context, Error, Result};

/// Name of the file in a project's folder.
pub const FILE_NAME: &str = "dashboard.toml";
const BUILT_IN: &str = include_str!("built_in.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Title of the page; by default the name of the project's folder.
    title: Option<String>,
    /// The built-in tiles to show, in this order; by default all.
    built_in: Option<Vec<String>>,
    #[serde(default)]
    tiles: Vec<Tile>,
}

/// One tile as it is declared.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// Its name: lower-case letters, digits and underscores.
    pub name: String,
    /// What it shows, in plain words.
    pub title: String,
    /// How it is drawn.
    pub kind: Kind,
    /// A query over tables, models and marts.
    query: Option<String>,
    /// A file with the query, relative to the project.
    file: Option<String>,
    /// A column of which each value gets a tile of its own.
    pub split_by: Option<String>,
    /// A query of one text over the table `tile`, the rows of `query`: what they say. By default told by the kind.
    pub finding: Option<String>,
    /// How to read it.
    pub note: Option<String>,
    /// How much of the page's width it takes; by default told by the kind.
    pub width: Option<Width>,
    /// Whether it came with the program.
    #[serde(skip)]
    pub is_built_in: bool,
}

/// How much of the page's width a tile takes, where there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Width {
    /// Half of it.
    Half,
    /// All of it.
    Full,
}

impl Tile {
    /// The query, read from its file if it stands in one.
    pub fn sql(&self, folder: &Path) -> Result<String> {
        match (&self.query, &self.file) {
            (Some(query), None) => Ok(query.clone()),
            (None, Some(file)) => {
                std::fs::read_to_string(folder.join(file)).context(format!("tile {}: {file}", self.name))
            }
            _ => Err(Error::invalid(format!("tile {}: expected a query or a file with one", self.name))
                .hint("set either query or file")),
        }
    }
}

/// The tiles of a page, and its title if one is given.
#[derive(Debug)]
pub struct Tiles {
    /// Title of the page.
    pub title: Option<String>,
    /// The tiles in order.
    pub tiles: Vec<Tile>,
}

impl Tiles {
    /// Those of the project in `folder`; without a file of its own the built-in ones.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).context(path.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::parse(""),
            Err(error) => Err(error).context(path.display()),
        }
    }

    /// Those of a file's text.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(from_toml)?;
        check(&file.tiles)?;
        let mut own = file.tiles;
        let mut known = built_in();
        if let Some(wanted) = &file.built_in {
            known = wanted.iter().map(|name| pick(&known, name)).collect::<Result<_>>()?;
        }
        // What replaces a built-in tile takes its place, the rest follows.
        let mut tiles = Vec::new();
        for tile in known {
            match own.iter().position(|other| other.name == tile.name) {
                Some(position) => tiles.push(own.remove(position)),
                None => tiles.push(tile),
            }
        }
        tiles.extend(own);
        Ok(Self { title: file.title, tiles })
    }

    /// The files that hold their queries, relative to the project.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.tiles.iter().filter_map(|tile| tile.file.as_deref())
    }
}

fn built_in() -> Vec<Tile> {
    let file: File = toml::from_str(BUILT_IN).expect("the built-in tiles are well-formed");
    file.tiles.into_iter().map(|tile| Tile { is_built_in: true, ..tile }).collect()
}

fn pick(known: &[Tile], name: &str) -> Result<Tile> {
    known.iter().find(|tile| tile.name == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|tile| tile.name.as_str()).collect();
        Error::invalid(format!("built_in: no built-in tile is called {name}"))
            .hint(format!("there are {}", names.join(", ")))
            .hint_nearest(name, names)
    })
}

/// Names are unique and fit for an anchor of the page; each tile has one query.
fn check(tiles: &[Tile]) -> Result<()> {
    for (position, tile) in tiles.iter().enumerate() {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if tile.name.is_empty() || !tile.name.chars().all(is_name) {
            return Err(Error::invalid(format!("tile `{}`: its name cannot be one", tile.name))
                .hint("use lower-case letters, digits and underscores"));
        }
        if tiles[..position].iter().any(|other| other.name == tile.name) {
            return Err(Error::invalid(format!("two tiles are called {}", tile.name)).hint("give one another name"));
        }
        if tile.query.is_some() == tile.file.is_some() {
            return Err(Error::invalid(format!("tile {}: expected a query or a file with one", tile.name))
                .hint("set either query or file"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        Tiles::parse(text).unwrap().tiles.into_iter().map(|tile| tile.name).collect()
    }

    const OWN: &str = "[[tiles]]\nname = \"own\"\ntitle = \"Own\"\nkind = \"table\"\nquery = \"select 1\"\n";

    #[test]
    fn own_tiles_follow_the_built_in_ones_or_take_their_place() {
        let all = names("");
        assert!(all.len() > 5);
        check(&built_in()).unwrap();
        let mut with_own = all.clone();
        with_own.push("own".into());
        assert_eq!(names(OWN), with_own);
        let replaced = Tiles::parse(&OWN.replace("\"own\"", "\"funnels\"")).unwrap();
        assert_eq!(replaced.tiles.iter().map(|tile| &tile.name).collect::<Vec<_>>(), all.iter().collect::<Vec<_>>());
        let own: Vec<_> = replaced.tiles.iter().filter(|tile| !tile.is_built_in).collect();
        assert_eq!((own.len(), own[0].title.as_str()), (1, "Own"));
    }

    #[test]
    fn built_in_tiles_are_shown_as_they_are_named() {
        assert_eq!(names(&format!("built_in = []\n{OWN}")), ["own"]);
        assert_eq!(names(&format!("built_in = [\"paths\", \"figures\"]\n{OWN}")), ["paths", "figures", "own"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_a_remedy() {
        for (text, message, hint) in [
            ("titel = 'x'", "unknown field `titel`", "did you mean `title`?"),
            ("built_in = ['funnel']", "no built-in tile is called funnel", "did you mean `funnels`?"),
            (&OWN.replace("table", "tabel"), "unknown variant `tabel`", "did you mean `table`?"),
            (&OWN.replace("\"own\"", "\"My tile\""), "its name cannot be one", "lower-case letters"),
            (&OWN.replace("query = \"select 1\"", ""), "expected a query or a file", "either query or file"),
            (&format!("{OWN}file = \"x.sql\"\n"), "expected a query or a file", "either query or file"),
            (&format!("{OWN}{OWN}"), "two tiles are called own", "another name"),
        ] {
            let error = Tiles::parse(text).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.remedy().unwrap_or_default().contains(hint), "{error}: {:?}", error.remedy());
        }
    }
}
