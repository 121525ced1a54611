//! Checks of everything that a login hangs on. Opens no browser, changes nothing, spends no refresh
//! token.

mod clients;
mod local;
mod remote;
mod report;

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{now, with_nearest};
use crate::cli::{Doctor, Global, Output};
use crate::client::{Api, Need};
use crate::exit::{Exit, Failure};
use crate::output::{self, Look, name_of, progress};
use crate::paths::Paths;

pub(crate) use report::Report;
use report::{Check, Kind};

/// How far a clock may be off before it is worth a word; as everfresh itself has it.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(60);

pub(super) async fn doctor(global: &Global, paths: &Paths, doctor: &Doctor) -> Result<Exit, Failure> {
    let checks = progress::during("checking", checks(global, paths, doctor.name.as_deref())).await?;
    let report = Report::of(checks);
    match doctor.output {
        Output::Json => output::json(&json!(report)),
        Output::Table => output::line(report.rendered(Look::of_stdout())),
    }
    Ok(report.exit())
}

async fn checks(global: &Global, paths: &Paths, only: Option<&str>) -> Result<Vec<Check>, Failure> {
    let local = local::checks(global, paths).await;
    let mut checks = local.checks;
    if !local.api_can_be_had {
        checks.push(Check::skipped(Kind::Clock, "there is no way to the servers' settings"));
        return Ok(checks);
    }
    let api = Api::open(global, paths, Need::Look).await?;
    let listed = api.get("/api/v1/servers").await;
    let servers = match &listed {
        Ok(listed) => wanted(listed, only),
        // The check of the local key has told why.
        Err(_) => Vec::new(),
    };
    if let (Some(name), true, true) = (only, servers.is_empty(), listed.is_ok()) {
        let text = format!("there is no server {name:?}; `everfresh list` shows those there are");
        let failure = with_nearest(&api, Failure::new(Exit::NoSuchServer, text)).await;
        api.close().await;
        return Err(failure);
    }
    let looked = join_all(servers.iter().map(|server| remote::checks(&api, server))).await;
    checks.push(clients::check(&api).await);
    api.close().await;
    let offsets: Vec<(String, i64)> = looked.iter().filter_map(|server| server.clock_ahead.clone()).collect();
    checks.push(clock(&offsets));
    checks.extend(looked.into_iter().flat_map(|server| server.checks));
    Ok(checks)
}

/// The logins that are asked for: all, or those of one server, or one.
fn wanted<'l>(listed: &'l Value, only: Option<&str>) -> Vec<&'l Value> {
    let servers = listed["servers"].as_array().into_iter().flatten();
    let is_wanted = |server: &&Value| match only {
        None => true,
        Some(only) => name_of(server) == only || server["name"] == only,
    };
    servers.filter(is_wanted).collect()
}

/// This clock against those of the servers that were reached: the nearest counts, since a server's own
/// clock can be wrong as well.
fn clock(ahead: &[(String, i64)]) -> Check {
    let Some((host, ahead)) = ahead.iter().min_by_key(|(_, ahead)| ahead.unsigned_abs()) else {
        return Check::skipped(Kind::Clock, "no server told its time");
    };
    let (off, way) = (ahead.unsigned_abs(), if *ahead > 0 { "ahead of" } else { "behind" });
    if Duration::from_secs(off) > CLOCK_OFF_MAX {
        let found = format!("this machine is {off} s {way} {host}");
        return Check::warning(Kind::Clock, found, "let this machine's time be set by the network (NTP)");
    }
    Check::ok(Kind::Clock, format!("within {off} s of {host}"))
}

#[cfg(test)]
mod tests {
    use super::report::Verdict;
    use super::*;

    #[test]
    fn the_clock_is_judged_by_the_server_that_is_nearest_to_it() {
        let host = |name: &str, ahead| (name.to_owned(), ahead);
        let cases = [
            (vec![host("a", -400), host("b", 2)], Verdict::Ok, "within 2 s of b"),
            (vec![host("a", 61)], Verdict::Warning, "61 s ahead of a"),
            (vec![host("a", -3_600), host("b", -3_601)], Verdict::Warning, "3600 s behind a"),
            (vec![], Verdict::Skipped, "no server told its time"),
        ];
        for (ahead, verdict, words) in cases {
            let check = clock(&ahead);
            assert!(check.result == verdict && check.found.contains(words), "{check:?}");
        }
    }

    #[test]
    fn a_name_means_a_server_with_its_accounts_and_an_account_itself() {
        let listed = json!({ "servers": [
            { "name": "a", "account": "default" }, { "name": "a", "account": "work" }, { "name": "b", "account": "default" },
        ] });
        for (only, count) in [(None, 3), (Some("a"), 2), (Some("a@work"), 1), (Some("c"), 0)] {
            assert_eq!(wanted(&listed, only).len(), count, "{only:?}");
        }
    }
}
