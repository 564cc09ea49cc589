//! Cleaning of dead letters: a refused record keeps its form and loses every raw identifier that is pseudonymised.
//!
//! Identifiers are found by the structure of the record: in JSON below the paths, in CSV in the columns, that feed a
//! pseudonymised identifier. They become pseudonyms; what else was read stays as it is, so that the record can be
//! replayed. Where the structure is broken, too much is taken rather than too little: names count wherever they stand,
//! and what looks like an identifier counts as one. A value found so is replaced in the rest of the record and in the
//! letter's detail too.

use std::borrow::Cow;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::columns::ValuePath;
use crate::identifiers::{Pseudonymiser, normalise};
use crate::sources::{CsvDialect, Syntax, csv_fields};

/// Values from this length on are replaced also within other texts; shorter ones would hit what is not theirs.
const TELLING_BYTES: usize = 5;

/// Private values of one record that are replaced wherever they stand. A record with more is not kept: each text is
/// searched for each value.
const MOST_FOUND: usize = 256;

/// Cleans the dead letters of one source.
pub struct Cleaner {
    pseudonymiser: Arc<Pseudonymiser>,
    /// Paths of pseudonymised identifiers, in lower case, with their kinds.
    private: Vec<(String, ValuePath)>,
    /// Paths of times, ids and amounts, in lower case: their digits are no telephone numbers.
    plain: Vec<ValuePath>,
    /// Finds the name of a private value in broken text.
    names: Option<Regex>,
    email: Option<Regex>,
    phone: Option<Regex>,
}

impl Cleaner {
    /// A cleaner for a source: the paths that feed pseudonymised identifiers, with their kinds, and the paths that feed
    /// times, ids and amounts.
    pub fn new(pseudonymiser: Arc<Pseudonymiser>, private: &[(String, ValuePath)], plain: &[ValuePath]) -> Self {
        let folded = |path: &ValuePath| path.iter().map(|name| name.to_lowercase()).collect::<ValuePath>();
        let names: Vec<String> = private.iter().filter_map(|(_, path)| path.last()).map(|n| regex::escape(n)).collect();
        let pattern = |text: &str| RegexBuilder::new(text).case_insensitive(true).build().ok();
        let by_looks = |kind, text| if pseudonymiser.covers(kind) { pattern(text) } else { None };
        Self {
            private: private.iter().map(|(kind, path)| (kind.clone(), folded(path))).collect(),
            plain: plain.iter().map(folded).collect(),
            names: if names.is_empty() {
                None
            } else {
                pattern(&format!(r"(?:^|[^\w])(?:{})(?:$|[^\w])", names.join("|")))
            },
            email: by_looks("email", r#"[^\s"'`<>,;:=(){}\[\]@\\]+@[^\s"'`<>,;:=(){}\[\]@\\]+"#),
            phone: by_looks("phone", r"\+?\b\d[\d ()./-]{5,}\d\b"),
            pseudonymiser,
        }
    }

    /// A record and the detail of its letter without raw identifiers. `is_read` says that the record could be read, and
    /// was refused for what it says.
    pub fn clean(&self, record: &[u8], syntax: &Syntax, is_read: bool, detail: &str) -> (Vec<u8>, String) {
        let mut cleaning = Cleaning { cleaner: self, is_read, found: Vec::new() };
        // The first pass finds the values, the second replaces them also in what stands before.
        cleaning.record(record, syntax);
        cleaning.found.sort_by_key(|found| std::cmp::Reverse(found.value.len()));
        let cleaned = cleaning.record(record, syntax);
        let detail = cleaning.detail(detail);
        if cleaning.found.len() > MOST_FOUND {
            // Whether all of them are gone could only be told at a cost that grows with their square.
            return (Vec::new(), format!("not shown: more than {MOST_FOUND} private values"));
        }
        (cleaned, detail)
    }

    /// The detail of a letter that brings no record.
    pub fn clean_detail(&self, detail: &str) -> String {
        Cleaning { cleaner: self, is_read: false, found: Vec::new() }.detail(detail)
    }

    fn kind_of(&self, path: &[String], is_read: bool) -> Option<&str> {
        let is_private = |private: &ValuePath| {
            path.starts_with(private) || (!is_read && private.last().is_some_and(|name| path.last() == Some(name)))
        };
        self.private.iter().find(|(_, private)| is_private(private)).map(|(kind, _)| kind.as_str())
    }

    fn is_plain(&self, path: &[String], is_read: bool) -> bool {
        self.plain.iter().any(|plain| plain == path || (!is_read && plain.last() == path.last()))
    }
}

/// The cleaning of one record.
struct Cleaning<'c> {
    cleaner: &'c Cleaner,
    is_read: bool,
    /// Raw values that were found, up to one more than [`MOST_FOUND`].
    found: Vec<Found>,
}

/// A raw value and its pseudonym.
struct Found {
    value: String,
    /// In lower case, as far as ASCII goes.
    folded: String,
    token: String,
}

/// Where a value stands.
#[derive(Clone, Default)]
struct Place<'c> {
    /// Names down to it, in lower case.
    path: Vec<String>,
    /// The kind of the identifier that it is.
    private: Option<&'c str>,
    is_plain: bool,
}

impl<'c> Cleaning<'c> {
    fn record(&mut self, record: &[u8], syntax: &Syntax) -> Vec<u8> {
        let mut out = Vec::with_capacity(record.len() + 64);
        match syntax {
            Syntax::Json => self.json(record, &Place::default(), &mut out),
            Syntax::Csv { names, dialect, .. } => self.csv(record, names, *dialect, &mut out),
        }
        out
    }

    fn below(&self, place: &Place<'c>, name: &str) -> Place<'c> {
        let mut path = place.path.clone();
        path.push(name.to_lowercase());
        Place {
            private: place.private.or_else(|| self.cleaner.kind_of(&path, self.is_read)),
            is_plain: self.cleaner.is_plain(&path, self.is_read),
            path,
        }
    }

    /// Walks over JSON, sound or not, that stands at a place.
    fn json(&mut self, text: &[u8], place: &Place<'c>, out: &mut Vec<u8>) {
        // Each open container with the place of its present member; the first is never closed.
        let mut open = vec![(place.clone(), place.clone())];
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            let (container, member) = open.last_mut().expect("the first is never closed");
            match byte {
                b'"' => {
                    let (body, end) = string_at(text, at);
                    let is_key = text[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                    if is_key {
                        *member = self.below(&container.clone(), &unescaped(body));
                    }
                    let whole = &text[at..end];
                    match is_key {
                        true => self.key(whole, body, out),
                        false => self.string(whole, body, member, out),
                    }
                    at = end;
                }
                b'{' | b'[' => {
                    let inner = member.clone();
                    open.push((inner.clone(), inner));
                    out.push(*byte);
                    at += 1;
                }
                b'}' | b']' => {
                    if open.len() > 1
                        && let Some((_, inner)) = open.pop()
                        && let Some((_, outer)) = open.last_mut()
                        && !self.is_read
                    {
                        // A stray bracket may stand where a value begins: it is waited for until the next key.
                        outer.private = outer.private.or(inner.private);
                    }
                    out.push(*byte);
                    at += 1;
                }
                b',' | b':' => {
                    out.push(*byte);
                    at += 1;
                }
                byte if byte.is_ascii_whitespace() => {
                    out.push(*byte);
                    at += 1;
                }
                _ => {
                    let ends = |byte: &u8| b"\",{}[]".contains(byte) || (self.is_read && byte.is_ascii_whitespace());
                    let length = text[at..].iter().position(ends).unwrap_or(text.len() - at);
                    let run = text[at..at + length].trim_ascii_end();
                    self.bare(run, member, out);
                    at += run.len();
                }
            }
        }
    }

    fn key(&mut self, whole: &[u8], body: &[u8], out: &mut Vec<u8>) {
        match self.without_emails(&unescaped(body)) {
            Some(cleaned) => push_json(&cleaned, out),
            None => out.extend_from_slice(whole),
        }
    }

    fn string(&mut self, whole: &[u8], body: &[u8], place: &mut Place<'c>, out: &mut Vec<u8>) {
        let text = unescaped(body);
        if let Some(kind) = place.private {
            match self.pseudonym(kind, &text) {
                Some(token) => push_json(&token, out),
                None => out.extend_from_slice(whole),
            }
            return;
        }
        match self.text(&text, place) {
            Some(cleaned) => push_json(&cleaned, out),
            None => out.extend_from_slice(whole),
        }
    }

    /// A number, a literal, or text without quotes.
    fn bare(&mut self, run: &[u8], place: &mut Place<'c>, out: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(run);
        let is_number = serde_json::from_str::<serde_json::Number>(&text).is_ok();
        if matches!(&*text, "null" | "true" | "false") || (is_number && place.private.is_none()) {
            out.extend_from_slice(run);
        } else if let Some(kind) = place.private {
            match self.pseudonym(kind, &text) {
                Some(token) => push_json(&token, out),
                None => out.extend_from_slice(run),
            }
        } else {
            match self.text(&text, place) {
                Some(cleaned) => out.extend_from_slice(cleaned.as_bytes()),
                None => out.extend_from_slice(run),
            }
        }
    }

    fn csv(&mut self, record: &[u8], names: &[String], dialect: CsvDialect, out: &mut Vec<u8>) {
        let fields = csv_fields(record, dialect);
        let is_whole = fields.len() == names.len();
        self.is_read &= is_whole;
        let quote = char::from(dialect.quote);
        let doubled = format!("{quote}{quote}");
        let mut end = 0;
        for (index, field) in fields.iter().enumerate() {
            out.extend_from_slice(&record[end..field.start]);
            end = field.end;
            let raw = &record[field.clone()];
            let text = String::from_utf8_lossy(raw);
            let is_quoted = field.start > 0 && record[field.start - 1] == dialect.quote;
            let text = if is_quoted { text.replace(&doubled, quote.encode_utf8(&mut [0; 4])) } else { text.into() };
            let mut place = self.column(index, fields.len(), names);
            let cleaned = match place.private {
                _ if names.get(index).is_some_and(|name| is_whole && *name == text) => None,
                Some(kind) => self.pseudonym(kind, &text),
                None => self.text(&text, &mut place),
            };
            match cleaned {
                Some(cleaned) if is_quoted => {
                    out.extend_from_slice(cleaned.replace(quote, &doubled).as_bytes());
                }
                Some(cleaned) => out.extend_from_slice(cleaned.as_bytes()),
                None => out.extend_from_slice(raw),
            }
        }
        out.extend_from_slice(&record[end..]);
    }

    /// The place of a field of CSV. Where there are more or fewer fields than columns, the surplus or the gap may be
    /// anywhere, so a column's value may be in any field from its own to that one counted from the end.
    fn column(&self, index: usize, fields: usize, names: &[String]) -> Place<'c> {
        let Some(name) = names.get(index).or_else(|| names.last()) else {
            // Nobody knows which column is which.
            let private = self.cleaner.private.first().map(|(kind, _)| kind.as_str());
            return Place { private, ..Place::default() };
        };
        let mut place = self.below(&Place::default(), name);
        let shift = fields.abs_diff(names.len());
        if shift > 0 {
            let first = if fields > names.len() { index.saturating_sub(shift) } else { index };
            let last = if fields > names.len() { index } else { index + shift };
            let possible = names.get(first..=last.min(names.len() - 1)).unwrap_or_default();
            let places = possible.iter().map(|name| self.below(&Place::default(), name));
            place.private = places.into_iter().find_map(|place| place.private);
        }
        place
    }

    /// A text that is not private by its place, if something in it must go.
    fn text(&mut self, text: &str, place: &mut Place<'c>) -> Option<String> {
        let json = text.trim();
        let is_deeper = |path: &ValuePath| path.len() > place.path.len() && path.starts_with(&place.path);
        let may_hold = !self.is_read || self.cleaner.private.iter().any(|(_, path)| is_deeper(path));
        if json.starts_with(['{', '[']) && may_hold {
            let mut out = Vec::with_capacity(text.len());
            let is_read = std::mem::replace(&mut self.is_read, false);
            self.json(text.as_bytes(), place, &mut out);
            self.is_read = is_read;
            let cleaned = String::from_utf8_lossy(&out).into_owned();
            return (cleaned != text).then_some(cleaned);
        }
        let name = if self.is_read { None } else { self.cleaner.names.as_ref().and_then(|names| names.find(text)) };
        if let Some(name) = name {
            // Broken text that names a private value: what follows may be that value, up to the next key.
            let end = name.end();
            let kind = self.cleaner.private.first().map(|(kind, _)| kind.as_str());
            place.private = kind;
            let before = self.by_looks(&text[..end], place).into_owned();
            let after = kind.and_then(|kind| self.pseudonym(kind, &text[end..]));
            return Some(before + after.as_deref().unwrap_or(&text[end..]));
        }
        match self.by_looks(text, place) {
            Cow::Owned(cleaned) => Some(cleaned),
            Cow::Borrowed(_) => None,
        }
    }

    fn by_looks<'t>(&mut self, text: &'t str, place: &Place<'c>) -> Cow<'t, str> {
        let mut cleaned = Cow::Borrowed(text);
        if let Some(replaced) = replace_values(&cleaned, &self.found, TELLING_BYTES) {
            cleaned = Cow::Owned(replaced);
        }
        if let Some(replaced) = self.without_emails(&cleaned) {
            cleaned = Cow::Owned(replaced);
        }
        let phone = self.cleaner.phone.as_ref().filter(|_| !self.is_read && !place.is_plain);
        if let Some(phone) = phone
            && let Some(replaced) = self.replace_looks(phone, "phone", &cleaned)
        {
            cleaned = Cow::Owned(replaced);
        }
        cleaned
    }

    fn without_emails(&mut self, text: &str) -> Option<String> {
        let email = self.cleaner.email.as_ref()?;
        self.replace_looks(email, "email", text)
    }

    fn replace_looks(&mut self, looks: &Regex, kind: &str, text: &str) -> Option<String> {
        let mut cleaned = String::new();
        let mut at = 0;
        for found in looks.find_iter(text) {
            let is_something_else = kind == "phone" && (is_date(&text[found.start()..]) || is_number(found.as_str()));
            if let Some(token) = (!is_something_else).then(|| self.pseudonym(kind, found.as_str())).flatten() {
                cleaned.push_str(&text[at..found.start()]);
                cleaned.push_str(&token);
                at = found.end();
            }
        }
        cleaned.push_str(&text[at..]);
        (at > 0).then_some(cleaned)
    }

    /// The pseudonym of a raw value, which is remembered; none of a text without a letter or digit.
    fn pseudonym(&mut self, kind: &str, raw: &str) -> Option<String> {
        if !raw.contains(char::is_alphanumeric) {
            return None;
        }
        let token = self.cleaner.pseudonymiser.token(kind, &normalise(kind, raw));
        let value = raw.trim();
        let is_room = self.found.len() <= MOST_FOUND;
        if is_room && value != token && !self.found.iter().any(|found| found.value == value) {
            let (value, folded) = (value.to_string(), value.to_ascii_lowercase());
            self.found.push(Found { value, folded, token: token.clone() });
        }
        Some(token)
    }

    fn detail(&mut self, detail: &str) -> String {
        let cleaned = replace_values(detail, &self.found, 1).unwrap_or_else(|| detail.to_string());
        self.without_emails(&cleaned).unwrap_or(cleaned)
    }
}

/// The string that begins with the quote at `at`: its body, and where it ends; one that does not end ends with the text.
fn string_at(text: &[u8], at: usize) -> (&[u8], usize) {
    let mut end = at + 1;
    while let Some(byte) = text.get(end) {
        match byte {
            b'"' => return (&text[at + 1..end], end + 1),
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    (&text[at + 1..], text.len())
}

fn unescaped(body: &[u8]) -> String {
    let quoted = [b"\"", body, b"\""].concat();
    serde_json::from_slice(&quoted).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned())
}

fn push_json(text: &str, out: &mut Vec<u8>) {
    out.extend(serde_json::Value::from(text).to_string().into_bytes());
}

/// The text with values of at least some bytes replaced where they stand by themselves, in any case.
fn replace_values(text: &str, values: &[Found], least: usize) -> Option<String> {
    let mut cleaned: Option<String> = None;
    let mut folded = text.to_ascii_lowercase();
    for Found { value, folded: sought, token } in values.iter().filter(|found| found.value.len() >= least) {
        let text = cleaned.as_deref().unwrap_or(text);
        let stands_alone = |start: usize| {
            let before = text[..start].chars().next_back();
            let after = text[start + value.len()..].chars().next();
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
        };
        let places: Vec<usize> =
            folded.match_indices(sought.as_str()).map(|(start, _)| start).filter(|at| stands_alone(*at)).collect();
        if places.is_empty() {
            continue;
        }
        let mut replaced = String::with_capacity(text.len());
        let mut at = 0;
        for start in places {
            replaced.push_str(&text[at..start]);
            replaced.push_str(token);
            at = start + value.len();
        }
        replaced.push_str(&text[at..]);
        folded = replaced.to_ascii_lowercase();
        cleaned = Some(replaced);
    }
    cleaned
}

/// Whether text begins with a day, `2025-01-31…`, and not with a telephone.
fn is_date(text: &str) -> bool {
    let day = text.get(..10).and_then(|day| chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").ok());
    let is_followed = text.get(10..).and_then(|rest| rest.chars().next()).is_some_and(|next| next.is_ascii_digit());
    day.is_some_and(|day| (1900..2200).contains(&chrono::Datelike::year(&day))) && !is_followed
}

/// Whether it is a number and nothing else: telephones written so are found by their place alone.
fn is_number(text: &str) -> bool {
    !text.starts_with('+') && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> ValuePath {
        text.split('.').map(str::to_string).collect()
    }

    fn cleaner() -> Cleaner {
        let kinds = ["email", "phone", "user_id"].map(String::from);
        let private = [("user_id", "customer"), ("email", "context.mail"), ("phone", "tel")];
        let private = private.map(|(kind, name)| (kind.to_string(), path(name)));
        let plain = ["ts", "id", "value"].map(path);
        Cleaner::new(Arc::new(Pseudonymiser::new(b"0123456789abcdef", &kinds)), &private, &plain)
    }

    fn token(kind: &str, value: &str) -> String {
        cleaner().pseudonymiser.token(kind, &normalise(kind, value))
    }

    fn json(record: &str, is_read: bool) -> String {
        String::from_utf8(cleaner().clean(record.as_bytes(), &Syntax::Json, is_read, "").0).unwrap()
    }

    fn columns() -> Syntax {
        let names = Arc::new(["customer", "ts", "event"].map(String::from));
        Syntax::Csv { names, header: Bytes::new(), dialect: CsvDialect::default() }
    }

    fn csv(record: &str) -> String {
        String::from_utf8(cleaner().clean(record.as_bytes(), &columns(), true, "").0).unwrap()
    }

    #[test]
    fn every_leaf_below_a_private_path_becomes_a_pseudonym_and_the_rest_of_a_read_record_stays() {
        let user = token("user_id", "canary-77");
        let cases = [
            (r#"{"customer":"canary-77","x":1}"#, format!(r#"{{"customer":"{user}","x":1}}"#)),
            (r#"{"customer": "can\u0061ry-77"}"#, format!(r#"{{"customer": "{user}"}}"#)),
            (r#"{"customer":["canary-77",{"a":"canary-77"}]}"#, {
                format!(r#"{{"customer":["{user}",{{"a":"{user}"}}]}}"#)
            }),
            (
                r#"{"customer":"Doe, Jane","n":2}"#,
                format!(r#"{{"customer":"{}","n":2}}"#, token("user_id", "Doe, Jane")),
            ),
            (r#"{"Customer":4917}"#, format!(r#"{{"Customer":"{}"}}"#, token("user_id", "4917"))),
            (r#"{"customer": null, "tel": true}"#, r#"{"customer": null, "tel": true}"#.into()),
            (
                r#"{"context":{"mail":"A@x.org","url":"/mail"},"mail":"-"}"#,
                format!(r#"{{"context":{{"mail":"{}","url":"/mail"}},"mail":"-"}}"#, token("email", "a@x.org")),
            ),
            (
                r#"{"context":"{\"mail\":\"a@x.org\"}"}"#,
                format!(r#"{{"context":"{{\"mail\":\"{}\"}}"}}"#, token("email", "a@x.org")),
            ),
            (
                r#"{"note":"of canary-77!","customer":"canary-77","id":"canary-77-1"}"#,
                format!(r#"{{"note":"of {user}!","customer":"{user}","id":"{user}-1"}}"#),
            ),
        ];
        for (record, expected) in cases {
            assert_eq!(json(record, true), expected, "{record}");
            assert!(serde_json::from_str::<serde_json::Value>(&expected).is_ok(), "{expected}");
        }
        let kept = r#"{"ts":"2025-01-31T09:00:00Z","ms":1735689600000,"order":"0120-44-4444","id":49170555123}"#;
        assert_eq!(json(kept, true), kept, "times and numbers are not taken for telephones");
    }

    #[test]
    fn broken_json_loses_what_is_named_or_looks_like_an_identifier() {
        for record in [
            r#"{"customer":"canary-77","ts":"2025-01-31T09:00:00Z","#,
            r#"{"customer":"canary-77"#,
            r#"{"customer:"canary-77","ts":1}"#,
            r#"{"customer":"canary-77,"ts":"2025-01-31T09:00:00Z"}"#,
            r#"{"customer":"x "canary-77" y","ts":1}"#,
            r#"{"customer":"x","canary-77"}"#,
            r"{'customer': 'canary-77', 'ts': 1}",
            r#"customer=canary-77 event=view"#,
            r#"{"context":{"mail":canary-77}"#,
            r#"{"mail":"canary-77""#,
            r#"["customer", "canary-77"]"#,
            r#"{"x":"{\"customer\":\"canary-77\"}""#,
            r#"{"note":"by canary-77@example.org""#,
        ] {
            let cleaned = json(record, false);
            assert!(!cleaned.contains("canary"), "{record} became {cleaned}");
            assert!(cleaned.contains("h1:") || cleaned.contains("h0:"), "{cleaned}");
        }
        let broken = r#"{"ts":"2025-01-31 09:00:00","a":"2025-01-31T09:00","n":1735689600000,"p":"+49 170 555-1234","q":"0120-44-4444"#;
        let cleaned = json(broken, false);
        assert!(!cleaned.contains("555") && !cleaned.contains("4444"), "{cleaned}");
        assert!(
            cleaned.starts_with(r#"{"ts":"2025-01-31 09:00:00","a":"2025-01-31T09:00","n":1735689600000,"p":"h1:"#),
            "{cleaned}"
        );
    }

    #[test]
    fn csv_is_cleaned_by_its_columns_also_when_fields_are_too_many_or_too_few() {
        let user = token("user_id", "canary-77");
        assert_eq!(csv("canary-77,,view"), format!("{user},,view"));
        assert_eq!(csv("\"canary-77\",\"a,\"\"b\"\"\",view\r"), format!("\"{user}\",\"a,\"\"b\"\"\",view\r"));
        assert_eq!(csv(",2025-01-01,of canary-77"), ",2025-01-01,of canary-77", "nothing says who that is");
        assert_eq!(csv("customer,ts,event"), "customer,ts,event", "the header again");
        for record in [
            "Doe, canary-77,2025-01-01,view",
            "canary-77",
            "canary-77,x",
            "\"canary-77,2025-01-01,view",
            "x,\"canary-77\" y,z",
        ] {
            let cleaned = csv(record);
            assert!(record.starts_with("x,") || !cleaned.contains("canary"), "{record} became {cleaned}");
        }
        let unknown = Syntax::Csv { names: Arc::new([]), header: Bytes::new(), dialect: CsvDialect::default() };
        let (cleaned, _) = cleaner().clean(b"2025,canary-77", &unknown, false, "");
        assert!(!String::from_utf8_lossy(&cleaned).contains("canary"));
    }

    #[test]
    fn the_detail_loses_the_values_of_its_record() {
        let detail = |record: &str, detail: &str| cleaner().clean(record.as_bytes(), &Syntax::Json, true, detail).1;
        let user = token("user_id", "canary-77");
        assert_eq!(
            detail(r#"{"customer":"canary-77"}"#, "cannot cast 'CANARY-77' to Int64"),
            format!("cannot cast '{user}' to Int64")
        );
        let short = token("user_id", "7");
        assert_eq!(detail(r#"{"customer":7}"#, "value `7` of 17"), format!("value `{short}` of 17"));
        assert!(!cleaner().clean_detail("key `anna@x.org` twice").contains("anna"));
    }

    proptest! {
        /// Whatever is cut off or put into a record, a value under a private name never stays.
        #[test]
        fn a_value_under_a_private_name_never_stays(cut in 0usize..60, byte in any::<u8>(), at in 0usize..60) {
            let record = br#"{"a":[1,"x"],"customer":"canary-77","ts":"2025-01-31T09:00:00Z"}"#;
            let mut record = record[..record.len() - cut.min(record.len())].to_vec();
            let after_name = 23;
            if at > after_name && at < record.len() {
                record[at] = byte;
            }
            let (cleaned, _) = cleaner().clean(&record, &Syntax::Json, false, "");
            let cleaned = String::from_utf8_lossy(&cleaned).into_owned();
            prop_assert!(!cleaned.contains("canar") && !cleaned.contains("ary-77"), "{}", cleaned);
        }
    }

    #[test]
    fn a_record_with_too_many_private_values_is_not_kept() {
        let record = |people: usize| {
            let people: Vec<String> = (0..people).map(|person| format!("\"person-{person}@example.org\"")).collect();
            format!("{{\"people\": [{}]}}", people.join(", "))
        };
        let (kept, detail) = cleaner().clean(record(MOST_FOUND).as_bytes(), &Syntax::Json, true, "no touchpoint");
        assert!(!String::from_utf8(kept).unwrap().contains("person-"));
        assert_eq!(detail, "no touchpoint");
        let (kept, detail) = cleaner().clean(record(40_000).as_bytes(), &Syntax::Json, true, "no touchpoint");
        assert_eq!((kept.len(), &*detail), (0, "not shown: more than 256 private values"));
    }
}
