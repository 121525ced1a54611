//! JSON with what people add to it: comments and trailing commas.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstContainerNode, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::{Map, Value};

use super::{Document, Item, Unusable};

/// What clients read: comments and trailing commas, and nothing else that JSON does not have.
fn options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

pub(super) struct Json(CstRootNode);

impl Json {
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        let broken = |error: jsonc_parser::errors::ParseError| Unusable::Broken {
            line: error.line_display(),
            column: error.column_display(),
            what: error.kind().to_string(),
        };
        CstRootNode::parse(text, &options()).map(Self).map_err(broken)
    }

    /// The map at `path`, where all of it is there.
    fn find(&self, path: &[&str]) -> Option<CstObject> {
        path.iter().try_fold(self.0.object_value()?, |map, name| map.object_value(name))
    }
}

impl Document for Json {
    fn tree(&self) -> Value {
        match self.0.value() {
            Some(_) => self.0.to_serde_value().unwrap_or(Value::Null),
            None => Value::Object(Map::new()),
        }
    }

    fn set(&mut self, path: &[&str], item: &Item) -> Result<(), Unusable> {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let mut map = self.0.object_value_or_create().ok_or_else(|| Unusable::NotAMap("the whole file".to_owned()))?;
        for step in above {
            map = map.object_value_or_create(step).ok_or_else(|| Unusable::NotAMap(format!("{step:?}")))?;
        }
        match map.get(name) {
            Some(found) => found.set_value(input(item)),
            None => drop(map.append(name, input(item))),
        }
        Ok(())
    }

    fn remove(&mut self, path: &[&str]) -> Result<(), Unusable> {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let Some(map) = self.find(above) else { return Ok(()) };
        if let Some(found) = map.get(name) {
            found.remove();
        }
        if is_bare(&map) {
            // The line breaks of what was in it would stay.
            let parent = map.parent();
            match parent {
                Some(CstContainerNode::ObjectProp(property)) => property.set_value(CstInputValue::Object(Vec::new())),
                Some(CstContainerNode::Root(root)) => root.set_value(CstInputValue::Object(Vec::new())),
                Some(CstContainerNode::Array(_) | CstContainerNode::Object(_)) | None => {}
            }
        }
        Ok(())
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// Whether nothing is in a map, no comment either.
fn is_bare(map: &CstObject) -> bool {
    let speaks = |node: &CstNode| node.is_comment() || node.as_object_prop().is_some();
    !map.children().iter().any(speaks)
}

fn input(item: &Item) -> CstInputValue {
    match item {
        Item::Text(text) => CstInputValue::String(text.clone()),
        Item::Flag(flag) => CstInputValue::Bool(*flag),
        Item::List(texts) => CstInputValue::Array(texts.iter().cloned().map(CstInputValue::String).collect()),
        Item::Map(fields) => {
            CstInputValue::Object(fields.iter().map(|(name, item)| (name.clone(), input(item))).collect())
        }
    }
}
