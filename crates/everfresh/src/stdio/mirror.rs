//! What MCP 2026-07-28 wants of a request's body in its headers ("Standard Request Headers" and
//! "Custom Headers from Tool Parameters" of Streamable HTTP).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// Where a modern message says which revision it is of.
pub(super) const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

/// The header of the revision.
pub(super) const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The annotation of a tool's parameter that is to be a header.
const PARAM_KEY: &str = "x-mcp-header";

/// Tools whose annotations are remembered; no server that a person uses has more.
const TOOLS_MAX: usize = 4096;

/// The header of one parameter, and where in the arguments its value is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Declaration {
    header: HeaderName,
    path: Vec<String>,
}

/// The parameters that are to be headers, by tool, as the last list of tools said.
#[derive(Debug, Default)]
pub(super) struct ToolHeaders(BTreeMap<String, Vec<Declaration>>);

impl ToolHeaders {
    /// Learns from an answer to `tools/list`, or a page of it.
    pub(super) fn learn(&mut self, result: &Value) {
        for tool in result["tools"].as_array().into_iter().flatten() {
            let Some(name) = tool["name"].as_str() else { continue };
            let mut found = Vec::new();
            declarations(&tool["inputSchema"], &mut Vec::new(), &mut found);
            if found.is_empty() {
                self.0.remove(name);
            } else if self.0.len() < TOOLS_MAX || self.0.contains_key(name) {
                self.0.insert(name.to_owned(), found);
            }
        }
    }

    /// The headers of a message that says it is of 2026-07-28 or later; `None` for any other.
    pub(super) fn headers(&self, method: &str, params: &Value) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(VERSION_HEADER, encoded(params["_meta"][VERSION_KEY].as_str()?));
        headers.insert("mcp-method", encoded(method));
        if let Some(name) = name_field(method).and_then(|field| params[field].as_str()) {
            headers.insert("mcp-name", encoded(name));
        }
        let declared = params["name"].as_str().filter(|_| method == "tools/call").and_then(|name| self.0.get(name));
        for Declaration { header, path } in declared.into_iter().flatten() {
            let value = path.iter().try_fold(&params["arguments"], |node, key| node.get(key));
            if let Some(text) = value.and_then(primitive) {
                headers.insert(header, encoded(&text));
            }
        }
        Some(headers)
    }
}

/// The parameter that `Mcp-Name` repeats.
fn name_field(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// Annotations count on properties of properties only.
fn declarations(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Declaration>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        path.push(key.clone());
        let named = property[PARAM_KEY].as_str().filter(|name| !name.is_empty());
        if let Some(header) = named.and_then(|name| format!("mcp-param-{name}").parse().ok()) {
            found.push(Declaration { header, path: path.clone() });
        }
        declarations(property, path, found);
        path.pop();
    }
}

/// A value as the text that a header repeats; of others there is none.
fn primitive(value: &Value) -> Option<String> {
    /// Integers that every JSON parser reads alike (RFC 8259 section 6).
    const SAFE: i64 = (1 << 53) - 1;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => (-SAFE..=SAFE).contains(&integer).then(|| integer.to_string()),
            None => number.as_f64().filter(|float| float.abs() <= SAFE as f64).map(|float| float.to_string()),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A text as a header: in Base64 where it cannot stand in one as it is.
fn encoded(text: &str) -> HeaderValue {
    let is_plain = !text.is_empty()
        && text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
        && text.trim_ascii().len() == text.len()
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    let text = if is_plain { text.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(text)) };
    HeaderValue::try_from(text).expect("plain ASCII is a header's value")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(tools: &ToolHeaders, method: &str, mut params: Value) -> Vec<(String, String)> {
        params["_meta"] = json!({ VERSION_KEY: "2026-07-28" });
        let headers = tools.headers(method, &params).unwrap();
        let mut found: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        assert!(found.contains(&("mcp-protocol-version".to_owned(), "2026-07-28".to_owned())), "{found:?}");
        found.retain(|(name, _)| name != "mcp-protocol-version");
        found.sort();
        found
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    #[test]
    fn a_message_of_an_older_revision_has_no_such_headers() {
        let tools = ToolHeaders::default();
        for params in [json!({}), json!(null), json!({ "_meta": { VERSION_KEY: 7 } }), json!([1])] {
            assert_eq!(tools.headers("tools/call", &params), None, "{params}");
        }
    }

    #[test]
    fn method_and_name_are_repeated() {
        let tools = ToolHeaders::default();
        for (method, params, name) in [
            ("tools/call", json!({ "name": "add" }), Some("add")),
            ("prompts/get", json!({ "name": " x" }), Some("=?base64?IHg=?=")),
            ("resources/read", json!({ "uri": "file:///é" }), Some("=?base64?ZmlsZTovLy/DqQ==?=")),
            ("resources/read", json!({ "uri": "=?base64?eA==?=" }), Some("=?base64?PT9iYXNlNjQ/ZUE9PT89?=")),
            ("tasks/get", json!({ "taskId": "7" }), Some("7")),
            ("tools/call", json!({ "name": 7 }), None),
            ("tools/list", json!({ "name": "add" }), None),
        ] {
            let mut expected = pairs([("mcp-method", method)]);
            expected.extend(name.map(|name| ("mcp-name".to_owned(), name.to_owned())));
            assert_eq!(headers(&tools, method, params), expected, "{method}");
        }
    }

    #[test]
    fn parameters_are_repeated_as_the_list_of_tools_said() {
        let mut tools = ToolHeaders::default();
        let region = json!({ "type": "string", "x-mcp-header": "Region" });
        let deep = json!({ "type": "object", "properties": { "n": { "type": "integer", "x-mcp-header": "N" } } });
        let bad = json!({ "type": "string", "x-mcp-header": "no header" });
        let listed = json!({ "properties": { "region": region, "deep": deep, "bad": bad } });
        let elsewhere = json!({ "anyOf": [{ "properties": { "region": region } }] });
        tools.learn(
            &json!({ "tools": [{ "name": "add", "inputSchema": listed }, { "name": "x", "inputSchema": elsewhere }] }),
        );
        let call = |name: &str, arguments: Value| {
            let mut found = headers(&tools, "tools/call", json!({ "name": name, "arguments": arguments }));
            found.retain(|(name, _)| name.starts_with("mcp-param-"));
            found
        };
        let arguments = json!({ "region": "eu", "deep": { "n": 7 }, "bad": "x" });
        assert_eq!(call("add", arguments), pairs([("mcp-param-n", "7"), ("mcp-param-region", "eu")]));
        assert_eq!(call("add", json!({ "region": true })), pairs([("mcp-param-region", "true")]));
        assert_eq!(call("add", json!({ "region": "" })), pairs([("mcp-param-region", "=?base64??=")]));
        for none in [json!({}), json!({ "region": null }), json!({ "region": [1] }), json!({ "region": 1_u64 << 60 })] {
            assert_eq!(call("add", none), []);
        }
        assert_eq!(call("x", json!({ "region": "eu" })), []);
        assert_eq!(call("unknown", json!({ "region": "eu" })), []);
        tools.learn(&json!({ "tools": [{ "name": "add", "inputSchema": {} }] }));
        assert_eq!(headers(&tools, "tools/call", json!({ "name": "add", "arguments": { "region": "eu" } })).len(), 2);
    }
}
