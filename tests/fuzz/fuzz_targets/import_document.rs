//! Documents of logins, and configurations of clients.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| everfresh_fuzz::targets::import_document(bytes));
