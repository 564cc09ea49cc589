//! The answers of Trino's own tests of aggregates over the rows of a match
//! (`trinodb/trino:core/trino-main/src/test/java/io/trino/sql/query/TestAggregationsInRowPatternMatching.java`). Labels are
//! as the pattern writes them. Aggregates of what is worked out from `classifier()`, and subqueries in them, are not
//! supported here.

use super::check;

/// All rows of all matches of a table `t(part, id, value)`, with its first two columns and the measures.
fn all_rows(values: &str, measures: &str, rest: &str) -> String {
    format!(
        "select * from (select part, id, m.* exclude (part, id, value) from (select * from (values {values}) as \
         t(part, id, value)) match_recognize (partition by part order by id measures {measures} all rows per match \
         after match skip past last row {rest}) as m)"
    )
}

/// Values with ids from 1, of one part.
fn one_part(values: &[i64]) -> String {
    let rows: Vec<String> = (1..).zip(values).map(|(id, value)| format!("('p', {id}, {value})")).collect();
    rows.join(", ")
}

#[tokio::test]
async fn a_row_tried_under_a_variable_counts_for_it_only_if_it_bears_it() {
    let averages = |variable: &str| {
        (
            format!("classifier() as label, avg({variable}.value) as average"),
            format!("pattern ((A | B)*) define A as avg({variable}.value) = 5"),
        )
    };
    let (measures, rest) = averages("B");
    check(&all_rows(&one_part(&[4, 6, 0]), &measures, &rest), "p 1 B 4.0; p 2 B 5.0; p 3 A 5.0").await;
    let (measures, rest) = averages("A");
    check(&all_rows(&one_part(&[4, 6, 0, 5]), &measures, &rest), "p 1 B -; p 2 B -; p 3 B -; p 4 A 5.0").await;

    let thrice = "('p', 1, 1), ('p', 2, 1), ('p', 3, 1), ('p', 4, 1), ('p', 5, 1), ('p', 6, 1), ('q', 1, 10), ('q', 2, 10), \
                  ('q', 3, 10), ('r', 1, 100), ('r', 2, 100), ('r', 3, 100)";
    let sql = all_rows(thrice, "sum(value) as total", "pattern (B (A | B) B) define A as sum(value) > 1000");
    let expected = "p 1 1; p 2 2; p 3 3; p 4 1; p 5 2; p 6 3; q 1 10; q 2 20; q 3 30; r 1 100; r 2 200; r 3 300";
    check(&sql, expected).await;

    let growing = "('p', 1, 1), ('p', 2, 2), ('p', 3, 3), ('p', 4, 4), ('p', 5, 5), ('q', 1, 2), ('q', 2, 4), ('q', 3, 6), \
                   ('q', 4, 8), ('q', 5, 10)";
    let expected = "p 1 B 1; p 2 B 2; p 3 B 3; p 4 B 4; p 5 A 5; q 1 B 2; q 2 B 4; q 3 A 6; q 4 A 8; q 5 A 10";
    let measures = "classifier() as label, max(value) as most";
    check(&all_rows(growing, measures, "pattern ((A | B)*) define A as max(value) > 4"), expected).await;

    let expected = "p 1 B - 4; p 2 A 6 4; p 3 B 6 14; p 4 A 7 14; p 5 A 8 14; p 6 A 9 14; p 7 A 19 14; p 8 B 19 19; \
                    p 9 A 20 19";
    let sql = all_rows(
        &one_part(&[4, 6, 10, 1, 1, 1, 10, 5, 1]),
        "classifier() as label, sum(A.value) as a, sum(B.value) as b",
        "pattern ((A | B)*) define A as sum(A.value) - A.value <= sum(B.value)",
    );
    check(&sql, expected).await;
}

#[tokio::test]
async fn aggregates_see_the_rows_of_their_variable() {
    let sql = all_rows(
        &one_part(&[10, 20, 30, 40]),
        "array_agg(U.id) as ids, array_agg(classifier(U)) as labels, count(Y.*) as ys, final count(U.*) as us",
        "pattern (X Y Z Y) subset U = (X, Z) define X as true",
    );
    check(&sql, "p 1 [1] [X] 0 2; p 2 [1] [X] 1 2; p 3 [1, 3] [X, Z] 1 2; p 4 [1, 3] [X, Z] 2 2").await;
    // A column and a variable of one name.
    let sql = "select * from (select * from (values (1, 'p'), (2, 'q'), (3, null), (4, 's')) as t(id, a)) match_recognize \
               (order by id measures classifier() as label, count(a.a) as x, count(a) as y, count(a.*) as z \
               all rows per match pattern (a b a a) define a as true)";
    check(sql, "1 a 1 1 1 p; 2 b 1 2 1 q; 3 a 1 2 2 -; 4 a 2 3 3 s").await;
    // Runs of consecutive numbers, or single ones: the time between the ends of each, summed up.
    let sql = "select * from (select * from (values (1, 3), (1, 4), (1, 5), (1, 8), (1, 9), (2, 2), (2, 3), (2, 4)) as \
               t(who, at)) match_recognize (partition by who order by at measures coalesce(sum(C.at) - sum(A.at), 0) as \
               total one row per match pattern ((A B* C | D)*) define B as at = prev(at) + 1, C as at = prev(at) + 1)";
    check(sql, "1 3; 2 2").await;
}

#[tokio::test]
async fn numbers_are_shared_out_to_equal_sums() {
    let shared = |most: usize, rest: &str| {
        let values: Vec<i64> = (1..=most as i64).collect();
        all_rows(&one_part(&values), "final array_agg(classifier()) as labels", rest)
    };
    let sql = shared(
        8,
        "pattern (^(A | B)* (LAST_A | LAST_B)$) define LAST_A as sum(A.id) + id = sum(B.id), \
         LAST_B as sum(B.id) + id = sum(A.id)",
    );
    let row = |id: usize, labels: &str| format!("p {id} [{labels}]");
    let expected: Vec<String> = (1..=8).map(|id| row(id, "A, A, A, A, B, B, B, LAST_A")).collect();
    check(&sql, &expected.join("; ")).await;
    let sql = shared(
        6,
        "pattern (^(A | B | C)* (LAST_A | LAST_B | LAST_C)$) \
         define LAST_A as sum(A.id) + id = sum(B.id) and sum(B.id) = sum(C.id), \
         LAST_B as sum(B.id) + id = sum(A.id) and sum(A.id) = sum(C.id), \
         LAST_C as sum(C.id) + id = sum(A.id) and sum(A.id) = sum(B.id)",
    );
    let expected: Vec<String> = (1..=6).map(|id| row(id, "A, B, C, C, B, LAST_A")).collect();
    check(&sql, &expected.join("; ")).await;
}
