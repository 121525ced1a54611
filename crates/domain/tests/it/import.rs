//! Logins that were made elsewhere: until when the move can be taken back, and which tokens are known.

use everfresh_domain::grant::AttemptMark;
use everfresh_domain::{
    AttemptId, Budget, Failure, FailureClass, Fingerprint, Generation, GrantRecord, Imported, NotUndoable, Secret,
};

use crate::kit::START;
use crate::record::{logged_in, response};

fn print(token: &str) -> Fingerprint {
    Secret::new(token).fingerprint()
}

fn moved_in() -> GrantRecord {
    let made = logged_in();
    let tokens = made.tokens.expect("somebody is logged in");
    let imported =
        Imported { at: START, generation: Generation(4), refresh_token: Some(print("r1")), added_server: true };
    GrantRecord::moved_in(made.id, made.binding, tokens, imported)
}

fn attempting(record: &GrantRecord) -> GrantRecord {
    let mark = AttemptMark {
        attempt: AttemptId { run: 1, number: 7 },
        refresh_token: record.sendable().expect("it can be refreshed"),
        started_at: START,
    };
    record.attempting(mark, Budget::default())
}

fn failed(record: &GrantRecord, class: FailureClass) -> GrantRecord {
    attempting(record).failed(&Failure::without_answer(class, "x"))
}

#[test]
fn a_login_that_came_has_the_next_generation_and_neither_success_nor_attempt() {
    let record = moved_in();
    assert_eq!((record.generation, record.last_success_at, record.last_attempt_at), (Generation(4), None, None));
    assert_eq!(record.facts().sendable, Some(print("r1")));
}

#[test]
fn a_move_can_be_taken_back_until_a_refresh_may_have_spent_the_token() {
    let record = moved_in();
    let cases = [
        (record.clone(), Ok(())),
        (failed(&record, FailureClass::Network), Ok(())),
        (failed(&record, FailureClass::Provider), Ok(())),
        (attempting(&record), Err(NotUndoable::InDoubt)),
        (failed(&record, FailureClass::AnswerLost), Err(NotUndoable::InDoubt)),
        (failed(&record, FailureClass::Refused), Err(NotUndoable::Refused)),
        (attempting(&record).renewed(response(Some("r2")), START), Err(NotUndoable::Changed)),
        (attempting(&record).renewed(response(None), START), Err(NotUndoable::Changed)),
        (record.logged_out(), Err(NotUndoable::Changed)),
        (logged_in(), Err(NotUndoable::NotImported)),
    ];
    for (record, expected) in cases {
        assert_eq!(record.check_undoable().map(|_| ()), expected, "{record:?}");
    }
}

#[test]
fn the_token_that_a_login_came_with_is_known_for_as_long_as_the_login() {
    let mut record = moved_in();
    for round in 2..6 {
        record = attempting(&record).renewed(response(Some(&format!("r{round}"))), START);
        assert!(record.knows(print("r1")), "the copy it came from holds it");
        assert!(record.knows(print(&format!("r{round}"))) && !record.knows(print("other")));
    }
    assert!(!record.knows(print("r3")), "what nobody else holds is forgotten");
    assert!(record.logged_out().knows(print("r1")));
    assert!(failed(&moved_in(), FailureClass::Refused).knows(print("r1")));
}

#[test]
fn a_stored_record_from_before_moves_is_read() {
    let json = serde_json::to_string(&logged_in()).expect("a record can be written");
    let before = json.replace(r#","imported":null"#, "");
    assert_ne!(before, json);
    assert_eq!(serde_json::from_str::<GrantRecord>(&before).ok(), Some(logged_in()));
}
