//! Standard output whose reader may go away: `wayline sql … | head` is no error, and exit codes stay what they are.

use std::io::{self, ErrorKind, Write};

/// A writer that discards everything once nobody reads it.
pub struct Output<W> {
    inner: W,
    is_abandoned: bool,
}

impl Output<io::Stdout> {
    /// Standard output.
    pub fn stdout() -> Self {
        Self::new(io::stdout())
    }
}

impl<W> Output<W> {
    fn new(inner: W) -> Self {
        Self { inner, is_abandoned: false }
    }

    /// Turns a closed pipe into `instead`, once and for all.
    fn unless_abandoned<T>(&mut self, outcome: io::Result<T>, instead: T) -> io::Result<T> {
        match outcome {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_abandoned = true;
                Ok(instead)
            }
            outcome => outcome,
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_abandoned {
            return Ok(bytes.len());
        }
        let outcome = self.inner.write(bytes);
        self.unless_abandoned(outcome, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_abandoned {
            return Ok(());
        }
        let outcome = self.inner.flush();
        self.unless_abandoned(outcome, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails every write with an error of its kind.
    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let mut output = Output::new(Failing(ErrorKind::BrokenPipe));
        assert!(output.flush().is_ok());
        assert_eq!(output.write(b"rows").unwrap(), 4);
        output.inner.0 = ErrorKind::StorageFull;
        assert!(output.write_all(b"more rows").is_ok(), "nothing is tried again");
    }

    #[test]
    fn other_errors_stay_errors() {
        let mut output = Output::new(Failing(ErrorKind::StorageFull));
        assert_eq!(output.write(b"rows").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(output.flush().unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
