//! The table of logins: whole where there is room, with fewer columns where there is less, and one
//! login below the other where no table fits.

use comfy_table::{Cell, Color, ColumnConstraint, Table};
use everfresh_domain::Timestamp;
use serde_json::Value;

use crate::output::{self, GAP, Look, name_of, relative, text, width_of};

/// The least that a summary needs where everything has a column of its own, and where the action stands
/// below it.
const SUMMARY_WIDE: usize = 40;
const SUMMARY_MEDIUM: usize = 26;

/// What there is to be seen: what is wrong with the daemon, the logins, and what is noteworthy.
pub(super) fn rendered(servers: &[Value], problems: &[String], now: Timestamp, look: Look) -> String {
    let mut parts = Vec::new();
    if !problems.is_empty() {
        let told = problems.iter().map(|problem| {
            let words = look.wrapped(problem, "problem: ".len());
            look.level("unhealthy", "problem: ") + &words
        });
        parts.push(told.collect::<Vec<_>>().join("\n"));
    }
    parts.push(match servers {
        [] => look.wrapped(EMPTY, 0),
        servers => logins(servers, now, look),
    });
    let notes: Vec<String> = servers.iter().filter_map(conflict).map(|note| look.wrapped(&note, 0)).collect();
    if !notes.is_empty() {
        parts.push(notes.join("\n"));
    }
    parts.join("\n\n")
}

/// What there is to do where there is nothing.
const EMPTY: &str = "no server yet. Add the first one, and log in to it, with:\n  everfresh add linear \
                     https://mcp.linear.app/mcp\nor see it all at work, with no account: everfresh demo";

/// The same name in the file and in the store.
fn conflict(server: &Value) -> Option<String> {
    let is_default = matches!(server["account"].as_str(), None | Some("default"));
    (server["shadows_stored"] == true && is_default).then(|| {
        let name = text(&server["name"]);
        format!(
            "{name}: it stands in the configuration file and was added with everfresh add as well; the file wins. To \
             have the added one, remove [servers.{name}] from the file"
        )
    })
}

fn logins(servers: &[Value], now: Timestamp, look: Look) -> String {
    let widest = |column: &dyn Fn(&Value) -> String, head: &str| {
        servers.iter().map(|server| width_of(&column(server))).fold(width_of(head), usize::max) + usize::from(GAP)
    };
    let expires = |server: &Value| relative(now, &server["token"]["expires_at"]);
    let next = |server: &Value| relative(now, &server["refresh"]["next_attempt_at"]);
    let command = |server: &Value| text(&server["health"]["command"]);
    let level = |server: &Value| text(&server["health"]["level"]);
    let few = widest(&label, "NAME") + widest(&level, "LEVEL") + widest(&expires, "EXPIRES");
    let all = few + widest(&next, "NEXT REFRESH") + widest(&command, "ACTION");
    match look.width {
        Some(width) if width < few + SUMMARY_MEDIUM => stacked(servers, now, look),
        Some(width) if width < all + SUMMARY_WIDE => medium(servers, now, look),
        Some(_) | None => wide(servers, now, look),
    }
}

fn wide(servers: &[Value], now: Timestamp, look: Look) -> String {
    let mut table = output::fitted(["NAME", "LEVEL", "SUMMARY", "EXPIRES", "NEXT REFRESH", "ACTION"], look);
    for server in servers {
        table.add_row([
            Cell::new(label(server)),
            level(server),
            Cell::new(text(&server["health"]["summary"])),
            Cell::new(relative(now, &server["token"]["expires_at"])),
            Cell::new(relative(now, &server["refresh"]["next_attempt_at"])),
            Cell::new(text(&server["health"]["command"])),
        ]);
    }
    printed(&mut table)
}

/// The action below the summary, and no next refresh.
fn medium(servers: &[Value], now: Timestamp, look: Look) -> String {
    let mut table = output::fitted(["NAME", "LEVEL", "SUMMARY", "EXPIRES"], look);
    for server in servers {
        let summary = text(&server["health"]["summary"]);
        let summary = match action(server) {
            Some(action) => format!("{summary}\n{action}"),
            None => summary,
        };
        let expires = relative(now, &server["token"]["expires_at"]);
        table.add_row([Cell::new(label(server)), level(server), Cell::new(summary), Cell::new(expires)]);
    }
    printed(&mut table)
}

fn stacked(servers: &[Value], now: Timestamp, look: Look) -> String {
    let block = |server: &Value| {
        let level = server["health"]["level"].as_str().unwrap_or_default();
        let mut lines = vec![format!("{}  {}", look.bold(&label(server)), look.level(level, level))];
        lines.push(format!("  {}", look.wrapped(&text(&server["health"]["summary"]), 2)));
        if let Some(ends) = output::moment(&server["token"]["expires_at"]) {
            let verb = if ends < now { "expired" } else { "expires" };
            lines.push(format!("  {verb} {}", output::seen_from(now, ends)));
        }
        lines.extend(action(server).map(|action| format!("  {}", look.wrapped(&action, 2))));
        lines.join("\n")
    };
    servers.iter().map(block).collect::<Vec<_>>().join("\n\n")
}

fn label(server: &Value) -> String {
    let name = name_of(server);
    if server["shadows_stored"] == true { format!("{name} (file)") } else { name }
}

fn action(server: &Value) -> Option<String> {
    server["health"]["command"].as_str().map(|command| format!("-> {command}"))
}

fn level(server: &Value) -> Cell {
    let level = server["health"]["level"].as_str().unwrap_or_default();
    let colour = match level {
        "healthy" => Color::DarkGreen,
        "degraded" => Color::DarkYellow,
        _ => Color::DarkRed,
    };
    Cell::new(level).fg(colour)
}

/// The table as text; its third column gives way where there is not enough room.
fn printed(table: &mut Table) -> String {
    for (index, column) in table.column_iter_mut().enumerate() {
        if index != 2 {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    output::text_of(table)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
