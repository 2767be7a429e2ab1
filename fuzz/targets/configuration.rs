//! The configuration, and the files that it names.
#![no_main]

use std::path::Path;

use detector::config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let named = bytes.get(bytes.len() / 2..).unwrap_or_default().to_vec();
    if let Err(error) = config::parse(Path::new("file"), bytes, &|_| Ok(named.clone())) {
        let _ = error.to_string();
    }
});
