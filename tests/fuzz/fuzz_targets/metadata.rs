//! Metadata documents and answers to registrations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| everfresh_fuzz::targets::metadata(bytes));
