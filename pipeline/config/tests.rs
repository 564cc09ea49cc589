use super::*;

const SHOP: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/*.jsonl"
[sources.event]
occurred_at = "ts"
touchpoint = "event"
channel = "'web'"
"#;

fn parsed(text: &str) -> Result<Config> {
    parse(text, std::iter::empty())
}

#[test]
fn a_small_project_gets_every_default() {
    let config = parsed(SHOP).unwrap();
    assert_eq!(config.lake.url, "lake");
    assert_eq!(config.sessions.timeout.micros(), 1_800_000_000);
    assert_eq!(config.identity.max_identifiers, 50);
    assert_eq!(config.sources[0].delimiter, ',');
}

#[test]
fn an_unknown_key_is_shown_with_its_line_and_the_nearest_name() {
    let error = parsed("[sessions]\ntimeot = \"30m\"\n").unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    assert_eq!(error.remedy(), Some("did you mean `timeout`?"));
}

#[test]
fn wrong_values_are_errors_that_say_what_was_expected() {
    let cases = [
        ("[sessions]\ntimeout = \"soon\"", "expected one like `30m`"),
        ("[sessions]\ntimeout = \"0s\"", "above zero"),
        ("[engine]\nmemory = \"much\"", "expected a size"),
        ("[landing]\nmax_batches = 0", "expected a nonzero usize"),
        ("[[funnels]]\nname=\"f\"\nsteps=[]\nwindow=\"7d\"", "expected 1 to 32"),
        ("[[funnels]]\nname=\"f\"\nsteps=[\"a|\"]\nwindow=\"7d\"", "step 1 (`a|`) has an empty alternative"),
        (
            "[journeys]\ngoal=[\"web:b\"]\n[[funnels]]\nname=\"f\"\nsteps=[\"a\",\"web:b\",\"c\"]\nwindow=\"7d\"",
            "step 2 (`web:b`) is a goal and ends the journey",
        ),
        ("[identity]\nlimits={Email=1}", "kind `Email` is not of the form"),
        ("[privacy]\npseudonymize=[\"event\"]", "kind `event` is not of the form"),
        ("[stages]\na=[\"x\"]\nb=[\"x\"]", "in stages `a` and `b`"),
        (
            "[[sources]]\nname=\"../x\"\npath=\"x\"\n[sources.event]\noccurred_at=\"a\"\ntouchpoint=\"b\"\nchannel=\"c\"",
            "not of the form",
        ),
    ];
    for (text, expected) in cases {
        let error = parsed(text).unwrap_err();
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_rule_that_is_broken_is_shown_with_its_line() {
    let error = parsed(&format!("{SHOP}{SHOP}")).unwrap_err();
    assert!(error.to_string().contains("line 11, `name = \"web\"`: two sources"), "{error}");
    for delimiter in ["'\"'", "\"\\n\"", "\"é\""] {
        let text = SHOP.replace("[sources.event]", &format!("delimiter = {delimiter}\n[sources.event]"));
        let error = parsed(&text).unwrap_err().to_string();
        assert!(error.contains("delimiter must be"), "{delimiter}: {error}");
    }
}

#[test]
fn a_kind_that_no_source_maps_is_an_error_with_the_nearest() {
    let mapped = format!("{SHOP}identifiers = {{ email = \"mail\" }}\n");
    let with = |section: &str| parsed(&format!("{section}\n{mapped}"));
    for kind in ["Email", "e-mail", "mail"] {
        let error = with(&format!("[privacy]\npseudonymize = [\"{kind}\"]")).unwrap_err();
        assert_eq!(error.remedy(), Some("did you mean `email`?"), "{error}");
        assert!(error.to_string().contains("line 2"), "{error}");
    }
    assert!(with("[privacy]\npseudonymize = [\"passport\"]").is_err());
    assert!(with("[identity]\nlimits = { emial = 5 }").is_err());
    assert!(with("[privacy]\npseudonymize = [\"email\", \"phone\"]\n[identity]\nlimits = { user_id = 1 }").is_ok());
}

#[test]
fn an_override_wins_and_a_wrong_one_is_named() {
    let with = |name: &str, value: &str| parse(SHOP, [(name.to_string(), value.to_string())].into_iter());
    assert_eq!(with("WAYLINE__LAKE__URL", "s3://bucket/lake").unwrap().lake.url, "s3://bucket/lake");
    assert_eq!(with("WAYLINE__ENGINE__THREADS", "3").unwrap().engine.threads, 3);
    let error = with("WAYLINE__ENGINE__THREDS", "3").unwrap_err();
    assert!(error.to_string().contains("WAYLINE__ENGINE__THREDS"), "{error}");
}

#[test]
fn a_secret_is_never_printed() {
    assert_eq!(format!("{:?}", Secret(b"0123456789abcdef".to_vec())), "Secret(…)");
}
