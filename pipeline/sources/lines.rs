//! Blocks: a stream of bytes cut at the ends of records, so that each block can be decoded by itself.
//!
//! A block holds whole records and knows the number of its first line. A line over the limit never enters memory: it
//! is streamed past to its newline and becomes a dead letter of its first bytes and its sha256.
//! Memory: one block and one record.

use std::io::Read;

use bytes::Bytes;
use memchr::{memchr, memrchr};
use sha2::{Digest, Sha256};

use super::limits::Limits;
use super::{Damage, Rejected};

/// Where in a block a record lies, and the number of its first line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub start: u32,
    pub end: u32,
    pub line: u64,
}

/// Whole records of a file.
#[derive(Debug)]
pub(super) struct Block {
    pub bytes: Bytes,
    /// The number of the first line, from 1.
    pub first_line: u64,
    /// Line ends in it.
    pub lines: usize,
}

/// A piece of a file of text.
#[derive(Debug)]
pub(super) enum Piece {
    Records(Block),
    /// A line too long to be read.
    TooLong(Rejected),
}

/// How a format cuts its records.
pub(super) trait Cut {
    /// How many of these bytes are whole records. `at_end` says that no more will come: then all of them must be.
    fn cut(&mut self, bytes: &[u8], at_end: bool) -> usize;
}

/// One record per line.
pub(super) struct Lines;

impl Cut for Lines {
    fn cut(&mut self, bytes: &[u8], at_end: bool) -> usize {
        match at_end {
            true => bytes.len(),
            false => memrchr(b'\n', bytes).map_or(0, |newline| newline + 1),
        }
    }
}

/// Cuts what `reader` yields into blocks.
pub(super) struct Blocks<'l, R, C> {
    reader: R,
    cut: C,
    limits: &'l Limits,
    /// Read, and not yet handed out.
    pending: Vec<u8>,
    next_line: u64,
    at_end: bool,
}

impl<'l, R: Read, C: Cut> Blocks<'l, R, C> {
    /// `pending` holds what was already read; a byte order mark is no part of it.
    pub fn new(reader: R, pending: Vec<u8>, cut: C, limits: &'l Limits) -> Self {
        Self { reader, cut, limits, pending, next_line: 1, at_end: false }
    }

    /// What was read from.
    pub fn into_reader(self) -> R {
        self.reader
    }

    /// The next piece; none at the end.
    pub fn next(&mut self) -> Result<Option<Piece>, Damage> {
        let mut wanted = self.limits.block_bytes;
        loop {
            self.fill(wanted)?;
            if self.pending.is_empty() {
                return Ok(None);
            }
            let length = self.cut.cut(&self.pending, self.at_end);
            if length > 0 {
                return Ok(Some(Piece::Records(self.take(length))));
            }
            if self.pending.len() > self.limits.line_bytes && memchr(b'\n', &self.pending).is_none() {
                return self.skip_line().map(|rejected| Some(Piece::TooLong(rejected)));
            }
            wanted = self.pending.len() + self.limits.block_bytes;
        }
    }

    /// Reads until `wanted` bytes are pending or the stream ends.
    fn fill(&mut self, wanted: usize) -> Result<(), Damage> {
        let missing = wanted.saturating_sub(self.pending.len());
        if missing == 0 || self.at_end {
            return Ok(());
        }
        self.pending.reserve_exact(missing);
        let read = (&mut self.reader).take(missing as u64).read_to_end(&mut self.pending)?;
        self.at_end = read < missing;
        Ok(())
    }

    fn take(&mut self, length: usize) -> Block {
        let mut rest = Vec::with_capacity(self.limits.block_bytes.max(self.pending.len() - length));
        rest.extend_from_slice(&self.pending[length..]);
        self.pending.truncate(length);
        let bytes = Bytes::from(std::mem::replace(&mut self.pending, rest));
        let first_line = self.next_line;
        let lines = memchr::memchr_iter(b'\n', &bytes).count();
        self.next_line += lines as u64;
        Block { bytes, first_line, lines }
    }

    /// Streams past a line of which the pending bytes are the beginning.
    fn skip_line(&mut self) -> Result<Rejected, Damage> {
        let mut sha256 = Sha256::new();
        let mut length = 0;
        let kept = Bytes::copy_from_slice(&self.pending[..self.limits.kept_bytes.min(self.pending.len())]);
        loop {
            let newline = memchr(b'\n', &self.pending);
            let part = newline.unwrap_or(self.pending.len());
            sha256.update(&self.pending[..part]);
            length += part;
            self.pending.drain(..newline.map_or(part, |newline| newline + 1));
            if newline.is_some() || self.at_end {
                break;
            }
            self.fill(self.limits.block_bytes)?;
        }
        let line = self.next_line;
        self.next_line += 1;
        let detail = too_long_detail(length, self.limits.line_bytes, sha256);
        Ok(Rejected { position: Some(line), reason: "line_too_long", detail, record: kept })
    }
}

/// The dead letter of a line over the limit that fitted into its block.
pub(super) fn too_long(line: &[u8], number: u64, limits: &Limits) -> Rejected {
    let detail = too_long_detail(line.len(), limits.line_bytes, Sha256::new_with_prefix(line));
    Rejected::record(number, "line_too_long", detail, &line[..limits.kept_bytes.min(line.len())])
}

fn too_long_detail(length: usize, limit: usize, sha256: Sha256) -> String {
    format!("line of {length} bytes, the limit is {limit}; sha256 {}", hex::encode(sha256.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &[u8], limits: &Limits) -> Vec<Piece> {
        let mut blocks = Blocks::new(text, Vec::new(), Lines, limits);
        std::iter::from_fn(|| blocks.next().unwrap()).collect()
    }

    #[test]
    fn blocks_end_at_line_ends_and_know_their_first_line() {
        let text = b"one\ntwo\nthree\nfour\nfive";
        for block_bytes in 1..30 {
            let limits = Limits { block_bytes, ..Limits::default() };
            let mut joined = Vec::new();
            let mut line = 1;
            for piece in pieces(text, &limits) {
                let Piece::Records(block) = piece else { panic!("no line is too long") };
                assert_eq!(block.first_line, line, "blocks of {block_bytes}");
                line += block.bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
                joined.extend_from_slice(&block.bytes);
                assert!(joined.len() == text.len() || block.bytes.ends_with(b"\n"));
            }
            assert_eq!(joined, text, "blocks of {block_bytes}");
        }
    }

    #[test]
    fn a_line_too_long_is_streamed_past_and_hashed() {
        let long = "x".repeat(5_000);
        let text = format!("a\n{long}\nb\n");
        let limits = Limits { block_bytes: 64, line_bytes: 100, kept_bytes: 10, ..Limits::default() };
        let pieces = pieces(text.as_bytes(), &limits);
        let lines: Vec<_> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Records(block) => (block.first_line, block.bytes.clone(), String::new()),
                Piece::TooLong(long) => (long.position.unwrap(), long.record.clone(), long.detail.clone()),
            })
            .collect();
        assert_eq!(lines[0].1, "a\n");
        assert_eq!((lines[1].0, lines[1].1.as_ref()), (2, &b"xxxxxxxxxx"[..]));
        assert!(lines[1].2.contains("5000 bytes") && lines[1].2.contains(&hex::encode(Sha256::digest(long))));
        assert_eq!((lines[2].0, lines[2].1.as_ref()), (3, &b"b\n"[..]));
    }
}
