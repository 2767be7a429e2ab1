//! The kernel's type information, as a damaged file would have it.
#![no_main]

use detector::sense::{btf::Btf, offsets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(btf) = Btf::parse(bytes.to_vec()) {
        let _ = offsets::find(&btf);
        let _ = offsets::checks(&btf);
        let _ = btf.tracepoint_arguments("tcp_retransmit_skb");
        let _ = btf.has_helper("bpf_get_socket_ptr_cookie");
    }
});
