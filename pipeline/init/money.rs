//! Numbers as files have them, and the expressions that make money of them.

use std::sync::LazyLock;

use regex::Regex;

use super::sample::Column;

static PLAIN: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"));
static DECIMAL_COMMA: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[-+]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?$"));
static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?$"));
static OTHER: LazyLock<Regex> = LazyLock::new(|| pattern("[^0-9.,+-]"));
/// Signs and codes of currencies, in values and names.
const SIGNS: [(&str, &str); 10] = [
    ("€", "EUR"),
    ("EUR", "EUR"),
    ("$", "USD"),
    ("USD", "USD"),
    ("£", "GBP"),
    ("GBP", "GBP"),
    ("CHF", "CHF"),
    ("JPY", "JPY"),
    ("¥", "JPY"),
    ("SEK", "SEK"),
];
/// Words for nothing that are worth an expression of their own.
const MOST_WORDS: usize = 3;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of ours is one")
}

/// How a column writes numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// The expression that makes plain numbers of them.
    pub expression: String,
    /// What they are, in words.
    pub words: String,
    /// The currency that their signs or their column's name tell.
    pub currency: Option<&'static str>,
}

impl Numbers {
    /// How a column, read by `sql`, writes numbers; none if it does not.
    pub fn of(column: &Column, sql: &str) -> Option<Self> {
        let is_word = |text: &str| !text.contains(|c: char| c.is_ascii_digit());
        let mut words: Vec<&str> = column.given().filter(|text| is_word(text)).map(str::trim).collect();
        words.sort_unstable();
        words.dedup();
        let numbers: Vec<&str> = column.given().filter(|text| !is_word(text)).map(str::trim).collect();
        if numbers.len() * 2 < column.count() || numbers.is_empty() {
            return None;
        }
        // `1.5e2` is a number as it stands; other letters are signs.
        let has_signs = numbers.iter().any(|text| !PLAIN.is_match(text) && OTHER.is_match(text));
        let bare = |text: &&str| if has_signs { OTHER.replace_all(text, "").into_owned() } else { (*text).to_string() };
        let bare: Vec<String> = numbers.iter().map(bare).collect();
        let fits = |pattern: &Regex| bare.iter().filter(|text| pattern.is_match(text)).count() * 50 >= bare.len() * 49;
        let stripped = match has_signs {
            true => format!("regexp_replace({sql}, '[^0-9.,+-]', '', 'g')"),
            false => sql.to_string(),
        };
        let (mut expression, mut told) = if fits(&PLAIN) {
            (stripped, "numbers".to_string())
        } else if fits(&DECIMAL_COMMA) {
            (format!("replace(replace({stripped}, '.', ''), ',', '.')"), "numbers with a decimal comma".into())
        } else if fits(&THOUSANDS) {
            (format!("replace({stripped}, ',', '')"), "numbers with a comma between thousands".into())
        } else {
            return None;
        };
        if has_signs {
            told.push_str(" beside signs");
        } else if !words.is_empty() {
            if words.len() > MOST_WORDS {
                expression = format!("try_cast({expression} as decimal(18, 4))");
                told.push_str(" beside words, which become none");
            } else {
                for word in &words {
                    expression = format!("nullif({expression}, '{}')", word.replace('\'', "''"));
                }
                told.push_str(&format!(" beside `{}`", words.join("`, `")));
            }
        }
        Some(Self { expression, words: told, currency: currency(column) })
    }
}

fn currency(column: &Column) -> Option<&'static str> {
    let name = column.path.last().map(|name| super::words::folded(name)).unwrap_or_default();
    let named = SIGNS.iter().find(|(sign, _)| name.split('_').any(|word| word.eq_ignore_ascii_case(sign)));
    let first = column.given().find(|text| OTHER.is_match(text));
    let signed = || SIGNS.iter().find(|(sign, _)| first.is_some_and(|text| text.to_uppercase().contains(sign)));
    named.or_else(signed).map(|(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(name: &str, values: &[&str]) -> Option<Numbers> {
        let values = values.iter().map(|value| Some((*value).to_string())).collect();
        Numbers::of(&Column { path: vec![name.into()], values, ..Column::default() }, "x")
    }

    #[test]
    fn each_way_of_writing_money_becomes_plain_numbers() {
        let stripped = "regexp_replace(x, '[^0-9.,+-]', '', 'g')";
        let cases: [(&[&str], String); 7] = [
            (&["12.50", "-3", "1.5e2"], "x".into()),
            (&["12,50", "1.234,56"], "replace(replace(x, '.', ''), ',', '.')".into()),
            (&["1,234.56", "7.00"], "replace(x, ',', '')".into()),
            (&["€ 12.50"], stripped.into()),
            (&["12,50 €", "1.234,00 €"], format!("replace(replace({stripped}, '.', ''), ',', '.')")),
            (&["12.50", "n/a"], "nullif(x, 'n/a')".into()),
            (&["1", "2", "3", "4", "5", "a", "b", "c", "d"], "try_cast(x as decimal(18, 4))".into()),
        ];
        for (values, expected) in cases {
            assert_eq!(numbers("x", values).unwrap().expression, expected, "{values:?}");
        }
        assert_eq!(numbers("x", &["home", "2 rooms", "cart"]), None);
    }

    #[test]
    fn a_sign_or_a_name_tells_the_currency() {
        assert_eq!(numbers("x", &["12,50 €"]).unwrap().currency, Some("EUR"));
        assert_eq!(numbers("total_usd", &["12.50"]).unwrap().currency, Some("USD"));
        assert_eq!(numbers("total", &["12.50"]).unwrap().currency, None);
    }
}
