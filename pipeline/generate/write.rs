//! Files of generated events: JSON Lines, CSV and Parquet, plain or compressed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Builder, Int32Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::ZstdLevel;
use parquet::file::properties::WriterProperties;
use rayon::prelude::*;

use super::customers::Population;
use super::record::{
    COLUMNS, Defect, EVENT_ID, EVENT_TIME, PROPERTIES, RECEIVED_TIME, Record, SCORE, TOUCHPOINT, VALUE,
};
use super::visits::Touch;
use super::{Compression, Format, Options};
use crate::error::{Context, Result};

/// Records that one thread formats at a time.
const CHUNK: usize = 4096;
/// Records of a Parquet row group: it is held in memory until it is complete.
const ROW_GROUP: usize = 128 * 1024;
/// Ends the name of a file that is not complete yet, so that no glob for its format takes it.
pub(super) const UNFINISHED: &str = ".unfinished";

/// The files of one call, of which one is open at a time. Each gets an equal share of the records, up to one.
pub(super) struct Files<'a> {
    options: &'a Options,
    population: &'a Population,
    folder: &'a Path,
    schema: SchemaRef,
    open: Option<OpenFile>,
    opened: usize,
    written: Written,
}

/// What was written so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) records: u64,
    pub(super) bad_records: u64,
    pub(super) bytes: u64,
}

struct OpenFile {
    path: PathBuf,
    encoder: Encoder,
    /// Records of all files after which this one is full.
    end: u64,
}

impl<'a> Files<'a> {
    pub(super) fn new(options: &'a Options, population: &'a Population, folder: &'a Path) -> Self {
        let written = Written::default();
        Self { options, population, folder, schema: schema(), open: None, opened: 0, written }
    }

    /// Appends deliveries.
    pub(super) fn write(&mut self, mut touches: &[Touch]) -> Result<()> {
        while !touches.is_empty() {
            let mut file = match self.open.take() {
                Some(file) => file,
                None => self.open_next()?,
            };
            let room = usize::try_from(file.end - self.written.records).unwrap_or(usize::MAX);
            let (now, later) = touches.split_at(room.min(touches.len()));
            self.written.bad_records += file.encoder.write(now, self.population, self.options, &self.schema)?;
            self.written.records += now.len() as u64;
            if self.written.records == file.end {
                self.close(file)?;
            } else {
                self.open = Some(file);
            }
            touches = later;
        }
        Ok(())
    }

    /// Closes the last file, and adds the empty ones that a few events leave.
    pub(super) fn finish(mut self) -> Result<Written> {
        if let Some(file) = self.open.take() {
            self.close(file)?;
        }
        while self.opened < self.options.files {
            let file = self.open_next()?;
            self.close(file)?;
        }
        Ok(self.written)
    }

    fn open_next(&mut self) -> Result<OpenFile> {
        let path = self.folder.join(self.options.file_name(self.opened));
        let file = File::create(unfinished(&path)).context(format!("while writing {}", path.display()))?;
        let encoder = Encoder::new(file, self.options, &self.schema)?;
        self.opened += 1;
        let end = u128::from(self.options.events) * self.opened as u128 / self.options.files as u128;
        Ok(OpenFile { path, encoder, end: end as u64 })
    }

    /// Completes a file and gives it its name.
    fn close(&mut self, file: OpenFile) -> Result<()> {
        file.encoder.finish()?;
        std::fs::rename(unfinished(&file.path), &file.path)?;
        self.written.bytes += std::fs::metadata(&file.path)?.len();
        Ok(())
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// Turns deliveries into the bytes of a file. All threads format, one writes.
enum Encoder {
    Text { file: Box<TextFile>, append: fn(&Record, &mut Vec<u8>) },
    Parquet(Box<ArrowWriter<File>>),
}

impl Encoder {
    fn new(file: File, options: &Options, schema: &SchemaRef) -> Result<Self> {
        match options.format {
            Format::JsonLines => {
                let file = Box::new(TextFile::new(file, options.compression)?);
                Ok(Self::Text { file, append: Record::append_json })
            }
            Format::Csv => {
                let mut file = TextFile::new(file, options.compression)?;
                file.write_all(format!("{}\n", COLUMNS.join(",")).as_bytes())?;
                Ok(Self::Text { file: Box::new(file), append: Record::append_csv })
            }
            Format::Parquet => {
                let mut properties = WriterProperties::builder()
                    .set_compression(parquet::basic::Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(ROW_GROUP));
                for column in [EVENT_ID, EVENT_TIME, RECEIVED_TIME, PROPERTIES] {
                    // Hardly a value is there twice.
                    properties = properties.set_column_dictionary_enabled(COLUMNS[column].into(), false);
                }
                let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties.build()))?;
                Ok(Self::Parquet(Box::new(writer)))
            }
        }
    }

    /// Appends deliveries and returns how many of them are bad records.
    fn write(
        &mut self,
        touches: &[Touch],
        population: &Population,
        options: &Options,
        schema: &SchemaRef,
    ) -> Result<u64> {
        let chunks = touches.par_chunks(CHUNK);
        let mut bad_records = 0;
        match self {
            Self::Text { file, append } => {
                let append = *append;
                let chunks: Vec<_> = chunks.map(|touches| lines(touches, population, options, append)).collect();
                for (lines, bad) in chunks {
                    file.write_all(&lines)?;
                    bad_records += bad;
                }
            }
            Self::Parquet(writer) => {
                let chunks: Vec<_> = chunks.map(|touches| batch(touches, population, options, schema)).collect();
                for chunk in chunks {
                    let (batch, bad) = chunk?;
                    writer.write(&batch)?;
                    bad_records += bad;
                }
            }
        }
        Ok(bad_records)
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Text { file, .. } => file.finish()?,
            Self::Parquet(writer) => drop(writer.close()?),
        }
        Ok(())
    }
}

/// A file of lines, compressed or not, at the fastest level.
enum TextFile {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

impl TextFile {
    fn new(file: File, compression: Compression) -> std::io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(match compression {
            Compression::None => Self::Plain(file),
            Compression::Gzip => Self::Gzip(GzEncoder::new(file, flate2::Compression::fast())),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(file, 1)?),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(bytes),
            Self::Gzip(file) => file.write_all(bytes),
            Self::Zstd(file) => file.write_all(bytes),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Plain(mut file) => file.flush(),
            Self::Gzip(file) => file.finish()?.flush(),
            Self::Zstd(file) => file.finish()?.flush(),
        }
    }
}

/// Deliveries as lines of text, and the number of bad ones among them.
fn lines(
    touches: &[Touch],
    population: &Population,
    options: &Options,
    append: fn(&Record, &mut Vec<u8>),
) -> (Vec<u8>, u64) {
    let mut lines = Vec::with_capacity(touches.len() * 480);
    let mut record = Record::default();
    let mut bad_records = 0;
    for touch in touches {
        let defect = Defect::of(touch, population, options.bad_records);
        bad_records += u64::from(defect.is_some());
        record.fill(population, touch, defect);
        append(&record, &mut lines);
    }
    (lines, bad_records)
}

/// Columns of the Parquet files: text, but for times, money and scores.
fn schema() -> SchemaRef {
    let fields = COLUMNS.iter().enumerate().map(|(column, name)| {
        let kind = match column {
            EVENT_TIME | RECEIVED_TIME => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            VALUE => DataType::Decimal128(18, 2),
            SCORE => DataType::Int32,
            _ => DataType::Utf8,
        };
        Field::new(*name, kind, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Deliveries as a record batch, and the number of bad ones among them. A typed column cannot hold a wrong type or half
/// a record: a bad record lacks its touchpoint or its time.
fn batch(
    touches: &[Touch],
    population: &Population,
    options: &Options,
    schema: &SchemaRef,
) -> Result<(RecordBatch, u64)> {
    let mut texts: Vec<StringBuilder> = COLUMNS.iter().map(|_| StringBuilder::new()).collect();
    let mut occurred = TimestampMicrosecondBuilder::with_capacity(touches.len());
    let mut received = TimestampMicrosecondBuilder::with_capacity(touches.len());
    let mut values = Decimal128Builder::with_capacity(touches.len());
    let mut scores = Int32Builder::with_capacity(touches.len());
    let mut record = Record::default();
    let mut bad_records = 0;
    for touch in touches {
        let defect = Defect::of(touch, population, options.bad_records);
        bad_records += u64::from(defect.is_some());
        record.fill(population, touch, None);
        let lacks_time = matches!(defect, Some(Defect::BadTime | Defect::Truncated));
        if defect.is_some() && !lacks_time {
            record.texts[TOUCHPOINT].clear();
        }
        for (builder, text) in texts.iter_mut().zip(&record.texts) {
            let text = std::str::from_utf8(text).expect("columns are text");
            builder.append_option((!text.is_empty()).then_some(text));
        }
        occurred.append_option((!lacks_time).then(|| population.clock.start() + touch.occurred));
        received.append_value(population.clock.start() + touch.received);
        values.append_option(touch.cents.map(i128::from));
        scores.append_option(touch.score.map(|(_, score)| i32::from(score)));
    }
    let mut columns: Vec<ArrayRef> =
        texts.into_iter().map(|mut builder| Arc::new(builder.finish()) as ArrayRef).collect();
    columns[EVENT_TIME] = Arc::new(occurred.finish().with_timezone("UTC"));
    columns[RECEIVED_TIME] = Arc::new(received.finish().with_timezone("UTC"));
    columns[VALUE] = Arc::new(values.finish().with_precision_and_scale(18, 2)?);
    columns[SCORE] = Arc::new(scores.finish());
    Ok((RecordBatch::try_new(schema.clone(), columns)?, bad_records))
}
