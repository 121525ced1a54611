//! Windows: a task that starts with this user's session (docs/adr/0018-windows-task.md).
//!
//! The task starts `everfresh service run` without a window, which keeps the daemon running and its
//! log in the data folder: the Task Scheduler does neither for a program that ends by itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::PATIENCE;
use super::keeper::Keeper;
use super::manager::{Manager, State};
use super::plan::Plan;
use crate::exit::{Exit, Failure};

/// The task's name.
const TASK: &str = "everfresh";

/// How long what the task starts may take to be there.
const STARTING: Duration = Duration::from_secs(4);

/// How often it is started: one that is just ending lets no other begin beside it.
const STARTS_MAX: usize = 4;

/// The task's definition. `user` is who it runs as, and whose session starts it.
pub(super) fn definition(plan: &Plan, user: &str) -> String {
    let program = argument(&plan.program.to_string_lossy());
    // The first argument is `serve`, which `service run` starts.
    let rest: Vec<String> = plan.arguments.iter().skip(1).map(|word| argument(word)).collect();
    let arguments = escaped(&format!("--headless {program} service run {}", rest.join(" ")));
    let user = escaped(user);
    format!(
        r#"<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>everfresh: keeps OAuth logins fresh. Written by everfresh service install.</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <IdleSettings>
      <StopOnIdleEnd>false</StopOnIdleEnd>
    </IdleSettings>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>conhost.exe</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"#
    )
}

/// One argument of a Windows command line, as CommandLineToArgvW takes it apart.
fn argument(word: &str) -> String {
    let mut text = String::from('"');
    let mut backslashes = 0;
    for character in word.chars() {
        match character {
            '\\' => backslashes += 1,
            '"' => {
                // Those before a quote count double, and the quote needs one of its own.
                text.extend(std::iter::repeat_n('\\', backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        text.push(character);
    }
    text.extend(std::iter::repeat_n('\\', backslashes));
    text.push('"');
    text
}

/// Text within XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The Task Scheduler.
#[derive(Debug)]
pub(super) struct Tasks {
    /// Where the definition is kept, to see whether another one is the same.
    kept: PathBuf,
    /// What the task starts.
    keeper: Keeper,
}

impl Tasks {
    pub(super) fn new(data: &Path) -> Self {
        Self { kept: data.join("everfresh-task.xml"), keeper: Keeper::of(data) }
    }
}

impl Manager for Tasks {
    fn name(&self) -> &'static str {
        "Task Scheduler"
    }

    fn check(&self) -> Result<(), Failure> {
        schtasks(&["/Query", "/FO", "LIST"]).map(|_| ())
    }

    fn definition(&self) -> Result<PathBuf, Failure> {
        Ok(self.kept.clone())
    }

    fn render(&self, plan: &Plan) -> Result<String, Failure> {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let (domain, user) = (variable("USERDOMAIN"), variable("USERNAME"));
        if user.is_empty() {
            return Err(Failure::new(Exit::Usage, "USERNAME is not set: whose session should start the task?"));
        }
        Ok(definition(plan, &if domain.is_empty() { user } else { format!("{domain}\\{user}") }))
    }

    fn install(&self, _plan: &Plan, text: String) -> Result<(), Failure> {
        // It wants what its own export gives: UTF-16 with a byte order mark.
        let bytes: Vec<u8> = std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let wide = self.kept.with_extension("utf16.xml");
        let unwritable = |error: std::io::Error| {
            Failure::new(Exit::Failed, format!("{} cannot be written: {error}", self.kept.display()))
        };
        std::fs::write(&wide, bytes).map_err(unwritable)?;
        let made = schtasks(&["/Create", "/TN", TASK, "/XML", &wide.to_string_lossy(), "/F"]);
        drop(std::fs::remove_file(&wide));
        made?;
        std::fs::write(&self.kept, text).map_err(unwritable)
    }

    fn uninstall(&self) -> Result<(), Failure> {
        self.stop()?;
        schtasks(&["/Delete", "/TN", TASK, "/F"])?;
        drop(std::fs::remove_file(&self.kept));
        Ok(())
    }

    fn start(&self) -> Result<(), Failure> {
        for _ in 0..STARTS_MAX {
            schtasks(&["/Run", "/TN", TASK])?;
            if self.keeper.becomes(true, STARTING) {
                return Ok(());
            }
        }
        Err(Failure::new(Exit::NoDaemon, "the Task Scheduler was told to start the task, and nothing runs"))
    }

    fn stop(&self) -> Result<(), Failure> {
        // `schtasks /End` ends the console alone, and the daemon goes on without it.
        self.keeper.stop(PATIENCE)
    }

    fn state(&self) -> Result<State, Failure> {
        let installed = schtasks(&["/Query", "/TN", TASK]).is_ok();
        let details = if installed { "registered" } else { "not registered" }.to_owned();
        let definition = installed.then(|| self.kept.clone());
        // The scheduler's words for running are those of the system's language.
        let running = Some(self.keeper.runs());
        Ok(State { definition, enabled: installed, running, details, ..State::default() })
    }

    fn log(&self, data: &Path) -> String {
        format!("type \"{}\"", data.join("daemon.log").display())
    }
}

fn schtasks(arguments: &[&str]) -> Result<String, Failure> {
    let ran = Command::new("schtasks.exe").args(arguments).output();
    let named = || format!("schtasks {}", arguments.join(" "));
    let ran = ran.map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", named())))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(Failure::new(Exit::Failed, format!("{}: {}", named(), said.trim())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_task_is_what_it_should_be() {
        let data = r"C:\Users\Ann & Bob\AppData\Local\everfresh";
        let plan = Plan {
            program: r"C:\Program Files\everfresh\everfresh.exe".into(),
            arguments: ["serve", "--data-dir", data].map(str::to_owned).to_vec(),
            data: data.into(),
            environment: "x".into(),
            runs_commands: false,
        };
        insta::assert_snapshot!("task", definition(&plan, r"DESK\Ann & Bob"));
    }

    /// The rules of CommandLineToArgvW, for words that are all quoted.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut inside, mut backslashes) = (Vec::new(), String::new(), false, 0);
        for character in line.chars() {
            match character {
                '\\' => backslashes += 1,
                '"' => {
                    word.extend(std::iter::repeat_n('\\', backslashes / 2));
                    if backslashes % 2 == 1 {
                        word.push('"');
                    } else if inside {
                        words.push(std::mem::take(&mut word));
                        inside = false;
                    } else {
                        inside = true;
                    }
                    backslashes = 0;
                }
                other => {
                    word.extend(std::iter::repeat_n('\\', backslashes));
                    backslashes = 0;
                    if inside {
                        word.push(other);
                    }
                }
            }
        }
        words
    }

    proptest! {
        #[test]
        fn whatever_the_arguments_are_the_program_gets_them_as_they_are(arguments in proptest::collection::vec("[ -~]{0,10}", 1..5)) {
            let line: Vec<String> = arguments.iter().map(|word| argument(word)).collect();
            prop_assert_eq!(words(&line.join(" ")), arguments);
        }
    }
}
