//! What is to be installed: the program, its arguments, and what a person should know before.

use std::path::{Component, Path, PathBuf};

use everfresh_application::settings::SecretSource;

use crate::cli::Global;
use crate::config::{Config, MasterKeySource};
use crate::exit::{Exit, Failure};
use crate::paths::Paths;

/// Variables that reach a program from a shell, and a service only if it is told.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"];

/// The program as a service manager is to start it. Holds no secret: a definition can be read by
/// others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The binary.
    pub(super) program: PathBuf,
    /// Its arguments, the command first.
    pub(super) arguments: Vec<String>,
    /// The data folder, the only place that it writes to.
    pub(super) data: PathBuf,
    /// A file with further variables for it, which need not be there.
    pub(super) environment: PathBuf,
    /// Whether the configuration has secrets that a command prints: it runs in the service's sandbox.
    pub(super) runs_commands: bool,
}

impl Plan {
    /// What these flags and this configuration mean for a service.
    pub(super) fn of(global: &Global, paths: &Paths, config: &Config) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::new(Exit::Failed, format!("the path of this program is not to be had: {error}"))
        })?;
        let program = lasting(program, std::env::var_os("PATH").as_deref());
        text(&program)?;
        let environment = absolute(&paths.config)?.with_file_name("environment");
        text(&environment)?;
        let arguments = arguments(global, paths)?;
        Ok(Self { program, arguments, data: absolute(&paths.data)?, environment, runs_commands: runs_commands(config) })
    }
}

/// How the daemon is called, wherever it is called from.
pub(super) fn arguments(global: &Global, paths: &Paths) -> Result<Vec<String>, Failure> {
    let mut arguments = vec!["serve".to_owned(), "--data-dir".to_owned(), text(&absolute(&paths.data)?)?];
    if paths.config_is_named {
        arguments.extend(["--config".to_owned(), text(&absolute(&paths.config)?)?]);
    }
    if let Some(address) = global.listen {
        arguments.extend(["--listen".to_owned(), address.to_string()]);
    }
    if let Some(filter) = &global.log_level {
        arguments.extend(["--log-level".to_owned(), filter.clone()]);
    }
    Ok(arguments)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let unusable = |error| Failure::new(Exit::Usage, format!("{} is no path: {error}", path.display()));
    std::path::absolute(path).map_err(unusable)
}

/// A path as the text of a definition; those of service managers are UTF-8, line by line.
fn text(path: &Path) -> Result<String, Failure> {
    let told = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let unusable = || {
        let text =
            format!("{} cannot stand in a service's definition: it is not plain text; use another", path.display());
        Failure::new(Exit::Usage, text)
    };
    told.map(str::to_owned).ok_or_else(unusable)
}

/// The name on the search path that leads to `program`: where packages are versioned folders behind
/// links, the folder is gone after an upgrade and the link is not.
fn lasting(program: PathBuf, search: Option<&std::ffi::OsStr>) -> PathBuf {
    let (Some(search), Some(name)) = (search, program.file_name()) else { return program };
    let real = program.canonicalize();
    let mut found = std::env::split_paths(search).map(|folder| folder.join(name));
    let same = |path: &PathBuf| {
        path.is_absolute() && real.as_ref().is_ok_and(|real| path.canonicalize().is_ok_and(|path| path == *real))
    };
    found.find(same).unwrap_or(program)
}

fn runs_commands(config: &Config) -> bool {
    let of_servers = config.servers.iter().flat_map(|server| server.oauth.secret_sources());
    let commands = of_servers.filter(|source| matches!(source, SecretSource::Command(_)));
    matches!(config.master_key, MasterKeySource::Command(_)) || commands.count() > 0
}

/// What a person should know before this is installed, each with what to do. `variable` is what the
/// environment of this command has.
pub(super) fn warnings(plan: &Plan, config: &Config, variable: impl Fn(&str) -> bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if is_passing(&plan.program) {
        warnings.push(format!(
            "{} is where programs are built or unpacked, and may be gone tomorrow: install it first (cargo install \
             --path crates/everfresh, or a package), then install the service with that one",
            plan.program.display()
        ));
    }
    let of_servers = config.servers.iter().flat_map(|server| server.oauth.secret_sources());
    let mut names: Vec<&str> = of_servers
        .filter_map(|source| match source {
            SecretSource::Env(name) => Some(name.as_str()),
            SecretSource::File(_) | SecretSource::Command(_) => None,
        })
        .collect();
    names.extend(["EVERFRESH_MASTER_KEY", "EVERFRESH_KEY"].into_iter().chain(PROXIES).filter(|name| variable(name)));
    names.sort_unstable();
    names.dedup();
    if !names.is_empty() {
        warnings.push(format!(
            "a service does not see the variables of this shell: {} must be given to it, as lines NAME=value in {} \
             (chmod 600) under systemd, or as files that the configuration names",
            names.join(", "),
            plan.environment.display()
        ));
    }
    warnings
}

/// Whether a program lies where nothing is meant to stay.
fn is_passing(program: &Path) -> bool {
    let built = program.components().zip(program.components().skip(1)).any(|(folder, profile)| {
        folder == Component::Normal("target".as_ref())
            && [Component::Normal("debug".as_ref()), Component::Normal("release".as_ref())].contains(&profile)
    });
    built || program.starts_with(std::env::temp_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(program: &str) -> Plan {
        Plan {
            program: program.into(),
            arguments: vec!["serve".to_owned()],
            data: "/data".into(),
            environment: "/config/environment".into(),
            runs_commands: false,
        }
    }

    fn parsed(text: &str) -> Config {
        crate::config::parse(text, Path::new("/config")).unwrap()
    }

    #[test]
    fn programs_where_nothing_stays_are_warned_of() {
        let temporary = std::env::temp_dir().join("x/everfresh");
        let cases = [
            ("/src/target/debug/everfresh", true),
            ("/src/target/release/everfresh", true),
            (temporary.to_str().unwrap(), true),
            ("/usr/bin/everfresh", false),
            ("/opt/target/bin/everfresh", false),
        ];
        for (program, expected) in cases {
            let warnings = warnings(&plan(program), &Config::default(), |_| false);
            assert_eq!(warnings.iter().any(|text| text.contains(program)), expected, "{program}");
        }
    }

    #[test]
    fn variables_that_a_service_would_miss_are_named() {
        let config = parsed(
            "[servers.x]\nurl = \"https://x.example\"\noauth = { client_id = \"a\", client_secret = { env = \"X_SECRET\" } }",
        );
        let told = warnings(&plan("/usr/bin/everfresh"), &config, |name| name == "HTTPS_PROXY").join("");
        assert!(told.contains("HTTPS_PROXY, X_SECRET") && told.contains("/config/environment"), "{told}");
        assert!(warnings(&plan("/usr/bin/everfresh"), &Config::default(), |_| false).is_empty());
    }

    #[test]
    fn a_path_that_would_break_a_definitions_line_is_refused() {
        assert_eq!(text(Path::new("/data of 50 %")).unwrap(), "/data of 50 %");
        let refused = text(Path::new("/data\nExecStart=/bin/evil")).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
    }

    #[test]
    fn commands_that_print_secrets_are_seen_wherever_they_stand() {
        let of_server = |oauth: &str| {
            format!("[servers.x]\nurl = \"https://x.example\"\n[servers.x.oauth]\nclient_id = \"a\"\n{oauth}")
        };
        let cases = [
            (String::new(), false),
            ("[master_key]\ncommand = [\"pass\"]".to_owned(), true),
            (of_server("client_secret = { file = \"s\" }"), false),
            (of_server("client_secret = { command = [\"pass\"] }"), true),
        ];
        for (text, expected) in cases {
            assert_eq!(runs_commands(&parsed(&text)), expected, "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_on_the_search_path_is_preferred_to_the_folder_of_one_version() {
        let folder = tempfile::tempdir().unwrap();
        let (cellar, bin) = (folder.path().join("cellar/1.0"), folder.path().join("bin"));
        std::fs::create_dir_all(&cellar).unwrap();
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(cellar.join("everfresh"), "").unwrap();
        let program = cellar.join("everfresh");
        assert_eq!(lasting(program.clone(), Some(bin.as_os_str())), program, "nothing there leads to it");
        std::os::unix::fs::symlink(&program, bin.join("everfresh")).unwrap();
        assert_eq!(lasting(program, Some(bin.as_os_str())), bin.join("everfresh"));
    }
}
