//! The pattern language of the sequence functions: what a pattern says, and where a wrong one is wrong.
//!
//! | item | takes |
//! | --- | --- |
//! | `(?N)` | one row that meets condition `N`, from 1 |
//! | `.` | one row, whichever |
//! | `.*` | any run of rows, also none; as few as will do |
//! | `(?t op n)` | any run of rows up to, and without, one whose time satisfies the term; as few as will do |
//!
//! `op` is one of `<=`, `<`, `>`, `>=`, `==`, `!=`; `n` is a whole number or an interval such as `30 minutes`. A term
//! compares the time that lies between two rows: from the row taken last, or directly after `.*` (and at the beginning,
//! which reads as after a `.*`) from the first row after that run. Blanks between items and inside a term do not count.

/// The most items of a pattern: what bounds the work per row.
pub(super) const MOST_ITEMS: usize = 256;

/// A pattern, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::functions) struct Pattern {
    /// Begins with the [`Item::Run`] that lets a match begin anywhere.
    pub(super) items: Vec<Item>,
}

/// One item of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// A row that meets the condition of this index, from 0.
    Condition(u32),
    /// Any row.
    Any,
    /// Any run of rows.
    Run,
    /// Any run of rows up to one at the right distance.
    Gap(Gap),
}

/// A time term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub comparison: Comparison,
    /// In the unit of the rows' times.
    pub span: u64,
    /// Whether it follows a run, and counts from the first row after it.
    pub is_after_run: bool,
}

/// How a time term compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    AtMost,
    Less,
    AtLeast,
    More,
    Equal,
    NotEqual,
}

impl Comparison {
    /// The longer signs first, so that `<=` is not read as `<`.
    const SIGNS: [(&'static str, Self); 6] = [
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<", Self::Less),
        (">", Self::More),
    ];
}

impl Gap {
    /// Whether two rows are at the right distance.
    #[inline]
    pub(super) fn holds(&self, distance: u64) -> bool {
        match self.comparison {
            Comparison::AtMost => distance <= self.span,
            Comparison::Less => distance < self.span,
            Comparison::AtLeast => distance >= self.span,
            Comparison::More => distance > self.span,
            Comparison::Equal => distance == self.span,
            Comparison::NotEqual => distance != self.span,
        }
    }

    /// Whether it holds where no row is left: when nothing that could follow at once would break it.
    pub(super) fn holds_at_the_end(&self) -> bool {
        match self.comparison {
            Comparison::AtMost | Comparison::Less => true,
            Comparison::AtLeast => self.span == 0,
            Comparison::More | Comparison::Equal | Comparison::NotEqual => false,
        }
    }
}

/// The span of a time term, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span<'a> {
    Number(u64),
    Interval(&'a str),
}

impl Pattern {
    /// Reads a pattern over `condition_count` conditions. `span` turns the span of a time term into the unit of the
    /// rows' times, or says why it cannot. The error says what is wrong where, and how to mend it.
    pub(super) fn parse(
        text: &str,
        condition_count: usize,
        span: impl Fn(Span<'_>) -> Result<u64, String>,
    ) -> Result<Self, String> {
        let mut reader = Reader { text, rest: text };
        let mut items = vec![Item::Run];
        loop {
            reader.skip_blanks();
            if reader.rest.is_empty() {
                return Ok(Self { items });
            }
            let here = reader.rest;
            let item = reader.item(condition_count, &items, &span)?;
            if items.len() > MOST_ITEMS {
                return Err(reader.error(here, &format!("more than {MOST_ITEMS} items"), "split the pattern"));
            }
            items.push(item);
        }
    }

    /// The conditions that a match needs, bit `k` for condition `k + 1`.
    pub(super) fn wanted(&self) -> u32 {
        self.conditions().fold(0, |wanted, (_, condition)| wanted | 1 << condition)
    }

    /// Where conditions stand among the items, and which.
    pub(super) fn conditions(&self) -> impl Iterator<Item = (usize, u32)> {
        self.items.iter().enumerate().filter_map(|(position, item)| match item {
            Item::Condition(condition) => Some((position, *condition)),
            _ => None,
        })
    }
}

/// What is left to read.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes what lies before `end`, and `end`.
    fn take_until(&mut self, end: char) -> Option<&'a str> {
        let (before, after) = self.rest.split_once(end)?;
        self.rest = after;
        Some(before)
    }

    /// Says what is wrong at `here`, which is what was left to read there.
    fn error(&self, here: &str, what: &str, remedy: &str) -> String {
        let before = &self.text[..self.text.len() - here.len()];
        let position = before.chars().count() + 1;
        let found = match here.chars().count() {
            0 => "at its end".to_owned(),
            1..=20 => format!("at position {position}, '{here}'"),
            _ => format!("at position {position}, '{}…'", here.chars().take(20).collect::<String>()),
        };
        format!("the pattern has {what} {found}; {remedy}")
    }

    fn item(
        &mut self,
        condition_count: usize,
        before: &[Item],
        span: &impl Fn(Span<'_>) -> Result<u64, String>,
    ) -> Result<Item, String> {
        let here = self.rest;
        if self.take(".*") {
            return Ok(Item::Run);
        }
        if self.take(".") {
            return Ok(Item::Any);
        }
        if !self.take("(?") {
            return Err(self.error(here, "an unknown item", "expected (?N), (?t op n), . or .*"));
        }
        let inside = self.rest;
        let Some(body) = self.take_until(')') else {
            return Err(self.error(here, "an item that is not closed", "write ) after it"));
        };
        if let Some(term) = body.strip_prefix('t') {
            let gap = gap(term, before.last(), span).map_err(|(what, remedy)| self.error(here, what, &remedy));
            return gap.map(Item::Gap);
        }
        let number = body.trim();
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            let remedy = "after (? expected the number of a condition, as in (?1), or t, as in (?t<=30 minutes)";
            return Err(self.error(inside, "an unknown item", remedy));
        }
        match number.parse::<usize>() {
            Ok(number) if (1..=condition_count).contains(&number) => Ok(Item::Condition(number as u32 - 1)),
            _ => {
                let remedy = format!("the call has {condition_count}, numbered from 1: name one of them or add one");
                Err(self.error(here, &format!("no condition {number} to refer to"), &remedy))
            }
        }
    }
}

/// Reads a time term from what stands between `(?t` and `)`. The error is what is wrong, and the remedy.
fn gap(
    term: &str,
    previous: Option<&Item>,
    span: &impl Fn(Span<'_>) -> Result<u64, String>,
) -> Result<Gap, (&'static str, String)> {
    let term = term.trim();
    let Some((comparison, written)) =
        Comparison::SIGNS.iter().find_map(|(sign, comparison)| Some((*comparison, term.strip_prefix(sign)?)))
    else {
        return Err(("an unknown time term", "after (?t expected one of <=, <, >, >=, ==, !=".to_owned()));
    };
    let written = written.trim();
    let parsed = if written.is_empty() {
        Err("expected a whole number or an interval such as 30 minutes".to_owned())
    } else if !written.bytes().all(|byte| byte.is_ascii_digit()) {
        span(Span::Interval(written))
    } else {
        written
            .parse()
            .map_err(|_| format!("expected at most {}", u64::MAX))
            .and_then(|number| span(Span::Number(number)))
    };
    let span = parsed.map_err(|remedy| ("a time term without a usable span", remedy))?;
    if comparison == Comparison::Less && span == 0 {
        let remedy = "no row comes less than 0 after another: write (?t<=0) for the same instant";
        return Err(("a time term that cannot hold", remedy.to_owned()));
    }
    if matches!(previous, Some(Item::Gap(_))) {
        let remedy = "put an item between them, or keep one of them";
        return Err(("a time term directly after another", remedy.to_owned()));
    }
    Ok(Gap { comparison, span, is_after_run: matches!(previous, Some(Item::Run)) })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pattern whose time terms are numbers in the unit of the events' times.
    pub(in super::super) fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, 32, |span| match span {
            Span::Number(number) => Ok(number),
            Span::Interval(text) => Err(format!("no {text} here")),
        })
        .unwrap()
    }

    fn span(span: Span<'_>) -> Result<u64, String> {
        match span {
            Span::Number(number) => Ok(number),
            Span::Interval("1 minute") => Ok(60),
            Span::Interval(text) => Err(format!("'{text}' is no interval")),
        }
    }

    fn items(text: &str) -> Vec<Item> {
        let items = Pattern::parse(text, 32, span).unwrap().items;
        assert_eq!(items[0], Item::Run);
        items[1..].to_vec()
    }

    fn error(text: &str) -> String {
        Pattern::parse(text, 3, span).unwrap_err()
    }

    fn gap(comparison: Comparison, span: u64, is_after_run: bool) -> Item {
        Item::Gap(Gap { comparison, span, is_after_run })
    }

    #[test]
    fn every_item_is_read() {
        assert_eq!(items(""), []);
        assert_eq!(items("(?1)(?32)"), [Item::Condition(0), Item::Condition(31)]);
        assert_eq!(items("..*.*."), [Item::Any, Item::Run, Item::Run, Item::Any]);
        for (sign, comparison) in Comparison::SIGNS {
            assert_eq!(
                items(&format!("(?2)(?t{sign}10).")),
                [Item::Condition(1), gap(comparison, 10, false), Item::Any]
            );
        }
    }

    #[test]
    fn a_time_term_knows_whether_it_follows_a_run() {
        assert_eq!(items("(?t>5)"), [gap(Comparison::More, 5, true)]);
        assert_eq!(items(".*(?t>5)"), [Item::Run, gap(Comparison::More, 5, true)]);
        assert_eq!(items(".(?t>5)"), [Item::Any, gap(Comparison::More, 5, false)]);
    }

    #[test]
    fn blanks_do_not_count() {
        let spaced = " (?1) .*\t(?t <= 1 minute ) (? 2 ) . ";
        assert_eq!(items(spaced), items("(?1).*(?t<=60)(?2)."));
    }

    #[test]
    fn the_conditions_that_a_match_needs_are_known() {
        let pattern = Pattern::parse("(?3).*(?1).(?3)", 3, span).unwrap();
        assert_eq!(pattern.wanted(), 0b101);
        assert_eq!(pattern.conditions().collect::<Vec<_>>(), [(1, 2), (3, 0), (5, 2)]);
    }

    #[test]
    fn a_wrong_pattern_is_told_where_and_how_to_mend_it() {
        for (text, message) in [
            ("(?1)x", "an unknown item at position 5, 'x'; expected (?N), (?t op n), . or .*"),
            ("(?1)*", "an unknown item at position 5, '*'"),
            ("(1)", "an unknown item at position 1, '(1)'"),
            ("(?1)(?2", "an item that is not closed at position 5, '(?2'; write ) after it"),
            ("(?", "an item that is not closed at position 1, '(?'"),
            ("(?1)(?x)", "an unknown item at position 7, 'x)'; after (? expected the number"),
            ("(?)", "an unknown item at position 3, ')'"),
            ("(?-1)", "an unknown item at position 3, '-1)'"),
            ("(?1).*(?4)", "no condition 4 to refer to at position 7, '(?4)'; the call has 3"),
            ("(?0)", "no condition 0 to refer to at position 1, '(?0)'; the call has 3, numbered from 1"),
            ("(?99999999999999999999999)", "no condition 99999999999999999999999 to refer to at position 1"),
            ("(?1)(?t5)", "an unknown time term at position 5, '(?t5)'; after (?t expected one of <=, <"),
            ("(?1)(?t=5)", "an unknown time term at position 5, '(?t=5)'"),
            ("(?1)(?t<=)", "a time term without a usable span at position 5, '(?t<=)'; expected a whole number"),
            ("(?1)(?t<=99999999999999999999)", "without a usable span at position 5, '(?t<=999999999999999…'"),
            ("(?1)(?t<=soon)", "position 5, '(?t<=soon)'; 'soon' is no interval"),
            ("(?1)(?t<0)", "a time term that cannot hold at position 5, '(?t<0)'; no row comes less than 0"),
            ("(?1)(?t>1)(?t<5)", "a time term directly after another at position 11, '(?t<5)'"),
            ("öö", "an unknown item at position 1, 'öö'"),
            (". ö", "an unknown item at position 3, 'ö'"),
        ] {
            let error = error(text);
            assert!(error.starts_with("the pattern has ") && error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn the_number_of_items_is_bounded() {
        assert!(Pattern::parse(&".".repeat(MOST_ITEMS), 1, span).is_ok());
        let error = error(&".".repeat(MOST_ITEMS + 1));
        assert!(error.contains("more than 256 items at position 257, '.'; split the pattern"), "{error}");
    }

    #[test]
    fn every_comparison_holds_where_it_says() {
        for (sign, holds) in [
            ("<=", [true, true, false]),
            ("<", [true, false, false]),
            (">", [false, false, true]),
            (">=", [false, true, true]),
            ("==", [false, true, false]),
            ("!=", [true, false, true]),
        ] {
            let Item::Gap(gap) = items(&format!("(?t{sign}5)"))[0] else { panic!("{sign}") };
            assert_eq!([4, 5, 6].map(|distance| gap.holds(distance)), holds, "{sign}");
        }
    }
}
