//! Metadata of servers and of protected resources, and answers to a registration.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| everfresh_infrastructure::fuzzing::documents(bytes));
