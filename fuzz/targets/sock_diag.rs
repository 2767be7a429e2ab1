//! What netlink tells of connections.
#![no_main]

use detector::{model::NetnsId, sense::sock_diag::Listing, time::Time};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut listing = Listing::new(NetnsId(1));
    let _ = listing.take(bytes, Time(86_400_000_000_000));
    let _ = listing.seen();
});
