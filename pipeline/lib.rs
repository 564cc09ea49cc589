//! Wayline turns multi-channel touchpoint events into journey analytics on open files.
//!
//! Modules stand in the order in which data meets them; each uses only modules above it.

/// The command line.
pub mod cli;
/// `wayline.toml`.
pub mod config;
/// Delta tables: snapshots, exactly-once commits, scans.
pub mod delta;
/// Derived tables: replaced whole, with a record of what they were built from.
pub mod derived;
/// The query engine: a session with our functions, memory and threads.
pub mod engine;
/// The error of the library.
pub mod error;
/// Named places where a test may stop the process.
pub mod failpoint;
/// DataFusion functions: the words of journey SQL.
pub mod functions;
/// Synthetic events of the shape of real ones.
pub mod generate;
/// Identifiers: normal forms, pseudonyms, values that identify nobody.
pub mod identifiers;
/// Customers from identifiers: links, resolution, tables.
pub mod identity;
/// The lake: one root on any object store.
pub mod lake;
/// Landing: batches of events, exactly once.
pub mod landing;
/// Marts: models as plain Parquet at stable paths.
pub mod marts;
/// Models: SQL files that become tables.
pub mod models;
/// The main job: land, resolve, build, check, publish.
pub mod run;
/// Sources: files into record batches, bad records apart.
pub mod sources;
/// A project opened for work.
pub mod workspace;
