//! Tables without lines, as wide as they may be.

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};

use super::Look;

/// Blanks between two columns.
pub(crate) const GAP: u16 = 2;

/// A table for stdout.
pub(crate) fn table<const N: usize>(head: [&str; N]) -> Table {
    fitted(head, Look::of_stdout())
}

/// A table that is to look like `look`.
pub(crate) fn fitted<const N: usize>(head: [&str; N], look: Look) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if look.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    match look.width.and_then(|width| u16::try_from(width).ok()) {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.set_header(head.map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table
}

/// A table as text, without blanks at the ends of its lines.
pub(crate) fn text_of(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Prints a table.
pub(crate) fn print(table: &Table) {
    super::line(text_of(table));
}
