//! Edits of all formats: what was there stays, what was put in goes without a trace.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn entry() -> Item {
    Item::Map(vec![
        ("command".to_owned(), Item::Text("C:\\bin\\\"everfresh\".exe".to_owned())),
        ("args".to_owned(), Item::List(vec!["stdio".to_owned(), "no".to_owned()])),
        ("enabled".to_owned(), Item::Flag(true)),
        ("headers".to_owned(), Item::Map(vec![("Authorization".to_owned(), Item::Text("Bearer k: #1".to_owned()))])),
    ])
}

/// Sets an entry, reads it, and takes it out again.
fn there_and_back(format: Format, text: &str, path: &[&str]) -> (String, String) {
    let mut edit = Edit::of(format, text).unwrap_or_else(|error| panic!("{error}: {text}"));
    edit.set(path, &entry()).unwrap_or_else(|error| panic!("{error}: {text}"));
    let set = edit.finish().unwrap_or_else(|error| panic!("{error}: {text}")).unwrap();
    let mut edit = Edit::of(format, &set).unwrap();
    assert_eq!(edit.at(path), Some(&entry().value()), "{set}");
    edit.remove(path).unwrap();
    let removed = edit.finish().unwrap_or_else(|error| panic!("{error}: {set}")).unwrap();
    (set, removed)
}

#[test]
fn what_is_put_in_goes_without_a_trace() {
    let json = ["s", "e"];
    let cases: [(Format, &str); 20] = [
        (Format::Json, "{\n  \"s\": {\n    \"o\": {}\n  }\n}\n"),
        (Format::Json, "{\n  \"s\": {\n    \"o\": 1 // why\n    // end\n  } // s\n}"),
        (Format::Json, "{\n\t\"s\": {\n\t\t\"o\": 1,\n\t},\n}\n"),
        (Format::Json, "\u{feff}{\r\n  \"s\": {\r\n    \"o\": 1\r\n  }\r\n}\r\n"),
        (Format::Json, "{\"s\": {}, \"z\": [1,2 , 3]}"),
        (Format::Json, "/* a */ {\n  \"s\": {},\n\n\n  \"z\" : null\n} // b\n"),
        (Format::Toml, "[s.o]\nx = 1\n"),
        (Format::Toml, "a = 1\n\n[s.o]\nx = 1 # why\n\n# end\n"),
        (Format::Toml, "# only this\n"),
        (Format::Toml, ""),
        (Format::Toml, "[s.o]\r\nx = \"\"\"a\r\nb\"\"\"\r\n[[t]]\r\ny = 1979-05-27\r\n"),
        (Format::Toml, "\u{feff}s.o.x = 1\n[z]\ny = inf\n"),
        (Format::Yaml, "s:\n  o:\n    x: 1\n"),
        (Format::Yaml, "s:\n    o: {x: 1}\n    # end\n\n\nz: |\n  # text\n\n"),
        (Format::Yaml, "# top\n---\ns: {}\nz: 1\n"),
        (Format::Yaml, "s:\n  o: 'a\n\n    b'"),
        (Format::Yaml, "s:\r\n  o: 1\r\nz: 2\r\n"),
        (Format::Yaml, "z: 1\ns:\n  o: &a [1]\n  p: *a\n"),
        (Format::Yaml, "s: {}"),
        (Format::Yaml, "s:\n  o:\n  - 1\n  -   2 # two\nz:\n- 1\n"),
    ];
    for (format, text) in cases {
        let (set, removed) = there_and_back(format, text, &json);
        assert_eq!(removed, text, "through {set}");
    }
}

/// Where the servers' own name was not there, it stays, and says nothing.
#[test]
fn what_is_missing_is_made() {
    for (format, text) in [
        (Format::Json, ""),
        (Format::Json, "{}"),
        (Format::Json, "// nothing\n"),
        (Format::Json, "{\"a\": 1}\n"),
        (Format::Json, "{\n  // none\n}\n"),
        (Format::Toml, "[a]\nb = 1"),
        (Format::Yaml, ""),
        (Format::Yaml, "# nothing\n"),
        (Format::Yaml, "a: 1"),
        (Format::Yaml, "a:\n  b: 1\n# end\n"),
        (Format::Yaml, "s:\nz: 1\n"),
    ] {
        let (set, removed) = there_and_back(format, text, &["s", "e"]);
        let before = Edit::of(format, text).unwrap().meant;
        assert!(
            same(&Edit::of(format, &removed).unwrap().meant, &before) || text.starts_with("s:"),
            "{text:?} {set} {removed}"
        );
        for line in text.lines().filter(|line| line.contains("//") || line.contains('#')) {
            assert!(set.contains(line) && removed.contains(line), "{line:?} in {set} and {removed}");
        }
    }
}

#[test]
fn fields_are_changed_one_by_one() {
    let cases = [
        (
            Format::Json,
            "{\"s\": {\"e\": {\n  \"url\": \"old\", // mine\n  \"keep\": [1]\n}}}",
            "{\"s\": {\"e\": {\n  \"url\": \"new\", // mine\n  \"keep\": [1]\n}}}",
        ),
        (Format::Toml, "[s.e]\nurl = \"old\" # mine\nkeep = [1]\n", "[s.e]\nurl = \"new\" # mine\nkeep = [1]\n"),
        (Format::Toml, "s = { e = { url = \"old\", keep = 1 } }\n", "s = { e = { url = \"new\", keep = 1 } }\n"),
        (
            Format::Yaml,
            "s:\n  e:\n    # mine\n    url: old\n    keep: [1]\n",
            "s:\n  e:\n    # mine\n    url: new\n    keep: [1]\n",
        ),
        (
            Format::Yaml,
            "s:\n  e:\n    url: >\n      old\n      text\n\n    keep: 1",
            "s:\n  e:\n    url: new\n\n    keep: 1",
        ),
    ];
    for (format, text, expected) in cases {
        let mut edit = Edit::of(format, text).unwrap();
        edit.set(&["s", "e", "url"], &Item::Text("new".to_owned())).unwrap();
        assert_eq!(edit.finish().unwrap().as_deref(), Some(expected));
    }
}

#[test]
fn nothing_is_written_where_nothing_changes() {
    for (format, text) in [
        (Format::Json, "{\"s\": {\"e\": {\"a\": true}}}"),
        (Format::Toml, "s.e.a = true"),
        (Format::Yaml, "s: {e: {a: true}}"),
    ] {
        let mut edit = Edit::of(format, text).unwrap();
        edit.set(&["s", "e"], &Item::Map(vec![("a".to_owned(), Item::Flag(true))])).unwrap();
        edit.remove(&["s", "other"]).unwrap();
        assert_eq!(edit.finish(), Ok(None));
    }
}

#[test]
fn a_broken_file_is_told_with_its_place() {
    for (format, text, line, column) in [
        (Format::Json, "{\n  \"a\": 1\n  \"b\": 2\n}", 2, 9),
        (Format::Json, "{\n  'a': 1\n}", 2, 3),
        (Format::Json, "{\"a\": 1", 1, 1),
        (Format::Toml, "a = 1\nb = \n", 2, 5),
        (Format::Toml, "a = 1\na = 2\n", 2, 1),
        (Format::Yaml, "a: 1\nb: [1,\n", 3, 1),
        (Format::Yaml, "a: 1\n\tb: 1\n", 1, 4),
        (Format::Yaml, "a: 1\na: 2\n", 2, 1),
    ] {
        match Edit::of(format, text).map(|_| ()) {
            Err(Unusable::Broken { line: at, column: beside, what }) => {
                assert_eq!((at, beside), (line, column), "{what}: {text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn what_cannot_be_edited_safely_is_refused() {
    for (format, text) in [
        (Format::Json, "[1]"),
        (Format::Json, "{\"s\": []}"),
        (Format::Json, "{\"s\": {\"o\": 1}, \"s\": {}}"),
        (Format::Toml, "s = 1"),
        (Format::Toml, "[[s]]\na = 1"),
        (Format::Toml, "a = 1\r\nb = 2\n"),
        (Format::Yaml, "- 1"),
        (Format::Yaml, "s: {o: 1}"),
        (Format::Yaml, "s: [1]"),
        (Format::Yaml, "? s\n: o: 1\n"),
        (Format::Yaml, "s: 1\n---\ns: 2\n"),
        (Format::Yaml, "s:\n  o: |+\n    text\n\n\nz: 1\n"),
    ] {
        let tried = Edit::of(format, text).and_then(|mut edit| {
            edit.set(&["s", "e"], &entry())?;
            edit.finish()
        });
        assert!(tried.is_err(), "{text:?} became {tried:?}");
    }
}

/// A document of any content, whose servers are some of it.
fn content() -> impl Strategy<Value = Value> {
    let name = "[a-z\"\\\\ λ#:.\\-]{0,6}";
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~é\n\t]{0,12}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    });
    let map = prop::collection::btree_map(name, value, 1..5);
    (map.clone(), map).prop_map(|(mut whole, servers)| {
        whole.insert("s".to_owned(), servers.into_iter().filter(|(name, _)| name != "e").collect());
        whole.into_iter().collect()
    })
}

fn as_yaml(value: &Value, column: usize) -> String {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let lines = map.iter().map(|(name, value)| {
                format!("\n{:column$}{}:{}", "", Value::from(name.as_str()), as_yaml(value, column + 2))
            });
            lines.collect()
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            format!(" {value}")
        }
    }
}

proptest! {
    #[test]
    fn any_json_comes_back(content in content(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&content).unwrap() } else { content.to_string() };
        let (set, removed) = there_and_back(Format::Json, &text, &["s", "e"]);
        let mut expected = content.clone();
        expected["s"]["e"] = entry().value();
        prop_assert_eq!(serde_json::from_str::<Value>(&set).unwrap(), expected);
        prop_assert_eq!(serde_json::from_str::<Value>(&removed).unwrap(), content);
        if pretty {
            prop_assert_eq!(removed, text);
        }
    }

    #[test]
    fn any_toml_comes_back(content in content()) {
        // A key of a table before the tables, as TOML wants it.
        let table: toml_edit::DocumentMut = {
            let mut document = toml_edit::DocumentMut::new();
            for (name, value) in content.as_object().unwrap() {
                let inline: toml_edit::Value = format!("{value}").parse().unwrap_or_else(|_| "none".into());
                if name != "s" {
                    document.insert(name, toml_edit::Item::Value(inline));
                }
            }
            document
        };
        let text = format!("{table}\n[s.other]\nx = 1 # why\n");
        let (set, removed) = there_and_back(Format::Toml, &text, &["s", "e"]);
        prop_assert!(set.starts_with(&text), "{}", set);
        prop_assert_eq!(removed, text);
    }

    #[test]
    fn any_yaml_comes_back(content in content()) {
        let text = format!("# top{}\n", as_yaml(&content, 0));
        let (set, removed) = there_and_back(Format::Yaml, &text, &["s", "e"]);
        prop_assert!(set.len() > text.len());
        prop_assert_eq!(removed, text);
    }

    #[test]
    fn nothing_makes_it_panic(text in "[ -~\n]{0,60}") {
        for format in [Format::Json, Format::Toml, Format::Yaml] {
            let tried = Edit::of(format, &text).and_then(|mut edit| {
                edit.set(&["s", "e"], &entry())?;
                edit.remove(&["s", "e"])?;
                edit.finish()
            });
            drop(tried);
        }
    }
}

#[test]
fn the_shape_is_the_same_for_all_formats() {
    let expected = json!({ "s": { "o": { "x": "1", "y": [true, 2] } } });
    for (format, text) in [
        (Format::Json, "{\"s\": {\"o\": {\"x\": \"1\", \"y\": [true, 2]}}}"),
        (Format::Toml, "[s.o]\nx = \"1\"\ny = [true, 2]"),
        (Format::Yaml, "s:\n  o: {x: '1', y: [true, 2]}"),
    ] {
        assert_eq!(Edit::of(format, text).unwrap().meant, expected);
    }
}
