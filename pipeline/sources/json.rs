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

use super::limits::Limits;
use super::lines::{Block, Record, too_long};
use super::plan::{Layout, Plan};
use super::scan::{Fault, Kind, Scanner, Span, unescape};
use super::{Decoded, PROPERTIES, Records, Rejected};
use crate::error::Result;

/// Decodes one block of lines.
pub(super) fn decode(block: Block, plan: &Plan, limits: &Limits) -> Result<Decoded> {
    // one check of the whole block is faster than one per line, and nearly always enough
    let all_text = std::str::from_utf8(&block.bytes).ok();
    let mut objects = Objects::new(plan, limits);
    let mut records = Vec::with_capacity(block.bytes.len() / 256);
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
    Ok(Decoded { batch, records: Records::Lines { bytes: block.bytes, records }, rejected, blank_lines, flags })
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
    fn new(plan: &'p Plan, limits: &'p Limits) -> Self {
        Self {
            plan,
            limits,
            scanner: Scanner::new(plan, limits),
            columns: plan.columns.iter().map(|column| Texts::new(&column.layout)).collect(),
            properties: StringBuilder::new(),
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
            let array = column.finish();
            fields.push(Field::new(&planned.name, array.data_type().clone(), true));
            arrays.push(array);
        }
        if self.plan.properties {
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
    fn new(layout: &Layout) -> Self {
        match layout {
            Layout::Text { slot } => Texts::Text { slot: *slot, builder: StringBuilder::new() },
            Layout::Object { node, members } => Texts::Object {
                node: *node,
                names: members.iter().map(|(name, _)| name.clone()).collect(),
                members: members.iter().map(|(_, layout)| Texts::new(layout)).collect(),
                valid: NullBufferBuilder::new(0),
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
    fn finish(self) -> ArrayRef {
        match self {
            Texts::Text { mut builder, .. } => Arc::new(builder.finish()),
            Texts::Object { names, members, mut valid, .. } => {
                let arrays: Vec<ArrayRef> = members.into_iter().map(Texts::finish).collect();
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
    pub fn new(plan: &'p Plan, limits: &'p Limits) -> Self {
        Self { objects: Objects::new(plan, limits), valid: NullBufferBuilder::new(0) }
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

/// Copies text that may hold JSON into `properties`, less what the node drops: JSON as JSON, plain text as a string.
/// False, and nothing, if it looks like JSON that cannot be read: what must be dropped could hide in it.
pub(super) fn copy_text(text: &str, node: usize, plan: &Plan, limits: &Limits, out: &mut String) -> bool {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if !text.starts_with(['{', '[']) {
        push_json_string(text, out);
        return true;
    }
    let is_json = match Scanner::new(plan, limits).scan(text) {
        Ok(()) => true,
        Err(fault) => fault.reason == "not_object",
    };
    if is_json {
        copy_filtered(text, node, plan, limits, out);
    }
    is_json
}

/// Appends text as a JSON string.
pub(super) fn push_json_string(text: &str, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        match escape {
            "" => write!(out, "\\u{byte:04x}").expect("a string takes all text"),
            escape => out.push_str(escape),
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Appends a validated value without the members that the node drops.
///
/// Objects in arrays, and objects written as JSON text, are filtered like the object that was expected.
pub(super) fn copy_filtered(value: &str, node: usize, plan: &Plan, limits: &Limits, out: &mut String) {
    Walk { text: value, at: 0, plan, limits }.copy(node, out);
}

/// Walks over JSON that the scanner has validated.
struct Walk<'t> {
    text: &'t str,
    at: usize,
    plan: &'t Plan,
    limits: &'t Limits,
}

impl<'t> Walk<'t> {
    fn copy(&mut self, node: usize, out: &mut String) {
        match self.peek() {
            b'{' => self.copy_object(node, out),
            b'[' => self.copy_array(node, out),
            b'"' => {
                let value = self.skip();
                let mut text = String::new();
                unescape(&value[1..value.len() - 1], &mut text);
                if !copy_text(&text, node, self.plan, self.limits, out) {
                    out.push_str("null");
                }
            }
            _ => out.push_str(self.skip()),
        }
    }

    fn copy_object(&mut self, node: usize, out: &mut String) {
        self.at += 1;
        out.push('{');
        let mut is_first = true;
        while self.peek() != b'}' {
            let key = self.skip();
            let mut name = String::new();
            unescape(&key[1..key.len() - 1], &mut name);
            self.peek();
            self.at += 1;
            self.peek();
            let member = self.plan.find(node, &name);
            if member.is_some_and(|member| member.dropped) {
                self.skip();
            } else {
                if !is_first {
                    out.push(',');
                }
                is_first = false;
                out.push_str(key);
                out.push(':');
                match member.and_then(|member| member.node).filter(|node| self.plan.nodes[*node].drops) {
                    Some(node) => self.copy(node, out),
                    None => out.push_str(self.skip()),
                }
            }
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        out.push('}');
    }

    fn copy_array(&mut self, node: usize, out: &mut String) {
        self.at += 1;
        out.push('[');
        let mut is_first = true;
        while self.peek() != b']' {
            if !is_first {
                out.push(',');
            }
            is_first = false;
            self.copy(node, out);
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        out.push(']');
    }

    /// The next byte that is not space.
    fn peek(&mut self) -> u8 {
        while matches!(self.text.as_bytes()[self.at], b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.text.as_bytes()[self.at]
    }

    /// Skips the value that begins here and returns it.
    fn skip(&mut self) -> &'t str {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut depth = 0;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    while bytes[self.at] != b'"' {
                        self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
                    }
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') if depth > 0 => depth -= 1,
                // a number or literal ends before what follows it
                None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
            if depth == 0 && matches!(bytes[self.at - 1], b'"' | b'}' | b']') {
                break;
            }
        }
        &self.text[start..self.at]
    }
}
