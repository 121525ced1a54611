//! Challenges of upstreams.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| everfresh_fuzz::targets::www_authenticate(bytes));
