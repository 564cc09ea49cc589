//! Limits: what a record and a file may weigh before they are refused.
//!
//! They keep memory flat and time linear whatever arrives; each has the reason code of the catalogue of bad inputs.

/// Limits on records and files. [`Limits::default`] holds the documented values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest line (or CSV record) in bytes, its newline not counted: `line_too_long`.
    pub line_bytes: usize,
    /// Bytes kept of a line that is too long.
    pub kept_bytes: usize,
    /// Deepest nesting of JSON objects and arrays, the record itself being 1: `too_deep`.
    pub depth: usize,
    /// Most members of one JSON object: `too_many_keys`.
    pub keys: usize,
    /// Longest JSON key in bytes, as written: `key_too_long`.
    pub key_bytes: usize,
    /// Most digits of one JSON number: `number_too_long`.
    pub number_digits: usize,
    /// Largest stored file in bytes, by its apparent size: `file_too_large`.
    pub file_bytes: u64,
    /// Most bytes that one compressed file may expand to: `decompress_ratio`.
    pub expanded_bytes: u64,
    /// Most bytes out per byte in, for gzip and zstd: `decompress_ratio`.
    pub expansion_ratio: u64,
    /// Bytes that any compressed file may expand to, whatever the ratio.
    pub expansion_slack: u64,
    /// Most leaf columns of a Parquet file: `parquet_schema`.
    pub parquet_columns: usize,
    /// Most bytes of a Parquet footer: `parquet_limits`.
    pub parquet_footer_bytes: u64,
    /// Most values (rows, or list elements) of a Parquet column per stored byte: `parquet_limits`.
    pub parquet_values_per_byte: u64,
    /// Values that any Parquet column may hold, whatever the file's size.
    pub parquet_values_slack: u64,
    /// Most bytes of text in one decoded batch of a Parquet file: `parquet_limits`.
    pub parquet_batch_bytes: usize,
    /// Parquet files of a remote store below this size are fetched whole, others by ranges.
    pub parquet_memory_bytes: u64,
    /// Bytes of a block: the unit in which text files are read and decoded in parallel.
    pub block_bytes: usize,
    /// Bytes that the files read ahead may hold in blocks, all together (one file always proceeds).
    pub buffered_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: 1 << 20,
            kept_bytes: 64 << 10,
            depth: 32,
            keys: 1_000,
            key_bytes: 1 << 10,
            number_digits: 64,
            file_bytes: 100 << 30,
            expanded_bytes: 1 << 40,
            expansion_ratio: 200,
            expansion_slack: 64 << 20,
            parquet_columns: 10_000,
            parquet_footer_bytes: 64 << 20,
            parquet_values_per_byte: 1_000,
            parquet_values_slack: 10_000_000,
            parquet_batch_bytes: 256 << 20,
            parquet_memory_bytes: 256 << 20,
            block_bytes: 4 << 20,
            buffered_bytes: 64 << 20,
        }
    }
}
