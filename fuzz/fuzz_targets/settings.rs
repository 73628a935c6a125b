//! `settings` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| payjoin_fuzz::settings(data));
