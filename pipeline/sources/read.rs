//! Reading: many files at once, in blocks, decoded in parallel, delivered in order.
//!
//! Each file that is open has a reader, which fetches, hashes and decompresses it, cuts it into blocks and gives them
//! to the workers; the workers, shared by all files, decode. A file's pieces wait in its own bounded queue, in order,
//! until the caller takes them: the caller sees file after file, while the next ones are already being read. Nobody
//! waits for a file but the caller and that file's reader, so a slow file holds up its own queue alone.

use std::collections::VecDeque;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc as thread_mpsc};

use bytes::Bytes;
use object_store::ObjectStoreExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::csv::{self, CsvRecords, Header};
use super::decompress::{Content, Fingerprint, GZIP, Hashed, Stored, ZSTD};
use super::json;
use super::limits::Limits;
use super::lines::{Block, Blocks, Cut, Lines, Piece};
use super::list::open;
use super::parquet;
use super::plan::Plan;
use super::{CsvDialect, Damage, Decoded, FileEntry, Format, Outcome, Part, Rejected, Request, Root, Summary, Syntax};
use crate::error::{Error, Result};

/// Files open at once: enough to hide the latency of a store when files are small.
const OPEN_FILES: usize = 32;
/// First bytes by which a file's kind is judged.
const HEAD_BYTES: usize = 4 << 10;

/// How files are read.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The format of all files; if none, of each by its extension.
    pub format: Option<Format>,
    /// The characters of CSV files.
    pub csv: CsvDialect,
    /// What is read of each record.
    pub request: Request,
    /// Limits on records and files.
    pub limits: Limits,
    /// Threads that decode.
    pub workers: usize,
}

/// Files being read; see [`read()`].
pub struct Reading {
    shared: Arc<Shared>,
    waiting: VecDeque<(usize, FileEntry)>,
    open: VecDeque<OpenFile>,
    /// Blocks that a file's queue holds.
    queue: usize,
}

/// What readers and workers share.
pub(super) struct Shared {
    pub root: Root,
    pub plan: Plan,
    pub limits: Limits,
    pub handle: Handle,
    format: Option<Format>,
    csv: CsvDialect,
    jobs: thread_mpsc::SyncSender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;
type Answer = std::result::Result<Decoded, Damage>;

struct OpenFile {
    index: usize,
    weight: usize,
    steps: mpsc::Receiver<Step>,
    summary: Summary,
}

/// What a reader says of its file.
enum Step {
    Decoded(Decoded),
    Decoding(oneshot::Receiver<Answer>),
    End(std::result::Result<End, Damage>),
}

/// What a reader knows at the end of a file.
pub(super) struct End {
    pub fingerprint: Fingerprint,
    pub flags: Vec<&'static str>,
}

/// Reads files. Must be called within a tokio runtime of any flavour.
///
/// Yields, through [`Reading::next`], the pieces of `files[0]` in the order of its records, then its outcome, then
/// `files[1]`, and so on. Dropping the [`Reading`] stops everything.
/// Errors: a request with doubled names. What is wrong with a file is in its [`Outcome`].
pub fn read(root: Root, files: Vec<FileEntry>, spec: Spec) -> Result<Reading> {
    let workers = spec.workers.max(1);
    let (jobs, queued) = thread_mpsc::sync_channel::<Job>(workers);
    let queued = Arc::new(Mutex::new(queued));
    for index in 0..workers {
        let queued = Arc::clone(&queued);
        let work = move || {
            loop {
                let job = queued.lock().expect("no job runs under the lock").recv();
                match job {
                    Ok(job) => job(),
                    Err(_) => return,
                }
            }
        };
        std::thread::Builder::new().name(format!("decode-{index}")).spawn(work)?;
    }
    let affordable = spec.limits.buffered_bytes / spec.limits.block_bytes.max(1) / 2;
    let shared = Arc::new(Shared {
        plan: Plan::new(&spec.request)?,
        root,
        limits: spec.limits,
        handle: Handle::current(),
        format: spec.format,
        csv: spec.csv,
        jobs,
    });
    let waiting = files.into_iter().enumerate().collect();
    Ok(Reading { shared, waiting, open: VecDeque::new(), queue: (workers + 1).min(affordable.max(1)) })
}

impl Reading {
    /// The next part; none when all files have ended.
    pub async fn next(&mut self) -> Option<Part> {
        self.open_files();
        let file = self.open.front_mut()?;
        let step = file.steps.recv().await;
        let decoded = match step {
            Some(Step::Decoded(decoded)) => Ok(decoded),
            Some(Step::Decoding(answer)) => match answer.await {
                Ok(answer) => answer,
                Err(_) => Err(Error::internal("a decoding thread is gone").into()),
            },
            Some(Step::End(end)) => return Some(self.end(end)),
            None => Err(Error::internal("the reader of a file is gone").into()),
        };
        match decoded {
            Ok(decoded) => {
                file.summary.rows += decoded.batch.num_rows() as u64;
                file.summary.rejected += decoded.rejected.len() as u64;
                file.summary.blank_lines += decoded.blank_lines;
                for (flag, count) in &decoded.flags {
                    *file.summary.flags.entry(flag).or_default() += count;
                }
                Some(Part::Records(file.index, decoded))
            }
            Err(damage) => Some(self.end(Err(damage))),
        }
    }

    /// Opens files while they may be read ahead.
    fn open_files(&mut self) {
        let block = self.shared.limits.block_bytes;
        while let Some((_, entry)) = self.waiting.front() {
            let full = block * (self.queue + 2);
            let is_plain = self.shared.format_of(entry) != Some(Format::Parquet) && named_compression(entry).is_none();
            // compressed files are taken to grow tenfold; the queue bounds them if they grow more
            let expected = usize::try_from(entry.size).unwrap_or(usize::MAX);
            let weight = if is_plain { expected } else { expected.saturating_mul(10) }.clamp(1, full);
            let ahead: usize = self.open.iter().map(|file| file.weight).sum();
            let has_room = self.open.len() < OPEN_FILES && ahead + weight <= self.shared.limits.buffered_bytes;
            if !self.open.is_empty() && !has_room {
                return;
            }
            let Some((index, entry)) = self.waiting.pop_front() else { return };
            let (sender, steps) = mpsc::channel(self.queue);
            let shared = Arc::clone(&self.shared);
            self.shared.handle.spawn_blocking(move || FileReader { shared, entry, sender }.run());
            self.open.push_back(OpenFile { index, weight, steps, summary: Summary::default() });
        }
    }

    /// Ends the file in front.
    fn end(&mut self, end: std::result::Result<End, Damage>) -> Part {
        let file = self.open.pop_front().expect("a file that ends was open");
        let outcome = match end {
            Ok(end) => {
                let mut summary = file.summary;
                summary.bytes = end.fingerprint.bytes;
                summary.sha256 = end.fingerprint.sha256;
                for flag in end.flags {
                    *summary.flags.entry(flag).or_default() += 1;
                }
                if summary.blank_lines > 0 {
                    summary.flags.insert("blank_line", summary.blank_lines);
                }
                Outcome::Read(summary)
            }
            Err(damage) => damage.into(),
        };
        Part::End(file.index, outcome)
    }
}

impl Shared {
    fn format_of(&self, entry: &FileEntry) -> Option<Format> {
        self.format.or_else(|| Format::from_name(entry.path.filename()?))
    }
}

/// Reads one file, on a thread that may block.
pub(super) struct FileReader {
    pub shared: Arc<Shared>,
    pub entry: FileEntry,
    sender: mpsc::Sender<Step>,
}

/// Why a reader stops early.
pub(super) enum Stop {
    Damage(Damage),
    Abandoned,
}

impl<D: Into<Damage>> From<D> for Stop {
    fn from(damage: D) -> Self {
        Self::Damage(damage.into())
    }
}

impl FileReader {
    fn run(self) {
        let format = self.shared.format_of(&self.entry);
        let read = catch_unwind(AssertUnwindSafe(|| self.read(format)));
        let end = match read {
            Ok(Ok(end)) => Ok(end),
            Ok(Err(Stop::Damage(damage))) => Err(damage),
            Ok(Err(Stop::Abandoned)) => return,
            Err(panic) => Err(panicked(format, panic)),
        };
        // nobody is left to be told if this fails
        let _ = self.sender.blocking_send(Step::End(end));
    }

    fn read(&self, format: Option<Format>) -> std::result::Result<End, Stop> {
        let (size, limit) = (self.entry.size, self.shared.limits.file_bytes);
        if size > limit {
            return Err(Damage::file("file_too_large", format!("{size} bytes, the limit is {limit}")).into());
        }
        let end = match format {
            Some(Format::Parquet) => parquet::read(self)?,
            Some(format) => self.read_text(format)?,
            None => {
                let error = Error::invalid(format!("no format is known for `{}`", self.entry.path));
                return Err(error.hint("name the source's format: jsonl, csv or parquet").into());
            }
        };
        if end.fingerprint.bytes != size {
            let read = end.fingerprint.bytes;
            return Err(Damage::unsettled("unsealed", format!("{size} bytes were listed, {read} were read")).into());
        }
        Ok(end)
    }

    fn read_text(&self, format: Format) -> std::result::Result<End, Stop> {
        let limits = &self.shared.limits;
        let mut content = Content::new(self.open()?, limits)?;
        let mut head = Vec::with_capacity(limits.block_bytes.max(HEAD_BYTES));
        if let Err(error) = (&mut content).take(HEAD_BYTES as u64).read_to_end(&mut head) {
            return Err(content.take_failure().map_or_else(|| error.into(), Damage::Failed).into());
        }
        let mut flags = Vec::new();
        if content.compression() != named_compression(&self.entry) {
            flags.push("ext_mismatch");
        }
        if head.is_empty() {
            flags.push("empty_file");
        }
        let mark = refuse_binary(&head, content.compression().is_some())?;
        if mark > 0 {
            flags.push("bom_stripped");
            head.drain(..mark);
        }
        let fingerprint = match format {
            Format::Csv => {
                let dialect = self.shared.csv;
                let cut = CsvRecords { dialect, record_bytes: limits.line_bytes };
                let mut header: Option<Arc<Header>> = None;
                self.read_blocks(Blocks::new(content, head, cut, limits), |piece| {
                    let mut block = match piece {
                        Piece::Records(block) => block,
                        Piece::TooLong(rejected) => {
                            let unknown = || Syntax::Csv { names: Arc::new([]), header: Bytes::new(), dialect };
                            let syntax = header.as_ref().map_or_else(unknown, |header| header.syntax(dialect));
                            return self.refuse(rejected, syntax);
                        }
                    };
                    let header = match &header {
                        Some(header) => Arc::clone(header),
                        None => match Header::take(&mut block, dialect, &self.shared.plan, limits)? {
                            Some(taken) => Arc::clone(header.insert(Arc::new(taken))),
                            None => return Ok(()),
                        },
                    };
                    self.decode(move |shared| Ok(csv::decode(block, &header, dialect, &shared.plan, &shared.limits)?))
                })?
            }
            _ => self.read_blocks(Blocks::new(content, head, Lines, limits), |piece| match piece {
                Piece::Records(block) => {
                    self.decode(move |shared| Ok(json::decode(block, &shared.plan, &shared.limits)?))
                }
                Piece::TooLong(rejected) => self.refuse(rejected, Syntax::Json),
            })?,
        };
        Ok(End { fingerprint, flags })
    }

    fn read_blocks<C: Cut>(
        &self,
        mut blocks: Blocks<'_, Content<'_>, C>,
        mut decode: impl FnMut(Piece) -> std::result::Result<(), Stop>,
    ) -> std::result::Result<Fingerprint, Stop> {
        loop {
            match blocks.next() {
                Ok(Some(piece)) => decode(piece)?,
                Ok(None) => return Ok(blocks.into_reader().fingerprint()),
                Err(damage) => {
                    let failure = blocks.into_reader().take_failure();
                    return Err(failure.map_or(damage, Damage::Failed).into());
                }
            }
        }
    }

    /// Tells of a record that was refused before it was decoded.
    fn refuse(&self, rejected: Rejected, syntax: Syntax) -> std::result::Result<(), Stop> {
        let nothing = Block { bytes: Bytes::new(), first_line: 0, lines: 0 };
        let mut decoded = json::decode(nothing, &self.shared.plan, &self.shared.limits)?;
        decoded.rejected.push(rejected);
        decoded.syntax = syntax;
        self.send(Step::Decoded(decoded))
    }

    /// Opens the stored bytes.
    pub fn open(&self) -> std::result::Result<Stored, Stop> {
        Ok(open_stored(&self.shared.root, &self.entry, &self.shared.handle)?)
    }

    /// Gives work to the workers, its result to the caller.
    pub fn decode(&self, work: impl FnOnce(&Shared) -> Answer + Send + 'static) -> std::result::Result<(), Stop> {
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let format = shared.format_of(&self.entry);
        let job = move || {
            let decoded = catch_unwind(AssertUnwindSafe(|| work(&shared)));
            // the caller may have gone
            let _ = answer.send(decoded.unwrap_or_else(|panic| Err(panicked(format, panic))));
        };
        self.shared.jobs.send(Box::new(job)).map_err(|_| Stop::Abandoned)?;
        self.send(Step::Decoding(answered))
    }

    fn send(&self, step: Step) -> std::result::Result<(), Stop> {
        self.sender.blocking_send(step).map_err(|_| Stop::Abandoned)
    }
}

fn open_stored(root: &Root, entry: &FileEntry, handle: &Handle) -> std::result::Result<Stored, Damage> {
    match root {
        Root::Folder(folder) => Ok(Stored::File(open(folder, &entry.path)?)),
        Root::Store(store) => {
            let found = handle.block_on(store.get(&entry.path)).map_err(refused_by_store)?;
            Ok(Stored::Download { handle: handle.clone(), stream: found.into_stream(), chunk: Bytes::new() })
        }
    }
}

/// The sha256 of a file's stored bytes; none if the file is not there, or not for us.
pub async fn sha256(root: &Root, entry: &FileEntry) -> Result<Option<[u8; 32]>> {
    let (root, entry, handle) = (root.clone(), entry.clone(), Handle::current());
    let hashed = tokio::task::spawn_blocking(move || {
        let mut hashed = Hashed::new(open_stored(&root, &entry, &handle)?);
        match std::io::copy(&mut hashed, &mut std::io::sink()) {
            Ok(_) => Ok(hashed.fingerprint().sha256),
            Err(error) => Err(hashed.take_failure().map_or_else(|| error.into(), Damage::Failed)),
        }
    });
    match hashed.await.map_err(|error| Error::internal(error.to_string()))? {
        Ok(sha256) => Ok(Some(sha256)),
        Err(Damage::Failed(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// What the store said, as the fault of the file or of the store.
pub(super) fn refused_by_store(error: object_store::Error) -> Damage {
    use object_store::Error as Store;
    match error {
        Store::NotFound { .. } => Damage::gone(),
        // also what credentials cannot reach: they may be back in a moment, and no file is at fault
        error => Damage::Failed(Error::unavailable(error.to_string())),
    }
}

fn panicked(format: Option<Format>, panic: Box<dyn std::any::Any + Send>) -> Damage {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    match format {
        // the Parquet reader is known to panic on damaged files
        Some(Format::Parquet) => Damage::file("parquet_corrupt", format!("the reader panicked: {text}")),
        _ => Error::internal(format!("decoding panicked: {text}")).into(),
    }
}

/// The compression that a file's extension names.
fn named_compression(entry: &FileEntry) -> Option<&'static str> {
    let name = entry.path.filename()?.to_ascii_lowercase();
    match name.rsplit_once('.')?.1 {
        "gz" | "gzip" => Some("gz"),
        "zst" | "zstd" => Some("zst"),
        _ => None,
    }
}

/// Refuses what is no UTF-8 text by its first bytes; returns the length of the byte order mark.
///
/// A record may hold a stray NUL and is then refused by itself, so a file counts as binary only if one byte in twenty
/// is a control character, as in zeros, random bytes and most binary formats.
fn refuse_binary(head: &[u8], is_compressed: bool) -> std::result::Result<usize, Damage> {
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Err(Damage::file("wrong_encoding", "a byte order mark of UTF-16; UTF-8 is expected"));
    }
    let is_tar = head.get(257..262) == Some(b"ustar");
    let is_zip = head.starts_with(b"PK\x03\x04");
    if is_compressed && (is_tar || is_zip || head.starts_with(GZIP) || head.starts_with(ZSTD)) {
        return Err(Damage::file("nested_archive", "an archive within a compressed file; one layer is read"));
    }
    if is_tar || is_zip || head.starts_with(b"PAR1") {
        return Err(Damage::file("bad_magic", "an archive or Parquet file where text is expected"));
    }
    let mut nuls = [0, 0];
    let mut controls = 0;
    for (at, byte) in head.iter().enumerate() {
        nuls[at % 2] += usize::from(*byte == 0);
        controls += usize::from(*byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b));
    }
    if nuls[0] + nuls[1] > 0 && controls * 20 > head.len() {
        if nuls.contains(&0) && (nuls[0] + nuls[1]) * 3 > head.len() {
            return Err(Damage::file("wrong_encoding", "every other byte is NUL, as in UTF-16; UTF-8 is expected"));
        }
        let begins_as_json = head.trim_ascii_start().starts_with(b"{") && std::str::from_utf8(head).is_ok();
        if !begins_as_json {
            return Err(Damage::file("bad_magic", "binary data where text is expected"));
        }
    }
    Ok(if head.starts_with(&[0xef, 0xbb, 0xbf]) { 3 } else { 0 })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path as FsPath;

    use arrow::array::AsArray;
    use object_store::memory::InMemory;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::sources::{Column, list};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn spec(limits: Limits) -> Spec {
        let request = Request { columns: vec![Column::whole("id")], properties: false, drop_paths: vec![] };
        Spec { format: None, csv: CsvDialect::default(), request, limits, workers: 2 }
    }

    /// What came of a file.
    #[derive(Debug, Default)]
    struct Found {
        ids: Vec<Option<String>>,
        positions: Vec<u64>,
        rejected: Vec<Rejected>,
        outcome: Option<Outcome>,
    }

    impl Found {
        fn reason(&self) -> &str {
            match self.outcome.as_ref().unwrap() {
                Outcome::Read(_) => "read",
                Outcome::Quarantined { reason, .. } | Outcome::Unsettled { reason, .. } => reason,
                Outcome::Failed(error) => match error.kind() {
                    crate::error::Kind::Unavailable => "unavailable",
                    _ => "failed",
                },
            }
        }

        fn summary(&self) -> &Summary {
            match self.outcome.as_ref().unwrap() {
                Outcome::Read(summary) => summary,
                other => panic!("not read: {other:?}"),
            }
        }
    }

    async fn collect(root: &Root, files: Vec<FileEntry>, spec: Spec) -> Vec<Found> {
        let mut found: Vec<Found> = files.iter().map(|_| Found::default()).collect();
        let mut reading = read(root.clone(), files, spec).unwrap();
        let mut next_file = 0;
        while let Some(part) = reading.next().await {
            match part {
                Part::Records(index, decoded) => {
                    assert_eq!(index, next_file, "files come in order");
                    let ids = decoded.batch.column(0).as_string::<i32>();
                    found[index].ids.extend(ids.iter().map(|id| id.map(str::to_string)));
                    found[index].positions.extend(decoded.positions().values());
                    found[index].rejected.extend(decoded.rejected);
                }
                Part::End(index, outcome) => {
                    assert_eq!(index, next_file, "files end in order");
                    found[index].outcome = Some(outcome);
                    next_file += 1;
                }
            }
        }
        assert_eq!(next_file, found.len());
        found
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    async fn read_folder(folder: &FsPath, spec: Spec) -> Vec<(String, Found)> {
        let root = Root::Folder(folder.to_path_buf());
        let files = list(&root, "*").await.unwrap().files;
        let names: Vec<_> = files.iter().map(|file| file.path.to_string()).collect();
        std::iter::zip(names, collect(&root, files, spec).await).collect()
    }

    #[tokio::test]
    async fn a_bad_file_costs_itself_alone() {
        let line = b"{\"id\":1}\n".to_vec();
        let good = line.repeat(3);
        let large: Vec<u8> = (0..300_000).flat_map(|id| format!("{{\"id\":{id}}}\n").into_bytes()).collect();
        let utf16: Vec<u8> =
            String::from_utf8(good.clone()).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut random = Vec::new();
        let mut state = 1_u64;
        for _ in 0..1_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random.extend_from_slice(&(state >> 16).to_le_bytes()[..6]);
        }
        let mut tar = vec![b'x'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let half = gzip(&large).len() / 2;
        let mut bad_crc = gzip(&large);
        let at = bad_crc.len() - 6;
        bad_crc[at] ^= 1;
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("a-good.jsonl", good.clone(), "read"),
            ("b-utf16-bom.jsonl", [&[0xff, 0xfe][..], &utf16].concat(), "wrong_encoding"),
            ("b-utf16-be.jsonl", vec![0xfe, 0xff, 0, b'{'], "wrong_encoding"),
            ("b-utf16.jsonl", utf16, "wrong_encoding"),
            ("c-zeros.jsonl", vec![0; 10_000], "bad_magic"),
            ("c-random.jsonl", random.clone(), "bad_magic"),
            ("c-random.csv", random, "bad_magic"),
            ("c-parquet.jsonl", b"PAR1xxxxPAR1".to_vec(), "bad_magic"),
            ("c-zip.csv", b"PK\x03\x04xxxx".to_vec(), "bad_magic"),
            ("d-truncated.jsonl.gz", gzip(&large)[..half].to_vec(), "gzip_truncated"),
            ("d-crc.jsonl.gz", bad_crc, "gzip_crc"),
            ("d-trailing.jsonl.gz", [gzip(&good), b"x".to_vec()].concat(), "gzip_trailing"),
            ("d-nested.jsonl.gz", gzip(&gzip(&good)), "nested_archive"),
            ("d-tar.jsonl.gz", gzip(&tar), "nested_archive"),
            ("e-semicolons.csv", b"id;x\n1;2\n".to_vec(), "csv_delimiter"),
            ("e-twice.csv", b"id,id\n1,2\n".to_vec(), "csv_header"),
            ("f-unknown.log", good.clone(), "failed"),
            ("z-good.jsonl.gz", gzip(&good), "read"),
        ];
        let files: Vec<_> = cases.iter().map(|(name, bytes, _)| (*name, bytes.clone())).collect();
        let folder = folder(&files);
        for (name, found) in read_folder(folder.path(), spec(Limits::default())).await {
            let (_, bytes, reason) = cases.iter().find(|(case, _, _)| *case == name).unwrap();
            assert_eq!(found.reason(), *reason, "{name}: {found:?}");
            if *reason == "read" {
                assert_eq!(found.ids.len(), 3);
                let summary = found.summary();
                assert_eq!(summary.rows, 3);
                assert_eq!(summary.bytes, bytes.len() as u64);
                assert_eq!(summary.sha256[..], Sha256::digest(bytes)[..]);
                assert!(summary.flags.is_empty());
            }
        }
    }

    #[tokio::test]
    async fn oddities_are_flagged_and_read() {
        let line = b"{\"id\":1}\n".to_vec();
        let cases: Vec<(&str, Vec<u8>, &[&str], u64)> = vec![
            ("bom.jsonl", [&[0xef, 0xbb, 0xbf][..], &line].concat(), &["bom_stripped"], 1),
            ("bom.csv", b"\xef\xbb\xbf\"id\"\n1\n".to_vec(), &["bom_stripped"], 1),
            ("empty.jsonl", vec![], &["empty_file"], 0),
            ("empty.csv", vec![], &["empty_file"], 0),
            ("empty.parquet", vec![], &["empty_file"], 0),
            ("empty.jsonl.gz", gzip(b""), &["empty_file"], 0),
            ("header.csv", b"id\n".to_vec(), &[], 0),
            ("blank.csv", b"\n\nid\n1\n".to_vec(), &[], 1),
            ("plain.jsonl.gz", line.clone(), &["ext_mismatch"], 1),
            ("gzip.jsonl", gzip(&line), &["ext_mismatch"], 1),
            ("twice.jsonl", b"{\"id\":1,\"id\":1}\n".to_vec(), &["dup_key_same"], 1),
        ];
        let files: Vec<_> = cases.iter().map(|(name, bytes, _, _)| (*name, bytes.clone())).collect();
        let folder = folder(&files);
        for (name, found) in read_folder(folder.path(), spec(Limits::default())).await {
            let (_, _, flags, rows) = cases.iter().find(|(case, ..)| *case == name).unwrap();
            assert_eq!(found.summary().flags.keys().copied().collect::<Vec<_>>(), *flags, "{name}");
            assert_eq!(found.summary().rows, *rows, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_changed_or_gone_is_not_read() {
        let folder = folder(&[("a.jsonl", b"{\"id\":1}\n".to_vec())]);
        let root = Root::Folder(folder.path().to_path_buf());
        let entry = list(&root, "*").await.unwrap().files.remove(0);
        let sized = |size: u64| FileEntry { size, ..entry.clone() };
        let gone = FileEntry { path: "b.jsonl".into(), ..entry.clone() };
        let found =
            collect(&root, vec![sized(1 << 40), sized(8), gone.clone(), entry.clone()], spec(Limits::default()));
        let reasons: Vec<_> = found.await.iter().map(|found| found.reason().to_string()).collect();
        assert_eq!(reasons, ["file_too_large", "unsealed", "source_gone", "read"]);
        let store = Root::Store(Arc::new(InMemory::new()));
        let found = collect(&store, vec![gone], spec(Limits::default())).await;
        assert_eq!(found[0].reason(), "source_gone");
    }

    #[tokio::test]
    async fn a_store_that_refuses_us_is_out_of_reach_and_no_file_is_at_fault() {
        let refused = |status: u8| {
            let (path, source) = ("a.jsonl".to_string(), "no".into());
            refused_by_store(match status {
                1 => object_store::Error::Unauthenticated { path, source },
                _ => object_store::Error::PermissionDenied { path, source },
            })
        };
        for status in [1, 3] {
            match refused(status) {
                Damage::Failed(error) => assert_eq!(error.kind(), crate::error::Kind::Unavailable),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn the_hash_of_a_file_is_that_of_its_bytes_wherever_it_lies() {
        let folder = folder(&[("a.jsonl", b"abc".to_vec())]);
        let root = Root::Folder(folder.path().to_path_buf());
        let entry = list(&root, "*").await.unwrap().files.remove(0);
        let store = InMemory::new();
        store.put(&"a.jsonl".into(), b"abc".to_vec().into()).await.unwrap();
        for root in [root, Root::Store(Arc::new(store))] {
            let expected: [u8; 32] = Sha256::digest(b"abc").into();
            assert_eq!(sha256(&root, &entry).await.unwrap(), Some(expected));
            let gone = FileEntry { path: "b.jsonl".into(), ..entry.clone() };
            assert_eq!(sha256(&root, &gone).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_folder_and_a_store_read_alike() {
        let text: Vec<u8> = (0..20_000).flat_map(|id| format!("{{\"id\":{id}}}\n").into_bytes()).collect();
        let folder = folder(&[("a.jsonl", text.clone()), ("b.jsonl.gz", gzip(&text))]);
        let store = InMemory::new();
        store.put(&"a.jsonl".into(), text.clone().into()).await.unwrap();
        store.put(&"b.jsonl.gz".into(), gzip(&text).into()).await.unwrap();
        let limits = Limits { block_bytes: 10_000, ..Limits::default() };
        for root in [Root::Folder(folder.path().to_path_buf()), Root::Store(Arc::new(store))] {
            let files = list(&root, "*").await.unwrap().files;
            for found in collect(&root, files, spec(limits.clone())).await {
                let expected: Vec<_> = (0..20_000).map(|id| Some(id.to_string())).collect();
                assert_eq!(found.ids, expected);
                assert_eq!(found.positions, (1..=20_000).collect::<Vec<_>>());
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_small_files_come_in_order() {
        let names: Vec<String> = (0..300).map(|number| format!("{number:03}.jsonl")).collect();
        let files: Vec<_> =
            names.iter().map(|name| (name.as_str(), format!("{{\"id\":{name:?}}}").into_bytes())).collect();
        let folder = folder(&files);
        for (name, found) in read_folder(folder.path(), spec(Limits::default())).await {
            assert_eq!(found.ids, [Some(name)]);
        }
    }

    #[tokio::test]
    async fn a_reading_can_be_dropped_at_any_time() {
        let text: Vec<u8> = (0..50_000).flat_map(|id| format!("{{\"id\":{id}}}\n").into_bytes()).collect();
        let folder = folder(&[("a.jsonl", text.clone()), ("b.jsonl", text)]);
        let root = Root::Folder(folder.path().to_path_buf());
        let files = list(&root, "*").await.unwrap().files;
        for parts in 0..5 {
            let limits = Limits { block_bytes: 1_000, ..Limits::default() };
            let mut reading = read(root.clone(), files.clone(), spec(limits)).unwrap();
            for _ in 0..parts {
                reading.next().await.unwrap();
            }
        }
    }

    fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let line = prop_oneof![
            4 => (0..1_000_u32, "[a-zé]{0,20}").prop_map(|(id, x)| format!("{{\"id\":{id},\"x\":\"{x}\"}}").into_bytes()),
            1 => "[a-z{}\",:0-9é]{1,30}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>().prop_filter("one line", |byte| *byte != b'\n'), 0..40),
            1 => Just(Vec::new()),
            1 => (0..300_usize).prop_map(|length| vec![b'x'; length]),
        ];
        proptest::collection::vec(line, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn every_line_lands_is_rejected_or_blank_in_order_and_whole(
            lines in lines(), ends in any::<bool>(), block_bytes in 1..500_usize, workers in 1..4_usize,
        ) {
            // a line that begins the file like something else would change the file's fate
            let mut text = [&b"{\"id\":0}\n"[..], &lines.join(&b'\n')].concat();
            if ends {
                text.push(b'\n');
            }
            let limits = Limits { block_bytes, line_bytes: 200, kept_bytes: 200, ..Limits::default() };
            let mut expected: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
            if expected.last().is_some_and(|line| line.is_empty()) {
                expected.pop();
            }
            prop_assume!(refuse_binary(&text[..text.len().min(HEAD_BYTES)], false).is_ok());
            let folder = folder(&[("a.jsonl", text.clone())]);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let spec = Spec { workers, ..spec(limits) };
            let (_, found) = runtime.block_on(read_folder(folder.path(), spec)).remove(0);
            let summary = found.summary();
            prop_assert_eq!(summary.rows + summary.rejected + summary.blank_lines, expected.len() as u64);
            prop_assert_eq!(summary.sha256.to_vec(), Sha256::digest(&text).to_vec());
            prop_assert!(found.positions.is_sorted());
            prop_assert!(found.rejected.is_sorted_by_key(|rejected| rejected.position));
            for rejected in &found.rejected {
                let line = expected[rejected.position.unwrap() as usize - 1];
                prop_assert_eq!(&rejected.record[..], &line[..line.len().min(200)]);
            }
            for (position, id) in std::iter::zip(&found.positions, &found.ids) {
                let line: serde_json::Value = serde_json::from_slice(expected[*position as usize - 1]).unwrap();
                prop_assert_eq!(id.clone(), line["id"].as_u64().map(|id| id.to_string()));
            }
        }

        #[test]
        fn what_becomes_of_csv_does_not_depend_on_the_blocks(
            body in "([a-c,\"\r\n]|,\"|\",|\"\n|\n){0,300}", block_bytes in 1..100_usize,
        ) {
            let text = format!("id,b\n{body}").into_bytes();
            let folder = folder(&[("a.csv", text)]);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut both = [1 << 20, block_bytes].map(|block_bytes| {
                let limits = Limits { block_bytes, line_bytes: 60, ..Limits::default() };
                runtime.block_on(read_folder(folder.path(), spec(limits))).remove(0).1
            });
            let [whole, parts] = &mut both;
            prop_assert_eq!(&whole.ids, &parts.ids);
            prop_assert_eq!(&whole.positions, &parts.positions);
            prop_assert_eq!(&whole.rejected, &parts.rejected);
            prop_assert_eq!(whole.summary(), parts.summary());
        }
    }
}
