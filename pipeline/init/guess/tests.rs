use super::*;

fn sample(columns: &[(&str, &[&str])]) -> Sample {
    let columns: Vec<Column> = columns
        .iter()
        .map(|(name, values)| Column {
            path: name.split('.').map(String::from).collect(),
            values: values.iter().map(|value| Some((*value).to_string()).filter(|value| !value.is_empty())).collect(),
            ..Column::default()
        })
        .collect();
    Sample::of(columns)
}

fn guessed(source: &str, columns: &[(&str, &[&str])]) -> Guesses {
    Guesses::of_sample(&sample(columns), source).unwrap()
}

fn expression<'g>(guesses: &'g Guesses, name: &str) -> &'g str {
    guesses.event.get(name).map_or("", |guess| guess.expression.as_str())
}

const TIMES: &[&str] = &["2025-01-05T10:00:00Z", "2025-01-05T10:00:01Z", "2025-01-05T10:00:02Z"];

#[test]
fn columns_are_told_by_their_names_and_what_they_hold() {
    let found = guessed(
        "web",
        &[
            ("id", &["1", "2", "3"]),
            ("ts", TIMES),
            ("received", &["2025-01-05T10:00:01Z", "2025-01-05T10:00:02Z", "2025-01-05T10:00:03Z"]),
            ("event", &["Product View", "Purchase", "Purchase"]),
            ("anonymousId", &["a-1", "a-2", "a-2"]),
            ("Total", &["", "12.50", "3.00"]),
            ("currency", &["", "EUR", "EUR"]),
            ("utm_campaign", &["spring", "", "spring"]),
        ],
    );
    for (name, expected) in [
        ("event_id", "id"),
        ("occurred_at", "ts"),
        ("received_at", "received"),
        ("touchpoint", "replace(lower(trim(event)), ' ', '_')"),
        ("channel", "'web'"),
        ("value", "Total"),
        ("currency", "currency"),
        ("campaign", "utm_campaign"),
    ] {
        assert_eq!(expression(&found, name), expected, "{name}");
    }
    assert_eq!(found.identifiers[0].0, "anonymous_id");
    assert_eq!(found.time_offset, None);
    assert!(found.event["event_id"].evidence.contains("unique in all 3 records"));
}

#[test]
fn days_that_read_as_months_too_are_said() {
    let evidence = |times: &[&str]| {
        let found = guessed("web", &[("when", times), ("event", &["a", "b"])]);
        found.event["occurred_at"].evidence.clone()
    };
    let either = evidence(&["01/02/2025 10:00", "03/04/2025 10:00"]);
    assert!(either.contains("reads as %d/%m/%Y %H:%M as well, so check which is meant"), "{either}");
    let sure = evidence(&["01/31/2025 10:00", "03/04/2025 10:00"]);
    assert!(sure.contains("%m/%d/%Y") && !sure.contains("as well"), "{sure}");
}

#[test]
fn german_columns_are_told_too() {
    let found = guessed(
        "filiale",
        &[
            ("Kunden-Nr", &["K1", "K2", "K2"]),
            ("Datum", &["05.01.2025", "06.01.2025", "31.01.2025"]),
            ("Uhrzeit", &["10:15", "11:00", "09:30"]),
            ("Vorgang", &["Kauf", "Beratung", "Kauf"]),
            ("Betrag (EUR)", &["12,50", "", "1.299,00"]),
        ],
    );
    assert_eq!(expression(&found, "occurred_at"), "to_timestamp(Datum || ' ' || Uhrzeit, '%d.%m.%Y %H:%M')");
    assert_eq!(expression(&found, "value"), "replace(replace(\"Betrag (EUR)\", '.', ''), ',', '.')");
    assert_eq!(expression(&found, "currency"), "'EUR'");
    assert_eq!(expression(&found, "touchpoint"), "lower(Vorgang)");
    assert_eq!(expression(&found, "channel"), "'store'");
    assert_eq!(found.identifiers[0].0, "customer_id");
    assert_eq!(found.identifiers[0].1.expression, "\"Kunden-Nr\"");
}

#[test]
fn an_id_that_differing_records_share_is_no_event_id() {
    let shared: [(&str, &[&str]); 3] =
        [("message_id", &["m1", "m2", "m2"]), ("ts", TIMES), ("action", &["sent", "open", "click"])];
    let found = guessed("email", &shared);
    assert_eq!(expression(&found, "event_id"), "");
    assert!(found.open["event_id"].contains("message_id is shared by records that differ"));
    assert_eq!(expression(&found, "touchpoint"), "'email_' || action");
    assert_eq!(expression(&found, "direction"), "case when action in ('sent') then 'outbound' else 'inbound' end");

    let again: [(&str, &[&str]); 3] = [
        ("message_id", &["m1", "m2", "m2", "m3", "m4", "m5"]),
        ("ts", &["2025-01-05T10:00:00Z", "2025-01-05T10:00:01Z", "2025-01-05T10:00:01Z", TIMES[0], TIMES[0], TIMES[0]]),
        ("action", &["sent", "open", "open", "sent", "sent", "sent"]),
    ];
    assert_eq!(expression(&guessed("email", &again), "event_id"), "message_id");
}

#[test]
fn numbers_are_times_by_their_names_alone() {
    let found = guessed("app", &[("phone", &["1736935205"]), ("ts", &["1736935205123"]), ("event", &["open"])]);
    assert_eq!(expression(&found, "occurred_at"), "ts");
    assert_eq!(found.time_unit, Some(TimeUnit::Milliseconds));
    let error = Guesses::of_sample(&sample(&[("phone", &["1736935205"]), ("dob", &["1971-05-24"])]), "x").unwrap_err();
    assert!(error.to_string().contains("no column reads as a time"), "{error}");
}

#[test]
fn names_that_are_no_words_of_sql_are_quoted() {
    let path = |text: &str| text.split('/').map(String::from).collect::<Vec<_>>();
    for (names, expected) in [
        ("event", "event"),
        ("timestamp", "\"timestamp\""),
        ("current_date", "\"current_date\""),
        ("case", "\"case\""),
        ("Order ID", "\"Order ID\""),
        ("context/campaign/na'me", "context['campaign']['na''me']"),
    ] {
        assert_eq!(sql_of(&path(names)), expected);
    }
}
