//! Filtering: JSON copied without the members that must not reach `properties`.

use super::limits::Limits;
use super::plan::Plan;
use super::scan::{Scanner, plain_until, unescape};

/// Copies text that may hold JSON into `properties`, less what the node drops: JSON as JSON, plain text as a string.
/// False, and nothing, if it looks like JSON that cannot be read: what must be dropped could hide in it.
pub(super) fn copy_text(text: &str, node: usize, plan: &Plan, limits: &Limits, out: &mut String) -> bool {
    let json = text.trim_matches([' ', '\t', '\r', '\n']);
    if !json.starts_with(['{', '[']) {
        push_json_string(text, out);
        return true;
    }
    let is_json = match Scanner::new(plan, limits).scan(json) {
        Ok(()) => true,
        Err(fault) => fault.reason == "not_object",
    };
    if is_json {
        copy_filtered(json, node, plan, limits, out);
    }
    is_json
}

/// Appends text as a JSON string.
pub(super) fn push_json_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    loop {
        let plain = plain_until(rest.as_bytes(), 0);
        out.push_str(&rest[..plain]);
        match rest.as_bytes().get(plain) {
            None => break,
            Some(b'"') => out.push_str("\\\""),
            Some(b'\\') => out.push_str("\\\\"),
            Some(b'\n') => out.push_str("\\n"),
            Some(b'\r') => out.push_str("\\r"),
            Some(b'\t') => out.push_str("\\t"),
            Some(control) => out.push_str(&format!("\\u{control:04x}")),
        }
        rest = &rest[plain + 1..];
    }
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
            let member = self.plan.find_withheld(node, &name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_json_string_and_back() {
        for text in ["", "plain", "\"", "a\\b\"c\nd\re\tf\u{1}g\u{1f}é😀", "ends with \\"] {
            let mut json = String::new();
            push_json_string(text, &mut json);
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
