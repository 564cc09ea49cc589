//! CSV: a block of records becomes a batch of the requested columns and `properties`.
//!
//! - a header row is required; fields are found by its names, whatever their order in this file
//! - quotes as in RFC 4180: a field is quoted if it begins with a quote; within it a doubled quote is one quote, and
//!   newlines belong to the text; after it only a delimiter or a line end may follow
//! - an empty field is null, quoted or not; all else is text
//! - `properties`: the columns that are not taken whole, as JSON strings; null if they are all empty
//! - a field read by paths is JSON text; what is not a JSON object is null there, and whole in `properties`
//! - a record that is refused costs that record alone. A quote that does not close within the record limit costs its
//!   line: reading goes on at the next one

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field as ArrowField, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;
use memchr::{memchr, memchr_iter, memchr2, memrchr};

use super::filter::{copy_text, push_json_string};
use super::json::{JsonColumn, invalid_utf8};
use super::limits::Limits;
use super::lines::{Block, Cut, Record, too_long};
use super::plan::Plan;
use super::{CsvDialect, Damage, Decoded, PROPERTIES, Records, Rejected, Syntax};
use crate::error::Result;

/// Cuts blocks at record ends, with the same eyes as [`decode`]: where a quote does not close, both go on at the next
/// line, so a block may end behind such a line.
pub(super) struct CsvRecords {
    pub dialect: CsvDialect,
    pub record_bytes: usize,
}

impl Cut for CsvRecords {
    fn cut(&mut self, bytes: &[u8], at_end: bool) -> usize {
        if at_end {
            return bytes.len();
        }
        if memchr(self.dialect.quote, bytes).is_none() {
            return memrchr(b'\n', bytes).map_or(0, |newline| newline + 1);
        }
        let mut at = 0;
        loop {
            match walk(bytes, at, self.dialect, self.record_bytes, false, |_| ()) {
                Walked::Record { next, .. } => at = next,
                Walked::Unclosed => match memchr(b'\n', &bytes[at..]) {
                    Some(newline) => at += newline + 1,
                    None => return at,
                },
                Walked::Incomplete => return at,
            }
        }
    }
}

/// The header of a file and where each of its columns goes.
#[derive(Debug)]
pub(super) struct Header {
    record: Bytes,
    names: Arc<[String]>,
    targets: Vec<Target>,
}

#[derive(Debug, Default)]
struct Target {
    /// Index of the output column.
    column: Option<usize>,
    /// `"name":`, if the field goes to `properties`.
    key: Option<String>,
    /// The plan's node by which it is filtered there.
    filter: Option<usize>,
}

impl Header {
    /// Takes the header off the file's first records; none if there are only blank lines.
    pub fn take(block: &mut Block, dialect: CsvDialect, plan: &Plan, limits: &Limits) -> Result<Option<Self>, Damage> {
        let bytes = block.bytes.clone();
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if blank == bytes.len() {
            return Ok(None);
        }
        let mut fields = Vec::new();
        let walked = walk(&bytes, blank, dialect, limits.line_bytes, true, |field| fields.push(field));
        let Walked::Record { end, next } = walked else {
            return Err(Damage::file("csv_header", "a quote in the header does not close"));
        };
        let mut names = Vec::with_capacity(fields.len());
        for field in &fields {
            let Ok(text) = std::str::from_utf8(&bytes[field.start..field.end]) else {
                return Err(Damage::file("csv_header", "the header is not UTF-8"));
            };
            names.push(field.text(text, dialect.quote).into_owned());
        }
        refuse_names(&names, dialect, plan)?;
        let lines = memchr_iter(b'\n', &bytes[..next]).count() as u64;
        block.bytes = bytes.slice(next..);
        block.first_line += lines;
        let targets = names.iter().map(|name| Target::new(name, plan)).collect();
        Ok(Some(Self { record: bytes.slice(blank..end), names: names.into(), targets }))
    }

    /// How the records below it are written.
    pub fn syntax(&self, dialect: CsvDialect) -> Syntax {
        Syntax::Csv { names: Arc::clone(&self.names), header: self.record.clone(), dialect }
    }
}

impl Target {
    fn new(name: &str, plan: &Plan) -> Self {
        let column = plan.columns.iter().position(|column| column.name == name);
        let member = plan.find_withheld(0, name);
        let is_copied = plan.properties && !member.is_some_and(|member| member.taken || member.dropped);
        let key = is_copied.then(|| {
            let mut key = String::new();
            push_json_string(name, &mut key);
            key.push(':');
            key
        });
        let filter = member.and_then(|member| member.node).filter(|node| plan.nodes[*node].drops);
        Self { column, key, filter }
    }
}

fn refuse_names(names: &[String], dialect: CsvDialect, plan: &Plan) -> Result<(), Damage> {
    if let [only] = names {
        let is_requested = plan.columns.iter().any(|column| column.name == *only);
        let others = [';', '\t', ',', '|'].into_iter().filter(|other| *other != char::from(dialect.delimiter));
        if let Some(other) = others.into_iter().find(|other| !is_requested && only.contains(*other)) {
            let expected = char::from(dialect.delimiter);
            let detail = format!("one column is found with delimiter {expected:?}; the header holds {other:?}");
            return Err(Damage::file("csv_delimiter", detail));
        }
    }
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(Damage::file("csv_header", format!("column {} has no name", index + 1)));
        }
        if names[..index].contains(name) {
            // not by its name: without a header it is a value
            return Err(Damage::file("csv_header", format!("column {} has the name of another", index + 1)));
        }
    }
    if !plan.columns.is_empty() && !names.iter().any(|name| plan.columns.iter().any(|column| column.name == *name)) {
        return Err(Damage::file("csv_header", "the first line names no column of the mapping"));
    }
    Ok(())
}

/// Decodes one block of records.
pub(super) fn decode(
    block: Block,
    header: &Header,
    dialect: CsvDialect,
    plan: &Plan,
    limits: &Limits,
) -> Result<Decoded> {
    let bytes = &block.bytes;
    let all_text = std::str::from_utf8(bytes).ok();
    let has_nul = memchr(0, bytes).is_some();
    let has_quote = memchr(dialect.quote, bytes).is_some();
    let mut rows = Rows::new(header, plan, limits, block.lines + 1);
    let mut records = Vec::with_capacity(block.lines + 1);
    let mut rejected = Vec::new();
    let mut blank_lines = 0;
    let mut fields: Vec<Field> = Vec::with_capacity(header.targets.len());
    let mut at = 0;
    let mut line = block.first_line;
    while at < bytes.len() {
        fields.clear();
        let walked = walk(bytes, at, dialect, limits.line_bytes, true, |field| fields.push(field));
        let (start, number) = (at, line);
        let Walked::Record { end, next } = walked else {
            let end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |newline| at + newline);
            rejected.push(match end - at > limits.line_bytes {
                true => too_long(&bytes[at..end], number, limits),
                false => {
                    Rejected::record(number, "csv_quote", "a quote is not closed or is misplaced", &bytes[at..end])
                }
            });
            at = end + 1;
            line += 1;
            continue;
        };
        at = next;
        line += if has_quote { memchr_iter(b'\n', &bytes[start..next]).count() as u64 } else { 1 };
        let record = &bytes[start..end];
        if matches!(record, b"" | b"\r") {
            blank_lines += 1;
            continue;
        }
        let refused = if record.len() > limits.line_bytes {
            rejected.push(too_long(record, number, limits));
            continue;
        } else if without_return(record) == without_return(&header.record) {
            Some(("csv_header", "the header is repeated".to_string()))
        } else if fields.len() != header.targets.len() {
            let detail = format!("expected {} fields, found {}", header.targets.len(), fields.len());
            Some(("csv_columns", detail))
        } else if let Some(nul) = has_nul.then(|| memchr(0, record)).flatten() {
            Some(("nul_byte", format!("NUL byte at byte {nul}")))
        } else {
            let text = match all_text {
                Some(text) => Ok(&text[start..end]),
                None => std::str::from_utf8(record).map_err(invalid_utf8),
            };
            match text {
                Ok(text) => {
                    rows.push(text, start, &fields, dialect.quote);
                    None
                }
                Err(fault) => Some((fault.reason, fault.detail)),
            }
        };
        match refused {
            None => records.push(Record { start: start as u32, end: end as u32, line: number }),
            Some((reason, detail)) => rejected.push(Rejected::record(number, reason, detail, record)),
        }
    }
    let batch = rows.finish(records.len())?;
    Ok(Decoded {
        batch,
        records: Records::Lines { bytes: block.bytes, records },
        rejected,
        blank_lines,
        flags: Vec::new(),
        syntax: header.syntax(dialect),
    })
}

fn without_return(record: &[u8]) -> &[u8] {
    record.strip_suffix(b"\r").unwrap_or(record)
}

/// The columns of a block in the making.
struct Rows<'p> {
    header: &'p Header,
    plan: &'p Plan,
    columns: Vec<Column<'p>>,
    properties: StringBuilder,
    limits: &'p Limits,
    object: String,
}

enum Column<'p> {
    Absent,
    Text(StringBuilder),
    Json(Box<JsonColumn<'p>>),
}

impl<'p> Rows<'p> {
    fn new(header: &'p Header, plan: &'p Plan, limits: &'p Limits, rows: usize) -> Self {
        let is_there = |index: usize| header.targets.iter().any(|target| target.column == Some(index));
        let columns = plan.columns.iter().enumerate().map(|(index, column)| match (&column.layout, &column.inner) {
            _ if !is_there(index) => Column::Absent,
            (_, Some(inner)) => Column::Json(Box::new(JsonColumn::new(inner, limits, rows))),
            (layout, None) => Column::Text(plan.builder(layout.slot(), rows)),
        });
        let room = if plan.properties { rows } else { 0 };
        Self {
            header,
            plan,
            columns: columns.collect(),
            properties: plan.builder(None, room),
            limits,
            object: String::new(),
        }
    }

    /// Appends a record whose text begins at byte `start` of the block.
    fn push(&mut self, record: &str, start: usize, fields: &[Field], quote: u8) {
        self.object.clear();
        for (field, target) in std::iter::zip(fields, &self.header.targets) {
            let raw = &record[field.start - start..field.end - start];
            let text = field.text(raw, quote);
            match target.column.map(|column| &mut self.columns[column]) {
                Some(Column::Text(builder)) if raw.is_empty() => builder.append_null(),
                Some(Column::Text(builder)) => builder.append_value(&*text),
                Some(Column::Json(column)) => column.push(Some(&*text)),
                Some(Column::Absent) | None => {}
            }
            if let Some(key) = target.key.as_ref().filter(|_| !raw.is_empty()) {
                let before = self.object.len();
                self.object.push(if before == 0 { '{' } else { ',' });
                self.object.push_str(key);
                match target.filter {
                    None => push_json_string(&text, &mut self.object),
                    Some(node) => {
                        if !copy_text(&text, node, self.plan, self.limits, &mut self.object) {
                            self.object.truncate(before);
                        }
                    }
                }
            }
        }
        if !self.plan.properties {
            return;
        }
        match self.object.is_empty() {
            true => self.properties.append_null(),
            false => {
                self.object.push('}');
                self.properties.append_value(&self.object);
            }
        }
    }

    fn finish(mut self, rows: usize) -> Result<RecordBatch> {
        let mut fields = Vec::with_capacity(self.columns.len() + 1);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len() + 1);
        for (planned, column) in std::iter::zip(&self.plan.columns, self.columns) {
            let array = match column {
                Column::Absent => arrow::array::new_null_array(&planned.text_type(), rows),
                Column::Text(mut builder) => {
                    self.plan.weigh(planned.layout.slot(), &builder);
                    Arc::new(builder.finish())
                }
                Column::Json(column) => column.finish()?,
            };
            fields.push(ArrowField::new(&planned.name, array.data_type().clone(), true));
            arrays.push(array);
        }
        if self.plan.properties {
            self.plan.weigh(None, &self.properties);
            fields.push(ArrowField::new(PROPERTIES, DataType::Utf8, true));
            arrays.push(Arc::new(self.properties.finish()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
    }
}

/// A field: where its text lies, quotes excluded.
#[derive(Debug, Clone, Copy)]
struct Field {
    start: usize,
    end: usize,
    /// It holds doubled quotes.
    is_doubled: bool,
}

impl Field {
    fn text<'t>(&self, raw: &'t str, quote: u8) -> std::borrow::Cow<'t, str> {
        match self.is_doubled {
            false => raw.into(),
            true => {
                let quote = char::from(quote);
                raw.replace(&format!("{quote}{quote}"), quote.encode_utf8(&mut [0; 4])).into()
            }
        }
    }
}

/// Where the fields of a record lie, without their quotes; of a broken one, what lies between delimiters.
pub fn fields(record: &[u8], dialect: CsvDialect) -> Vec<std::ops::Range<usize>> {
    let mut fields = Vec::new();
    match walk(record, 0, dialect, usize::MAX, true, |field| fields.push(field.start..field.end)) {
        Walked::Record { end, .. } if end == record.len() => fields,
        _ => {
            let mut start = 0;
            let split = record.split(|byte| *byte == dialect.delimiter);
            split
                .map(|field| {
                    let at = start;
                    start += field.len() + 1;
                    let is_edge = |byte: &u8| *byte == dialect.quote || byte.is_ascii_whitespace();
                    let left = field.iter().take_while(|byte| is_edge(byte)).count();
                    let right = field[left..].iter().rev().take_while(|byte| is_edge(byte)).count();
                    at + left..at + field.len() - right
                })
                .collect()
        }
    }
}

enum Walked {
    /// Ends at `end`, its `\n` excluded; the next begins at `next`.
    Record { end: usize, next: usize },
    /// A quote does not close within the record limit, or is followed by text: not a record.
    Unclosed,
    /// The bytes end before the record.
    Incomplete,
}

/// Walks over the record that begins at `start`. `at_end` says that nothing follows the bytes.
#[inline]
fn walk(
    bytes: &[u8],
    start: usize,
    dialect: CsvDialect,
    record_bytes: usize,
    at_end: bool,
    mut field: impl FnMut(Field),
) -> Walked {
    let mut at = start;
    loop {
        if bytes.get(at) == Some(&dialect.quote) {
            let window = bytes.len().min(start + record_bytes);
            let mut is_doubled = false;
            let Some(end) = closing_quote(bytes, at + 1, window, dialect.quote, &mut is_doubled) else {
                return if at_end || window < bytes.len() { Walked::Unclosed } else { Walked::Incomplete };
            };
            if end + 1 == bytes.len() && !at_end {
                return Walked::Incomplete;
            }
            field(Field { start: at + 1, end, is_doubled });
            at = end + 1;
            match bytes.get(at) {
                Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => at += 1,
                Some(b'\r') if at + 1 == bytes.len() => {
                    if !at_end {
                        return Walked::Incomplete;
                    }
                    at += 1;
                }
                _ => {}
            }
        } else {
            let found = memchr2(dialect.delimiter, b'\n', &bytes[at..]).map(|length| at + length);
            let stop = found.unwrap_or(bytes.len());
            if stop - start > record_bytes && memchr(b'\n', &bytes[start..at]).is_some() {
                return Walked::Unclosed;
            }
            if found.is_none() && !at_end {
                return Walked::Incomplete;
            }
            let is_line_end = bytes.get(stop) != Some(&dialect.delimiter);
            let has_return = is_line_end && stop > at && bytes[stop - 1] == b'\r';
            field(Field { start: at, end: stop - usize::from(has_return), is_doubled: false });
            at = stop;
        }
        match bytes.get(at) {
            Some(byte) if *byte == dialect.delimiter => at += 1,
            Some(b'\n') => return Walked::Record { end: at, next: at + 1 },
            None => return Walked::Record { end: at, next: at },
            Some(_) => return Walked::Unclosed,
        }
    }
}

/// The closing quote of a field whose text begins at `at`.
fn closing_quote(bytes: &[u8], mut at: usize, window: usize, quote: u8, is_doubled: &mut bool) -> Option<usize> {
    loop {
        at += memchr(quote, bytes.get(at..window)?)?;
        if bytes.get(at + 1) != Some(&quote) {
            return Some(at);
        }
        *is_doubled = true;
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::sources::{Column as Requested, Request};

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_string).collect()
    }

    fn try_decode(text: &[u8], request: &Request, dialect: CsvDialect) -> Result<Decoded, Damage> {
        let limits = Limits { line_bytes: 1_000, ..Limits::default() };
        let plan = Plan::new(request).unwrap();
        let lines = memchr_iter(b'\n', text).count();
        let mut block = Block { bytes: text.to_vec().into(), first_line: 1, lines };
        let header = Header::take(&mut block, dialect, &plan, &limits)?.expect("the test has a header");
        Ok(decode(block, &header, dialect, &plan, &limits)?)
    }

    fn decoded(text: &[u8]) -> Decoded {
        let request = Request {
            columns: ["a", "b", "missing"].map(Requested::whole).to_vec(),
            properties: true,
            drop_paths: vec![],
        };
        try_decode(text, &request, CsvDialect::default()).unwrap()
    }

    fn rows(decoded: &Decoded) -> Vec<Vec<Option<&str>>> {
        let column = |index: usize| decoded.batch.column(index).as_string::<i32>();
        let columns = 0..decoded.batch.num_columns();
        let cell = |row: usize, index: usize| column(index).is_valid(row).then(|| column(index).value(row));
        (0..decoded.batch.num_rows()).map(|row| columns.clone().map(|index| cell(row, index)).collect()).collect()
    }

    #[test]
    fn fields_are_found_by_name_and_the_rest_becomes_properties() {
        let text = b"c,b,a,d\r\n1,\"x, \"\"y\"\"\",2,\"line\none\"\r\n,,,\n\"\",\"\",z,\"\"\r\n5,6,7,8";
        let decoded = decoded(text);
        assert_eq!(
            rows(&decoded),
            [
                vec![Some("2"), Some("x, \"y\""), None, Some(r#"{"c":"1","d":"line\none"}"#)],
                vec![None, None, None, None],
                vec![Some("z"), None, None, None],
                vec![Some("7"), Some("6"), None, Some(r#"{"c":"5","d":"8"}"#)],
            ]
        );
        assert_eq!(decoded.positions().values(), &[2, 4, 5, 6], "a record has the number of its first line");
        assert_eq!(decoded.record(0).unwrap(), &b"1,\"x, \"\"y\"\"\",2,\"line\none\"\r"[..]);
    }

    #[test]
    fn a_bad_record_costs_itself() {
        let long = "x".repeat(1_001);
        let swallowed = format!("{}\n", "y,z".repeat(10)).repeat(60);
        type Case<'a> = (&'a str, String, &'a [(u64, &'a str, &'a str)]);
        let cases: Vec<Case<'_>> = vec![
            ("fewer and more fields", "1\n1,2,3\n".into(), &[(2, "csv_columns", "1"), (3, "csv_columns", "1,2,3")]),
            ("a repeated header", "1,2\na,b\r\n".into(), &[(3, "csv_header", "a,b\r")]),
            ("text after a quote", "\"x\"y,1\n".into(), &[(2, "csv_quote", "\"x\"y,1")]),
            ("an open quote at the end", "1,2\n1,\"x\n3,4\n".into(), &[(3, "csv_quote", "1,\"x")]),
            ("a NUL", "1,\0\n".into(), &[(2, "nul_byte", "1,\0")]),
            ("no UTF-8", "1,\u{fffd}\n".into(), &[(2, "invalid_utf8", "1,\u{fffd}")]),
        ];
        for (what, body, expected) in cases {
            let mut text = format!("a,b\n{body}8,9\n").into_bytes();
            if what == "no UTF-8" {
                let at = text.windows(3).position(|bytes| bytes == "\u{fffd}".as_bytes()).unwrap();
                text.splice(at..at + 3, [0xe9]);
            }
            let decoded = decoded(&text);
            let found: Vec<_> = decoded.rejected.iter().map(|r| (r.position.unwrap(), r.reason)).collect();
            assert_eq!(found, expected.iter().map(|(line, reason, _)| (*line, *reason)).collect::<Vec<_>>(), "{what}");
            for (rejected, (_, _, record)) in std::iter::zip(&decoded.rejected, expected) {
                let text = String::from_utf8_lossy(&rejected.record);
                assert_eq!(text, *record, "{what}");
            }
            let last = rows(&decoded).last().cloned().unwrap();
            assert_eq!(last[..2], [Some("8"), Some("9")], "{what}: the next record lands");
        }
        let decoded = decoded(format!("a,b\n{long},1\n\n1,\"x\n{swallowed}8,9\n").as_bytes());
        let reasons: Vec<_> = decoded.rejected.iter().map(|r| r.reason).take(3).collect();
        assert_eq!(reasons, ["line_too_long", "csv_quote", "csv_columns"]);
        assert_eq!(decoded.rejected.len(), 62, "an open quote swallows no more than its line");
        assert_eq!(rows(&decoded).len(), 1);
        assert_eq!(decoded.blank_lines, 1);
    }

    #[test]
    fn a_header_that_names_no_columns_refuses_the_file() {
        let request = Request { columns: vec![Requested::whole("a")], properties: true, drop_paths: vec![] };
        let cases = [
            ("a,b,a\n", "csv_header: column 3 has the name of another"),
            ("a,,b\n", "csv_header: column 2 has no name"),
            ("a,\"b\n1,2\n", "csv_header: a quote in the header does not close"),
            ("a;b\n1;2\n", "csv_delimiter: one column is found with delimiter ','; the header holds ';'"),
            ("a\tb\n", "csv_delimiter: one column is found with delimiter ','; the header holds '\\t'"),
        ];
        for (text, expected) in cases {
            let damage = try_decode(text.as_bytes(), &request, CsvDialect::default()).unwrap_err();
            assert_eq!(damage.to_string(), expected);
        }
    }

    #[test]
    fn delimiter_and_quote_can_be_chosen() {
        let request = Request { columns: vec![Requested::whole("b")], properties: false, drop_paths: vec![] };
        let dialect = CsvDialect { delimiter: b';', quote: b'\'' };
        let decoded = try_decode(b"a;b\n1;'x;''y'''\n\"2;3\n", &request, dialect).unwrap();
        assert_eq!(rows(&decoded), [vec![Some("x;'y'")], vec![Some("3")]]);
    }

    #[test]
    fn json_in_a_field_is_read_by_paths_and_filtered() {
        let request = Request {
            columns: vec![Requested::paths("p", [path("x.y"), path("z")])],
            properties: true,
            drop_paths: vec![path("p.email"), path("c")],
        };
        let text = "p,c\n\"{\"\"x\"\":{\"\"y\"\":1},\"\"email\"\":\"\"e\"\"}\",1\nplain,2\n{broken,3\n,4\n";
        let decoded = try_decode(text.as_bytes(), &request, CsvDialect::default()).unwrap();
        let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
        writer.write(&decoded.batch).unwrap();
        let expected = concat!(
            r#"{"p":{"x":{"y":"1"}},"properties":"{\"p\":{\"x\":{\"y\":1}}}"}"#,
            "\n",
            r#"{"properties":"{\"p\":\"plain\"}"}"#,
            "\n{}\n{}\n"
        );
        assert_eq!(String::from_utf8(writer.into_inner()).unwrap(), expected);
    }

    #[test]
    fn well_formed_records_read_as_the_csv_crate_reads_them() {
        use proptest::prelude::*;
        let field = "[a-z,\"\r\n é]{0,6}";
        let records = proptest::collection::vec([field, field, field], 0..20);
        proptest!(ProptestConfig::with_cases(500), |(records in records, always in any::<bool>())| {
            let style = if always { ::csv::QuoteStyle::Always } else { ::csv::QuoteStyle::Necessary };
            let mut writer = ::csv::WriterBuilder::new().quote_style(style).from_writer(Vec::new());
            writer.write_record(["a", "b", "missing"]).unwrap();
            for record in &records {
                writer.write_record(record).unwrap();
            }
            let text = writer.into_inner().unwrap();
            let decoded = decoded(&text);
            let text_of = |text: &String| (!text.is_empty()).then(|| text.clone());
            let expected: Vec<Vec<Option<String>>> =
                records.iter().map(|record| record.iter().map(text_of).chain([None]).collect()).collect();
            let found: Vec<Vec<Option<String>>> =
                rows(&decoded).into_iter().map(|row| row.into_iter().map(|cell| cell.map(str::to_string)).collect()).collect();
            prop_assert_eq!(found, expected);
        });
    }
}
