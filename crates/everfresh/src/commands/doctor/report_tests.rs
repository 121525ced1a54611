//! How a report reads, and with what it ends.

use super::*;

fn checks() -> Vec<Check> {
    vec![
        Check::ok(Kind::Configuration, "/etc/everfresh/config.toml is valid"),
        Check::warning(Kind::Daemon, "it does not run", "start it with: everfresh serve"),
        Check::failed(Kind::Login, Exit::LoginNeeded, "Login required", "everfresh login linear").of("linear"),
        Check::failed(
            Kind::Upstream,
            Exit::Unreachable,
            "https://mcp.linear.app/mcp cannot be reached: timed out",
            "check its URL",
        )
        .of("linear"),
        Check::skipped(Kind::Answer, "nobody is logged in").of("linear"),
    ]
}

#[test]
fn a_report_says_what_was_found_what_it_means_and_what_to_do() {
    for width in [40, 80] {
        let text = Report::of(checks()).rendered(Look { width: Some(width), ..Look::default() });
        insta::assert_snapshot!(format!("report_{width}"), text);
    }
    insta::assert_snapshot!(
        "report_colour",
        Report::of(checks()).rendered(Look { width: Some(80), colour: true, ..Look::default() })
    );
}

#[test]
fn the_first_failure_decides_the_exit_code_and_warnings_do_not() {
    assert_eq!(Report::of(checks()).exit(), Exit::LoginNeeded);
    assert_eq!(Report::of(checks()[..2].to_vec()).exit(), Exit::Done);
    let json = serde_json::to_value(Report::of(checks())).unwrap();
    assert_eq!((json["exit_code"].as_u64(), json["summary"]["failed"].as_u64()), (Some(3), Some(2)));
}
