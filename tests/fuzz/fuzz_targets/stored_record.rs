//! Bytes of the store: sealed ones, and the records in them.
#![no_main]

use everfresh_domain::GrantRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    everfresh_infrastructure::fuzzing::sealed(bytes);
    if let Ok(record) = serde_json::from_slice::<GrantRecord>(bytes) {
        let written = serde_json::to_vec(&record).expect("a record can be written");
        assert_eq!(serde_json::from_slice::<GrantRecord>(&written).expect("and read again"), record);
        let facts = record.facts();
        assert!(facts.sendable.is_none_or(|token| !record.refused.contains(&token)));
    }
});
