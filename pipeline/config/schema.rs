//! The JSON schema of `wayline.toml`, for editors.

use std::borrow::Cow;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema, json_schema};

use super::{Config, Span};

/// The schema as text. Descriptions are those of the configuration's own documentation, and so are the defaults.
pub fn text() -> String {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Config>();
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "examples": ["30m", "7d", "1h 30m"]})
    }
}
