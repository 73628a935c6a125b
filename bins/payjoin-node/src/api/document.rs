//! The OpenAPI document, made from the types.

use schemars::generate::SchemaSettings;
use schemars::{SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use super::answers::Failed;
use crate::requests::commands::{COMMANDS, Command};
use crate::rights::{Access, Right};

const ABOUT: &str = "Every command of payjoind, for the operator's own programs. Amounts are satoshis and times seconds since \
                     1970 unless a name says otherwise.";

/// OpenAPI 3.1, as text.
pub(crate) fn document() -> String {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let (mut taken, mut told) =
        (settings.clone().for_deserialize().into_generator(), settings.for_serialize().into_generator());
    let failed = told.subschema_for::<Failed>().to_value();
    let paths: Map<String, Value> =
        COMMANDS.iter().map(|command| path(command, &mut taken, &mut told, &failed)).collect();
    let mut schemas = told.take_definitions(true);
    schemas.extend(taken.take_definitions(true));
    let mut schemas: Vec<_> = schemas.into_iter().collect();
    schemas.sort_by(|(one, _), (other, _)| one.cmp(other));
    let bearer = object([("type", text("http")), ("scheme", text("bearer"))]);
    let components = object([
        ("securitySchemes", object([("token", bearer)])),
        ("schemas", Value::Object(schemas.into_iter().collect())),
    ]);
    let info = [
        ("title", text("payjoind")),
        ("version", text(env!("CARGO_PKG_VERSION"))),
        ("description", text(ABOUT)),
    ];
    let document = object([
        ("openapi", text("3.1.0")),
        ("info", object(info)),
        ("security", Value::Array(vec![object([("token", Value::Array(Vec::new()))])])),
        ("paths", Value::Object(paths)),
        ("components", components),
    ]);
    // A value is always written.
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// The right that a command needs.
pub(crate) fn right(command: &Command) -> &'static str {
    match command.access {
        Access::Token(right) => right.name(),
        Access::Socket => "none",
    }
}

fn path(
    command: &Command,
    taken: &mut SchemaGenerator,
    told: &mut SchemaGenerator,
    failed: &Value,
) -> (String, Value) {
    let args = match command.args {
        Some(describe) => describe(taken),
        None => json_schema!({ "type": "object", "additionalProperties": false }),
    };
    let answer = (command.answer)(told);
    let spends = command.access == Access::Token(Right::Spend);
    let mut operation = vec![
        ("operationId", text(command.words.join("-"))),
        ("summary", text(command.words.join(" "))),
        ("x-right", text(right(command))),
    ];
    // `receive` takes one, too, where it needs the right to spend.
    if spends || command.words == ["receive"] {
        operation.push(("parameters", Value::Array(vec![key(spends)])));
    }
    let body = [("required", Value::Bool(command.args.is_some())), ("content", content(args.to_value()))];
    operation.extend([("requestBody", object(body)), ("responses", responses(answer.to_value(), failed))]);
    (format!("/v1/{}", command.path()), object([("post", object(operation))]))
}

/// What a command answers: this, nothing to a stranger, or why not.
fn responses(answer: Value, failed: &Value) -> Value {
    let told =
        |about: &str, schema: Value| object([("description", text(about)), ("content", content(schema))]);
    let nothing = |about: &str| object([("description", text(about))]);
    object([
        ("200", told("The answer.", answer)),
        ("401", nothing("No token, or one that is not known. The body is empty.")),
        ("429", told("The token asks too often; without one the body is empty.", failed.clone())),
        ("default", told("Why not, and what to do.", failed.clone())),
    ])
}

/// The header with which a call is made once.
fn key(required: bool) -> Value {
    object([
        ("name", text("Idempotency-Key")),
        ("in", text("header")),
        ("required", Value::Bool(required)),
        ("schema", object([("type", text("string")), ("maxLength", Value::from(200))])),
    ])
}

fn content(schema: Value) -> Value {
    object([("application/json", object([("schema", schema)]))])
}

fn text(text: impl Into<String>) -> Value {
    Value::String(text.into())
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn docs(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
    }

    /// Rewrites the file when asked to with `PAYJOIN_WRITE_DOCS=1`.
    #[test]
    fn docs_openapi_json_is_what_the_api_says_of_itself() {
        let text = format!("{}\n", document());
        if std::env::var_os("PAYJOIN_WRITE_DOCS").is_some() {
            std::fs::write(docs("openapi.json"), &text).unwrap();
        }
        let kept = std::fs::read_to_string(docs("openapi.json")).unwrap();
        assert_eq!(kept, text, "run the tests with PAYJOIN_WRITE_DOCS=1");
    }

    /// The table of docs/api.md, which the same run rewrites.
    #[test]
    fn docs_api_md_names_the_right_of_each_command() {
        let rows = COMMANDS
            .iter()
            .map(|command| format!("| `{}` | {} |\n", command.words.join(" "), right(command)));
        let table = format!("| command | right |\n| --- | --- |\n{}", rows.collect::<String>());
        let mut kept = std::fs::read_to_string(docs("api.md")).unwrap();
        let begin = kept.find("| command | right |").unwrap();
        let end = kept[begin..].find("\n\n").map_or(kept.len(), |length| begin + length + 1);
        if std::env::var_os("PAYJOIN_WRITE_DOCS").is_some() {
            kept.replace_range(begin..end, &table);
            std::fs::write(docs("api.md"), &kept).unwrap();
        }
        let end = kept[begin..].find("\n\n").map_or(kept.len(), |length| begin + length + 1);
        assert_eq!(kept[begin..end], table, "run the tests with PAYJOIN_WRITE_DOCS=1");
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let whole = document.to_string();
        let mut found = 0;
        for reference in whole.split("\"$ref\":\"").skip(1) {
            let pointer = reference.split('"').next().unwrap().trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            found += 1;
        }
        assert!(found > 20, "{found}");
        assert_eq!(document["paths"].as_object().unwrap().len(), COMMANDS.len());
    }
}
