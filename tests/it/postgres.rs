//! The door for clients of PostgreSQL, with clients of PostgreSQL: psql, a Python driver, and bytes of nobody's.
#![cfg(feature = "postgres")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::house::House;
use crate::python::python;

/// A server on a free port, ended with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(house: &House, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1:0", house, arguments, environment)
    }

    fn start_at(address: &str, house: &House, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--postgres", address];
        all.extend(arguments);
        let mut command = house.command(&all);
        for name in ["WAYLINE_POSTGRES_USER", "WAYLINE_POSTGRES_PASSWORD", "WAYLINE_POSTGRES_PASSWORD_FILE"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("postgres://")).expect("the server says where it listens");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(|line| eprintln!("server: {line}")));
        let port = line.rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
        Self { child, port }
    }

    fn url(&self) -> String {
        format!("postgres://somebody@127.0.0.1:{}/wayline", self.port)
    }

    /// What psql prints; `None` where there is none.
    fn psql(&self, arguments: &[&str], password: Option<&str>) -> Option<Output> {
        let mut command = Command::new("psql");
        command.arg(self.url()).args(["-X", "-w"]).args(arguments).env_remove("PGPASSWORD");
        if let Some(password) = password {
            command.env("PGPASSWORD", password);
        }
        match command.output() {
            Ok(output) => Some(output),
            Err(error) => {
                let line = format!("skipped: psql does not start ({error}); tests/postgres/install.sh gets it\n");
                std::io::stderr().write_all(line.as_bytes()).unwrap();
                assert!(std::env::var_os("WAYLINE_TESTS_NEED_PSQL").is_none(), "psql is needed here");
                None
            }
        }
    }

    /// Seconds of processor time that the server has spent.
    fn spent(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn psql_lists_tables_with_comments_and_queries_them() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let server = Server::start(&house, &[], &[]);
    let Some(tables) = server.psql(&["-c", "\\dt+"], None) else { return };
    let tables = stdout(&tables);
    for word in ["public", "sessions", "touchpoints", "Sessions: "] {
        assert!(tables.contains(word), "{word}: {tables}");
    }
    for hidden in ["events ", "dead_letters", "identity_map"] {
        assert!(!tables.contains(&format!("| {hidden}")), "{hidden}: {tables}");
    }
    let described = stdout(&server.psql(&["-c", "\\d sessions"], None).unwrap());
    assert!(described.contains("entry_channel") && described.contains("timestamp with time zone"), "{described}");
    let described = stdout(&server.psql(&["-c", "\\d+ sessions"], None).unwrap());
    assert!(described.contains("entry_channel") && described.contains("Description"), "{described}");
    let comment = "select obj_description('sessions'::regclass, 'pg_class')";
    assert!(stdout(&server.psql(&["-Atc", comment], None).unwrap()).starts_with("Sessions: "));
    let joined = "select d.description from pg_catalog.pg_class c join pg_catalog.pg_description d on d.objoid = c.oid \
                  and d.objsubid = 0 where c.relname = 'sessions'";
    assert!(stdout(&server.psql(&["-Atc", joined], None).unwrap()).starts_with("Sessions: "));

    let columns = stdout(&server.psql(&["-c", "\\d touchpoints"], None).unwrap());
    assert!(columns.contains("touchpoint") && !columns.contains("identifiers"), "{columns}");

    for table in ["sessions", "journeys", "touchpoints", "funnel_steps", "paths", "settings", "runs"] {
        let query = format!("select count(*) from {table}");
        assert_eq!(
            stdout(&server.psql(&["-Atc", &query], None).unwrap()).lines().collect::<Vec<_>>(),
            house.sql(&query)
        );
    }
    let funnel = "select count(*) from (select journey_funnel(times, touchpoints, channels, ['*', '*'], interval '1 day') \
                  from journeys) as a";
    assert_eq!(stdout(&server.psql(&["-Atc", funnel], None).unwrap()).trim(), house.sql(funnel)[0]);

    let wrong = server.psql(&["-c", "select touchpoint,\n chanel from touchpoints"], None).unwrap();
    let stderr = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(stderr.contains("no column is called `chanel`") && stderr.contains("LINE 2:"), "{stderr}");
    assert!(stderr.contains("HINT:  did you mean `channel`?"), "{stderr}");
}

#[test]
fn a_driver_gets_text_and_binary_and_is_refused_what_writes() {
    let Some(python) = python("tests/postgres/requirements.txt") else { return };
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let before = house.lake_files().len();
    let server = Server::start(&house, &[], &[]);
    let configuration = std::fs::read_to_string(house.path().join("wayline.toml")).unwrap();
    house.write("wayline.toml", configuration.replace("landing-zone/web.jsonl", "landing-zone/web*.jsonl").as_bytes());
    let line =
        r#"{"id":"later-1","ts":"2025-01-20T10:00:00Z","received":"2025-01-20T10:00:01Z","event":"Home","anon":"x"}"#;
    let later = house.path().join("landing-zone/web-later.jsonl");
    let append = format!("printf '%s\\n' '{line}' > '{}'", later.display());
    let append = json!(["sh", "-c", append]).to_string();
    let run = json!([env!("CARGO_BIN_EXE_wayline"), "run", "--project", house.path()]).to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/queries.py");
    let output = Command::new(python).arg(script).arg(server.url()).arg(append).arg(run).output().unwrap();
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();

    let expected = house.sql("select count(*), sum(touch_count) from sessions")[0].clone();
    let answer: Vec<&str> = found["answer"].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
    assert_eq!(found["types"], json!(["int", "int", "datetime", "date", "Decimal", "bool"]), "{found}");
    assert_eq!(found["binary_equals_text"], json!(true), "{found}");
    assert!(answer[2].ends_with("+00:00"), "a time has a zone: {found}");
    assert!(!expected.is_empty() && found["list"].as_array().unwrap().len() > 1, "{found}");
    assert_eq!((&found["null"], &found["no_rows"]), (&json!([null, null]), &json!([])));
    assert_eq!(found["cursor"], json!([1000, 4000]));
    let after = house.sql("select count(*) from touchpoints where channel <> 'none'")[0].clone();
    assert_eq!(found["after"].to_string(), after);
    assert!(found["before"].as_i64() < found["after"].as_i64(), "a new run is seen: {found}");

    let errors = &found["errors"];
    let code = |name: &str| errors[name][0].as_str().unwrap_or_default().to_string();
    assert_eq!((code("column"), code("table"), code("function")), ("42703".into(), "42P01".into(), "42883".into()));
    assert_eq!(errors["column"][2], json!("did you mean `channel_count`?"), "{errors}");
    assert_eq!(errors["table"][3], json!("15"), "{errors}");
    for name in ["drop", "insert", "copy", "create", "settings"] {
        assert_eq!(code(name), "42501", "{name}: {errors}");
    }
    for name in ["events", "dead", "identity", "file"] {
        assert_eq!(code(name), "42P01", "{name}: {errors}");
    }
    assert_eq!(code("two"), "42601", "{errors}");
    assert!(!Path::new("/tmp/never.csv").exists());
    assert_eq!((&found["alive"], &found["alive_again"]), (&json!(1), &json!(2)));
    assert_eq!((&found["cancelled"], &found["timeout"]), (&json!(true), &json!(true)), "{found}");
    assert!(house.lake_files().len() > before);
}

#[test]
fn a_jdbc_client_finds_tables_with_remarks_and_columns_with_types() {
    const DRIVER: &str = "/usr/share/java/postgresql.jar";
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/Metadata.java");
    let server = Server::start(&house, &[], &[]);
    let url = format!("jdbc:postgresql://127.0.0.1:{}/wayline", server.port);
    let mut command = Command::new("java");
    command.args(["-cp", DRIVER]).arg(script).arg(url);
    let is_here = Path::new(DRIVER).exists() && Command::new("java").arg("-version").output().is_ok();
    if !is_here {
        let line = format!("skipped: no java, or no {DRIVER}; tests/postgres/install.sh gets the driver\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let found = stdout(&command.output().unwrap());
    let has = |start: &str| assert!(found.lines().any(|line| line.starts_with(start)), "{start}: {found}");
    for start in [
        "product PostgreSQL 16",
        "schema public",
        "table sessions: Sessions: ",
        "table journeys: ",
        "column 1 session_id ",
        "keys false",
        "time true",
    ] {
        has(start);
    }
    has(&format!("count {}", house.sql("select count(*) from sessions")[0]));
    assert!(!found.contains("table events:") && !found.contains("table dead_letters:"), "{found}");
}

#[test]
fn a_query_ends_when_its_time_is_up_or_its_client_has_gone() {
    let house = House::of_sample("odd-cases");
    let server = Server::start(&house, &["--statement-timeout", "2s", "--max-connections", "2"], &[]);
    let endless = "select count(*) from generate_series(1, 100000000000) as a";
    let Some(output) = server.psql(&["-c", endless], None) else { return };
    assert!(String::from_utf8_lossy(&output.stderr).contains("took longer than it may"));
    // What the client asks for does not raise what the server allows.
    let output = server.psql(&["-c", "set statement_timeout = '1h'", "-c", endless], None).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("took longer than it may"));

    let patient = Server::start(&house, &["--max-connections", "2"], &[]);
    let mut clients: Vec<Child> = (0..2)
        .map(|_| {
            let mut command = Command::new("psql");
            command.arg(patient.url()).args(["-X", "-c", endless]).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    let refused = patient.psql(&["-c", "select 1"], None).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("too many connections"), "{refused:?}");
    let (busy, until) = (patient.spent(), Instant::now() + Duration::from_secs(20));
    while patient.spent() - busy < 0.2 {
        assert!(Instant::now() < until, "no query runs");
        std::thread::sleep(Duration::from_millis(200));
    }
    for client in &mut clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let before = patient.spent();
        std::thread::sleep(Duration::from_secs(1));
        if patient.spent() - before < 0.1 {
            break;
        }
        assert!(Instant::now() < until, "queries go on though nobody listens");
    }
    assert_eq!(stdout(&patient.psql(&["-Atc", "select 1"], None).unwrap()), "1\n");
}

#[test]
fn off_this_machine_a_password_is_required_and_only_the_right_one_opens() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let stderr = house.fail(2, &["serve", "--listen", "127.0.0.1:0", "--postgres", "0.0.0.0:0"]);
    assert!(stderr.contains("nobody need log in") && stderr.contains("WAYLINE_POSTGRES_PASSWORD"), "{stderr}");

    let login = [("WAYLINE_POSTGRES_USER", "somebody"), ("WAYLINE_POSTGRES_PASSWORD", "open sesame")];
    let server = Server::start_at("0.0.0.0:0", &house, &[], &login);
    let Some(output) = server.psql(&["-Atc", "select 1"], Some("open sesame")) else { return };
    assert_eq!(stdout(&output), "1\n");
    for password in [Some("open barley"), Some(""), None] {
        let output = server.psql(&["-Atc", "select 1"], password).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{password:?}");
    }
    house.write("password", b"of a file\n");
    let file = house.path().join("password").display().to_string();
    let login = [("WAYLINE_POSTGRES_USER", "somebody"), ("WAYLINE_POSTGRES_PASSWORD_FILE", file.as_str())];
    let of_file = Server::start(&house, &[], &login);
    assert_eq!(stdout(&of_file.psql(&["-Atc", "select 1"], Some("of a file")).unwrap()), "1\n");
}

#[test]
fn over_tls_the_wire_is_encrypted_and_without_its_files_the_door_stays_shut() {
    let house = House::of_sample("odd-cases");
    let file = |name: &str| house.path().join(name).display().to_string();
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--postgres", "127.0.0.1:0"];
    let tls = ["--tls-certificate", certificate.as_str(), "--tls-key", key.as_str()];
    let stderr = house.fail(2, &[&arguments[..], &tls[..]].concat());
    assert!(stderr.contains("certificate.pem"), "{stderr}");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    if !openssl.args(["-keyout", &key, "-out", &certificate]).output().is_ok_and(|made| made.status.success()) {
        eprintln!("skipped: openssl makes no certificate here");
        return;
    }
    let server = Server::start(&house, &tls, &[]);
    let mut command = Command::new("psql");
    command.arg(format!("{}?sslmode=require", server.url())).args(["-X", "-c", "\\conninfo", "-Atc", "select 1"]);
    let Ok(output) = command.output() else { return };
    assert!(stdout(&output).contains("TLSv1.3") && stdout(&output).ends_with("1\n"), "{}", stdout(&output));
}

/// A message of the protocol: kind, length, content.
fn message(kind: Option<u8>, content: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = kind.into_iter().collect();
    bytes.extend_from_slice(&u32::try_from(content.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn who_does_not_log_in_gets_no_answer_whatever_they_send() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let server = Server::start(&house, &[], &[("WAYLINE_POSTGRES_PASSWORD", "secret")]);
    let startup = message(None, b"\x00\x03\x00\x00user\0wayline\0database\0wayline\0\0");
    let query = message(Some(b'Q'), b"select 'the answer', entry_channel from sessions\0");
    let parse = [
        message(Some(b'P'), b"\0select 'the answer'\0\0\0"),
        message(Some(b'B'), b"\0\0\0\0\0\0\0\0"),
        message(Some(b'E'), b"\0\0\0\0\0"),
        message(Some(b'S'), b""),
    ]
    .concat();
    let bad_method = message(Some(b'p'), b"NO-SUCH\0\0\0\0\0");
    let bad_first = message(Some(b'p'), b"SCRAM-SHA-256\0\0\0\0\x04junk");
    let bad_final = message(Some(b'p'), b"c=biws,r=x,p=AAAA");
    let attempts: [&[&[u8]]; 7] = [
        &[&startup, &query],
        &[&startup, &parse],
        &[&startup, &bad_method, &query],
        &[&startup, &bad_first, &query],
        &[&startup, &bad_first, &bad_final, &query],
        &[&startup, &bad_final, &query, &query],
        &[&query, &startup, &query],
    ];
    for (number, attempt) in attempts.iter().enumerate() {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        for part in *attempt {
            // The server may have closed the connection by now.
            let _ = stream.write_all(part);
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("the answer"), "attempt {number}: {answer}");
    }
}
