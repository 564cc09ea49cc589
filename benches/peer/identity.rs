//! W11: identifiers seen together become components, named by their smallest identifier.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int8Array, StringArray, StringBuilder, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowWriter, compute_leaves};
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use wayline::delta;
use wayline::error::{Context, Error, Result};
use wayline::identifiers::Blocked;
use wayline::identity::{Links, Resolution, Rules, resolve};

use super::Phases;

/// The identifiers of an event, in the order of their names, and the letter of each in a component's name.
const KINDS: [(&str, &str); 5] =
    [("anonymous_id", "a"), ("email_hash", "e"), ("loyalty_id", "l"), ("phone_hash", "p"), ("user_id", "u")];
/// Rows decoded at a time.
const ROWS_PER_BATCH: usize = 16_384;
/// Rows of a row group of the result: the unit that is encoded in parallel.
const ROWS_PER_GROUP: usize = 1 << 18;

/// Resolves everything, returns the identifiers written.
pub fn run(data: &Path, out: &Path, threads: usize, phases: &mut Phases) -> Result<usize> {
    let links = collect(&files(data)?, threads)?;
    phases.end("collect");
    let resolution = resolve(links, &Rules::default());
    phases.end("resolve");
    let components = components(&resolution);
    phases.end("components");
    write(&resolution, &components, out)?;
    phases.end("write");
    Ok(components.len())
}

/// The files of all days, by path.
fn files(data: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for day in std::fs::read_dir(data.join("resolved"))? {
        for file in std::fs::read_dir(day?.path())? {
            files.push(file?.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Each thread takes file after file and collects for itself; what they collected is merged.
fn collect(files: &[PathBuf], threads: usize) -> Result<Links> {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut links, blocked) = (Links::new(), Blocked::default());
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            add(file, &mut links, &blocked).context(file.display())?;
        }
        Ok(links)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut collected = Links::new();
        for worker in workers {
            let links: Result<Links> = worker.join().map_err(|_| Error::internal("a reader panicked"))?;
            collected.merge(links?)?;
        }
        Ok(collected)
    })
}

/// Adds the events of a file.
fn add(file: &Path, links: &mut Links, blocked: &Blocked) -> Result<()> {
    let file = File::open(file)?;
    let stored = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
    // As views into pages and dictionaries, so that no text is copied.
    let viewed = stored.schema().fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => Field::new(field.name(), DataType::Utf8View, field.is_nullable()),
        _ => field.as_ref().clone(),
    });
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(viewed.collect::<Vec<_>>())));
    let metadata = ArrowReaderMetadata::try_new(stored.metadata().clone(), options)?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let columns = ProjectionMask::columns(builder.parquet_schema(), KINDS.map(|(kind, _)| kind));
    let reader = builder.with_projection(columns).with_batch_size(ROWS_PER_BATCH).build()?;
    for batch in reader {
        let batch = batch?;
        let column = |(kind, _)| {
            let column: Option<&ArrayRef> = batch.column_by_name(kind);
            let views = column.ok_or_else(|| Error::invalid(format!("a file without {kind}")))?.as_string_view();
            Ok((kind, views))
        };
        let columns: Vec<(&str, &StringViewArray)> = KINDS.into_iter().map(column).collect::<Result<_>>()?;
        for row in 0..batch.num_rows() {
            let present = columns.iter().filter(|(_, values)| values.is_valid(row));
            links.add_event(present.map(|(kind, values)| (*kind, values.value(row))), 0, blocked)?;
        }
    }
    Ok(())
}

/// For each identifier the smallest of its component: the first by kind, then by value.
fn components(resolution: &Resolution) -> Vec<u32> {
    let mut smallest = vec![u32::MAX; resolution.identifier_count()];
    let named = resolution.identifiers().zip(0..).map(|(identifier, position)| {
        let first = &mut smallest[identifier.customer as usize];
        *first = position.min(*first);
        *first
    });
    named.collect()
}

fn schema() -> SchemaRef {
    let kind = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("id_type", kind, false),
        Field::new("id_value", DataType::Utf8, false),
        Field::new("component", DataType::Utf8, false),
    ]))
}

/// Writes one file, its row groups and columns encoded in parallel.
fn write(resolution: &Resolution, components: &[u32], out: &Path) -> Result<()> {
    let schema = schema();
    let properties = delta::writer_properties().into_builder();
    // Nearly every value is another one.
    let properties = ["id_value", "component"].into_iter().fold(properties, |properties, column| {
        properties.set_column_dictionary_enabled(ColumnPath::from(column), false)
    });
    let writer = ArrowWriter::try_new(File::create(out)?, schema.clone(), Some(properties.build()))?;
    let (mut writer, columns) = writer.into_serialized_writer()?;
    let starts: Vec<usize> = (0..components.len()).step_by(ROWS_PER_GROUP).collect();
    let groups = starts.into_par_iter().enumerate().map(|(number, start)| {
        let end = components.len().min(start + ROWS_PER_GROUP);
        let encoded = columns.create_column_writers(number)?.into_par_iter().enumerate().map(|(index, mut writer)| {
            let values = values(resolution, components, start..end, index);
            for leaf in compute_leaves(schema.field(index), &values)? {
                writer.write(&leaf)?;
            }
            Ok(writer.close()?)
        });
        encoded.collect::<Result<Vec<_>>>()
    });
    for group in groups.collect::<Result<Vec<_>>>()? {
        let mut rows = writer.next_row_group()?;
        for column in group {
            column.append_to_row_group(&mut rows)?;
        }
        rows.close()?;
    }
    writer.close()?;
    Ok(())
}

/// A column of the result.
fn values(resolution: &Resolution, components: &[u32], rows: std::ops::Range<usize>, column: usize) -> ArrayRef {
    let kind = |name: &str| KINDS.iter().position(|(kind, _)| *kind == name).expect("no other kinds are collected");
    let identifiers = rows.clone().map(|position| resolution.identifier(position));
    let mut texts = StringBuilder::with_capacity(rows.len(), 36 * rows.len());
    match column {
        0 => {
            let kinds: Int8Array = identifiers.map(|identifier| Some(kind(identifier.kind) as i8)).collect();
            let names = StringArray::from_iter_values(KINDS.map(|(kind, _)| kind));
            return Arc::new(DictionaryArray::new(kinds, Arc::new(names)));
        }
        1 => identifiers.for_each(|identifier| texts.append_value(identifier.value)),
        _ => {
            let mut name = String::new();
            for component in &components[rows] {
                let smallest = resolution.identifier(*component as usize);
                name.clear();
                name.extend([KINDS[kind(smallest.kind)].1, ":", smallest.value]);
                texts.append_value(&name);
            }
        }
    }
    Arc::new(texts.finish())
}
