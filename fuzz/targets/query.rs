//! What clients ask the API for, and process names and peers that filters are held against.
#![no_main]

use detector::serve::Filter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(filter) = serde_urlencoded::from_bytes::<Filter>(bytes) {
        let again = serde_urlencoded::to_string(&filter);
        let again = again.expect("a filter can be asked for again");
        let again = serde_urlencoded::from_str::<Filter>(&again);
        assert_eq!(again.expect("and understood"), filter);
    }
});
