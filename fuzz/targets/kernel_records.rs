//! What the kernel programs write: events, walks over connections and over open files.
#![no_main]

use detector::sense::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for hz in [0, 100, 1000] {
        let _ = decode::event(bytes, hz);
        let _ = decode::records(bytes, hz);
    }
    let _ = decode::holders(bytes);
});
