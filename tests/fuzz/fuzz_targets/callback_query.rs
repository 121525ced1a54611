//! What a browser brings back from a provider, or anybody else makes up.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| everfresh_presentation::fuzzing::callback_query(query));
