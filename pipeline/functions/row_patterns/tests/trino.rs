//! The answers of Trino's own tests (`trinodb/trino:core/trino-main/src/test/java/io/trino/sql/query/TestRowPatternMatching.java`).
//! Labels are written here as Trino shows them; ours are as the pattern writes them.

use super::{check, error};

const FOUR: &str = "(values (1, 90), (2, 80), (3, 70), (4, 70)) as t(id, value)";
const EIGHT: &str = "(values (1, 90), (2, 80), (3, 70), (4, 80), (5, 90), (6, 50), (7, 40), (8, 60)) as t(id, value)";

fn labelled(table: &str, shape: &str, skip: &str, pattern: &str, define: &str) -> String {
    format!(
        "select m.id, m.match, m.val, m.label from (select * from {table}) match_recognize (order by id measures \
         match_number() as match, running last(value) as val, classifier() as label {shape} {skip} \
         pattern ({pattern}) {define}) as m"
    )
}

#[tokio::test]
async fn a_simple_query() {
    let sql = labelled(
        EIGHT,
        "all rows per match",
        "after match skip past last row",
        "A B+ C+",
        "define B as B.value < prev (B.value), C as C.value > prev (C.value)",
    );
    check(&sql, "1 1 90 A; 2 1 80 B; 3 1 70 B; 4 1 80 C; 5 1 90 C; 6 2 50 A; 7 2 40 B; 8 2 60 C").await;
}

#[tokio::test]
async fn the_parts_of_a_pattern() {
    let falls = "define B as B.value < prev (B.value), C as C.value = prev (C.value)";
    let cases = [
        ("() | A", "define A as true", "1 1 - -; 2 2 - -; 3 3 - -; 4 4 - -"),
        ("^A", "define A as true", "1 1 90 A"),
        ("A^", "define A as true", ""),
        ("^A^", "define A as true", ""),
        ("A$", "define A as true", "4 1 70 A"),
        ("$A", "define A as true", ""),
        ("$ A $", "define A as true", ""),
        ("A B C", falls, "2 1 80 A; 3 1 70 B; 4 1 70 C"),
        (
            "B | C | A",
            "define B as B.value < prev (B.value), C as C.value <= prev (C.value)",
            "1 1 90 A; 2 2 80 B; 3 3 70 B; 4 4 70 C",
        ),
        ("permute(B, C)", "define B as B.value < prev (B.value), C as C.value < prev (C.value)", "2 1 80 B; 3 1 70 C"),
        ("((A) (B (C)))", falls, "2 1 80 A; 3 1 70 B; 4 1 70 C"),
    ];
    for (pattern, define, expected) in cases {
        check(&labelled(FOUR, "all rows per match", "", pattern, define), expected).await;
    }
}

#[tokio::test]
async fn quantifiers() {
    let empty = "1 1 - -; 2 2 - -; 3 3 - -; 4 4 - -";
    let all = "1 1 - -; 2 2 80 B; 3 2 70 B; 4 2 70 B";
    let each = "2 1 80 B; 3 2 70 B; 4 3 70 B";
    let together = "2 1 80 B; 3 1 70 B; 4 1 70 B";
    let optional = "1 1 - -; 2 2 80 B; 3 3 70 B; 4 4 70 B";
    let two = "2 1 80 B; 3 1 70 B";
    let cases = [
        ("B*", all),
        ("B*?", empty),
        ("B+", together),
        ("B+?", each),
        ("B?", optional),
        ("B??", empty),
        ("B{,}", all),
        ("B{,}?", empty),
        ("B{1,}", together),
        ("B{1,}?", each),
        ("B{2,}", together),
        ("B{2,}?", two),
        ("B{5,}", ""),
        ("B{5,}?", ""),
        ("B{,1}", optional),
        ("B{,1}?", empty),
        ("B{,2}", "1 1 - -; 2 2 80 B; 3 2 70 B; 4 3 70 B"),
        ("B{,2}?", empty),
        ("B{,5}", all),
        ("B{,5}?", empty),
        ("B{1,1}", each),
        ("B{1,1}?", each),
        ("B{1,5}", together),
        ("B{1,5}?", each),
        ("B{5,7}", ""),
        ("B{5,7}?", ""),
        ("B{1}", each),
        ("B{1}?", each),
        ("B{2}", two),
        ("B{2}?", two),
        ("B{5}", ""),
        ("B{5}?", ""),
    ];
    for (pattern, expected) in cases {
        let sql = labelled(FOUR, "all rows per match", "", pattern, "define B as B.value <= prev (B.value)");
        check(&sql, expected).await;
    }
}

#[tokio::test]
async fn exclusions() {
    let all = "1 1 90 A; 2 1 80 B; 3 1 70 B; 4 1 80 C; 5 1 90 C; 6 2 50 A; 7 2 40 B; 8 2 60 C";
    let cases = [
        ("A B+ C+", all),
        ("A {- B+ -} C+", "1 1 90 A; 4 1 80 C; 5 1 90 C; 6 2 50 A; 8 2 60 C"),
        ("{- A -} {- B+ -} C+", "4 1 80 C; 5 1 90 C; 8 2 60 C"),
        ("A {- {- B+ -} C+ -}", "1 1 90 A; 6 2 50 A"),
        ("{- A B+ C+ -}", ""),
        ("A B+ {- ()* -} C+", all),
        (" A {- B -}+ {- C -}+", "1 1 90 A; 6 2 50 A"),
        (" A {- B -}* {- C -}*", "1 1 90 A; 6 2 50 A"),
        (" A {- B -}{1,2} {- C -}{1,2}", "1 1 90 A; 6 2 50 A"),
        (" A {- C -}{2,3} {- B -}{2,3}", "3 1 70 A"),
    ];
    for (pattern, expected) in cases {
        let define = "define B as B.value < prev (B.value), C as C.value > prev (C.value)";
        check(&labelled(EIGHT, "all rows per match", "", pattern, define), expected).await;
    }
}

#[tokio::test]
async fn conditions_refer_to_other_variables() {
    let one = |variable: &str| {
        format!(
            "select value, classy from (select * from (values (1), (1)) as t(value)) match_recognize (measures \
             classifier() as classy all rows per match pattern ((A | B)* X) define X as value = {variable}.value)"
        )
    };
    check(&one("A"), "1 A; 1 X").await;
    check(&one("B"), "1 B; 1 X").await;
    let sql = "select value, classy, defining_condition from (select * from (values (1), (2), (3), (4), (5), (6)) as \
               t(value)) match_recognize (order by value measures classifier() as classy, \
               prev(last(A.value), 3) + first(A.value) + prev(last(B.value), 2) as defining_condition \
               all rows per match pattern ((A | B)* X) \
               define X as value = prev(last(A.value), 3) + first(A.value) + prev(last(B.value), 2))";
    check(sql, "1 B -; 2 A -; 3 A -; 4 A -; 5 B 6; 6 X 6").await;
    let condition = "prev(classifier(U), 1) = 'A' and last(classifier(), 3) = 'B' and first(classifier(U)) = 'B'";
    let sql = format!(
        "select value, classy, defining_condition from (select * from (values (1), (2), (3), (4), (5)) as t(value)) \
         match_recognize (order by value measures classifier() as classy, {condition} as defining_condition \
         all rows per match pattern ((A | B)* X $) subset U = (A, B) define X as {condition})"
    );
    check(&sql, "1 B -; 2 B false; 3 A false; 4 A true; 5 X true").await;
}

#[tokio::test]
async fn rounds_that_take_no_row() {
    let empty = "1 1 - -; 2 2 - -; 3 3 - -; 4 4 - -";
    let cases = [
        ("()* | B", empty),
        ("()+ | B", empty),
        ("(){5,} | B", empty),
        ("B | ()*", "1 1 - -; 2 2 80 B; 3 3 70 B; 4 4 - -"),
        ("(B ()*)*", "1 1 - -; 2 2 80 B; 3 2 70 B; 4 3 - -"),
        ("(B ()*)*?", empty),
        ("^* | B", empty),
        ("^+ | B", "1 1 - -; 2 2 80 B; 3 3 70 B"),
        ("^* A B", "1 1 90 A; 2 1 80 B"),
        ("$* | B", empty),
        ("$+ | B", "2 1 80 B; 3 2 70 B"),
        ("B A $+", "3 1 70 B; 4 1 70 A"),
    ];
    for (pattern, expected) in cases {
        let sql = labelled(FOUR, "all rows per match", "", pattern, "define B as B.value < prev (B.value)");
        check(&sql, expected).await;
    }
}

#[tokio::test]
async fn rows_per_match() {
    let all = "1 - -; 2 80 B; 2 70 B; 3 - -";
    let cases = [
        ("one row per match", "B*", "1 - -; 2 70 B; 3 - -"),
        ("", "B*", "1 - -; 2 70 B; 3 - -"),
        ("one row per match", "B+", "1 70 B"),
        ("all rows per match", "B*", all),
        ("all rows per match", "B+", "1 80 B; 1 70 B"),
        ("all rows per match show empty matches", "B*", all),
        ("all rows per match omit empty matches", "B*", "2 80 B; 2 70 B"),
        ("all rows per match omit empty matches", "B+", "1 80 B; 1 70 B"),
        ("all rows per match with unmatched rows", "B+", "- - -; 1 80 B; 1 70 B; - - -"),
    ];
    for (shape, pattern, expected) in cases {
        let sql = labelled(FOUR, shape, "", pattern, "define B as B.value < prev (B.value)");
        check(&sql.replace("m.id, ", ""), expected).await;
    }
}

#[tokio::test]
async fn after_match_skip() {
    let table = "(values (1, 90), (2, 80), (3, 70), (4, 80), (5, 70), (6, 80)) as t(id, value)";
    let define = "subset U = (C, D) define B as B.value < prev (B.value), C as C.value > prev (C.value), D as false";
    let sql =
        |skip: &str| labelled(table, "all rows per match", &format!("after match skip {skip}"), "A B+ C+ D?", define);
    let first = "1 1 90 A; 2 1 80 B; 3 1 70 B; 4 1 80 C";
    let again = format!("{first}; 4 2 80 A; 5 2 70 B; 6 2 80 C");
    check(&sql("past last row"), first).await;
    let next = format!("{first}; 2 2 80 A; 3 2 70 B; 4 2 80 C; 4 3 80 A; 5 3 70 B; 6 3 80 C");
    check(&sql("to next row"), &next).await;
    for skip in ["to first C", "to last B", "to B", "to U"] {
        check(&sql(skip), &again).await;
    }
    assert!(error(&sql("to A")).await.contains("leads to the first row of the match"));
    assert!(error(&sql("to D")).await.contains("leads to a variable that no row of the match bears"));
}

#[tokio::test]
async fn unmatched_rows_beside_overlapping_matches() {
    let sql = "select m.id, m.match, m.value, m.label from (select * from (values (1, 100), (2, 100), (3, 90), \
               (4, 80), (5, 70), (6, 100)) as t(id, value)) match_recognize (order by id measures match_number() as \
               match, classifier() as label all rows per match with unmatched rows after match skip to next row \
               pattern (A B{2}) define B as B.value < prev (B.value)) as m";
    check(sql, "1 - 100 -; 2 1 100 A; 3 1 90 B; 4 1 80 B; 3 2 90 A; 4 2 80 B; 5 2 70 B; 6 - 100 -").await;
}

#[tokio::test]
async fn union_variables() {
    let sql = "select m.id, m.match, m.val, m.lower_or_higher, m.label from (select * from (values (1, 90), (2, 80), \
               (3, 70), (4, 80)) as t(id, value)) match_recognize (order by id measures match_number() as match, \
               running last(value) as val, classifier(U) as lower_or_higher, classifier(W) as label \
               all rows per match pattern ((L | H) A) subset U = (L, H), W = (A, L, H) \
               define A as A.value = 80, L as L.value < 80, H as H.value > 80) as m";
    check(sql, "1 1 90 H H; 2 1 80 H A; 3 2 70 L L; 4 2 80 L A").await;
}

#[tokio::test]
async fn navigation() {
    let cases = [
        ("value", "10 20 30"),
        ("last(value)", "10 20 30"),
        ("running last(value)", "10 20 30"),
        ("final last(value)", "30 30 30"),
        ("first(value)", "10 10 10"),
        ("running first(value)", "10 10 10"),
        ("final first(value)", "10 10 10"),
        ("final last(value, 2)", "10 10 10"),
        ("first(value, 2)", "- - 30"),
        ("final first(value, 2)", "30 30 30"),
        ("last(value, 10)", "- - -"),
        ("first(value, 10)", "- - -"),
        ("prev(value)", "- 10 20"),
        ("next(value)", "20 30 -"),
        ("next(first(value), 2)", "30 30 30"),
        ("next(first(value), 10)", "- - -"),
        ("prev(first(value), 10)", "- - -"),
        ("prev(first(value, 10), 2)", "- - -"),
        ("prev(last(value, 10), 2)", "- - -"),
    ];
    for (measure, expected) in cases {
        let sql = format!(
            "select m.id, m.measure from (select * from (values (1, 10), (2, 20), (3, 30)) as t(id, value)) \
             match_recognize (order by id measures {measure} as measure all rows per match pattern (A+) \
             define A as true) as m"
        );
        let rows: Vec<String> =
            expected.split(' ').enumerate().map(|(row, value)| format!("{} {value}", row + 1)).collect();
        check(&sql, &rows.join(";")).await;
    }
    for (measure, expected) in [
        ("prev(B.value, 4)", "-"),
        ("prev(B.value, 3)", "10"),
        ("prev(B.value, 2)", "20"),
        ("next(B.value, 1)", "40"),
        ("next(B.value, 2)", "-"),
    ] {
        let sql = format!(
            "select m.measure from (select * from (values (1, 10), (2, 20), (3, 30), (4, 30), (5, 40)) as \
             t(id, value)) match_recognize (order by id measures {measure} as measure one row per match pattern (A B) \
             define B as B.value = prev(B.value)) as m"
        );
        check(&sql, expected).await;
    }
}

#[tokio::test]
async fn classifiers_of_rows_after_the_current_one() {
    let table = "(select * from (values (1, 90), (2, 80), (3, 70), (4, 80)) as t(id, value))";
    let sql = format!(
        "select m.id, m.value, m.label, m.next_label from {table} match_recognize (order by id measures \
         classifier() as label, next(classifier()) as next_label all rows per match pattern (A B+ C+) \
         define B as B.value < prev(B.value), C as C.value > prev(C.value)) as m"
    );
    check(&sql, "1 90 A B; 2 80 B B; 3 70 B C; 4 80 C -").await;
    let sql = format!(
        "select m.id, m.val from {table} match_recognize (order by id measures value as val all rows per match \
         pattern (A+) define A as next(classifier()) = 'A') as m"
    );
    check(&sql, "").await;
}

#[tokio::test]
async fn quoted_variables_keep_their_case() {
    // Trino shows the first label as A: it puts names without quotes in upper case.
    let sql = "select m.id, m.label from (select * from (values (1, 90), (2, 80), (3, 70), (4, 80)) as t(id, value)) \
               match_recognize (order by id measures classifier() as label all rows per match pattern (a \"B\"+ C+) \
               define \"B\" as \"B\".value < prev(\"B\".value), C as c.value > prev(c.value)) as m";
    check(sql, "1 a; 2 B; 3 B; 4 C").await;
}

#[tokio::test]
async fn scalar_functions() {
    let sql = "select m.id, m.label from (select * from (values (1, 90), (2, 80), (3, 60)) as t(id, value)) \
               match_recognize (order by id measures lower(last(classifier())) || '_label' as label \
               all rows per match pattern (A B+) define B as B.value + 10 < abs(prev (B.value))) as m";
    check(sql, "2 a_label; 3 b_label").await;
}

#[tokio::test]
async fn running_and_final() {
    let sql = "select * from (select * from (values (1, 90), (2, 80), (3, 70), (4, 100), (5, 200)) as t(id, value)) \
               match_recognize (order by id measures classifier() as label, final last(classifier()) as final_label, \
               running last(value) as r, final last(value) as f, running last(A.value) as ar, \
               final last(A.value) as af, running last(B.value) as br, final last(B.value) as bf, \
               running last(C.value) as cr, final last(C.value) as cf all rows per match pattern (A B+ C+) \
               define B as B.value < prev (B.value), C as C.value > prev (C.value))";
    let expected = "1 A C 90 200 90 90 - 70 - 200 90; 2 B C 80 200 90 90 80 70 - 200 80; \
                    3 B C 70 200 90 90 70 70 - 200 70; 4 C C 100 200 90 90 70 70 100 200 100; \
                    5 C C 200 200 90 90 70 70 200 200 200";
    check(sql, expected).await;
}

#[tokio::test]
async fn partitions_and_order() {
    let table = "(select * from (values (1, 'p1', 90), (2, 'p1', 80), (6, 'p1', 80), (2, 'p2', 20), (2, 'p3', 60), \
                 (1, 'p3', 50), (3, 'p1', 70), (4, 'p1', 80), (5, 'p1', 90), (1, 'p2', 20), (3, 'p3', 70), \
                 (3, 'p2', 10)) as t(id, part, value))";
    let clause = "match_recognize (partition by part order by id measures match_number() as match, \
                  prev(running last(value)) as val, classifier() as label all rows per match pattern (B+) \
                  define B as B.value < prev (B.value)) as m";
    let sql = format!("select m.part as partition, m.id, m.match, m.val, m.label from {table} {clause}");
    check(&sql, "p1 2 1 90 B; p1 3 1 80 B; p1 6 2 90 B; p2 3 1 20 B").await;
    let empty = sql.replace("(3, 'p2', 10)) as t(id, part, value)", "(3, 'p2', 10)) as t(id, part, value) where false");
    check(&empty, "").await;
    let sql = labelled(
        "(values (5, 10), (2, 90), (1, 80), (4, 20), (3, 30)) as t(id, value)",
        "all rows per match",
        "",
        "B+",
        "define B as B.value < prev (B.value)",
    );
    check(&sql, "3 1 30 B; 4 1 20 B; 5 1 10 B").await;
    let sql = "select m.id, m.part from (select * from (values (5, 'p2', 10), (2, 'p1', 90), (1, 'p1', 80), \
               (4, 'p2', 20), (3, 'p1', 30)) as t(id, part, value)) match_recognize (partition by part order by id \
               all rows per match pattern (B+) define B as B.value < prev (B.value)) as m";
    check(sql, "3 p1; 5 p2").await;
}

#[tokio::test]
async fn the_columns_of_the_result() {
    let sql = |shape: &str| {
        format!(
            "select * from (select * from (values ('ordering', 'partitioning', 90)) as t(id, part, value)) \
             match_recognize (partition by part order by id measures classifier() as classy {shape} pattern (A) \
             define A as true) as m"
        )
    };
    check(&sql("all rows per match"), "partitioning ordering A 90").await;
    check(&sql("one row per match"), "partitioning A").await;
}

#[tokio::test]
async fn several_clauses_in_one_query() {
    let clause = |rows: &str, variable: &str, name: &str| {
        format!(
            "(select * from (values {rows}) as t(id)) match_recognize (order by id measures classifier() as classy \
             all rows per match pattern ({variable}) define {variable} as true) as {name}"
        )
    };
    let sql = format!(
        "select one.classy, two.classy, three.classy from {}, {}, {}",
        clause("(1), (2), (3)", "A", "one"),
        clause("(10), (20)", "B", "two"),
        clause("(100)", "C", "three")
    );
    check(&sql, &"A B C;".repeat(6)).await;
}

#[tokio::test]
async fn in_lists() {
    let cases = [
        ("first(A.value) in (300, last(A.value))", "false; false; true; true"),
        ("classifier() in ('X', lower(classifier()))", "false; false; false; false"),
        ("match_number() in (0, match_number())", "true; true; true; true"),
    ];
    for (measure, expected) in cases {
        let sql = format!(
            "select m.val from (select * from (values (1, 100), (2, 200), (3, 300), (4, 400)) as t(id, value)) \
             match_recognize (order by id measures {measure} as val one row per match after match skip to next row \
             pattern (A+) define A as true) as m"
        );
        check(&sql, expected).await;
    }
}

#[tokio::test]
async fn matches_among_exponentially_many_attempts() {
    let ones = vec!["(1)"; 20].join(", ");
    let sql = format!(
        "select m.classy from (select * from (values {ones}) as t(value)) match_recognize (measures classifier() as \
         classy pattern ((A+)+ B) define A as value = 1, B as value = 2) as m"
    );
    check(&sql, "").await;
    let conditions: Vec<String> = (0..8).map(|offset| format!("first(classifier(), {offset}) = 'B'")).collect();
    let sql = format!(
        "select m.classy from (select * from (values (1), (2), (3), (4), (5), (6), (7), (8), (9)) as t(value)) \
         match_recognize (order by value measures classifier() as classy all rows per match pattern ((A | B)+ LAST) \
         define LAST as {}) as m",
        conditions.join(" and ")
    );
    check(&sql, "B; B; B; B; B; B; B; B; LAST").await;
}

#[tokio::test]
async fn the_example_of_its_documentation() {
    // docs/src/main/sphinx/sql/match-recognize.md gives the query, without rows.
    let sql = "select * from (select * from (values ('a', 1, 100), ('a', 2, 90), ('a', 3, 80), ('a', 4, 95), \
               ('a', 5, 120), ('b', 1, 10), ('b', 2, 20)) as t(custkey, orderdate, totalprice)) match_recognize( \
               partition by custkey order by orderdate measures A.totalprice as starting_price, \
               last(B.totalprice) as bottom_price, last(U.totalprice) as top_price one row per match \
               after match skip past last row pattern (A B+ C+ D+) subset U = (C, D) \
               define B as totalprice < prev(totalprice), \
               C as totalprice > prev(totalprice) and totalprice <= A.totalprice, D as totalprice > prev(totalprice))";
    check(sql, "a 100 80 120").await;
}
