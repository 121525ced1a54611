//! The reference's tables of routes, reasons and states, against what is served.

use std::collections::BTreeSet;

use everfresh_domain::Reason;
use everfresh_domain::timeline::State;
use everfresh_testkit::documents::{document, rows};

use crate::home::Home;

#[tokio::test]
async fn the_table_of_routes_is_that_of_the_openapi_document() {
    let home = Home::start().await;
    let described = home.get("/openapi.json").await.json();
    let paths = described["paths"].as_object().unwrap();
    let served: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let rows = rows(&document("REFERENCE.md"), "method");
    let told: BTreeSet<(String, String)> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let missing: Vec<_> = served.difference(&told).collect();
    assert!(missing.is_empty(), "docs/REFERENCE.md lacks a row for {missing:?}");
    let surplus: Vec<_> = told.difference(&served).collect();
    assert!(surplus.is_empty(), "docs/REFERENCE.md has routes that there are not: {surplus:?}");
}

#[test]
fn the_tables_of_reasons_and_states_are_whole() {
    let reference = document("REFERENCE.md");
    let first =
        |title: &str| -> Vec<String> { rows(&reference, title).into_iter().map(|row| row[0].clone()).collect() };
    assert_eq!(first("reason"), Reason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>());
    let states = [State::Valid, State::Lapsed, State::LoggedOut, State::Disabled, State::Off, State::Unknown];
    assert_eq!(first("state"), states.map(State::as_str));
}
