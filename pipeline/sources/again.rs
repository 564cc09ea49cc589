//! Records decoded again from their bytes alone, without the file that they came from.

use bytes::Bytes;
use memchr::{memchr, memchr_iter};

use super::csv::{self, Header};
use super::json;
use super::limits::Limits;
use super::lines::Block;
use super::plan::Plan;
use super::{CsvDialect, Damage, Decoded, Rejected, Request};
use crate::error::Result;

/// How records of text were written.
#[derive(Debug, Clone)]
pub enum Written {
    /// As JSON.
    Json,
    /// As CSV below this header.
    Csv {
        /// The header without its line end.
        header: Bytes,
        /// The characters between and around fields.
        dialect: CsvDialect,
    },
}

/// Decodes records, each given as its bytes without the line end. The position of each in the result is its number, from
/// 1; a record that holds none now is in no part of it.
///
/// Records do not touch each other: where one holds a quote that might swallow the next, it is decoded by itself.
pub fn read_again(records: &[Bytes], written: &Written, request: &Request, limits: &Limits) -> Result<Vec<Decoded>> {
    let plan = Plan::new(request)?;
    let header = match written {
        Written::Json => None,
        Written::Csv { header, dialect } => match take_header(header, *dialect, &plan, limits) {
            Ok(header) => Some((header, *dialect)),
            Err(Damage::Failed(error)) => return Err(error),
            Err(Damage::File { reason, detail } | Damage::Unsettled { reason, detail }) => {
                return Ok(vec![all_refused(records, reason, &detail, &plan, limits)?]);
            }
        },
    };
    let decode = |block| match &header {
        None => json::decode(block, &plan, limits),
        Some((header, dialect)) => csv::decode(block, header, *dialect, &plan, limits),
    };
    let is_apart = |record: &[u8]| {
        memchr(b'\n', record).is_some() || header.as_ref().is_some_and(|(_, by)| memchr(by.quote, record).is_some())
    };
    let mut decoded = Vec::new();
    let mut first = 0;
    while first < records.len() {
        let mut bytes = Vec::new();
        let mut end = first;
        while end < records.len() && (end == first || bytes.len() + records[end].len() <= limits.block_bytes) {
            if is_apart(&records[end]) && end > first {
                break;
            }
            bytes.extend_from_slice(&records[end]);
            bytes.push(b'\n');
            end += 1;
            if is_apart(&records[end - 1]) {
                break;
            }
        }
        let lines = memchr_iter(b'\n', &bytes).count();
        let block = Block { bytes: bytes.into(), first_line: first as u64 + 1, lines };
        let part = decode(block)?;
        decoded.push(match is_apart(&records[first]) && part.batch.num_rows() + part.rejected.len() > 1 {
            false => part,
            true => {
                let mut part = all_refused(&records[first..end], "csv_quote", "several records now", &plan, limits)?;
                part.rejected.iter_mut().for_each(|rejected| rejected.position = Some(first as u64 + 1));
                part
            }
        });
        first = end;
    }
    Ok(decoded)
}

fn take_header(header: &Bytes, dialect: CsvDialect, plan: &Plan, limits: &Limits) -> Result<Header, Damage> {
    let line = [header, &b"\n"[..]].concat();
    let mut block = Block { bytes: line.into(), first_line: 1, lines: 1 };
    let header = Header::take(&mut block, dialect, plan, limits)?;
    header.ok_or_else(|| Damage::file("csv_header", "no header was kept"))
}

fn all_refused(records: &[Bytes], reason: &'static str, detail: &str, plan: &Plan, limits: &Limits) -> Result<Decoded> {
    let nothing = Block { bytes: Bytes::new(), first_line: 1, lines: 0 };
    let mut decoded = json::decode(nothing, plan, limits)?;
    let refused = (1..).zip(records).map(|(number, record)| Rejected::record(number, reason, detail, record));
    decoded.rejected.extend(refused);
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::sources::Column;

    /// The ids that are read and the reasons of the rest, by number of the record.
    fn fates(records: &[&str], written: &Written, limits: &Limits) -> Vec<(u64, String)> {
        let request = Request { columns: vec![Column::whole("id")], properties: true, drop_paths: Vec::new() };
        let records: Vec<Bytes> = records.iter().map(|record| Bytes::copy_from_slice(record.as_bytes())).collect();
        let mut fates = Vec::new();
        for part in read_again(&records, written, &request, limits).unwrap() {
            let ids = part.batch.column(0).as_string::<i32>();
            fates.extend((0..ids.len()).map(|row| (part.position(row), ids.value(row).to_string())));
            fates.extend(part.rejected.iter().map(|rejected| (rejected.position.unwrap(), rejected.reason.into())));
        }
        fates.sort();
        fates
    }

    fn expected(fates: &[(u64, &str)]) -> Vec<(u64, String)> {
        fates.iter().map(|(number, fate)| (*number, (*fate).to_string())).collect()
    }

    #[test]
    fn each_record_has_its_own_fate_however_many_are_decoded_at_once() {
        let records = [r#"{"id":"a"}"#, "broken", "", r#"{"id":"b"}"#, "\0", r#"{"id":"c"}"#];
        for block_bytes in [1, 20, 1 << 20] {
            let limits = Limits { block_bytes, ..Limits::default() };
            let found = fates(&records, &Written::Json, &limits);
            let all = [(1, "a"), (2, "json_syntax"), (4, "b"), (5, "nul_byte"), (6, "c")];
            assert_eq!(found, expected(&all));
        }
    }

    #[test]
    fn a_record_of_csv_is_read_by_the_header_of_its_file_and_swallows_no_other() {
        let written = Written::Csv { header: Bytes::from_static(b"x,id\r"), dialect: CsvDialect::default() };
        let records = ["1,a\r", "\"open,b", "\"two\nlines\",c", "x,id", "3,d", "4", "\"5\"x,e", "6,f\n7,g"];
        let found = fates(&records, &written, &Limits::default());
        let all = [
            (1, "a"),
            (2, "csv_quote"),
            (3, "c"),
            (4, "csv_header"),
            (5, "d"),
            (6, "csv_columns"),
            (7, "csv_quote"),
            (8, "csv_quote"),
        ];
        assert_eq!(found, expected(&all));
    }

    #[test]
    fn below_a_header_that_no_longer_serves_all_records_are_refused() {
        let written = Written::Csv { header: Bytes::from_static(b"x,y"), dialect: CsvDialect::default() };
        assert_eq!(
            fates(&["1,a", "2,b"], &written, &Limits::default()),
            expected(&[(1, "csv_header"), (2, "csv_header")])
        );
    }
}
