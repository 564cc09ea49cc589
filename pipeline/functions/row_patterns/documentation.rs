//! What SQL users read about `match_recognize`.

use std::sync::LazyLock;

use datafusion::logical_expr::Documentation;

use super::super::documentation::{Example, Manual, Section, Unlike};

/// The documentation of the clause, in the form of a function's.
pub(in crate::functions) fn documentation() -> &'static Documentation {
    static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
        Manual {
            section: Section::Sequences,
            syntax: &[
                "from table match_recognize (partition by … order by … measures … pattern (…) define …)",
                "from table match_recognize ([partition by …] [order by …] [measures …] [one row per match | all rows \
                 per match …] [with partial matches] [after match skip …] pattern (…) [within …] [subset …] define …)",
            ],
            summary: "Finds the rows of a partition that follow a pattern, as SQL:2016 says it.",
            details: "Two things are ours. `within` bounds the span of a match: the first key of the order at its \
                      last row lies at most so far from that at its first, the end included (Flink excludes it). \
                      `with partial matches` shows attempts too: where no match starts at a row, the rows of the \
                      attempt that came furthest, which `match_complete()` tells from a match: the drop-offs that the \
                      standard cannot say. They change neither the matches nor where these are looked for; they are \
                      numbered along with them.",
            arguments: &[
                ("partition by", "Expressions, perhaps none: matches lie within a partition."),
                ("order by", "Expressions with any directions and nulls: the order in which the pattern reads."),
                ("measures", "What the result says of a match, each with a name: see Expressions."),
                (
                    "one row per match",
                    "Also when left out: a row per match; `all rows per match` gives a row per row of a match: `show \
                     empty matches` (also when left out), `omit empty matches` or `with unmatched rows`.",
                ),
                (
                    "after match skip",
                    "Where the search goes on: `past last row` (also when left out), `to next row`, `to first`, `to \
                     last` or `to` a variable.",
                ),
                (
                    "pattern",
                    "Variables one after another (`a b`), alternatives (`a | b`), groups, quantifiers (`*`, `+`, `?`, \
                     `{n,m}`, reluctant with `?` behind), anchors (`^`, `$`), `permute(a, b)`, exclusion (`{- a -}`) \
                     and the empty pattern `()`. Alternatives are preferred from left to right.",
                ),
                ("within", "An interval, or a number where the order's first key is one."),
                ("subset", "`u = (a, b)`: another name for several variables."),
                (
                    "define",
                    "What a row must be to be taken as a variable; a variable that is not defined takes any row. \
                     Before a dot the name of a variable hides that of a table.",
                ),
            ],
            example: Example {
                query: "
                    select customer, started, paid, is_paid
                    from (values
                      ('ann', 1, 'cart'), ('ann', 2, 'help'), ('ann', 3, 'pay'),
                      ('bob', 1, 'cart'), ('bob', 30, 'pay')
                    ) as events(customer, at, touch)
                    match_recognize (
                      partition by customer
                      order by at
                      measures first(at) as started, last(pay.at) as paid, match_complete() as is_paid
                      one row per match with partial matches
                      after match skip past last row
                      pattern (cart other*? pay) within 10
                      define cart as touch = 'cart', pay as touch = 'pay'
                    )
                    order by customer
                ",
                rows: &["customer | started | paid | is_paid", "ann | 1 | 3 | true", "bob | 1 |  | false"],
            },
            returns: "a table: the columns of `partition by`; in `all rows per match` those of `order by`; the \
                      measures; in `all rows per match` the other columns.",
            parts: &[
                (
                    "Expressions",
                    "in `measures` and `define` may use `first`, `last`, `prev`, `next` (with offsets, nested; `lag` \
                     and `lead` are other names of the last two), `classifier()`, `match_number()`, \
                     `match_sequence_number()`, `match_complete()`, `running` and `final`, the aggregates `count`, \
                     `sum`, `avg`, `min`, `max` and `array_agg`, and any scalar function around and inside them.",
                ),
                (
                    "Absent",
                    "window functions with `over`, subqueries and columns of an outer query in `measures` and \
                     `define`; other aggregates; `distinct`, `filter` and `order by` in aggregates; `avg` of \
                     decimals; `array_agg` in `define`; `classifier()` inside an expression that is aggregated; more \
                     than 64 variables.",
                ),
            ],
            nulls: "a condition that is null does not hold. A row without a time lies in no span but its own.",
            order: "that of `order by`; the result itself has none.",
            ties: "rows with equal keys are ordered by the columns that the clause uses, in the order of the table; \
                   rows that are equal in all of these are interchangeable. Columns of types without an order, such \
                   as maps, do not count.",
            memory: "the rows of one partition, with the columns that the clause uses, a bit for each row and part of the \
                     pattern and, with `within`, 4 bytes for each row and variable in it, each copy that a quantifier makes counted, of up to 64. The sort before it may spill.",
            errors: "what is not supported is named at planning. At execution: a match that resumes at its own first \
                     row or at a variable that it lacks, and a search that goes beyond its budget of 2 000 000 steps \
                     and 5 000 more per row of the partition. With conditions that look at their row alone, or at \
                     rows at fixed distances, a search takes at most a few steps per row and part of the pattern \
                     (with `within` and more than 1 000 ways from one part to the next, for each start); with conditions that look at other rows of the match it can \
                     take many more.",
            source: "ISO/IEC 9075-2:2016 as documented by Trino, Snowflake and Oracle.",
            differs: &[
                Unlike {
                    whom: "Trino and Snowflake",
                    by: &[
                        "`classifier()` shows a variable as the pattern writes it, where they show unquoted names in \
                         upper case",
                        "conditions that look at their row alone are computed for every row, also for rows at which \
                         the pattern never asks, so that an error such as a division by zero is one even there",
                    ],
                },
                Unlike {
                    whom: "Trino",
                    by: &[
                        "`running first(x, n)` is null until the match has n + 1 rows, as the standard says, where it \
                         looks ahead",
                    ],
                },
                Unlike {
                    whom: "Snowflake",
                    by: &["in `all rows per match` the measures come before the other columns, as in the standard, \
                           where it puts them last"],
                },
                Unlike { whom: "Flink", by: &["the end of `within` is included"] },
            ],
        }
        .document()
    });
    &DOCUMENTATION
}
