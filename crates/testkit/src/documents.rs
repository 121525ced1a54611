//! Tables of our documents, for tests that compare them with the program.

use std::path::Path;

/// The text of a document in `docs`.
///
/// # Panics
///
/// If it is not there.
pub fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the table of `document` whose first column is called `first`; code has lost its
/// backticks.
///
/// # Panics
///
/// If there is no such table.
pub fn rows(document: &str, first: &str) -> Vec<Vec<String>> {
    let head = format!("| {first} |");
    let mut lines = document.lines().skip_while(|line| !line.starts_with(&head));
    assert!(lines.next().is_some(), "no table begins with {head}");
    let table = lines.take_while(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| {
        let inner = line.trim().trim_start_matches('|');
        let inner = inner.strip_suffix('|').unwrap_or(inner);
        inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    table.map(cells).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_to_its_end() {
        let text = "# x\n\n| a | b |\n|---|---|\n| `1` | 2 3 |\n| `4` | |\n\n| c |\n|---|\n| 5 |\n";
        assert_eq!(rows(text, "a"), [["1", "2 3"], ["4", ""]]);
        assert_eq!(rows(text, "c"), [["5"]]);
    }
}
