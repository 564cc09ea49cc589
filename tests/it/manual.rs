//! What shells, readers and editors are given: completions, manual pages, the schema of the configuration.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

fn wayline(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wayline")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Gives a program a text; whether it took it. None if the program is not there, which is said.
fn fed(program: &str, arguments: &[&str], text: &str) -> Option<(bool, String)> {
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        std::io::stderr().write_all(format!("skipped: {program} is not installed\n").as_bytes()).unwrap();
        return None;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn each_shell_takes_its_completions() {
    for (shell, program, arguments) in [
        ("bash", "bash", &["-n"][..]),
        ("zsh", "zsh", &["-n"]),
        ("fish", "fish", &["--no-execute"]),
        ("powershell", "", &[]),
    ] {
        let script = wayline(&["completions", shell]);
        assert!(script.contains("replay") || script.contains("backfill") || script.contains("doctor"), "{shell}");
        if let Some((is_taken, said)) =
            Some(program).filter(|name| !name.is_empty()).and_then(|name| fed(name, arguments, &script))
        {
            assert!(is_taken, "{shell}: {said}");
        }
    }
}

#[test]
fn bash_completes_commands_and_options() {
    let script = wayline(&["completions", "bash"]);
    let ask = format!(
        "{script}\nCOMP_WORDS=(wayline do); COMP_CWORD=1; _wayline wayline do wayline; echo \"${{COMPREPLY[@]}}\"\n\
         COMP_WORDS=(wayline run --dry); COMP_CWORD=2; _wayline wayline --dry run; echo \"${{COMPREPLY[@]}}\"\n"
    );
    let Some((_, said)) = fed("bash", &[], &ask) else { return };
    assert!(said.contains("doctor") && said.contains("--dry-run"), "{said}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    wayline(&["man", "-o", pages.to_str().unwrap()]);
    let help = wayline(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut count = 0;
    for command in commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
    {
        let page = std::fs::read_to_string(pages.join(format!("wayline-{command}.1"))).unwrap();
        assert!(page.contains(".SH NAME"), "{command}");
        count += 1;
    }
    assert!(count >= 10, "{help}");
    let page = pages.join("wayline-init.1");
    if let Ok(output) = Command::new("man").args(["-l", page.to_str().unwrap()]).env("MANPAGER", "cat").output() {
        let text = String::from_utf8_lossy(&output.stdout);
        // A machine may have the program and none of what it formats with.
        assert!(!output.status.success() || text.contains("--from"), "{text}");
    }
    assert!(wayline(&["man"]).contains(".SH NAME"));
}

/// The schema as it is checked in; `UPDATE_SCHEMA=1` writes it anew.
fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("wayline.schema.json");
    let now = wayline(&["schema"]);
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), now, "UPDATE_SCHEMA=1 writes wayline.schema.json anew");
    serde_json::from_str(&now).unwrap()
}

#[test]
fn the_schema_knows_every_key_of_every_sample() {
    let schema = schema();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in
        ["sample-data/shop/wayline.toml", "sample-data/odd-cases/wayline.toml", "pipeline/init/starter/wayline.toml"]
    {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let config: toml::Table = toml::from_str(&text).unwrap();
        let config = serde_json::to_value(config).unwrap();
        if let Err(wrong) = validate(&config, &schema, &schema, "") {
            panic!("{file}: {wrong}");
        }
    }
    for (text, expected) in [
        ("[sesions]\ntimeout = \"1h\"", "/sesions"),
        ("[sessions]\ntimeout = 30", "/sessions/timeout"),
        ("[[funnels]]\nname = \"x\"\nsteps = [1]\nwindow = \"1d\"", "/funnels/0/steps/0"),
        ("[landing]\nchanged_files = \"maybe\"", "/landing/changed_files"),
        ("[[sources]]\nname = \"x\"\n", "/sources/0"),
    ] {
        let config: toml::Table = toml::from_str(text).unwrap();
        let wrong = validate(&serde_json::to_value(config).unwrap(), &schema, &schema, "").unwrap_err();
        assert!(wrong.starts_with(expected), "{text}: {wrong}");
    }
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn walk(schema: &Value, place: &str, bare: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if property["description"].as_str().is_none_or(str::is_empty) {
                bare.push(format!("{place}/{name}"));
            }
        }
    }
    let schema = schema();
    let mut bare = Vec::new();
    walk(&schema, "", &mut bare);
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        walk(definition, name, &mut bare);
    }
    assert!(bare.is_empty(), "{bare:?}");
}

/// Holds a value against the parts of JSON schema that ours uses; the error begins with the place.
fn validate(value: &Value, schema: &Value, root: &Value, place: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{place}: {what}"));
    if let Some(reference) = schema["$ref"].as_str() {
        return validate(value, root.pointer(reference.trim_start_matches('#')).unwrap(), root, place);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        validate(value, part, root, place)?;
    }
    for word in ["anyOf", "oneOf"] {
        if let Some(parts) = schema[word].as_array() {
            let outcomes: Vec<_> = parts.iter().map(|part| validate(value, part, root, place)).collect();
            if outcomes.iter().all(Result::is_err) {
                return outcomes.into_iter().next().unwrap();
            }
        }
    }
    let is_a = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("{other}"),
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is_a(name)) {
        return wrong(&format!("expected {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value))
        || (!schema["const"].is_null() && schema["const"] != *value)
    {
        return wrong("is none of the words");
    }
    if let Some(members) = value.as_object() {
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(required) {
                return wrong(&format!("lacks {required}"));
            }
        }
        for (name, member) in members {
            let below = format!("{place}/{name}");
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => return Err(format!("{below}: unknown key")),
                (Value::Null, Value::Null | Value::Bool(_)) => {}
                (Value::Null, of_others) => validate(member, of_others, root, &below)?,
                (property, _) => validate(member, property, root, &below)?,
            }
        }
    }
    for (number, element) in value.as_array().into_iter().flatten().enumerate() {
        if !schema["items"].is_null() {
            validate(element, &schema["items"], root, &format!("{place}/{number}"))?;
        }
    }
    Ok(())
}
