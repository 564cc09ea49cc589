//! Reason codes: why a record or file was refused, passed over or flagged, in words, with the remedy.
//!
//! Codes are a contract with those who read `dead_letters`: a new one is added, none is renamed. Every code that sources
//! and landing use stands here, and none else; a test holds the list against the code, and `pipeline/docs/bad-input.md` is
//! written from it.

/// What a code says of its record or file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The record is a dead letter; the others of its file land.
    Record,
    /// The whole file is one dead letter; other files land.
    File,
    /// The file is left alone, is no dead letter, and is looked at again by every run.
    PassedOver,
    /// It lands, and the flag is counted in the ledger entry of its batch.
    Flag,
}

impl Fate {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Record => "the record becomes a dead letter; the rest of its file lands",
            Self::File => "the whole file becomes one dead letter; other files land",
            Self::PassedOver => "the file is left alone with a warning; the next run looks at it again",
            Self::Flag => "it lands; the oddity is counted",
        }
    }
}

/// One code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    /// The code, as in `dead_letters.reason`.
    pub code: &'static str,
    /// What becomes of what it is said of. One code may be said of records and of files; then the more usual one.
    pub fate: Fate,
    /// What was found.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The code's words; none for a word that is no reason code.
pub fn reason(code: &str) -> Option<&'static Reason> {
    REASONS.iter().find(|reason| reason.code == code)
}

const fn of(fate: Fate, code: &'static str, meaning: &'static str, remedy: &'static str) -> Reason {
    Reason { code, fate, meaning, remedy }
}

use Fate::{File, Flag, PassedOver, Record};

/// All codes: of text, of values, of files, of names, of what is only flagged.
#[rustfmt::skip]
pub const REASONS: &[Reason] = &[
    of(Record, "json_syntax", "the line is no JSON as RFC 8259 has it: no comments, no single quotes, no trailing commas, no NaN",
        "mend the writer; one record is one line, so pretty-printed JSON must be written on one"),
    of(Record, "json_truncated", "the file ends within the record",
        "deliver the whole file under a new name, or write files elsewhere and move them into place when they are complete"),
    of(Record, "json_trailing_data", "something follows the object on its line, such as a second object",
        "write each record on a line of its own"),
    of(Record, "not_object", "the line is a JSON array, text, number or null, not an object",
        "write objects; unpack an array into a line for each element"),
    of(Record, "dup_key_conflict", "a key stands twice in one object with different values, and no rule says which is meant",
        "mend the writer so that each key is written once"),
    of(Record, "dup_key_folded", "two keys that differ in case alone are there, and the mapping reads one of them",
        "write the key in one spelling"),
    of(Record, "too_deep", "objects and arrays are nested more than 32 deep",
        "flatten the record; send large documents elsewhere and a reference here"),
    of(Record, "too_many_keys", "one object has more than 1000 keys",
        "ids used as keys belong into values: write a list of objects instead"),
    of(Record, "key_too_long", "a key has more than 1024 bytes",
        "mend the writer; such a key is nearly always a value in the wrong place"),
    of(Record, "line_too_long", "the record has more bytes than [landing] max_record_bytes; its first 64 KiB and the sha256 of all of it are kept",
        "raise max_record_bytes, then `wayline replay --reason line_too_long` reads it from its file again"),
    of(Record, "number_range", "a number is beyond what a float can hold, such as 1e999",
        "mend the writer; text that looks like a number belongs into quotes"),
    of(Record, "number_too_long", "a number has more than 64 digits",
        "write it as text"),
    of(Record, "invalid_utf8", "the bytes are not UTF-8",
        "have the source write UTF-8; a file in Latin-1 can be converted with iconv"),
    of(Record, "invalid_unicode", "an escape stands for half of a character: a lone surrogate such as \\ud800",
        "mend the writer; it cuts text in the middle of a character"),
    of(Record, "nul_byte", "the record holds a NUL byte or \\u0000",
        "mend the writer; some disks leave NULs after a crash"),
    of(Record, "csv_quote", "a quote is not closed, or text follows a closing quote; only that line is taken for broken",
        "quote as RFC 4180 says: a quote within a quoted field is doubled"),
    of(Record, "csv_columns", "the record has more or fewer fields than the header",
        "quote fields that hold the delimiter or line ends"),
    of(File, "csv_header", "the header names no column of the mapping, a name stands twice or is missing; of a record: the header comes again",
        "write one header line with unique names; where the mapping was wrong, mend it and `wayline replay`"),
    of(File, "csv_delimiter", "the header is one column that holds another delimiter",
        "set `delimiter` of the source, then `wayline replay --reason csv_delimiter`"),

    of(Record, "missing_field", "a required column (occurred_at, touchpoint, channel) is missing, null or empty; the detail says which",
        "mend the source, or give a default in the mapping: coalesce(column, 'value'); then `wayline replay`"),
    of(Record, "type_mismatch", "a value that must be a number is none, or does not fit 14 digits before and 4 after the point",
        "convert it in the mapping, such as replace(price, ',', ''); then `wayline replay`"),
    of(Record, "expression_failed", "an expression of the mapping fails on this record",
        "use try_cast or a case expression in the mapping; then `wayline replay`"),
    of(Record, "field_too_long", "a touchpoint, channel or other name has more than 1024 bytes",
        "shorten it in the mapping, such as left(event, 200); then `wayline replay`"),
    of(Record, "unknown_word", "direction is neither inbound nor outbound, or score_kind none of csat, ces, nps",
        "translate it in the mapping with a case expression; then `wayline replay`"),
    of(Record, "ts_invalid", "the time is no instant of the calendar, or not written as 2025-01-31T09:00:00Z",
        "convert it in the mapping, such as to_timestamp(ts, '%d.%m.%Y %H:%M'); then `wayline replay`"),
    of(Record, "ts_range", "the time lies before 1970-01-02 or after 2099-12-31",
        "mend the source's clock; the record cannot be placed"),
    of(Record, "ts_sentinel", "the time is one that stands for none: 0, -1, 0000-00-00 00:00:00",
        "leave the record out at the source, or take another column in the mapping"),
    of(Record, "ts_unit", "the time is a number and the source names no unit, or the number gives no likely time in it",
        "set `time_unit` of the source to s, ms or us; where units are mixed convert them in the mapping; then `wayline replay`"),
    of(Record, "tz_invalid", "the time names no offset, or none that is one: Z or +02:00, at most 14 hours",
        "set `time_offset` of the source if all its times have one; zone names must be converted in the mapping"),

    of(File, "decompress_ratio", "a compressed file expands to more than 200 times its size and 64 MiB",
        "look at the file: it may be made to fill the memory. Uncompressed it lands"),
    of(File, "nested_archive", "the file is an archive within a compressed file",
        "compress once; unpack tar and zip before they are delivered"),
    of(File, "gzip_truncated", "the gzip file ends before its trailer",
        "deliver it again; it is taken as soon as it looks otherwise"),
    of(File, "gzip_crc", "the gzip file is damaged: its checksum does not fit",
        "deliver it again; it is taken as soon as it looks otherwise"),
    of(File, "gzip_trailing", "something that is no gzip follows the last gzip member",
        "deliver it again without that"),
    of(File, "zstd_truncated", "the zstd file ends within a frame",
        "deliver it again; it is taken as soon as it looks otherwise"),
    of(File, "zstd_corrupt", "the zstd file is damaged",
        "deliver it again; it is taken as soon as it looks otherwise"),
    of(File, "zstd_trailing", "something that is no zstd follows the last zstd frame",
        "deliver it again without that"),
    of(File, "bad_magic", "the file is not what its name says: HTML, zeros or other binary data",
        "look at the download: a page that tells of an error is often kept as the file"),
    of(File, "wrong_encoding", "the file is UTF-16",
        "convert it to UTF-8: iconv -f UTF-16 -t UTF-8"),
    of(File, "file_too_large", "the stored file has more than 100 GiB",
        "divide it; a sparse file counts with its apparent size"),
    of(File, "parquet_corrupt", "the Parquet file is damaged or cut short",
        "deliver it again; it is taken as soon as it looks otherwise"),
    of(File, "parquet_encrypted", "the Parquet file is encrypted, and no keys are asked for",
        "write it without encryption"),
    of(File, "parquet_limits", "the Parquet file claims more values, text or footer than a file of its size should",
        "look at the file: it may be made to fill the memory. Else write smaller row groups"),
    of(File, "parquet_schema", "two columns have one name, columns are nested too deep or too many, or one has a type that JSON cannot tell",
        "rename, flatten or leave out the columns that the detail names"),
    of(File, "schema_conflict", "the mapping cannot read a column of the type that it has in this file",
        "cast in the mapping so that it takes both types, then `wayline replay --reason schema_conflict`"),

    of(PassedOver, "symlink", "a symbolic link; links are not followed, since they lead out of the folder",
        "copy or move the file itself into the folder"),
    of(PassedOver, "not_regular", "a folder, pipe, socket or device that has the name of a file",
        "move it away"),
    of(PassedOver, "hidden_by_store", "the name ends in # and digits, which is kept for partial writes and hidden by the store's own list",
        "rename the file"),
    of(PassedOver, "name_not_utf8", "the name is not UTF-8",
        "rename the file"),
    of(PassedOver, "permission", "the file or folder may not be read",
        "let the job's user read it"),
    of(PassedOver, "unknown_format", "the name tells no format",
        "name it .jsonl, .csv or .parquet, or set `format` of the source"),
    of(PassedOver, "unsealed", "the file grew or shrank while it was read",
        "nothing, if it is still being written; better, write it elsewhere and move it into place"),
    of(PassedOver, "source_gone", "the file was listed and is no longer there",
        "nothing, if it was meant to go; else deliver it again"),

    of(Flag, "bom_stripped", "a byte order mark of UTF-8 began the file; it is no part of the data",
        "nothing"),
    of(Flag, "blank_line", "lines without a record; they are not counted as rows",
        "nothing"),
    of(Flag, "dup_key_same", "a key stands twice in one object with the same value; it is read once",
        "mend the writer"),
    of(Flag, "empty_file", "the file has no bytes",
        "nothing, if the source had nothing to say"),
    of(Flag, "ext_mismatch", "the name tells another compression than the bytes; the bytes are believed",
        "rename the file"),
    of(Flag, "name_collision", "names of files that differ in case alone; both are taken, and a copy to another disk may lose one",
        "rename one"),
    of(Flag, "derived_id", "records that bring no event_id; theirs is derived from source, record and how often it was in the file",
        "nothing; with an id of its own, an event is known again also when its record is written differently"),
    of(Flag, "leap_second", "times in a leap second (:60); they count as the last microsecond before it",
        "nothing"),
    of(Flag, "number_rounded", "amounts or scores with more than four digits after the point; they are rounded to four",
        "keep finer amounts in a unit of their own, such as cents, or read them from `properties`"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use regex::Regex;

    use super::*;

    /// Codes that the code of sources and landing gives, told by where they stand.
    fn codes_in_sources() -> BTreeSet<String> {
        let calls = [
            r#"fault\(\s*"([a-z0-9_]+)""#,
            r#"Damage::(?:file|unsettled)\(\s*"([a-z0-9_]+)""#,
            r#"Self::(?:file|unsettled)\(\s*"([a-z0-9_]+)""#,
            r#"reason: "([a-z0-9_]+)""#,
            r#"reason: if [^"]*"([a-z0-9_]+)" \} else"#,
            r#"else \{ "(ts_[a-z0-9_]+)" \}"#,
            r#"let reason = [^;]*?"([a-z0-9]+_[a-z0-9_]+)""#,
            r#"refuse\([^";]*"([a-z0-9_]+)""#,
            r#"Rejected::record\([^";]*"([a-z0-9_]+)""#,
            r#"Some\(\("([a-z0-9]+_[a-z0-9_]+)""#,
            r#"fault\.at_end[^"]*"([a-z0-9_]+)""#,
            r#"=> "(zstd_[a-z]+)""#,
            r#"else \{ "(parquet_[a-z]+)" \}"#,
            r#"flags\.(?:push|insert|entry)\(\(?"([a-z0-9_]+)""#,
            r#"vec!\[\(?"([a-z0-9]+_[a-z0-9_]+)""#,
            r#"\.push\(\("([a-z0-9]+_[a-z0-9_]+)""#,
            r#"refused\.push\(\([^"]*"([a-z0-9_]+)""#,
        ];
        let calls: Vec<Regex> = calls.iter().map(|call| Regex::new(call).unwrap()).collect();
        let mut codes = BTreeSet::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline");
        let mut folders = vec![root.join("sources"), root.join("landing")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("reasons.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                    for call in &calls {
                        codes.extend(call.captures_iter(code).map(|found| found[1].to_string()));
                    }
                }
            }
        }
        codes
    }

    #[test]
    fn every_code_that_is_given_has_its_words_and_none_else() {
        let told: BTreeSet<String> = REASONS.iter().map(|reason| reason.code.to_string()).collect();
        assert_eq!(told.len(), REASONS.len(), "a code stands twice");
        assert_eq!(told, codes_in_sources());
    }

    #[test]
    fn words_are_short_and_without_a_full_stop() {
        for Reason { code, meaning, remedy, .. } in REASONS {
            for words in [meaning, remedy] {
                assert!(!words.ends_with('.') && words.len() < 180, "{code}: {words}");
            }
        }
        assert_eq!(reason("json_syntax").map(|reason| reason.fate), Some(Fate::Record));
        assert_eq!(reason("select"), None);
    }

    /// The codes as a table of the page for users.
    fn page() -> String {
        let mut page = String::new();
        for fate in [Record, File, PassedOver, Flag] {
            page += &format!("### {}\n\n| code | what was found | what to do |\n| --- | --- | --- |\n", title(fate));
            for Reason { code, meaning, remedy, .. } in REASONS.iter().filter(|reason| reason.fate == fate) {
                let escaped = |text: &str| text.replace('|', "\\|");
                page += &format!("| `{code}` | {} | {} |\n", escaped(meaning), escaped(remedy));
            }
            page.push('\n');
        }
        page
    }

    fn title(fate: Fate) -> &'static str {
        match fate {
            Record => "Records: dead letters",
            File => "Files: one dead letter each",
            PassedOver => "Files that are passed over",
            Flag => "Flags: it lands",
        }
    }

    #[test]
    fn the_page_for_users_lists_every_code() {
        const START: &str = "<!-- reasons: written by the tests with UPDATE_README=1 -->\n";
        const END: &str = "<!-- end of reasons -->";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline/docs/bad-input.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(START).expect("the page says where the codes stand");
        let (_, after) = rest.split_once(END).expect("the page says where they end");
        let expected = format!("{before}{START}{}{END}{after}", page());
        if std::env::var_os("UPDATE_README").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        assert_eq!(text, expected, "write it with UPDATE_README=1");
    }
}
