//! Where results go: to the terminal or pipe, or to a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::format::Format;
use crate::error::{Context, Error, Result};

/// A file that takes results.
pub struct Destination {
    path: PathBuf,
    file: BufWriter<File>,
    /// The form that the ending of its name tells.
    pub format: Option<Format>,
    is_written: bool,
}

impl Destination {
    /// Makes the file, or empties it.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).context(path.display())?;
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(file), format: format_of(path), is_written: false })
    }

    /// The writer for one more result of a form.
    pub fn writer(&mut self, format: Format) -> Result<&mut (dyn Write + Send)> {
        if format == Format::Parquet && self.is_written {
            let path = self.path.display();
            return Err(
                Error::invalid(format!("{path}: a Parquet file holds one result")).hint("write each with .once FILE")
            );
        }
        self.is_written = true;
        Ok(&mut self.file)
    }

    /// Writes what is buffered.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().context(self.path.display())
    }
}

/// The form that the ending of a file's name tells.
fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "jsonl" => Some(Format::Ndjson),
        "md" => Some(Format::Markdown),
        "txt" => Some(Format::Table),
        ending => Format::from_str(ending, true).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_file_tells_its_form() {
        let of = |name: &str| format_of(Path::new(name));
        assert_eq!(of("a.csv"), Some(Format::Csv));
        assert_eq!(of("a.b.parquet"), Some(Format::Parquet));
        assert_eq!(of("a.jsonl"), Some(Format::Ndjson));
        assert_eq!(of("a.md"), Some(Format::Markdown));
        assert_eq!(of("a.dat"), None);
        assert_eq!(of("csv"), None);
    }

    #[test]
    fn a_parquet_file_takes_one_result() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let mut destination = Destination::create(&path).unwrap();
        assert!(destination.writer(Format::Parquet).is_ok());
        assert!(destination.writer(Format::Parquet).is_err());
        assert!(Destination::create(&folder.path().join("no/such/a.csv")).is_err());
    }
}
