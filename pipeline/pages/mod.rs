//! Parquet files as DataFusion reads them, with the columns of journeys decoded straight to what our functions want.
//!
//! A [`PageSource`] reads texts of few values as keys of their dictionary and lists with their levels decoded once, in
//! batches that fit the cache; a journey's walk over numbers then costs more than reading them. Whatever is stored or
//! asked for in another way is read by the library's own reader, beside it and in the same batches.

mod bits;
mod column;
mod content;
mod file;
mod hybrid;
mod shape;
mod source;
mod starts;
mod steps;
#[cfg(test)]
mod tests;
mod values;

pub use self::file::FOOTER;
pub use self::source::PageSource;
