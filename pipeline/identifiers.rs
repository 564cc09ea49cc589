//! Identifiers as sources know them: one normal form per kind, pseudonyms, and values that identify nobody.
//!
//! An identifier is a (`kind`, `value`) pair. Landing brings the value to its normal form and, for the kinds that the
//! configuration names, replaces it by a pseudonym. Identity asks whether a value may link at all: `null`, `000000` or
//! a kiosk's `unknown` would fuse thousands of strangers.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use hashbrown::HashSet;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Longest usable value in characters; the cap that Adobe's identity service has.
pub const MAX_CHARACTERS: usize = 1024;

/// The kind whose values are e-mail addresses.
const EMAIL: &str = "email";
/// The kind whose values are telephone numbers.
const PHONE: &str = "phone";
/// Mark of a pseudonym.
const TOKEN: &str = "h1:";
/// Mark of the pseudonym of a value that identifies nobody: behind the key its form cannot be seen any more.
const NOBODY_TOKEN: &str = "h0:";
/// Hex digits of a pseudonym behind its mark: 16 bytes.
const TOKEN_DIGITS: usize = 32;
/// Digits of a telephone number: at most 15 by ITU-T E.164; below 7 there are only short codes.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// From this length on a run of one character (`1111`, `xxxx`) is a filler; shorter ones are plausible small ids.
const FILLER_LENGTH: usize = 4;

/// Words that stand where an id should, folded: the list that PostHog refuses to merge on, and its like elsewhere.
const WORDS: [&str; 32] = [
    "null",
    "none",
    "undefined",
    "nan",
    "nil",
    "n/a",
    "na",
    "(null)",
    "[null]",
    "<null>",
    "(none)",
    "(not set)",
    "not set",
    "unknown",
    "anonymous",
    "guest",
    "test",
    "invalid",
    "not_authenticated",
    "email",
    "id",
    "distinct_id",
    "distinctid",
    "true",
    "false",
    "[object object]",
    "-1",
    "123456",
    "123456789",
    "1234567890",
    "0123456789",
    "0",
];

/// MD5 of such words, for sources that hash before they look: `printf null | md5sum`.
const MD5: [(&str, &str); 16] = [
    ("", "d41d8cd98f00b204e9800998ecf8427e"),
    ("null", "37a6259cc0c1dae299a7866489dff0bd"),
    ("NULL", "6c3e226b4d4795d518ab341b0824ec29"),
    ("Null", "bbb93ef26e3c101ff11cdd21cab08a94"),
    ("none", "334c4a4c42fdb79d7ebc3e73b517e6f8"),
    ("None", "6adf97f83acf6453d4a6a4b1070f3754"),
    ("undefined", "5e543256c480ac577d30f76f9120eb74"),
    ("nan", "a3d2de7675556553a5f08e4c88d2c228"),
    ("NaN", "7ecfb3bf076a6a9635f975fe96ac97fd"),
    ("nil", "852438d026c018c4307b916406f98c62"),
    ("unknown", "ad921d60486366258809553a3db49a4a"),
    ("anonymous", "294de3557d9d00b3d2d8a1e6aab028cf"),
    ("guest", "084e0343a0486ff05530df6c705c8bb4"),
    ("0", "cfcd208495d565ef66e7dff9f98764da"),
    ("n/a", "274b68192b056e268f128ff63bfcd4a4"),
    ("N/A", "382b0f5185773fa0f67a8ed8056c7759"),
];

/// The words, and the MD5 and SHA-256 digests of the empty text and of the words in their usual spellings.
static BUILT_IN: LazyLock<Values> = LazyLock::new(|| {
    let mut values = Values::default();
    values.insert(&hex::encode(Sha256::digest("")));
    for word in WORDS {
        values.insert(word);
        for spelling in spellings(word) {
            values.insert(&hex::encode(Sha256::digest(spelling)));
        }
    }
    for (_, digest) in MD5 {
        values.insert(digest);
    }
    values
});

/// The normal form of a value, by which identifiers are compared.
///
/// - every kind: without white space and zero-width characters at its ends; a whole number without the `.0` that a
///   float puts behind it
/// - `email`: without `mailto:`, in lower case; dots and plus tags stay, they tell mailboxes apart at some providers
/// - `phone`: ASCII digits only. A value with anything but digits and the usual punctuation (letters, an extension) is
///   no number that one could rely on: it is kept, in lower case, and is not usable
///
/// A pseudonym is its own normal form.
pub fn normalise<'a>(kind: &str, value: &'a str) -> Cow<'a, str> {
    let value = without_fraction(trim(value));
    if kind == EMAIL {
        lower_case(without_mailto(value))
    } else if kind != PHONE {
        Cow::Borrowed(value)
    } else if !value.chars().all(is_phone_character) {
        lower_case(value)
    } else if value.bytes().all(|byte| byte.is_ascii_digit()) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(value.chars().filter(char::is_ascii_digit).collect())
    }
}

/// Replaces values by keyed pseudonyms: equal values stay equal, and without the key nobody can tell which they were.
pub struct Pseudonymiser {
    keyed: Hmac<Sha256>,
    kinds: Vec<String>,
}

impl Pseudonymiser {
    /// Pseudonyms under `key` (any length) for values of `kinds`.
    pub fn new(key: &[u8], kinds: &[String]) -> Self {
        let keyed = Hmac::new_from_slice(key).expect("hmac takes a key of any length");
        Self { keyed, kinds: kinds.to_vec() }
    }

    /// Whether values of this kind are to be replaced.
    pub fn covers(&self, kind: &str) -> bool {
        self.kinds.iter().any(|covered| covered == kind)
    }

    /// The pseudonym of a value in normal form: `h1:` and 32 hex digits of HMAC-SHA256(key, kind, zero byte, value).
    ///
    /// A value that identifies nobody by the built-in rules gets `h0:` instead, since nobody could tell later. A value
    /// that has the form of a pseudonym stays, so that a record may pass twice.
    pub fn token(&self, kind: &str, normalised: &str) -> String {
        if is_token(normalised) {
            return normalised.to_string();
        }
        let mark = if identifies_nobody(kind, normalised) { NOBODY_TOKEN } else { TOKEN };
        self.marked(mark, kind, normalised)
    }

    /// The id of a content that may hold what must be pseudonymised, 32 hex digits: without the key nobody can try out
    /// which content it was.
    pub fn content_id(&self, kind: &str, text: &str) -> String {
        self.marked("", &format!("id of {kind}"), text)
    }

    fn marked(&self, mark: &str, kind: &str, value: &str) -> String {
        let mut mac = self.keyed.clone();
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(value.as_bytes());
        let digest = mac.finalize().into_bytes();
        format!("{mark}{}", hex::encode(&digest[..TOKEN_DIGITS / 2]))
    }
}

/// Names the kinds, never the key.
impl fmt::Debug for Pseudonymiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pseudonymiser").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

/// Values that must not link identifiers.
///
/// Built in: values with no letter or digit; fillers (`000000`, `1111`, the UUID of zeros or of `f`); words such as
/// `null` or `anonymous` in any case and in quotes, and their digests; values over [`MAX_CHARACTERS`]; telephone
/// numbers with letters, an extension, fewer than 7 or more than 15 digits (a digest of a number is usable). Configured
/// values come on top; they are compared without case, quotes and blanks at the ends too.
#[derive(Clone)]
pub struct Blocked {
    configured: Values,
}

impl Blocked {
    /// The built-in rules and the `configured` values; with a pseudonymiser also what it makes of them.
    pub fn new(configured: &[String], pseudonymiser: Option<&Pseudonymiser>) -> Self {
        let mut values = Values::default();
        for value in configured {
            values.insert(&folded(value));
            values.insert(&folded(without_mailto(trim(value))));
            let phone = normalise(PHONE, value);
            if is_phone_number(&phone) {
                values.insert(&phone);
            }
        }
        if let Some(pseudonymiser) = pseudonymiser {
            for kind in &pseudonymiser.kinds {
                for value in configured.iter().map(String::as_str).chain(WORDS) {
                    for spelling in spellings(value) {
                        values.insert(&pseudonymiser.marked(TOKEN, kind, &normalise(kind, &spelling)));
                    }
                }
            }
        }
        Self { configured: values }
    }

    /// Whether a value in normal form may link: it is not blocked. Takes no memory for values in lower case.
    pub fn is_usable(&self, kind: &str, value: &str) -> bool {
        !identifies_nobody(kind, value) && !self.configured.contains(value)
    }
}

/// The built-in rules alone, which never blocks a pseudonym but those of values that identify nobody.
impl Default for Blocked {
    fn default() -> Self {
        Self::new(&[], None)
    }
}

/// Tells how many, not which: a configured value may be somebody's mailbox.
impl fmt::Debug for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocked").field("values", &self.configured.set.len()).finish_non_exhaustive()
    }
}

/// A set of folded values that can tell most others by their length.
#[derive(Clone, Default)]
struct Values {
    set: HashSet<Box<str>>,
    has_length: Vec<bool>,
}

impl Values {
    fn insert(&mut self, folded: &str) {
        if self.has_length.len() <= folded.len() {
            self.has_length.resize(folded.len() + 1, false);
        }
        self.has_length[folded.len()] = true;
        self.set.insert(folded.into());
    }

    fn contains(&self, value: &str) -> bool {
        let value = stripped(value);
        self.has_length.get(value.len()).is_some_and(|known| *known) && self.set.contains(&*lower_case(value))
    }
}

/// Whether a value can be told to identify nobody without any configuration.
fn identifies_nobody(kind: &str, value: &str) -> bool {
    if is_token(value) {
        return value.starts_with(NOBODY_TOKEN);
    }
    if value.len() > MAX_CHARACTERS && value.chars().count() > MAX_CHARACTERS {
        return true;
    }
    let unreliable = kind == PHONE && !is_phone_number(value) && !is_digest(value);
    unreliable || is_filler(value) || BUILT_IN.contains(value)
}

/// Whether the letters and digits of a value are none at all, all zeros, or one character over and over.
fn is_filler(value: &str) -> bool {
    let mut characters = value.chars().filter(|character| character.is_alphanumeric());
    let Some(first) = characters.next() else { return true };
    let mut length = 1;
    for character in characters {
        if !character.eq_ignore_ascii_case(&first) {
            return false;
        }
        length += 1;
    }
    first == '0' || length >= FILLER_LENGTH
}

/// A word as sources spell it: as it stands, in lower case, in capitals, with a capital, with its known inner capitals.
fn spellings(word: &str) -> Vec<String> {
    let lower = word.to_lowercase();
    let mut letters = lower.chars();
    let capitalised = letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
    let mut spellings = vec![word.to_string(), lower.clone(), word.to_uppercase(), capitalised];
    match lower.as_str() {
        "nan" => spellings.push("NaN".into()),
        "[object object]" => spellings.push("[object Object]".into()),
        _ => {}
    }
    spellings
}

/// A value as blocked values are compared.
fn folded(value: &str) -> Cow<'_, str> {
    lower_case(stripped(value))
}

/// Without blanks, quotes, their escapes and control characters at the ends.
fn stripped(value: &str) -> &str {
    value.trim_matches(|c: char| is_blank(c) || c.is_control() || "\"'`\\“”„‘’‚«»".contains(c))
}

fn trim(value: &str) -> &str {
    value.trim_matches(is_blank)
}

/// White space, or a character without width.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

fn lower_case(value: &str) -> Cow<'_, str> {
    if value.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        Cow::Owned(value.to_lowercase())
    } else {
        Cow::Borrowed(value)
    }
}

/// The digits of `123.0`; other values stay.
fn without_fraction(value: &str) -> &str {
    match value.strip_suffix(".0") {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => digits,
        _ => value,
    }
}

fn without_mailto(value: &str) -> &str {
    const SCHEME: &str = "mailto:";
    match value.get(..SCHEME.len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => trim(&value[SCHEME.len()..]),
        _ => value,
    }
}

fn is_phone_character(character: char) -> bool {
    character.is_ascii_digit() || is_blank(character) || "+-./()\u{2010}\u{2011}\u{2012}\u{2013}".contains(character)
}

fn is_phone_number(value: &str) -> bool {
    PHONE_DIGITS.contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a value has the form of an MD5, SHA-1, SHA-256 or SHA-512 digest in hex.
fn is_digest(value: &str) -> bool {
    matches!(value.len(), 32 | 40 | 64 | 128) && value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a value has the form of a pseudonym.
pub(crate) fn is_token(value: &str) -> bool {
    let digits = value.strip_prefix(TOKEN).or_else(|| value.strip_prefix(NOBODY_TOKEN));
    digits.is_some_and(|digits| {
        digits.len() == TOKEN_DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"0123456789abcdef";

    fn pseudonymiser(kinds: &[&str]) -> Pseudonymiser {
        Pseudonymiser::new(KEY, &kinds.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn each_kind_has_one_normal_form() {
        let cases = [
            ("user_id", "  U-7 ", "U-7"),
            ("user_id", "123.0", "123"),
            ("user_id", "v1.0", "v1.0"),
            ("phone", "491705551234.0", "491705551234"),
            ("user_id", "\u{feff}U-7\u{200b}", "U-7"),
            ("email", " MailTo: Ann.Lee+News@Example.COM ", "ann.lee+news@example.com"),
            ("email", "ÄNN@EXAMPLE.com", "änn@example.com"),
            ("phone", "+1 (555) 010-9999", "15550109999"),
            ("phone", "1.555.010.9999", "15550109999"),
            ("phone", "+1 555 010 9999 Ext. 12", "+1 555 010 9999 ext. 12"),
            ("phone", "555 010 9999 #12", "555 010 9999 #12"),
            ("loyalty_id", "\t\n", ""),
        ];
        for (kind, value, expected) in cases {
            assert_eq!(normalise(kind, value), expected, "{kind} {value:?}");
            assert_eq!(normalise(kind, expected), expected, "twice is once");
        }
    }

    #[test]
    fn a_value_in_normal_form_is_not_copied() {
        for (kind, value) in [("email", "ann@example.com"), ("phone", "15550109999"), ("user_id", "U-7")] {
            assert!(matches!(normalise(kind, value), Cow::Borrowed(_)), "{kind}");
        }
    }

    #[test]
    fn sentinels_identify_nobody_in_any_case_and_quotes() {
        let words = "null NULL none None undefined NaN nil N/A na - (null) unknown anonymous guest test invalid \
                     not_authenticated email id true false 0 00000000-0000-0000-0000-000000000000 000000 111111 \
                     ffffffff-ffff-ffff-ffff-ffffffffffff FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF 123456 -1 ---- xxxx";
        let blocked = Blocked::default();
        for word in words.split(' ').chain(["[object Object]", "(not set)"]) {
            for form in [word.to_string(), format!("\"{word}\""), format!("'{word}' "), format!("\\\"{word}\\\"")] {
                assert!(!blocked.is_usable("user_id", &normalise("user_id", &form)), "{form}");
            }
        }
    }

    #[test]
    fn values_of_nothing_identify_nobody() {
        let blocked = Blocked::default();
        for value in ["", "   ", "\u{200b}\u{feff}", "\"\"", "''", "\"' '\"", "?", "...", "\0"] {
            assert!(!blocked.is_usable("device_id", &normalise("device_id", value)), "{value:?}");
        }
    }

    #[test]
    fn digests_of_sentinels_identify_nobody() {
        let blocked = Blocked::default();
        for value in [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", // sha-256 of the empty text
            "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b", // sha-256 of `null`
            "D41D8CD98F00B204E9800998ECF8427E",                                 // md5 of the empty text
            "37a6259cc0c1dae299a7866489dff0bd",                                 // md5 of `null`
        ] {
            assert!(!blocked.is_usable("email", value), "{value}");
        }
        assert!(blocked.is_usable("email", &hex::encode(Sha256::digest("ann@example.com"))));
    }

    #[test]
    fn small_and_long_ids_are_usable_up_to_the_cap() {
        let blocked = Blocked::default();
        for value in ["7", "11", "222", "a", "u1", "1234", "Nullarbor", "h1:ann", "客户"] {
            assert!(blocked.is_usable("user_id", value), "{value}");
        }
        assert!(blocked.is_usable("user_id", &"aé".repeat(512)));
        assert!(!blocked.is_usable("user_id", &"ab".repeat(513)));
        assert!(!blocked.is_usable("user_id", &"ab".repeat(5 * 1024)));
    }

    #[test]
    fn only_whole_telephone_numbers_are_usable() {
        let usable = |value: &str| Blocked::default().is_usable("phone", &normalise("phone", value));
        for value in ["+1 (555) 010-9999", "5550109", "155501099991234", &hex::encode(Sha256::digest("15550109999"))] {
            assert!(usable(value), "{value}");
        }
        for value in ["555010", "1555010999912345", "555-010-9999 x12", "555 010 9999;12", "call me", "", "0000000000"]
        {
            assert!(!usable(value), "{value}");
        }
    }

    #[test]
    fn configured_values_come_on_top_of_the_built_in_ones() {
        let configured = ["info@shop.example", "Kiosk-1", "+1 555 010 0000", "-5"].map(String::from);
        let blocked = Blocked::new(&configured, None);
        for (kind, value) in [
            ("email", "info@shop.example"),
            ("email", "mailto:INFO@shop.example"),
            ("device_id", "\"KIOSK-1\""),
            ("phone", "1-555-010-0000"),
            ("user_id", "null"),
        ] {
            assert!(!blocked.is_usable(kind, &normalise(kind, value)), "{value}");
        }
        assert!(blocked.is_usable("user_id", "5"));
        assert!(Blocked::default().is_usable("email", "info@shop.example"));
    }

    #[test]
    fn a_pseudonym_is_the_same_for_a_value_and_differs_by_kind_and_key() {
        let pseudonymiser = pseudonymiser(&["email", "phone"]);
        let token = pseudonymiser.token("email", "ann@example.com");
        // printf 'email\0ann@example.com' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(token, "h1:f1a80cbfbfaefa5fe461bb72aae3dad8");
        assert_eq!(pseudonymiser.token("email", &token), token, "a replayed record keeps its pseudonym");
        assert_eq!(normalise("email", &token), token);
        assert_eq!(normalise("phone", &token), token);
        assert_ne!(pseudonymiser.token("phone", "ann@example.com"), token);
        let other = Pseudonymiser::new(b"another key", &["email".to_string()]);
        assert_ne!(other.token("email", "ann@example.com"), token);
        assert!(pseudonymiser.covers("phone") && !pseudonymiser.covers("user_id"));
    }

    #[test]
    fn pseudonyms_of_blocked_values_are_blocked_too() {
        let pseudonymiser = pseudonymiser(&["email", "phone", "user_id"]);
        let configured = ["info@shop.example", "Kiosk-1"].map(String::from);
        let blocked = Blocked::new(&configured, Some(&pseudonymiser));
        let long = "ab".repeat(600);
        for (kind, value) in [
            ("email", "INFO@shop.example"),
            ("email", "null"),
            ("user_id", "Kiosk-1"),
            ("user_id", "'NULL'"),
            ("user_id", "00000000-0000-0000-0000-000000000000"),
            ("user_id", "------------------------------------------"),
            ("user_id", &long),
            ("phone", "call me maybe"),
            ("phone", "12"),
        ] {
            let token = pseudonymiser.token(kind, &normalise(kind, value));
            assert!(is_token(&token), "{token}");
            assert!(!blocked.is_usable(kind, &token), "{kind} {value}");
        }
        for (kind, value) in [("email", "ann@example.com"), ("phone", "15550109999")] {
            assert!(blocked.is_usable(kind, &pseudonymiser.token(kind, value)), "{kind} {value}");
        }
    }

    #[test]
    fn neither_key_nor_blocked_values_are_printed() {
        let pseudonymiser = pseudonymiser(&["email"]);
        assert_eq!(format!("{pseudonymiser:?}"), r#"Pseudonymiser { kinds: ["email"], .. }"#);
        let blocked = Blocked::new(&["info@shop.example".to_string()], None);
        assert_eq!(format!("{blocked:?}"), "Blocked { values: 1, .. }");
    }
}
