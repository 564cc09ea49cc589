//! Rows about `wayline sql`: it reads the tables of its lake and nothing else, and no statement ends the process.

use super::decided;
use crate::house::House;

fn house() -> House {
    let house = House::of_sample("odd-cases");
    house.succeed(&["land"]);
    house
}

#[test]
fn statements_that_write_set_or_read_elsewhere_are_refused() {
    decided("B146", "DENY sql_denied");
    decided("B147", "DENY sql_denied");
    decided("B148", "DENY sql_denied");
    decided("B152", "DENY sql_denied");
    let house = house();
    house.write("canary.csv", b"secret,canary\n1,2\n");
    let canary = house.path().join("canary.csv").display().to_string();
    let before = house.lake_files();
    let written = house.path().join("written.csv").display().to_string();
    for statement in [
        format!("copy (select 1) to '{written}'"),
        format!("explain analyze copy (select 1) to '{written}'"),
        format!("create external table x stored as csv location '{canary}'"),
        "insert into events select * from events".into(),
        "create table t as select 1".into(),
        "create view v as select 1".into(),
        "create function f() returns int return 1".into(),
        "drop table events".into(),
        "update events set source = 'x'".into(),
        "delete from events".into(),
        "truncate table events".into(),
        format!("select * from '{canary}'"),
        format!("select * from 'file://{canary}'"),
        format!("select * from \"{canary}\""),
        format!("select * from read_csv('{canary}')"),
        format!("select * from read_parquet('{canary}')"),
        "select * from 's3://other/x.parquet'".into(),
        "set datafusion.runtime.memory_limit = '100G'".into(),
        "set datafusion.execution.target_partitions = 1".into(),
        "prepare p as select 1".into(),
        "execute p".into(),
        "begin".into(),
        "select 1; drop table events".into(),
        "select 1; select 2; drop table events".into(),
        "drop /* select */ table events".into(),
        "select ‘x’".into(),
        "select 1\0; drop table events".into(),
        "select * from landing.events".into(),
        "select * from \"landing/events\"".into(),
        "select * from events._delta_log".into(),
    ] {
        house.write("query.sql", statement.as_bytes());
        let file = house.path().join("query.sql").display().to_string();
        let output = house.wayline(&["sql", "--format", "csv", "-f", &file]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{statement}: {stderr}");
        assert!(stderr.starts_with("error: "), "{statement}: {stderr}");
        assert!(!stderr.contains("secret"), "{statement}: {stderr}");
    }
    assert_eq!(house.lake_files(), before);
    assert!(!house.path().join("written.csv").exists());
}

#[test]
fn statements_too_complex_are_refused_before_they_are_planned() {
    decided("B149", "DENY sql_too_complex");
    let house = house();
    let ors: Vec<String> = (0..10_000).map(|at| format!("touchpoint = 'a{at}'")).collect();
    let joins: Vec<String> = (1..1_000).map(|at| format!("cross join as_of a{at}")).collect();
    for (name, statement) in [
        ("sum", format!("select {}", vec!["1"; 20_000].join("+"))),
        ("or", format!("select count(*) from events where {}", ors.join(" or "))),
        ("parentheses", format!("select {}1{}", "(".repeat(50_000), ")".repeat(50_000))),
        ("joins", format!("select count(*) from as_of a0 {}", joins.join(" "))),
        ("unions", vec!["select 1"; 3_000].join(" union all ")),
        ("not", format!("select {}true", "not ".repeat(5_000))),
        ("signs", format!("select {}1", "- ".repeat(5_000))),
        ("case", format!("select {}1{}", "case when true then ".repeat(5_000), " end".repeat(5_000))),
        ("queries", format!("select * from {}as_of{}", "(select * from ".repeat(3_000), ")".repeat(3_000))),
    ] {
        house.write("query.sql", statement.as_bytes());
        let file = house.path().join("query.sql").display().to_string();
        let output = house.wayline(&["sql", "--format", "csv", "-f", &file]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {}", &stderr[..stderr.len().min(300)]);
    }
    // What is just within the limit is answered, on the stack that there is.
    let unions = ["select 1 as one"; 90].join(" union all ");
    assert_eq!(house.sql(&format!("select count(*) from ({unions})")), ["90"]);
    let list: Vec<String> = (0..20_000).map(|at| format!("'a{at}'")).collect();
    house.write(
        "query.sql",
        format!("select count(*) as n from events where source in ({})", list.join(",")).as_bytes(),
    );
    let file = house.path().join("query.sql").display().to_string();
    assert_eq!(house.succeed(&["sql", "--format", "csv", "-f", &file]), "n\n0\n");
}
