//! The documented examples of Snowflake (`docs.snowflake.com/en/sql-reference/constructs/match_recognize` and the pages
//! of its functions), with their data and answers.

use super::check;

const PRICES: &str = "(select company, cast(price_date as date) as price_date, price from (values \
    ('ABCD', '2020-10-01', 50), ('XYZ' , '2020-10-01', 89), ('ABCD', '2020-10-02', 36), ('XYZ' , '2020-10-02', 24), \
    ('ABCD', '2020-10-03', 39), ('XYZ' , '2020-10-03', 37), ('ABCD', '2020-10-04', 42), ('XYZ' , '2020-10-04', 63), \
    ('ABCD', '2020-10-05', 30), ('XYZ' , '2020-10-05', 65), ('ABCD', '2020-10-06', 47), ('XYZ' , '2020-10-06', 56), \
    ('ABCD', '2020-10-07', 71), ('XYZ' , '2020-10-07', 50), ('ABCD', '2020-10-08', 80), ('XYZ' , '2020-10-08', 54), \
    ('ABCD', '2020-10-09', 75), ('XYZ' , '2020-10-09', 30), ('ABCD', '2020-10-10', 63), ('XYZ' , '2020-10-10', 32) \
    ) as stock_price_history(company, price_date, price))";

async fn check_prices(clause: &str, expected: &str) {
    check(&format!("select * from {PRICES} match_recognize ({clause})"), expected).await;
}

#[tokio::test]
async fn one_summary_row_for_each_v() {
    check_prices(
        "partition by company order by price_date measures match_number() as match_number, \
         first(price_date) as start_date, last(price_date) as end_date, count(*) as rows_in_sequence, \
         count(row_with_price_decrease.*) as num_decreases, count(row_with_price_increase.*) as num_increases \
         one row per match after match skip to last row_with_price_increase \
         pattern(row_before_decrease row_with_price_decrease+ row_with_price_increase+) \
         define row_with_price_decrease as price < lag(price), row_with_price_increase as price > lag(price)",
        "ABCD 1 2020-10-01 2020-10-04 4 1 2; ABCD 2 2020-10-04 2020-10-08 5 1 3; \
         XYZ 1 2020-10-01 2020-10-05 5 1 3; XYZ 2 2020-10-05 2020-10-08 4 2 1; XYZ 3 2020-10-08 2020-10-10 3 1 1",
    )
    .await;
}

#[tokio::test]
async fn all_rows_of_all_matches_of_one_company() {
    let sql = format!(
        "select price_date, match_number, msq, price, cl from (select * from {PRICES} where company='ABCD') \
         match_recognize(order by price_date measures match_number() as \"match_number\", \
         match_sequence_number() as msq, classifier() as cl all rows per match pattern(ANY_ROW UP+) \
         define ANY_ROW as true, UP as price > lag(price))"
    );
    let expected = "2020-10-02 1 1 36 ANY_ROW; 2020-10-03 1 2 39 UP; 2020-10-04 1 3 42 UP; 2020-10-05 2 1 30 ANY_ROW; \
                    2020-10-06 2 2 47 UP; 2020-10-07 2 3 71 UP; 2020-10-08 2 4 80 UP";
    check(&sql, expected).await;
}

/// Snowflake writes `avg(price) over (rows between unbounded preceding and unbounded following)` in `define`; ours wants
/// windows in a subquery.
fn with_averages(clause: &str) -> String {
    format!(
        "select company, price_date, price, match_number{} from (select *, avg(price) over (partition by company) as \
         average from {PRICES}) match_recognize (partition by company order by price_date {clause} \
         define OVERAVG as price > average)",
        if clause.contains("classifier") { ", cl" } else { "" }
    )
}

#[tokio::test]
async fn empty_matches_are_omitted() {
    let clause = "measures match_number() as match_number all rows per match omit empty matches pattern(OVERAVG*)";
    let expected = "ABCD 2020-10-07 71 7; ABCD 2020-10-08 80 7; ABCD 2020-10-09 75 7; ABCD 2020-10-10 63 7; \
                    XYZ 2020-10-01 89 1; XYZ 2020-10-04 63 4; XYZ 2020-10-05 65 4; XYZ 2020-10-06 56 4; \
                    XYZ 2020-10-08 54 6";
    check(&with_averages(clause), expected).await;
}

#[tokio::test]
async fn unmatched_rows_are_shown() {
    let clause = "measures match_number() as match_number, classifier() as cl all rows per match with unmatched rows \
                  pattern(OVERAVG+)";
    let expected = "ABCD 2020-10-01 50 - -; ABCD 2020-10-02 36 - -; ABCD 2020-10-03 39 - -; ABCD 2020-10-04 42 - -; \
                    ABCD 2020-10-05 30 - -; ABCD 2020-10-06 47 - -; ABCD 2020-10-07 71 1 OVERAVG; \
                    ABCD 2020-10-08 80 1 OVERAVG; ABCD 2020-10-09 75 1 OVERAVG; ABCD 2020-10-10 63 1 OVERAVG; \
                    XYZ 2020-10-01 89 1 OVERAVG; XYZ 2020-10-02 24 - -; XYZ 2020-10-03 37 - -; \
                    XYZ 2020-10-04 63 2 OVERAVG; XYZ 2020-10-05 65 2 OVERAVG; XYZ 2020-10-06 56 2 OVERAVG; \
                    XYZ 2020-10-07 50 - -; XYZ 2020-10-08 54 3 OVERAVG; XYZ 2020-10-09 30 - -; XYZ 2020-10-10 32 - -";
    check(&with_averages(clause), expected).await;
}

#[tokio::test]
async fn columns_of_a_symbol() {
    let sql = format!(
        "select company, price_date, price, \"FINAL FIRST(LT45.price)\", \"FINAL LAST(LT45.price)\" from {PRICES} \
         match_recognize (partition by company order by price_date measures final first(LT45.price) as \
         \"FINAL FIRST(LT45.price)\", final last(LT45.price) as \"FINAL LAST(LT45.price)\" all rows per match \
         after match skip past last row pattern (LT45 LT45) define LT45 as price < 45.00) where company = 'ABCD'"
    );
    let expected = "ABCD 2020-10-02 36 36 39; ABCD 2020-10-03 39 36 39; ABCD 2020-10-04 42 42 30; \
                    ABCD 2020-10-05 30 42 30";
    check(&sql, expected).await;
}

#[tokio::test]
async fn sequence_numbers() {
    let sql = format!(
        "select company, price_date, price, number, sequence from {PRICES} match_recognize (partition by company \
         order by price_date measures match_number() as number, match_sequence_number() as sequence \
         all rows per match pattern (MINIMUM_37 UP UP) define MINIMUM_37 as price >= 37.00, UP as price > lag(price))"
    );
    let expected = "ABCD 2020-10-06 47 1 1; ABCD 2020-10-07 71 1 2; ABCD 2020-10-08 80 1 3; XYZ 2020-10-03 37 1 1; \
                    XYZ 2020-10-04 63 1 2; XYZ 2020-10-05 65 1 3";
    check(&sql, expected).await;
}

#[tokio::test]
async fn permutations_of_patterns() {
    check_prices(
        "partition by company order by price_date measures match_number() as match_number, \
         first(price_date) as start, last(price_date) as \"end\", count(up.price) as ups, count(*) as price_count, \
         last(classifier()) = 'DOWN' up_spike after match skip to next row \
         pattern(ANY_ROW PERMUTE(UP{2}, DOWN+)) \
         define ANY_ROW as true, UP as price > lag(price), DOWN as price < lag(price)",
        "ABCD 1 2020-10-01 2020-10-04 2 4 false; ABCD 2 2020-10-02 2020-10-05 2 4 true; \
         ABCD 3 2020-10-04 2020-10-07 2 4 false; ABCD 4 2020-10-06 2020-10-10 2 5 true; \
         XYZ 1 2020-10-01 2020-10-04 2 4 false; XYZ 2 2020-10-03 2020-10-07 2 5 true",
    )
    .await;
}

#[tokio::test]
async fn overlapping_ws() {
    check_prices(
        "partition by company order by price_date measures match_number() as match_number, \
         first(price_date) as start, last(price_date) as \"end\", count(*) as price_count \
         after match skip to next row pattern(ANY_ROW DOWN+ UP+ DOWN+ UP+) \
         define ANY_ROW as true, UP as price > lag(price), DOWN as price < lag(price)",
        "ABCD 1 2020-10-01 2020-10-08 8; XYZ 1 2020-10-01 2020-10-08 8; XYZ 2 2020-10-05 2020-10-10 6; \
         XYZ 3 2020-10-06 2020-10-10 5",
    )
    .await;
}

#[tokio::test]
async fn excluded_rows_still_count() {
    // The columns come in the order of the standard: Snowflake puts all measures last.
    check_prices(
        "partition by company order by price_date measures match_number() as match_number, classifier as cl, \
         count(*) as price_count all rows per match pattern(ANY_ROW {- DOWN+ -} UP+ {- DOWN+ -} UP+) \
         define ANY_ROW as true, UP as price > lag(price), DOWN as price < lag(price)",
        "ABCD 2020-10-01 1 ANY_ROW 1 50; ABCD 2020-10-03 1 UP 3 39; ABCD 2020-10-04 1 UP 4 42; \
         ABCD 2020-10-06 1 UP 6 47; ABCD 2020-10-07 1 UP 7 71; ABCD 2020-10-08 1 UP 8 80; \
         XYZ 2020-10-01 1 ANY_ROW 1 89; XYZ 2020-10-03 1 UP 3 37; XYZ 2020-10-04 1 UP 4 63; \
         XYZ 2020-10-05 1 UP 5 65; XYZ 2020-10-08 1 UP 8 54",
    )
    .await;
}
