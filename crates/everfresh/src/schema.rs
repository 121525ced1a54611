//! JSON Schemas (2020-12) of what `-o json` prints, made from the types that are printed.

use clap::ValueEnum;
use everfresh_presentation::api::views::{AccessToken, Journal, Refreshed, Server, Servers};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::commands::doctor::Report;
use crate::commands::list::Change;
use crate::commands::show::Shown;

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// `everfresh list -o json`, and `GET /api/v1/servers`.
    List,
    /// One line of `everfresh list --watch -o json`.
    Watch,
    /// `everfresh show NAME -o json`.
    Show,
    /// `everfresh journal NAME -o json`.
    Journal,
    /// `everfresh refresh NAME -o json`.
    Refresh,
    /// `everfresh token NAME -o json`.
    Token,
    /// `everfresh doctor -o json`.
    Doctor,
}

/// Every type that is printed; what they hold comes along.
#[derive(OpenApi)]
#[openapi(components(schemas(Servers, Server, Shown, Journal, AccessToken, Refreshed, Report, Change)))]
struct Types;

impl Shape {
    /// Its type; the members of further ones stand beside those of the first.
    fn components(self) -> &'static [&'static str] {
        match self {
            Self::List => &["Servers"],
            Self::Watch => &["Change"],
            Self::Show => &["Server", "Shown"],
            Self::Journal => &["Journal"],
            Self::Refresh => &["Refreshed"],
            Self::Token => &["AccessToken"],
            Self::Doctor => &["Report"],
        }
    }

    /// The command that prints it.
    fn command(self) -> &'static str {
        match self {
            Self::List => "everfresh list -o json",
            Self::Watch => "a line of everfresh list --watch -o json",
            Self::Show => "everfresh show NAME -o json",
            Self::Journal => "everfresh journal NAME -o json",
            Self::Refresh => "everfresh refresh NAME -o json",
            Self::Token => "everfresh token NAME -o json",
            Self::Doctor => "everfresh doctor -o json",
        }
    }

    /// The schema, whole in itself.
    pub(crate) fn schema(self) -> Value {
        let types = serde_json::to_value(Types::openapi()).unwrap_or_default();
        let known = types["components"]["schemas"].as_object().cloned().unwrap_or_default();
        let mut root = joined(self.components().iter().filter_map(|name| known.get(*name)));
        let mut definitions = Map::new();
        embed(&mut root, &known, &mut definitions);
        let mut schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.command(),
        });
        if let (Some(schema), Value::Object(root)) = (schema.as_object_mut(), root) {
            schema.extend(root);
            if !definitions.is_empty() {
                schema.insert("$defs".to_owned(), Value::Object(definitions));
            }
        }
        schema
    }
}

/// The first type, with the members of the others.
fn joined<'t>(mut types: impl Iterator<Item = &'t Value>) -> Value {
    let mut root = types.next().cloned().unwrap_or_default();
    for further in types {
        if let (Some(members), Some(more)) = (root["properties"].as_object_mut(), further["properties"].as_object()) {
            members.extend(more.clone());
        }
    }
    root
}

/// Lets every reference in `part` lead to `definitions`, which get what they lack from `known`.
fn embed(part: &mut Value, known: &Map<String, Value>, definitions: &mut Map<String, Value>) {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(name) = reference.strip_prefix("#/components/schemas/").map(str::to_owned)
            {
                *reference = format!("#/$defs/{name}");
                if !definitions.contains_key(&name) {
                    let mut definition = known.get(&name).cloned().unwrap_or_default();
                    // Entered first: a type may hold itself.
                    definitions.insert(name.clone(), Value::Null);
                    embed(&mut definition, known, definitions);
                    definitions.insert(name, definition);
                }
            }
            members.values_mut().for_each(|member| embed(member, known, definitions));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| embed(item, known, definitions)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_in_docs_are_those_of_the_types() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
        for shape in Shape::value_variants() {
            let name = shape.to_possible_value().unwrap().get_name().to_owned();
            let path = folder.join(format!("{name}.json"));
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            let made = format!("{}\n", serde_json::to_string_pretty(&shape.schema()).unwrap());
            assert!(kept == made, "renew docs/schema/{name}.json: everfresh schema {name} > docs/schema/{name}.json");
        }
    }

    #[test]
    fn a_schema_needs_nothing_outside_itself() {
        for shape in Shape::value_variants() {
            let text = shape.schema().to_string();
            assert!(!text.contains("#/components/"), "{shape:?}");
            assert!(shape.schema()["properties"].as_object().is_some_and(|members| !members.is_empty()), "{shape:?}");
        }
    }
}
