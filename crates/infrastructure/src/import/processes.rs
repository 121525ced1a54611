//! Which programs run, as far as this user may know: one that still owns a login must not be robbed.

/// A running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// How it was started.
    pub command: String,
}

/// What runs, but for this program; empty where that cannot be known.
pub fn processes() -> Vec<Process> {
    if cfg!(unix) { list().unwrap_or_default() } else { Vec::new() }
}

fn list() -> Option<Vec<Process>> {
    let output = std::process::Command::new("ps").args(["-e", "-o", "pid=", "-o", "args="]).output().ok()?;
    Some(read(&String::from_utf8_lossy(&output.stdout)))
}

fn read(text: &str) -> Vec<Process> {
    let process = |line: &str| {
        let (id, command) = line.trim_start().split_once(' ')?;
        Some(Process { id: id.parse().ok()?, command: command.trim().to_owned() })
    };
    text.lines().filter_map(process).filter(|process| process.id != std::process::id()).collect()
}

impl Process {
    /// Whether it is an mcp-remote for `url`.
    pub fn is_mcp_remote_for(&self, url: &str) -> bool {
        let mut words = self.command.split_whitespace();
        // Shells and this program may have both in their arguments.
        let is_node = words.next().is_some_and(|program| {
            let name = program.rsplit(['/', '\\']).next().unwrap_or(program);
            ["node", "npx", "npm", "bun", "deno"].iter().any(|runner| name.starts_with(runner))
        });
        is_node && self.command.contains("mcp-remote") && words.any(|word| word == url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_mcp_remote_is_known_by_its_url() {
        let listing = "    1 /sbin/init\n  812 node /x/.bin/mcp-remote https://a.example/sse 9696\n  813 npm exec mcp-remote https://a.example/sse\n  900 sh -c everfresh import mcp-remote --url https://a.example/sse\nodd\n";
        let found = read(listing);
        assert_eq!(found.len(), 4);
        let of = |url: &str| -> Vec<u32> {
            found.iter().filter(|process| process.is_mcp_remote_for(url)).map(|process| process.id).collect()
        };
        assert_eq!(of("https://a.example/sse"), [812, 813]);
        assert!(of("https://a.example/").is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn this_machine_tells_what_runs() {
        assert!(processes().iter().any(|process| process.id == std::os::unix::process::parent_id()));
    }
}
