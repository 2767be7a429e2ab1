//! What netlink tells of links, neighbours and routes.
#![no_main]

use detector::{model::NetnsId, sense::topology::Known};
use libfuzzer_sys::fuzz_target;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

fuzz_target!(|bytes: &[u8]| {
    let mut known = Known::new(NetnsId(1));
    let mut rest = bytes;
    // A datagram carries several messages, each with its length in front.
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
        let length = message.header.length as usize;
        if let NetlinkPayload::InnerMessage(inner) = message.payload {
            let _ = known.take(&inner);
        }
        rest = rest.get(length.max(16)..).unwrap_or_default();
    }
});
