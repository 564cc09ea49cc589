//! One error for the whole library.
//!
//! [`Kind`] tells the caller what to do next; the message says what was expected and what came; a hint names the
//! remedy. Messages are short, lower case and without a full stop. The chain is printed once, in `main`.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Change the input: configuration, arguments, a model's SQL.
    Invalid,
    /// Somebody else was faster: try again from a fresh snapshot.
    Conflict,
    /// A store, source or lock is out of reach: try later.
    Unavailable,
    /// Memory or another limit of the engine does not suffice: raise it, or ask for less.
    Exhausted,
    /// What lies in the lake is damaged: stop and look.
    Corrupt,
    /// A defect of ours: tell us.
    Internal,
}

/// The part of a text that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The whole text: a query.
    pub text: String,
    /// The part, in bytes.
    pub span: Range<usize>,
    /// Number of the text's first line, where it was taken out of another.
    pub first_line: usize,
}

impl Place {
    /// What stands there.
    pub fn words(&self) -> &str {
        self.text.get(self.span.clone()).unwrap_or_default()
    }
}

/// An error with its kind, place, remedy and source.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    place: Option<Box<Place>>,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A new error of a kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), place: None, hint: None, source: None }
    }

    /// The input must change.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// Another writer was faster.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// Something is out of reach for now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// Stored data is damaged.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    /// A defect of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Adds the remedy, printed on a line of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the name that a wrong one may stand for, if one is near.
    #[must_use]
    pub fn hint_nearest<'a>(self, wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(wrong, names) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// Adds the place that it is about, to be shown with a mark below it.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Self {
        self.place = place.map(Box::new);
        self
    }

    /// Says on which line of a script the text of the place begins.
    #[must_use]
    pub fn beginning_at_line(mut self, line: usize) -> Self {
        if let Some(place) = &mut self.place {
            place.first_line = line;
        }
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says it in other words. Kind, hint and source stay.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Wraps this error in a place: `context: message`. Kind and hint stay.
    #[must_use]
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it may go away by itself: a store out of reach, another writer.
    pub fn is_temporary(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Conflict)
    }

    /// Whether the same may succeed at another time: it is temporary, or may fit into the memory when there is less to do.
    pub fn may_pass(&self) -> bool {
        self.is_temporary() || self.kind == Kind::Exhausted
    }

    /// The place that it is about, if that is known.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    /// The remedy, if one is known.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The name that a wrong one may stand for, if one is near.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |name: &str| {
        // In a short name two letters that changed places leave little in common.
        let is_slip = wrong.len() > 2 && strsim::osa_distance(wrong, name) == 1;
        strsim::jaro_winkler(wrong, name).max(if is_slip { 0.8 } else { 0.0 })
    };
    let similar = names.into_iter().map(|name| (similarity(name), name));
    let (similarity, name) = similar.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (similarity > 0.75).then_some(name)
}

/// Adds a place to the error of a result.
pub trait Context<T> {
    /// Wraps the error in `place`.
    fn context(self, place: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, place: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(place))
    }
}

/// Words of libraries for an error of a store whose type they do not hand on.
const STORE_WORDS: [&str; 3] = ["Object Store error: ", "Error interacting with object store", "Reqwest Error"];
/// What a full disk or quota is called in Linux, in every language.
const FULL_WORDS: [&str; 2] = ["(os error 28)", "(os error 122)"];

impl Error {
    /// An error of a library: of the kind that was told from its type, unless a store out of reach is behind it.
    fn of_library(kind: Kind, error: &(dyn StdError + 'static), words: String) -> Self {
        if FULL_WORDS.iter().any(|full| words.contains(full)) {
            return Self::unavailable(words).hint("the disk is full: make room and run again, which goes on from here");
        }
        let causes = std::iter::successors(Some(error), |cause| StdError::source(*cause)).skip(1);
        let is_typed = causes.filter_map(|cause| cause.downcast_ref()).any(is_out_of_reach);
        let is_told = STORE_WORDS.iter().any(|store| words.contains(store)) && !words.contains("not found");
        Self::new(if (is_typed || is_told) && kind != Kind::Conflict { Kind::Unavailable } else { kind }, words)
    }
}

fn is_out_of_reach(error: &object_store::Error) -> bool {
    !matches!(error, object_store::Error::NotFound { .. } | object_store::Error::NotSupported { .. })
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        let kind = match error.kind() {
            NotFound | PermissionDenied => Kind::Invalid,
            _ => Kind::Unavailable,
        };
        Self::of_library(kind, &error, error.to_string())
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Store;
        let kind = match &error {
            Store::AlreadyExists { .. } | Store::Precondition { .. } => Kind::Conflict,
            Store::NotFound { .. } | Store::InvalidPath { .. } | Store::NotSupported { .. } => Kind::Invalid,
            _ => Kind::Unavailable,
        };
        Self::of_library(kind, &error, error.to_string())
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as Engine;
        let kind = match error.find_root() {
            Engine::Internal(_) => Kind::Internal,
            Engine::ResourcesExhausted(_) => Kind::Exhausted,
            Engine::ObjectStore(_) | Engine::IoError(_) => Kind::Unavailable,
            Engine::ParquetError(_) => Kind::Corrupt,
            // Of a table of ours that is read when it is asked for.
            Engine::External(ours) => ours.downcast_ref::<Self>().map_or(Kind::Invalid, Self::kind),
            _ => Kind::Invalid,
        };
        Self::of_library(kind, &error, error.strip_backtrace())
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::new(Kind::Invalid, error.to_string())
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::of_library(Kind::Corrupt, &error, error.to_string())
    }
}

impl From<deltalake::DeltaTableError> for Error {
    fn from(error: deltalake::DeltaTableError) -> Self {
        use deltalake::DeltaTableError as Delta;
        let kind = match &error {
            Delta::ObjectStore { .. } | Delta::Io { .. } => Kind::Unavailable,
            Delta::InvalidJsonLog { .. } | Delta::InvalidStatsJson { .. } => Kind::Corrupt,
            // A version that is not there: a commit was told that it is.
            Delta::Transaction { .. } | Delta::VersionAlreadyExists(_) | Delta::InvalidVersion(_) => Kind::Conflict,
            Delta::KernelError(_) => Kind::Corrupt,
            _ => Kind::Invalid,
        };
        Self::of_library(kind, &error, error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::new(Kind::Corrupt, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use parquet::errors::ParquetError;

    #[test]
    fn an_error_of_a_store_is_known_in_the_words_of_any_library() {
        let store = object_store::Error::Generic { store: "S3", source: "connection reset".into() };
        let words = format!("Failed to fetch metadata: Object Store error: {store}");
        let parquet = || ParquetError::General(words.clone());
        assert_eq!(Error::from(parquet()).kind(), Kind::Unavailable);
        let engine = datafusion::error::DataFusionError::ParquetError(Box::new(parquet()));
        assert_eq!(Error::from(engine).kind(), Kind::Unavailable);
        let typed =
            ParquetError::External(Box::new(object_store::Error::Generic { store: "S3", source: "reset".into() }));
        let engine_of_typed = datafusion::error::DataFusionError::ParquetError(Box::new(typed));
        assert_eq!(Error::from(engine_of_typed).kind(), Kind::Unavailable);
        let ours = datafusion::error::DataFusionError::External(Box::new(Error::unavailable("reset")));
        assert_eq!(Error::from(ours.context("scan")).kind(), Kind::Unavailable);
        let delta = deltalake::DeltaTableError::generic(format!("Error interacting with object store: {store}"));
        assert_eq!(Error::from(delta).kind(), Kind::Unavailable);
        assert_eq!(Error::from(ParquetError::General("bad magic".into())).kind(), Kind::Corrupt);
    }

    #[test]
    fn a_full_disk_is_temporary_and_says_what_to_do() {
        let full = || std::io::Error::from_raw_os_error(28);
        let store = object_store::Error::Generic { store: "local disk", source: full().into() };
        for error in [Error::from(full()), Error::from(store)] {
            assert_eq!(error.kind(), Kind::Unavailable);
            assert!(error.remedy().unwrap().contains("make room"), "{error}");
        }
    }
}
