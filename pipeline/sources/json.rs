//! JSON Lines: a block of lines becomes a batch of the requested columns and `properties`.
//!
//! - columns: text, as SQL reads it: strings without quotes and escapes, numbers as written (no digit is lost to a
//!   float), `true`, `false`; objects and arrays as raw JSON; null and absent members are null
//! - `properties`: the members that are not taken whole, raw, in order of appearance, less what must be dropped; null
//!   if there is none
//! - a line that is refused costs that line alone; blank lines are counted

use std::sync::Arc;

use arrow::array::{ArrayRef, NullBufferBuilder, StringBuilder, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use memchr::memchr;

use super::filter::copy_filtered;
use super::limits::Limits;
use super::lines::{Block, Record, too_long};
use super::plan::{Layout, Plan};
use super::scan::{Fault, Kind, Scanner, Span, unescape};
use super::{Decoded, PROPERTIES, Records, Rejected, Syntax};
use crate::error::Result;

/// Decodes one block of lines.
pub(super) fn decode(block: Block, plan: &Plan, limits: &Limits) -> Result<Decoded> {
    // one check of the whole block is faster than one per line, and nearly always enough
    let all_text = std::str::from_utf8(&block.bytes).ok();
    let mut objects = Objects::new(plan, limits, block.lines + 1);
    let mut records = Vec::with_capacity(block.lines + 1);
    let mut rejected = Vec::new();
    let mut blank_lines = 0;
    let mut at = 0;
    let mut number = block.first_line;
    while at < block.bytes.len() {
        let newline = memchr(b'\n', &block.bytes[at..]);
        let end = newline.map_or(block.bytes.len(), |length| at + length);
        let line = &block.bytes[at..end];
        let record = Record { start: at as u32, end: end as u32, line: number };
        if line.len() > limits.line_bytes {
            rejected.push(too_long(line, number, limits));
        } else if line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            blank_lines += 1;
        } else {
            let text = match all_text {
                Some(text) => Ok(&text[at..end]),
                None => std::str::from_utf8(line).map_err(invalid_utf8),
            };
            match text.and_then(|text| objects.push(text)) {
                Ok(()) => records.push(record),
                Err(fault) => {
                    let is_cut = newline.is_none() && fault.at_end;
                    let reason = if is_cut { "json_truncated" } else { fault.reason };
                    rejected.push(Rejected::record(number, reason, fault.detail, line));
                }
            }
        }
        at = end + 1;
        number += 1;
    }
    let duplicates = objects.scanner.duplicates();
    let batch = objects.finish(records.len())?;
    let flags = if duplicates > 0 { vec![("dup_key_same", duplicates)] } else { Vec::new() };
    Ok(Decoded {
        batch,
        records: Records::Lines { bytes: block.bytes, records },
        rejected,
        blank_lines,
        flags,
        syntax: Syntax::Json,
    })
}

/// The fault of bytes that are not UTF-8.
pub(super) fn invalid_utf8(error: std::str::Utf8Error) -> Box<Fault> {
    let detail = format!("not UTF-8 at byte {}", error.valid_up_to());
    Box::new(Fault { reason: "invalid_utf8", detail, at_end: error.error_len().is_none() })
}

/// Builds columns from JSON objects, one row each.
struct Objects<'p> {
    plan: &'p Plan,
    limits: &'p Limits,
    scanner: Scanner<'p>,
    columns: Vec<Texts>,
    properties: StringBuilder,
    scratch: String,
}

impl<'p> Objects<'p> {
    /// Room for about so many rows.
    fn new(plan: &'p Plan, limits: &'p Limits, rows: usize) -> Self {
        let room = if plan.properties { rows } else { 0 };
        Self {
            plan,
            limits,
            scanner: Scanner::new(plan, limits),
            columns: plan.columns.iter().map(|column| Texts::new(&column.layout, plan, rows)).collect(),
            properties: plan.builder(None, room),
            scratch: String::new(),
        }
    }

    /// Appends a row, or nothing if the text is refused.
    fn push(&mut self, text: &str) -> Result<(), Box<Fault>> {
        self.scanner.scan(text)?;
        for column in &mut self.columns {
            column.append(text, &self.scanner, &mut self.scratch);
        }
        if self.plan.properties {
            self.push_properties(text);
        }
        Ok(())
    }

    /// Appends a row of nulls.
    fn push_null(&mut self) {
        self.columns.iter_mut().for_each(Texts::append_null);
        if self.plan.properties {
            self.properties.append_null();
        }
    }

    /// The columns as one batch.
    fn finish(mut self, rows: usize) -> Result<RecordBatch> {
        let mut fields = Vec::with_capacity(self.columns.len() + 1);
        let mut arrays = Vec::with_capacity(self.columns.len() + 1);
        for (planned, column) in std::iter::zip(&self.plan.columns, self.columns) {
            let array = column.finish(self.plan);
            fields.push(Field::new(&planned.name, array.data_type().clone(), true));
            arrays.push(array);
        }
        if self.plan.properties {
            self.plan.weigh(None, &self.properties);
            fields.push(Field::new(PROPERTIES, DataType::Utf8, true));
            arrays.push(Arc::new(self.properties.finish()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
    }

    fn push_properties(&mut self, text: &str) {
        let copied = self.scanner.copied();
        if copied.is_empty() {
            self.properties.append_null();
            return;
        }
        let object = &mut self.scratch;
        object.clear();
        let mut separator = '{';
        for member in copied {
            object.push(separator);
            separator = ',';
            match member.filter {
                None => object.push_str(&text[member.start as usize..member.end as usize]),
                Some(node) => {
                    object.push_str(&text[member.start as usize..member.value as usize]);
                    let value = &text[member.value as usize..member.end as usize];
                    copy_filtered(value, node as usize, self.plan, self.limits, object);
                }
            }
        }
        object.push('}');
        self.properties.append_value(&*object);
    }
}

/// A column of text, or of objects of text.
enum Texts {
    Text { slot: usize, builder: StringBuilder },
    Object { node: usize, names: Vec<String>, members: Vec<Texts>, valid: NullBufferBuilder },
}

impl Texts {
    fn new(layout: &Layout, plan: &Plan, rows: usize) -> Self {
        match layout {
            Layout::Text { slot } => Texts::Text { slot: *slot, builder: plan.builder(Some(*slot), rows) },
            Layout::Object { node, members } => Texts::Object {
                node: *node,
                names: members.iter().map(|(name, _)| name.clone()).collect(),
                members: members.iter().map(|(_, layout)| Texts::new(layout, plan, rows)).collect(),
                valid: NullBufferBuilder::new(rows),
            },
        }
    }

    /// Appends what the scanner found in `text`.
    fn append(&mut self, text: &str, scanner: &Scanner, scratch: &mut String) {
        match self {
            Texts::Text { slot, builder } => match scanner.span(*slot) {
                Some(span) => match value_text(text, span, scratch) {
                    Some(value) => builder.append_value(value),
                    None => builder.append_null(),
                },
                None => builder.append_null(),
            },
            Texts::Object { node, members, valid, .. } => {
                valid.append(scanner.is_present(*node));
                for member in members {
                    member.append(text, scanner, scratch);
                }
            }
        }
    }

    /// Appends a null; an object's members are null with it.
    fn append_null(&mut self) {
        match self {
            Texts::Text { builder, .. } => builder.append_null(),
            Texts::Object { members, valid, .. } => {
                valid.append_null();
                members.iter_mut().for_each(Texts::append_null);
            }
        }
    }

    /// The column.
    fn finish(self, plan: &Plan) -> ArrayRef {
        match self {
            Texts::Text { slot, mut builder } => {
                plan.weigh(Some(slot), &builder);
                Arc::new(builder.finish())
            }
            Texts::Object { names, members, mut valid, .. } => {
                let arrays: Vec<ArrayRef> = members.into_iter().map(|member| member.finish(plan)).collect();
                let fields: Fields = std::iter::zip(names, &arrays)
                    .map(|(name, array)| Field::new(name, array.data_type().clone(), true))
                    .collect();
                Arc::new(StructArray::new(fields, arrays, valid.finish()))
            }
        }
    }
}

/// A value as SQL text; null has none.
fn value_text<'t>(text: &'t str, span: Span, scratch: &'t mut String) -> Option<&'t str> {
    let (start, end) = (span.start as usize, span.end as usize);
    match span.kind {
        Kind::Null => None,
        Kind::Text => Some(&text[start + 1..end - 1]),
        Kind::EscapedText => {
            scratch.clear();
            unescape(&text[start + 1..end - 1], scratch);
            Some(scratch)
        }
        Kind::Number | Kind::True | Kind::False | Kind::Object | Kind::Array => Some(&text[start..end]),
    }
}

/// A column of JSON text, read by paths: objects become rows of their members, all else is null.
pub(super) struct JsonColumn<'p> {
    objects: Objects<'p>,
    valid: NullBufferBuilder,
}

impl<'p> JsonColumn<'p> {
    /// `plan` is the column's inner plan.
    pub fn new(plan: &'p Plan, limits: &'p Limits, rows: usize) -> Self {
        Self { objects: Objects::new(plan, limits, rows), valid: NullBufferBuilder::new(rows) }
    }

    /// Appends a row.
    pub fn push(&mut self, text: Option<&str>) {
        let is_object = text.is_some_and(|text| self.objects.push(text).is_ok());
        if !is_object {
            self.objects.push_null();
        }
        self.valid.append(is_object);
    }

    /// The column as a struct of its members.
    pub fn finish(mut self) -> Result<ArrayRef> {
        let (schema, members, _) = self.objects.finish(self.valid.len())?.into_parts();
        Ok(Arc::new(StructArray::new(schema.fields().clone(), members, self.valid.finish())))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::sources::{Column, Request};

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_string).collect()
    }

    fn decoded(text: &[u8], request: &Request, limits: &Limits) -> Decoded {
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        let block = Block { bytes: text.to_vec().into(), first_line: 1, lines };
        decode(block, &Plan::new(request).unwrap(), limits).unwrap()
    }

    fn request(columns: Vec<Column>) -> Request {
        Request { columns, properties: true, drop_paths: vec![] }
    }

    /// What becomes of a line: its reason, or `lands`, or `blank`.
    fn fate(line: &[u8]) -> (&'static str, String) {
        let limits = Limits { line_bytes: 64 << 10, ..Limits::default() };
        let decoded = decoded(line, &request(vec![Column::whole("id"), Column::whole("user_id")]), &limits);
        match (decoded.batch.num_rows(), &decoded.rejected[..], decoded.blank_lines) {
            (1, [], 0) => ("lands", String::new()),
            (0, [], 1) => ("blank", String::new()),
            (0, [rejected], 0) => (rejected.reason, rejected.detail.clone()),
            other => panic!("one line must have one fate, not {other:?}"),
        }
    }

    #[test]
    fn each_line_has_the_fate_of_the_catalogue() {
        let nested = |depth: usize| format!("{}1{}\n", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        let arrays = |depth: usize| format!("{{\"a\":{}{}}}\n", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let keys = |count: usize| {
            let members: Vec<String> = (0..count).map(|key| format!("\"k{key}\":1")).collect();
            format!("{{\"a\":{{{}}}}}\n", members.join(","))
        };
        let sized = |size: usize| format!("{{\"a\":\"{}\"}}\n", "x".repeat(size - 8));
        let key = |size: usize| format!("{{\"{}\":1}}\n", "k".repeat(size));
        let digits = |count: usize| format!("{{\"a\":{}}}\n", "9".repeat(count));
        let cases: Vec<(&str, Vec<u8>)> = [
            ("json_syntax", "{\"a\":1\n"),
            ("json_truncated", "{\"a\":1"),
            ("json_truncated", "{\"a\":\"x"),
            ("json_truncated", "{\"a\":tru"),
            ("json_truncated", "{"),
            ("json_syntax", "{\"a\":tr}"),
            ("lands", "{\"a\":1}"),
            ("json_syntax", "{\"a\":1,}\n"),
            ("json_syntax", "{'a':1}\n"),
            ("json_syntax", "{\"a\":1 /* one */}\n"),
            ("json_syntax", "{a:1}\n"),
            ("json_syntax", "{\"a\" 1}\n"),
            ("json_syntax", "{\"a\":}\n"),
            ("json_syntax", "{,}\n"),
            ("json_trailing_data", "{\"a\":1}{\"b\":2}\n"),
            ("json_trailing_data", "{\"a\":1} x\n"),
            ("json_trailing_data", "{\"a\":1},\n"),
            ("not_object", "[{\"a\":1}]\n"),
            ("not_object", "\"text\"\n"),
            ("not_object", " 1 \n"),
            ("not_object", "null\n"),
            ("not_object", "true\n"),
            ("json_syntax", "{\n"),
            ("json_syntax", "  \"a\": 1,\n"),
            ("json_syntax", "}\n"),
            ("blank", "\n"),
            ("blank", " \t \r\n"),
            ("blank", "  "),
            ("lands", "{\"user_id\":1,\"user_id\":1}\n"),
            ("dup_key_conflict", "{\"user_id\":1,\"user_id\":2}\n"),
            ("dup_key_conflict", "{\"user_id\":1,\"user_\\u0069d\":2}\n"),
            ("dup_key_conflict", "{\"a\":{\"x\":1,\"b\":{\"x\":2},\"x\":3}}\n"),
            ("lands", "{\"a\":{\"x\":1},\"b\":{\"x\":2},\"c\":[{\"x\":1},{\"x\":2}]}\n"),
            ("dup_key_folded", "{\"user_id\":1,\"User_ID\":1}\n"),
            ("dup_key_folded", "{\"User_ID\":1,\"USER_ID\":2}\n"),
            ("lands", "{\"User_ID\":1,\"x\":2,\"X\":3}\n"),
            ("json_syntax", "{\"a\":NaN}\n"),
            ("json_syntax", "{\"a\":-Infinity}\n"),
            ("lands", "{\"a\":\"NaN\"}\n"),
            ("number_range", "{\"a\":1e999}\n"),
            ("number_range", "{\"a\":[-1e999]}\n"),
            ("lands", "{\"a\":1e308,\"b\":-0.0,\"c\":1e-400,\"d\":9223372036854775808}\n"),
            ("json_syntax", "{\"a\":01}\n"),
            ("json_syntax", "{\"a\":+1}\n"),
            ("json_syntax", "{\"a\":1.}\n"),
            ("json_syntax", "{\"a\":.5}\n"),
            ("json_syntax", "{\"a\":1e}\n"),
            ("json_syntax", "{\"a\":-}\n"),
            ("json_syntax", "{\"a\":0x10}\n"),
            ("invalid_unicode", "{\"a\":\"\\ud800\"}\n"),
            ("invalid_unicode", "{\"a\":\"\\udc00\"}\n"),
            ("invalid_unicode", "{\"a\":\"\\ud800\\u0041\"}\n"),
            ("invalid_unicode", "{\"\\ud800\":1}\n"),
            ("lands", "{\"a\":\"\\ud83d\\ude00\"}\n"),
            ("nul_byte", "{\"a\":\"x\0y\"}\n"),
            ("nul_byte", "{\"a\":1\0}\n"),
            ("nul_byte", "{\"a\":1}\0\n"),
            ("nul_byte", "\0\n"),
            ("nul_byte", "{\"a\":\"\\u0000\"}\n"),
            ("nul_byte", "{\"a\\u0000\":1}\n"),
            ("json_syntax", "{\"a\":\"\u{1b}[2J\"}\n"),
            ("lands", "{\"a\":\"\\u001b[2J\"}\n"),
            ("lands", "{\"a\":\"\u{202e}\u{2028}\u{7f}\"}\n"),
            ("json_syntax", "{\"a\":\"\\x\"}\n"),
            ("json_syntax", "{\"a\":\"\\u12g4\"}\n"),
            ("json_syntax", "{\"a\":\"tab\t\"}\n"),
            ("lands", "{\"a\":1}\r\n"),
            ("lands", "\r{\r\"a\":\r1}\r\n"),
            ("lands", "{}\n"),
            ("lands", &nested(32)),
            ("too_deep", &nested(33)),
            ("too_deep", &nested(128)),
            ("too_deep", &format!("{{\"a\":{}\n", "[".repeat(60_000))),
            ("lands", &arrays(32)),
            ("too_deep", &arrays(33)),
            ("lands", &keys(1_000)),
            ("too_many_keys", &keys(1_001)),
            ("lands", &key(1_024)),
            ("key_too_long", &key(1_025)),
            ("lands", &sized(64 << 10)),
            ("line_too_long", &sized((64 << 10) + 1)),
            ("lands", &digits(64)),
            ("number_too_long", &digits(65)),
            ("number_too_long", &digits(10_000)),
        ]
        .into_iter()
        .map(|(reason, line)| (reason, line.as_bytes().to_vec()))
        .chain([
            ("invalid_utf8", b"{\"a\":\"caf\xe9\"}\n".to_vec()),
            ("invalid_utf8", b"{\"a\":\"\xc0\x80\"}\n".to_vec()),
            ("invalid_utf8", b"{\"a\":\"\xed\xa0\x80\"}\n".to_vec()),
            ("json_truncated", b"{\"a\":\"\xf0\x9f".to_vec()),
        ])
        .collect();
        for (reason, line) in cases {
            let (found, detail) = fate(&line);
            let shown = String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
            assert_eq!(found, reason, "{shown:?}: {detail}");
        }
    }

    #[test]
    fn a_bad_line_costs_itself_and_keeps_its_bytes_and_place() {
        let text = b"{\"id\":1}\n\nbad\n{\"id\":\"\xff\"}\r\n{\"id\":2}\n";
        let decoded = decoded(text, &request(vec![Column::whole("id")]), &Limits::default());
        assert_eq!(decoded.batch.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(decoded.positions().values(), &[1, 5]);
        assert_eq!(decoded.record(1).unwrap(), "{\"id\":2}");
        assert_eq!(decoded.blank_lines, 1);
        let rejected: Vec<_> =
            decoded.rejected.iter().map(|r| (r.position.unwrap(), r.reason, r.record.to_vec())).collect();
        assert_eq!(
            rejected,
            [(3, "json_syntax", b"bad".to_vec()), (4, "invalid_utf8", b"{\"id\":\"\xff\"}\r".to_vec())]
        );
    }

    /// Each row as JSON, for comparison.
    fn rows(decoded: &Decoded) -> Vec<String> {
        let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
        writer.write(&decoded.batch).unwrap();
        let text = String::from_utf8(writer.into_inner()).unwrap();
        text.lines().map(str::to_string).collect()
    }

    #[test]
    fn values_are_text_as_sql_reads_it() {
        let columns = ["s", "n", "t", "z", "o", "missing"].map(Column::whole).to_vec();
        let line = r#"{"s":"a\"\\\/\b\f\n\r\té😀","n":12345678901234567890.10,"t":true,"z":null,"o":{"a": [1]}}"#;
        let decoded = decoded(line.as_bytes(), &request(columns), &Limits::default());
        let column = |index: usize| decoded.batch.column(index).as_string::<i32>();
        assert_eq!(column(0).value(0), "a\"\\/\u{8}\u{c}\n\r\té😀");
        assert_eq!(column(1).value(0), "12345678901234567890.10");
        assert_eq!(column(2).value(0), "true");
        assert!(column(3).is_null(0));
        assert_eq!(column(4).value(0), r#"{"a": [1]}"#);
        assert!(column(5).is_null(0));
        assert!(column(6).is_null(0), "no member is left for properties");
    }

    #[test]
    fn properties_keep_what_is_not_taken_whole_in_order_and_raw() {
        let request = Request {
            columns: vec![Column::whole("id"), Column::paths("context", [path("page.url"), path("ip")])],
            properties: true,
            drop_paths: vec![path("email"), path("context.traits.email")],
        };
        let cases = [
            (r#"{"id":1}"#, r#"{"id":"1"}"#),
            (
                r#"{"a": 1, "id":1,"b":{"x":[1, 2]},"c":null}"#,
                r#"{"id":"1","properties":"{\"a\": 1,\"b\":{\"x\":[1, 2]},\"c\":null}"}"#,
            ),
            (
                r#"{"a":1,"b":2,"a":1,"c":3,"email":"x@y","d":4,"e":5}"#,
                r#"{"properties":"{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5}"}"#,
            ),
            (
                r#"{"context":{"page":{"url":"/a","title":"A"},"ip":7},"z":1}"#,
                r#"{"context":{"page":{"url":"/a"},"ip":"7"},"properties":"{\"context\":{\"page\":{\"url\":\"/a\",\"title\":\"A\"},\"ip\":7},\"z\":1}"}"#,
            ),
            (
                r#"{"context": {"ip":1,"traits":{"email":"x@y","name":"n"} } , "z":[ {} ]}"#,
                r#"{"context":{"ip":"1"},"properties":"{\"context\": {\"ip\":1,\"traits\":{\"name\":\"n\"}},\"z\":[ {} ]}"}"#,
            ),
            (
                r#"{"context":{"traits":[{"em\u0061il":"x@y"},{"email":1,"b":"}"}]}}"#,
                r#"{"context":{},"properties":"{\"context\":{\"traits\":[{},{\"b\":\"}\"}]}}"}"#,
            ),
            (
                r#"{"context":{"traits":"{\"email\":\"x@y\",\"b\":2}"}}"#,
                r#"{"context":{},"properties":"{\"context\":{\"traits\":{\"b\":2}}}"}"#,
            ),
            (
                r#"{"context":{"traits":"{\"email\":\"x@y\""}}"#,
                r#"{"context":{},"properties":"{\"context\":{\"traits\":null}}"}"#,
            ),
            (r#"{"context":"none"}"#, r#"{"properties":"{\"context\":\"none\"}"}"#),
            (r#"{"context":{"page":[1]}}"#, r#"{"context":{},"properties":"{\"context\":{\"page\":[1]}}"}"#),
            (r#"{"email":"x@y"}"#, r#"{}"#),
        ];
        for (line, expected) in cases {
            let decoded = decoded(line.as_bytes(), &request, &Limits::default());
            assert_eq!(rows(&decoded), [expected], "{line}");
        }
        let all: Vec<u8> = cases.iter().flat_map(|(line, _)| [line.as_bytes(), b"\n"].concat()).collect();
        let expected: Vec<_> = cases.iter().map(|(_, expected)| expected.to_string()).collect();
        let decoded = decoded(&all, &request, &Limits::default());
        assert_eq!(rows(&decoded), expected, "records do not leak into one another");
        assert_eq!(decoded.flags, [("dup_key_same", 1)]);
    }

    #[test]
    fn a_batch_without_columns_still_counts_its_rows() {
        let request = Request { columns: vec![], properties: false, drop_paths: vec![] };
        assert_eq!(decoded(b"{}\n{}\n", &request, &Limits::default()).batch.num_rows(), 2);
    }
}
