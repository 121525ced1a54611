//! What comes to the redirect URI.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| everfresh_fuzz::targets::callback_query(bytes));
