//! What the engines named in the other files do not document: spans, attempts, aggregates, ties, errors, plans.

use datafusion::arrow::util::pretty::pretty_format_batches;

use super::{check, error, run, session, standard_sql};

/// Two customers; the first comes twice, the second time slowly.
const EVENTS: &str = "(select c, e, at, cast(v as bigint) as v from (values \
    ('a', 'view', timestamp '2025-01-01T10:00:00', 1), ('a', 'cart', timestamp '2025-01-01T10:20:00', 2), \
    ('a', 'buy', timestamp '2025-01-01T11:00:00', 3), ('a', 'view', timestamp '2025-01-02T10:00:00', 4), \
    ('a', 'cart', timestamp '2025-01-02T10:30:00', 5), ('a', 'buy', timestamp '2025-01-02T11:00:01', 6), \
    ('b', 'view', timestamp '2025-01-01T10:00:00', 7), ('b', 'help', timestamp '2025-01-01T10:00:01', null)) \
    as events(c, e, at, v))";

const STEPS: &str = "view as e = 'view', cart as e = 'cart', buy as e = 'buy'";

#[tokio::test]
async fn a_match_may_be_bound_to_a_span_whose_end_is_included() {
    let sql = |within: &str| {
        format!(
            "select * from {EVENTS} match_recognize (partition by c order by at measures first(v) as f, last(v) as l \
             pattern (view cart buy) {within} define {STEPS})"
        )
    };
    check(&sql(""), "a 1 3; a 4 6").await;
    check(&sql("within interval '1' hour"), "a 1 3").await;
    check(&sql("within interval '1 hour 1 second'"), "a 1 3; a 4 6").await;
    check(&sql("within '1 hour'"), "a 1 3").await;
    check(&sql("within 3599999999"), "").await;
    check(&sql("within 3600000000"), "a 1 3").await;
    // Without the words of the standard.
    let sql = sql("").replace("define ", "define within as interval '1 hour', ");
    let clause = sql.split("match_recognize").last().unwrap();
    assert!(standard_sql(&sql).ends_with(clause));
    check(&sql, "a 1 3").await;
    let down = sql.replace("by at", "by at desc").replace("view cart buy", "buy cart view");
    check(&down, "a 3 1").await;
}

#[tokio::test]
async fn a_span_over_numbers_and_dates_and_rows_without_a_time() {
    let table = "(select * from (values (1, 'x'), (3, 'x'), (6, 'x'), (null, 'x'), (null, 'x')) as t(n, x))";
    let sql = format!(
        "select * from {table} match_recognize (order by n measures first(n) as f, last(n) as l, count(*) as rows \
         pattern (a+) within 2)"
    );
    check(&sql, "1 3 2; 6 6 1; - - 1; - - 1").await;
    let sql = sql.replace("by n", "by n nulls first");
    check(&sql, "- - 1; - - 1; 1 3 2; 6 6 1").await;
    let sql = "select * from (select date '2025-01-01' as d union all select date '2025-01-02' union all select date \
               '2025-01-04') match_recognize (order by d measures count(*) as rows pattern (a+) within interval '1' day)";
    check(sql, "2; 1").await;
    let sql = "select * from (select cast(n as timestamp(9)) as t from (values (0), (1), (3)) as t(n)) match_recognize \
               (order by t measures count(*) as rows pattern (a+) within interval '1' second)";
    check(sql, "2; 1").await;
}

#[tokio::test]
async fn attempts_are_shown_on_request_and_change_no_match() {
    let sql = |partial: &str| {
        format!(
            "select * from {EVENTS} match_recognize (partition by c order by at measures match_number() as n, \
             array_agg(classifier()) as steps, last(cart.v) as cart, match_complete() as whole one row per match \
             {partial} pattern (view cart? buy?) subset any_step = (view, cart) define {STEPS})"
        )
    };
    check(&sql(""), "a 1 [view, cart, buy] 2 true; a 2 [view, cart, buy] 5 true; b 1 [view] - true").await;
    let sql = |partial: &str| {
        format!(
            "select * from {EVENTS} match_recognize (partition by c order by at measures match_number() as n, \
             array_agg(classifier()) as steps, last(cart.v) as cart, match_complete() as whole one row per match \
             {partial} pattern (view other*? cart other*? buy) within interval '1' hour define {STEPS})"
        )
    };
    check(&sql(""), "a 1 [view, cart, buy] 2 true").await;
    let expected = "a 1 [view, cart, buy] 2 true; a 2 [view, cart] 5 false; b 1 [view, other] - false";
    check(&sql("with partial matches"), expected).await;
    let other = sql("").replace("define ", "define partial_matches as true, ");
    check(&other, expected).await;
    let rows = sql("with partial matches")
        .replace("one row", "all rows")
        .replace("with partial", "with unmatched rows with partial");
    let rows = rows.replace("select * from (select c", "select c, v, n, cart, whole from (select c");
    let expected = "a 1 1 - true; a 2 1 2 true; a 3 1 2 true; a 4 2 - false; a 5 2 5 false; a 6 - - -; \
                    b 7 1 - false; b - 1 - false";
    check(&rows, expected).await;
}

#[tokio::test]
async fn attempts_overlap_only_with_skip_to_next_row() {
    let sql = |skip: &str| {
        format!(
            "select * from (select * from (values (1), (2), (3)) as t(v)) match_recognize (order by v \
             measures first(v) as f, last(v) as l, match_complete() as whole one row per match with partial matches \
             after match skip {skip} pattern (a+ b) define b as v > 9)"
        )
    };
    check(&sql("past last row"), "1 3 false").await;
    check(&sql("to next row"), "1 3 false; 2 3 false; 3 3 false").await;
}

#[tokio::test]
async fn aggregates_run_and_end() {
    let table = "(select k, cast(v as int) as v, cast(v as decimal(6, 2)) as d, cast(v as double) as f, \
                 arrow_cast(k, 'Dictionary(Int32, Utf8)') as w from \
                 (values ('p', 1), ('q', null), ('r', 3), ('s', 2)) as t(k, v))";
    let all = |measures: &str| {
        format!(
            "select * from (select x.* from {table} match_recognize (order by k measures {measures} all rows per match \
             pattern (a b* c) define b as k < 's') as x)"
        )
    };
    let only = |measure: &str| all(&format!("{measure} as m")).replace("x.*", "x.m");
    let cases = [
        ("count(*)", "1; 2; 3; 4"),
        ("count()", "1; 2; 3; 4"),
        ("final count(*)", "4; 4; 4; 4"),
        ("count(v)", "1; 1; 2; 3"),
        ("count(b.*)", "0; 1; 2; 2"),
        ("count(b.v)", "0; 0; 1; 1"),
        ("sum(v)", "1; 1; 4; 6"),
        ("sum(b.v)", "-; -; 3; 3"),
        ("final sum(b.v + 1)", "4; 4; 4; 4"),
        ("sum(d)", "1.00; 1.00; 4.00; 6.00"),
        ("avg(v)", "1.0; 1.0; 2.0; 2.0"),
        ("mean(f)", "1.0; 1.0; 2.0; 2.0"),
        ("min(v)", "1; 1; 1; 1"),
        ("max(b.v)", "-; -; 3; 3"),
        ("max(k)", "p; q; r; s"),
        ("min(w)", "p; p; p; p"),
        ("array_agg(v)", "[1]; [1, -]; [1, -, 3]; [1, -, 3, 2]"),
        ("array_agg(b.w)", "-; [q]; [q, r]; [q, r]"),
        ("final array_agg(classifier())", "[a, b, b, c]; [a, b, b, c]; [a, b, b, c]; [a, b, b, c]"),
        ("array_agg(classifier(b))", "-; [b]; [b, b]; [b, b]"),
        ("max(classifier())", "a; b; b; c"),
        ("count(classifier(b))", "0; 1; 2; 2"),
        ("sum(1)", "1; 2; 3; 4"),
        ("first(v + 1) + final last(v) * 10", "22; 22; 22; 22"),
        ("last('x' || classifier(b) || b.k)", "-; xbq; xbr; xbr"),
        ("prev(coalesce(v, 9))", "-; 1; 9; 3"),
        ("last(coalesce(classifier(b), b.k), 1)", "-; -; b; b"),
        ("next(match_number() * 2)", "error"),
    ];
    for (measure, expected) in cases {
        if expected == "error" {
            assert!(error(&only(measure)).await.contains("expected a column or classifier()"));
        } else {
            check(&only(measure), expected).await;
        }
    }
}

#[tokio::test]
async fn conditions_may_aggregate_what_was_matched_so_far() {
    let sql = |condition: &str| {
        format!(
            "select * from (select * from (values (1), (2), (3), (4), (5), (6)) as t(v)) match_recognize (order by v \
             measures array_agg(v) as vs pattern (a+) define a as {condition})"
        )
    };
    check(&sql("sum(v) <= 6"), "[1, 2, 3]; [4]; [5]; [6]").await;
    check(&sql("count(*) <= 4"), "[1, 2, 3, 4]; [5, 6]").await;
    check(&sql("avg(a.v) < 2"), "[1, 2]").await;
    check(&sql("max(v) - min(v) < 2"), "[1, 2]; [3, 4]; [5, 6]").await;
    check(&sql("first(v) * 2 >= v"), "[1, 2]; [3, 4, 5, 6]").await;
    check(&sql("match_number() * 2 >= v"), "[1, 2]; [3, 4]; [5, 6]").await;
    check(&sql("match_sequence_number() < 3"), "[1, 2]; [3, 4]; [5, 6]").await;
    check(&sql("v < 3 and null"), "").await;
    check(&sql("coalesce(last(v, 1), 0) + 1 = v and next(v) > 0"), "[1, 2, 3, 4, 5]").await;
    // Parts that two conditions share are not computed before the match.
    let sql = "select * from (select * from (values (1), (2), (3), (4), (5), (6)) as t(v)) match_recognize (order by v \
               measures array_agg(v) as vs, array_agg(b.v) as bs pattern (a b* c) define b as abs(v - a.v) < 3 and \
               abs(v + 1) > 0, c as abs(v - a.v) >= 3 and abs(v + 1) > 0)";
    check(sql, "[1, 2, 3, 4] [2, 3]").await;
}

#[tokio::test]
async fn equal_keys_are_ordered_by_what_the_answer_depends_on() {
    let mut rows = ["(1, 'x', 3)", "(1, 'y', 1)", "(1, 'x', 2)", "(1, 'z', 1)", "(1, 'x', 2)"];
    for _ in 0..rows.len() {
        rows.rotate_left(1);
        let sql = |shape: &str| {
            format!(
                "select * from (select * from (values {}) as t(at, k, v)) match_recognize (order by at measures \
                 first(v) as f, last(v) as l, array_agg(v) as vs {shape} pattern (a+ b) define b as v > prev(v))",
                rows.join(", ")
            )
        };
        check(&sql("one row per match"), "1 3 [1, 1, 2, 2, 3]").await;
        let expected = "1 2 2 [2] x 2; 1 2 2 [2, 2] x 2; 1 2 3 [2, 2, 3] x 3";
        check(&sql("all rows per match"), expected).await;
    }
}

#[tokio::test]
async fn several_keys_and_their_directions() {
    let table = "(select * from (values (1, 'b'), (1, 'a'), (2, 'c'), (null, 'd')) as t(n, k))";
    for (order, expected) in [
        ("n, k", "[a, b, c, d]"),
        ("n desc, k", "[d, c, a, b]"),
        ("n desc nulls last, k desc", "[c, b, a, d]"),
        ("n nulls first, k desc", "[d, b, a, c]"),
        ("-n, k", "[c, a, b, d]"),
    ] {
        let sql = format!(
            "select * from {table} match_recognize (order by {order} measures array_agg(k) as ks pattern (a+))"
        );
        check(&sql, expected).await;
    }
    let sql = format!(
        "select * from {table} match_recognize (partition by n, k > 'b' order by k measures count(*) as c pattern (a+))"
    );
    check(&sql, "1 false 2; 2 true 1; - true 1").await;
}

#[tokio::test]
async fn a_result_can_be_joined_filtered_and_matched_again() {
    let sql = "with m as (select * from (select * from (values ('a', 1), ('a', 2), ('b', 1)) as t(k, v)) \
               match_recognize (partition by k order by v measures count(*) as rows pattern (a+))) \
               select m.k, m.rows, t.v from m join (values ('a', 5)) as t(k, v) on m.k = t.k where m.rows > 1";
    check(sql, "a 2 5").await;
    let sql = "select * from (select * from (select * from (values (1), (2), (4)) as t(v)) match_recognize (order by v \
               measures last(v) as l pattern (a b$) define b as v = prev(v) + 2)) match_recognize (order by l \
               measures count(*) as rows pattern (a+$))";
    check(sql, "1").await;
    let sql = "select x, y from (select * from (values (1), (2)) as t(v)) match_recognize (order by v measures first(v) \
               as f, last(v) as l pattern (a+)) as m(x, y)";
    check(sql, "1 2").await;
}

#[tokio::test]
async fn one_partition_after_another_is_matched_in_one_phase() {
    let ctx = session(4, 8_192);
    ctx.sql("create table events as select 'c' as c, 1 as at, 2 as v").await.unwrap().collect().await.unwrap();
    let sql = "explain select * from events match_recognize (partition by c order by at measures last(v) as l \
               pattern (a b) define b as v > prev(v))";
    let plan = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let plan = pretty_format_batches(&plan).unwrap().to_string();
    let aggregates: Vec<&str> = plan.lines().filter(|line| line.contains("AggregateExec")).collect();
    assert_eq!(aggregates.len(), 1, "{plan}");
    assert!(aggregates[0].contains("mode=SinglePartitioned"), "{plan}");
    assert!(aggregates[0].contains("ordering_mode=Sorted"), "{plan}");
}

#[tokio::test]
async fn an_endless_search_is_given_up_with_a_remedy() {
    let sql = "select * from (select value as v from generate_series(1, 60)) match_recognize (order by v \
               pattern ((a | b)+ c) define c as sum(v) < 0)";
    let message = error(sql).await;
    assert!(message.contains("gave up after 2300000 steps in one partition: bound the quantifiers"), "{message}");
}

#[tokio::test]
async fn what_is_wrong_or_not_supported_is_named() {
    let clause = |clause: &str| format!("select * from (select 1 as v, 2 as w, 'x' as k) match_recognize ({clause})");
    let cases = [
        ("pattern (a) define b as true", "b is defined, but no variable of the pattern"),
        ("pattern (a) define a as true, a as false", "variable a is defined twice"),
        ("pattern (a) define a as v", "expected the definition of a variable to be boolean, got Int64"),
        ("pattern (a) define a as nothing > 1", "nothing: there is no such column"),
        ("pattern (a) define a as b.v > 1", "b.v: there is no such column, and no variable of the pattern before it"),
        ("pattern (a b) subset u = (c) define a as true", "subset u: c is no variable of the pattern"),
        ("after match skip to c pattern (a)", "after match skip to c: no variable of the pattern, and no subset"),
        ("pattern (a{3,2})", "quantifier {3,2} has no number in it"),
        ("pattern (a+*)", "expected one quantifier at a time, got a+*"),
        ("pattern ((a{1,1000}){1,1000})", "the pattern is too large"),
        ("pattern (permute(a, b, c, d, e, f, g, h, i))", "the pattern is too large"),
        ("all rows per match with unmatched rows pattern (a {- b -})", "the pattern excludes some with {- -}"),
        (
            "measures avg(cast(v as decimal(4, 1))) as x pattern (a)",
            "avg of Decimal128(4, 1) is not supported: cast it to double",
        ),
        ("measures sum(k) as x pattern (a)", "sum"),
        ("measures stddev(v) as x pattern (a)", "aggregate stddev is not supported: use count"),
        ("measures count(distinct v) as x pattern (a)", "distinct, order by, filter"),
        ("measures array_agg(v order by v) as x pattern (a)", "distinct, order by, filter"),
        ("measures first(v) ignore nulls as x pattern (a)", "null treatment are not supported"),
        ("measures sum(v) over () as x pattern (a)", "window functions are not supported in measures and define"),
        ("measures row_number() as x pattern (a)", "window function row_number is not supported"),
        ("measures (select 1) as x pattern (a)", "subqueries are not supported in measures and define"),
        ("measures first(last(v)) as x pattern (a)", "last(v) inside first is not supported"),
        ("measures sum(first(v)) as x pattern (a)", "first(v) inside sum is not supported"),
        ("measures prev(prev(v)) as x pattern (a)", "prev(v) inside last is not supported"),
        ("measures last(a.v + b.v) as x pattern (a b)", "expected columns of one variable, got those of several"),
        ("measures last(1) as x pattern (a)", "expected a column or classifier(), got 1"),
        ("measures last(v, -1) as x pattern (a)", "expected a whole number as second argument, got -1"),
        ("measures last(v, w) as x pattern (a)", "expected a whole number as second argument, got w"),
        ("measures final prev(v) as x pattern (a)", "expected final before first, last or an aggregate"),
        ("measures classifier(z) as x pattern (a)", "z is no variable of the pattern, and no subset"),
        ("measures sum(v + match_number()) as x pattern (a)", "not supported inside an expression that is aggregated"),
        ("pattern (a) define a as final last(v) > 1", "final belongs to measures"),
        ("pattern (a) define a as match_complete()", "belongs to measures"),
        ("pattern (a) define a as array_agg(v) is null", "array_agg is not supported in define"),
        ("all rows per match pattern (a) define v as true", "v is defined, but no variable"),
        ("measures last(v) as v all rows per match pattern (a)", "two columns called v: rename the measure"),
        ("partition by z pattern (a)", "z: there is no such column"),
        ("order by z pattern (a)", "z: there is no such column"),
        ("pattern (a) within interval '1' hour", "expected an order by, whose first key is the time"),
        ("order by k pattern (a) within interval '1' hour", "expected the first key of order by to be a time"),
        ("order by v pattern (a) within interval '1' hour", "expected the first key of order by to be a time"),
        ("order by v pattern (a) within interval '1' month", "has no fixed length"),
        ("order by v pattern (a) within -1", "must not be negative"),
        ("order by v pattern (a) within w", "expected an interval"),
        ("pattern (a) define partial_matches as 1", "expected partial_matches to be true or false, got 1"),
    ];
    for (text, expected) in cases {
        let message = error(&clause(text)).await;
        assert!(message.contains(expected), "{text}: {message}");
    }
    let many: Vec<String> = (0..65).map(|number| format!("v{number}")).collect();
    let message = error(&clause(&format!("pattern ({})", many.join(" ")))).await;
    assert!(message.contains("64 variables at most"), "{message}");
    // The parser speaks where the text is no clause at all.
    assert!(run(&session(1, 10), &clause("pattern (a")).await.is_err());
    let ours = "select * from rows_of((select 1 as v)) match_recognize (pattern (v$) define v as true)";
    let message = session(1, 10).sql(ours).await.unwrap_err().to_string();
    assert!(message.contains("put a space before $, or quote the name"), "{message}");
}

#[tokio::test]
async fn plans_name_functions_that_cannot_be_misused() {
    let ctx = session(1, 10);
    for (sql, expected) in [
        ("select match_rows('x', 1, 1, 1)", "expected task, position, time and a struct of values first"),
        ("select match_rows('x', 1, 1, named_struct('a', 1))", "expected a task as match_recognize writes it"),
        ("select match_rows(k, 1, 1, named_struct('a', 1)) from (select 'x' as k)", "match_rows"),
    ] {
        let message = match ctx.sql(sql).await {
            Ok(frame) => frame.collect().await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(expected), "{sql}: {message}");
    }
    let rows = run(&ctx, "select match_value(0, 1) is null").await.unwrap();
    assert_eq!(rows, ["true"]);
}

#[tokio::test]
async fn conditions_on_other_rows_are_computed_ahead() {
    // A thousand rows and more that rise above the first, but for one in a hundred.
    let sql = "select * from (select value as v, case when value % 100 = 99 then -1 else value end as w from \
               generate_series(0, 3498)) match_recognize (order by v measures count(*) as rows, first(v) as f, last(v) \
               as l pattern (a b{50,}) define b as w > a.w and last(b.w, 1) is distinct from w + 5)";
    let expected: Vec<String> = (0..35)
        .map(|hundred| match hundred {
            0 => "99 0 98".to_owned(),
            // The row that breaks one match begins the next.
            _ => format!("100 {} {}", hundred * 100 - 1, hundred * 100 + 98),
        })
        .collect();
    check(sql, &expected.join(";")).await;
}
