//! Steps of the engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| everfresh_fuzz::targets::engine_trace(bytes));
