//! An answer of a token endpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| everfresh_fuzz::targets::token_endpoint(bytes));
