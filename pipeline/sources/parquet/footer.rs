//! The footer of a Parquet file, looked at before the library reads it.
//!
//! The library builds the schema by recursion and trusts the counts that a file claims. A walk over the footer's bytes,
//! without recursion over the schema and without allocating by claim, refuses what would cost the stack or the memory.
//! Format: <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>, in Thrift's compact
//! protocol.

use std::collections::HashSet;

use super::super::Damage;
use super::super::limits::Limits;

/// Thrift structures in a footer lie about eight deep; more is damage.
const STRUCT_DEPTH: usize = 16;
/// Lists take two levels of a Parquet schema where JSON has one.
const LEVELS_PER_DEPTH: usize = 2;

type Walked<T> = Result<T, Damage>;

/// Checks the footer of a file of `file_bytes` bytes.
pub(super) fn check(footer: &[u8], file_bytes: u64, limits: &Limits) -> Walked<()> {
    let mut walk = Walk { bytes: footer, at: 0 };
    let mut field = 0;
    let mut has_schema = false;
    while let Some(kind) = walk.field(&mut field)? {
        match (field, kind) {
            (2, LIST) => {
                walk.schema(limits)?;
                has_schema = true;
            }
            (3, INTEGER_64) => {
                let rows = walk.zigzag()?;
                let most = limits.parquet_values_slack.saturating_add(limits.parquet_values_per_byte * file_bytes);
                if u64::try_from(rows).map_or(true, |rows| rows > most) {
                    return Err(Damage::file("parquet_limits", format!("{rows} rows in {file_bytes} bytes")));
                }
            }
            (8, STRUCT) => return Err(Damage::file("parquet_encrypted", "columns are encrypted")),
            _ => walk.skip(kind, 0)?,
        }
    }
    match has_schema {
        true => Ok(()),
        false => Err(corrupt("no schema")),
    }
}

const BOOLEANS: std::ops::RangeInclusive<u8> = 1..=2;
const BYTE: u8 = 3;
const INTEGERS: std::ops::RangeInclusive<u8> = 4..=6;
const INTEGER_32: u8 = 5;
const INTEGER_64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// A group of the schema whose members are being read.
struct Group<'b> {
    name: &'b [u8],
    missing: i64,
    names: HashSet<&'b [u8]>,
}

impl<'b> Walk<'b> {
    fn schema(&mut self, limits: &Limits) -> Walked<()> {
        let (count, kind) = self.list()?;
        if kind != STRUCT || count == 0 {
            return Err(corrupt("the schema is not a list of elements"));
        }
        let mut columns = 0;
        let mut groups: Vec<Group> = Vec::new();
        for index in 0..count {
            let (name, children) = self.schema_element()?;
            if let Some(group) = groups.last_mut() {
                group.missing -= 1;
                if !group.names.insert(name) {
                    let path = path_of(&groups, name);
                    return Err(Damage::file("parquet_schema", format!("column `{path}` is named twice")));
                }
            } else if index > 0 {
                return Err(corrupt("elements outside of the schema's tree"));
            }
            if children > 0 || index == 0 {
                groups.push(Group { name, missing: children, names: HashSet::new() });
                if groups.len() > limits.depth * LEVELS_PER_DEPTH {
                    let detail = format!("nested deeper than {}", limits.depth * LEVELS_PER_DEPTH);
                    return Err(Damage::file("parquet_schema", detail));
                }
            } else {
                columns += 1;
                if columns > limits.parquet_columns {
                    let detail = format!("more than {} columns", limits.parquet_columns);
                    return Err(Damage::file("parquet_schema", detail));
                }
                refuse_ambiguous(&groups, name)?;
            }
            while groups.last().is_some_and(|group| group.missing <= 0) {
                groups.pop();
            }
        }
        Ok(())
    }

    fn schema_element(&mut self) -> Walked<(&'b [u8], i64)> {
        let (mut name, mut children, mut field) = (&[][..], 0, 0);
        while let Some(kind) = self.field(&mut field)? {
            match (field, kind) {
                (4, BINARY) => name = self.binary()?,
                (5, INTEGER_32) => children = self.zigzag()?,
                _ => self.skip(kind, 0)?,
            }
        }
        Ok((name, children))
    }

    /// The next field's type, or none at the end of the structure.
    fn field(&mut self, field: &mut i64) -> Walked<Option<u8>> {
        let header = self.byte()?;
        if header == 0 {
            return Ok(None);
        }
        *field = match header >> 4 {
            0 => self.zigzag()?,
            delta => *field + i64::from(delta),
        };
        Ok(Some(header & 0x0f))
    }

    fn list(&mut self) -> Walked<(u64, u8)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Ok((count, header & 0x0f))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Walked<()> {
        if depth > STRUCT_DEPTH {
            return Err(corrupt("nested too deeply"));
        }
        match kind {
            kind if BOOLEANS.contains(&kind) => Ok(()),
            BYTE => self.byte().map(|_| ()),
            kind if INTEGERS.contains(&kind) => self.varint().map(|_| ()),
            DOUBLE => self.advance(8).map(|_| ()),
            BINARY => self.binary().map(|_| ()),
            LIST | SET => {
                let (count, kind) = self.list()?;
                for _ in 0..count {
                    match BOOLEANS.contains(&kind) {
                        true => self.byte().map(|_| ())?,
                        false => self.skip(kind, depth + 1)?,
                    }
                }
                Ok(())
            }
            STRUCT => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            kind => Err(corrupt(format!("a field of unknown type {kind}"))),
        }
    }

    fn binary(&mut self) -> Walked<&'b [u8]> {
        let length = self.varint()?;
        self.advance(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn zigzag(&mut self) -> Walked<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn varint(&mut self) -> Walked<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt("an integer of more than 64 bits"))
    }

    fn byte(&mut self) -> Walked<u8> {
        self.advance(1).map(|bytes| bytes[0])
    }

    fn advance(&mut self, length: usize) -> Walked<&'b [u8]> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| corrupt("it ends too early"))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }
}

/// A dotted name may equal the path of a nested column: then one path has two columns.
fn refuse_ambiguous(groups: &[Group], name: &[u8]) -> Walked<()> {
    let path = path_of(groups, name);
    let top = groups.first().filter(|_| groups.len() > 1);
    match top.is_some_and(|root| root.names.contains(path.as_bytes())) {
        true => Err(Damage::file("parquet_schema", format!("`{path}` is both a name and a path"))),
        false => Ok(()),
    }
}

fn path_of(groups: &[Group], name: &[u8]) -> String {
    let parents = groups.iter().skip(1).map(|group| group.name);
    let names: Vec<_> = parents.chain([name]).map(String::from_utf8_lossy).collect();
    names.join(".")
}

fn corrupt(detail: impl std::fmt::Display) -> Damage {
    Damage::file("parquet_corrupt", format!("the footer is damaged: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    /// A schema element: its name, and how many members follow.
    fn element(name: &str, children: u64) -> Vec<u8> {
        let mut bytes = vec![0x48];
        bytes.extend(varint(name.len() as u64));
        bytes.extend(name.as_bytes());
        if children > 0 {
            bytes.push(0x15);
            bytes.extend(varint(children * 2));
        }
        bytes.push(0);
        bytes
    }

    /// A footer of version 1 with these elements and rows, then further fields.
    fn footer(elements: &[(String, u64)], rows: u64, more: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, 0xfc];
        bytes.extend(varint(elements.len() as u64));
        bytes.extend(elements.iter().flat_map(|(name, children)| element(name, *children)));
        bytes.push(0x16);
        bytes.extend(varint(rows * 2));
        bytes.extend(more);
        bytes.push(0);
        bytes
    }

    fn verdict(footer: &[u8]) -> String {
        match check(footer, 1_000, &Limits::default()) {
            Ok(()) => "sound".to_string(),
            Err(damage) => damage.to_string(),
        }
    }

    fn names(names: &[(&str, u64)]) -> Vec<(String, u64)> {
        names.iter().map(|(name, children)| (name.to_string(), *children)).collect()
    }

    #[test]
    fn what_would_cost_stack_or_memory_is_refused() {
        let wide = |count: u64| {
            let columns = (0..count).map(|column| (format!("c{column}"), 0));
            [("root".to_string(), count)].into_iter().chain(columns).collect::<Vec<_>>()
        };
        let deep = |count: u64| {
            let groups = (0..count).map(|_| ("g".to_string(), 1));
            groups.chain([("leaf".to_string(), 0)]).collect::<Vec<_>>()
        };
        let sound = names(&[("root", 2), ("a", 1), ("b", 0), ("a.c", 0)]);
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (footer(&sound, 10, &[]), "sound"),
            (footer(&wide(10_000), 10, &[]), "sound"),
            (footer(&wide(10_001), 10, &[]), "parquet_schema: more than 10000 columns"),
            (footer(&deep(60), 10, &[]), "sound"),
            (footer(&deep(500_000), 10, &[]), "parquet_schema: nested deeper than 64"),
            (footer(&sound, 1 << 60, &[]), "parquet_limits: 1152921504606846976 rows in 1000 bytes"),
            (footer(&names(&[("root", 2), ("a", 0), ("a", 0)]), 1, &[]), "parquet_schema: column `a` is named twice"),
            (
                footer(&names(&[("root", 1), ("a", 2), ("b", 0), ("b", 0)]), 1, &[]),
                "parquet_schema: column `a.b` is named twice",
            ),
            (
                footer(&names(&[("root", 2), ("a.b", 0), ("a", 1), ("b", 0)]), 1, &[]),
                "parquet_schema: `a.b` is both a name and a path",
            ),
            (footer(&sound, 1, &[0x5c, 0]), "parquet_encrypted: columns are encrypted"),
            (footer(&names(&[("root", 1), ("a", 0), ("b", 0)]), 1, &[]), "parquet_corrupt: "),
            (vec![0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07], "parquet_corrupt: "),
            (vec![0], "parquet_corrupt: the footer is damaged: no schema"),
            (
                [vec![0x1c; 100_000], vec![0; 100_000]].concat(),
                "parquet_corrupt: the footer is damaged: nested too deeply",
            ),
            (vec![], "parquet_corrupt: "),
        ];
        for (footer, expected) in cases {
            let verdict = verdict(&footer);
            assert!(verdict.starts_with(expected), "{verdict}, not {expected}");
        }
    }
}
