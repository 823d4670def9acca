//! The fuzzer's way to [`marathon_acme_fuzz::bodies::dns`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| marathon_acme_fuzz::bodies::dns::run(bytes));
