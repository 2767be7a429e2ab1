//! A recording: first as a file, then as the lines within a file that is whole.
#![no_main]

use std::io::Write as _;

use detector::record::replay;
use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = replay(bytes, None);
    let mut file = GzEncoder::new(Vec::new(), Compression::none());
    if file.write_all(bytes).is_ok()
        && let Ok(file) = file.finish()
    {
        let _ = replay(&file[..], None);
    }
});
