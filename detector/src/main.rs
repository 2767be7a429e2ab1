//! The `tcpstall` binary.
fn main() {}
