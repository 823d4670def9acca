//! The fuzzer's way to [`marathon_acme_fuzz::bodies::configuration`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| marathon_acme_fuzz::bodies::configuration::run(bytes));
