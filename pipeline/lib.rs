//! Wayline turns multi-channel touchpoint events into journey analytics on open files.
//!
//! Modules stand in the order in which data meets them; each uses only modules above it. An event's way: [`sources`]
//! read it from a file, [`landing`] maps it and commits it once, [`identity`] says whose it is, [`models`] put it into a
//! session and a journey and count it, [`marts`] publish the counts. [`run`] is all of that in one job,
//! [`watch`] that job again and again.

// The error of the library.
pub mod error;
// Files that other programs read while they are replaced.
pub mod replace;
// A place in a text, shown with a mark under it.
pub mod excerpt;
// Named places where a test may stop the process.
pub mod failpoint;
// `wayline.toml`.
pub mod config;
// The lake: one root on any object store.
pub mod lake;
// Parquet pages decoded to what functions over journeys want.
pub mod pages;
// Delta tables: snapshots, exactly-once commits, scans.
pub mod delta;
// Identifiers: normal forms, pseudonyms, values that identify nobody.
pub mod identifiers;
// DataFusion functions: the words of journey SQL.
pub mod functions;
// The query engine: a session with our functions, memory and threads.
pub mod engine;
// A project opened for work.
pub mod workspace;
// Derived tables: replaced whole, with a record of what they were built from.
pub mod derived;
// Sources: files into record batches, bad records apart.
pub mod sources;
// Landing: batches of events, exactly once.
pub mod landing;
// Customers from identifiers: links, resolution, tables.
pub mod identity;
// Models: SQL files that become tables.
pub mod models;
// Marts: models as plain Parquet at stable paths.
pub mod marts;
// What each table and column means, and where it comes from.
pub mod dictionary;
// Files and log entries of the tables in the lake.
pub mod table_sizes;
// The main job: land, resolve, build, check, publish.
pub mod run;
// What the lake and its runs count, for those who watch over them.
pub mod metrics;
// Maintenance: few files, short logs, nothing left behind; and the search for damage.
pub mod maintain;
// HTTP answers for this machine.
pub mod listener;
// The main job in micro-batches until it is told to stop, with metrics and health.
pub mod watch;
// The dashboard: a page that shows what the marts say.
pub mod dashboard;
// The newest tables, for those who read while runs publish.
pub mod reader;
// The SQL shell: statements and commands in, tables out.
pub mod shell;
// The wire protocol of PostgreSQL, for clients that speak it.
#[cfg(feature = "postgres")]
pub mod postgres;
// Synthetic events of the shape of real ones.
pub mod generate;
// What a code or a model is, in words.
pub mod explain;
// What is wrong with a set-up, and how to mend it.
pub mod doctor;
// A project to start from, with a mapping guessed from a user's own files.
pub mod init;
// Starters for tools that read the marts.
pub mod export;
// The command line.
pub mod cli;

// What holds of all of it, as tests.
#[cfg(test)]
mod law;
