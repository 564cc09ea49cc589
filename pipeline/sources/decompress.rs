//! Decompression: the bytes of a stored file, whatever its name says, as one stream.
//!
//! - the compression is told by the first bytes; gzip members and zstd frames may follow one another
//! - the stored bytes are counted and hashed on their way
//! - damage is an error of its own kind, [`Damage`]: the caller must then discard all that it has read of the file
//! - a bomb stops at the ratio or the cap of [`Limits`]; nothing is decompressed twice

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::GzDecoder;
use futures::StreamExt;
use futures::stream::BoxStream;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::Damage;
use super::limits::Limits;
use crate::error::Error;

const CHUNK: usize = 256 << 10;
pub(super) const GZIP: &[u8] = &[0x1f, 0x8b];
pub(super) const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Where stored bytes come from.
pub(super) enum Stored {
    File(File),
    /// A download; read by blocking on the runtime, so never from an async context.
    Download {
        handle: Handle,
        stream: BoxStream<'static, object_store::Result<Bytes>>,
        chunk: Bytes,
    },
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stored::File(file) => file.read(buffer),
            Stored::Download { handle, stream, chunk } => {
                while chunk.is_empty() {
                    match handle.block_on(stream.next()) {
                        Some(next) => *chunk = next.map_err(io::Error::other)?,
                        None => return Ok(0),
                    }
                }
                let length = chunk.len().min(buffer.len());
                chunk.copy_to_slice(&mut buffer[..length]);
                Ok(length)
            }
        }
    }
}

/// Counts and hashes the stored bytes, and keeps apart what went wrong in the store.
pub(super) struct Hashed {
    stored: Stored,
    sha256: Sha256,
    bytes: u64,
    failure: Option<Error>,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // hashed in pieces that are still in the cache
        let length = buffer.len().min(CHUNK);
        match self.stored.read(&mut buffer[..length]) {
            Ok(read) => {
                self.sha256.update(&buffer[..read]);
                self.bytes += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failure = Some(Error::unavailable(error.to_string()));
                Err(error)
            }
        }
    }
}

/// The stored bytes as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub bytes: u64,
    pub sha256: [u8; 32],
}

impl Hashed {
    pub fn new(stored: Stored) -> Self {
        Self { stored, sha256: Sha256::new(), bytes: 0, failure: None }
    }

    /// Length and sha256 of what was read so far.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { bytes: self.bytes, sha256: self.sha256.clone().finalize().into() }
    }

    /// Takes the error of the store that lies behind a failed read.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }
}

type Start = io::Chain<Cursor<Vec<u8>>, Hashed>;

#[expect(clippy::large_enum_variant, reason = "one per open file, never moved in bulk")]
enum Kind {
    Plain(Start),
    Gzip { member: Option<GzDecoder<BufReader<Start>>>, members: u64 },
    Zstd(Box<ZstdDecoder<'static, BufReader<Start>>>),
}

/// The decompressed content of a file.
pub(super) struct Content<'l> {
    kind: Kind,
    limits: &'l Limits,
    expanded: u64,
}

impl<'l> Content<'l> {
    /// Looks at the first bytes and begins.
    pub fn new(stored: Stored, limits: &'l Limits) -> Result<Self, Damage> {
        let mut hashed = Hashed::new(stored);
        let mut magic = Vec::with_capacity(4);
        let read = (&mut hashed).take(4).read_to_end(&mut magic);
        if let Err(error) = read {
            return Err(hashed.failure.take().map_or_else(|| error.into(), Damage::Failed));
        }
        let is_gzip = magic.starts_with(GZIP);
        let is_zstd = magic.starts_with(ZSTD);
        let start = Read::chain(Cursor::new(magic), hashed);
        let kind = if is_gzip {
            Kind::Gzip { member: Some(GzDecoder::new(BufReader::with_capacity(CHUNK, start))), members: 0 }
        } else if is_zstd {
            Kind::Zstd(Box::new(ZstdDecoder::with_buffer(BufReader::with_capacity(CHUNK, start))?))
        } else {
            Kind::Plain(start)
        };
        Ok(Self { kind, limits, expanded: 0 })
    }

    /// The extension of the compression found, if any.
    pub fn compression(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Plain(_) => None,
            Kind::Gzip { .. } => Some("gz"),
            Kind::Zstd(_) => Some("zst"),
        }
    }

    /// Length and sha256 of the stored bytes read so far: of all of them at the end of the content.
    pub fn fingerprint(&self) -> Fingerprint {
        self.hashed().fingerprint()
    }

    /// As [`Hashed::take_failure`].
    pub fn take_failure(&mut self) -> Option<Error> {
        match &mut self.kind {
            Kind::Plain(start) => start.get_mut().1.failure.take(),
            Kind::Gzip { member, .. } => member.as_mut()?.get_mut().get_mut().get_mut().1.failure.take(),
            Kind::Zstd(decoder) => decoder.get_mut().get_mut().get_mut().1.failure.take(),
        }
    }

    fn hashed(&self) -> &Hashed {
        match &self.kind {
            Kind::Plain(start) => start.get_ref().1,
            Kind::Gzip { member, .. } => {
                member.as_ref().expect("there is always a member").get_ref().get_ref().get_ref().1
            }
            Kind::Zstd(decoder) => decoder.get_ref().get_ref().get_ref().1,
        }
    }

    fn guard(&mut self, read: usize) -> io::Result<usize> {
        self.expanded += read as u64;
        let allowed = self.limits.expansion_slack + self.limits.expansion_ratio * self.hashed().bytes;
        if self.expanded > allowed.min(self.limits.expanded_bytes) {
            let detail = format!("{} stored bytes expand to more than {}", self.hashed().bytes, self.expanded);
            return Err(Damage::file("decompress_ratio", detail).into());
        }
        Ok(read)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = match &mut self.kind {
            Kind::Plain(start) => return start.read(buffer),
            Kind::Gzip { member, members } => read_gzip(member, members, buffer)?,
            Kind::Zstd(decoder) => decoder.read(buffer).map_err(zstd_damage)?,
        };
        self.guard(read)
    }
}

fn read_gzip(
    member: &mut Option<GzDecoder<BufReader<Start>>>,
    members: &mut u64,
    buffer: &mut [u8],
) -> io::Result<usize> {
    loop {
        let decoder = member.as_mut().expect("there is always a member");
        match decoder.read(buffer) {
            Ok(0) => {
                let reader = decoder.get_mut();
                if reader.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                let follows = reader.buffer()[0];
                if follows != GZIP[0] {
                    return Err(trailing(reader));
                }
                *members += 1;
                *member = member.take().map(|ended| GzDecoder::new(ended.into_inner()));
            }
            Ok(read) => return Ok(read),
            Err(error) => {
                return Err(match error.kind() {
                    io::ErrorKind::UnexpectedEof => {
                        Damage::file("gzip_truncated", "the gzip stream ends before its trailer").into()
                    }
                    io::ErrorKind::InvalidInput if decoder.header().is_none() && *members > 0 => {
                        trailing(decoder.get_mut())
                    }
                    io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                        Damage::file("gzip_crc", error.to_string()).into()
                    }
                    _ => error,
                });
            }
        }
    }
}

fn trailing(reader: &BufReader<Start>) -> io::Error {
    let offset = reader.get_ref().get_ref().1.bytes - reader.buffer().len() as u64;
    Damage::file("gzip_trailing", format!("data after the last gzip member, near byte {offset}")).into()
}

fn zstd_damage(error: io::Error) -> io::Error {
    let detail = error.to_string();
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => "zstd_truncated",
        io::ErrorKind::Other if detail.contains("Unknown frame descriptor") => "zstd_trailing",
        io::ErrorKind::Other => "zstd_corrupt",
        _ => return error,
    };
    Damage::file(reason, detail).into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// The content of stored bytes, or why there is none.
    fn content(stored: &[u8], limits: &Limits) -> Result<Vec<u8>, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(stored).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut content = Content::new(Stored::File(file), limits).map_err(|damage| damage.to_string())?;
        let mut text = Vec::new();
        match content.read_to_end(&mut text) {
            Ok(_) => {
                let fingerprint = content.fingerprint();
                assert_eq!(fingerprint.bytes, stored.len() as u64);
                assert_eq!(fingerprint.sha256[..], Sha256::digest(stored)[..]);
                Ok(text)
            }
            Err(error) => Err(Damage::from(error).to_string()),
        }
    }

    #[test]
    fn the_first_bytes_tell_the_compression_and_parts_may_follow_one_another() {
        let text = b"{\"a\":1}\n".repeat(1_000);
        let twice = [&text[..], &text].concat();
        let limits = Limits::default();
        for (stored, expected) in [
            (text.clone(), &text),
            (gzip(&text), &text),
            (zstd(&text), &text),
            ([gzip(&text), gzip(&text)].concat(), &twice),
            ([zstd(&text), zstd(&text)].concat(), &twice),
            (gzip(b""), &Vec::new()),
            (Vec::new(), &Vec::new()),
        ] {
            assert_eq!(content(&stored, &limits).as_ref(), Ok(expected));
        }
    }

    #[test]
    fn damage_anywhere_is_damage_of_the_file() {
        let text: Vec<u8> =
            (0..2_000_u32).flat_map(|n| format!("{{\"a\":{}}}\n", n.wrapping_mul(n)).into_bytes()).collect();
        let limits = Limits::default();
        for (stored, prefix) in [(gzip(&text), "gzip"), (zstd(&text), "zstd")] {
            for cut in (5..stored.len()).step_by(97).chain([stored.len() - 1]) {
                let error = content(&stored[..cut], &limits).unwrap_err();
                assert!(error.starts_with(&format!("{prefix}_truncated")), "cut at {cut}: {error}");
            }
            let trailing = content(&[&stored[..], b"garbage"].concat(), &limits).unwrap_err();
            assert!(trailing.starts_with(&format!("{prefix}_trailing")), "{trailing}");
            let truncated = content(&[&stored[..], &stored[..7]].concat(), &limits).unwrap_err();
            assert!(truncated.starts_with(&format!("{prefix}_truncated")), "{truncated}");
        }
        let mut flipped = gzip(&text);
        let crc = flipped.len() - 6;
        flipped[crc] ^= 1;
        assert!(content(&flipped, &limits).unwrap_err().starts_with("gzip_crc"));
        let half = gzip(&text).len() / 2;
        let mut flipped = gzip(&text);
        flipped[half] ^= 0x10;
        assert!(content(&flipped, &limits).unwrap_err().starts_with("gzip_"));
        let mut flipped = zstd(&text);
        let half = flipped.len() / 2;
        flipped[half] ^= 0x10;
        assert!(content(&flipped, &limits).unwrap_err().starts_with("zstd_corrupt"));
        let offset = gzip(&text).len();
        let trailing = content(&[gzip(&text), b"\0\0".to_vec()].concat(), &limits).unwrap_err();
        assert!(trailing.ends_with(&format!("near byte {offset}")), "{trailing}");
    }

    #[test]
    fn a_bomb_stops_at_the_ratio_or_the_cap() {
        let limits = Limits { expansion_slack: 1 << 20, ..Limits::default() };
        let zeros = vec![b'a'; 32 << 20];
        assert!(content(&gzip(&zeros), &limits).unwrap_err().starts_with("decompress_ratio"));
        assert!(content(&zstd(&zeros), &limits).unwrap_err().starts_with("decompress_ratio"));
        let limits = Limits { expanded_bytes: 1 << 20, ..Limits::default() };
        assert!(content(&gzip(&zeros), &limits).unwrap_err().starts_with("decompress_ratio"));
        assert_eq!(content(&gzip(&zeros), &Limits::default()).unwrap().len(), zeros.len());
    }
}
