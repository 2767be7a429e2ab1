//! Values as they are written: spans of time, prefixes, names.
//!
//! **Invariant:** text in, value or `None` out.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

/// What [`duration`] understands, for messages.
pub(super) const A_DURATION: &str = r#"a span of time such as "500ms", "3s" or "2m""#;
/// What [`prefix`] understands, for messages.
pub(super) const A_PREFIX: &str =
    r#"a prefix without host bits such as "192.0.2.0/24" or "2001:db8::/32", or an address"#;

/// A span of time such as `500ms`, `3s`, `2m` or `1h 30m`.
pub fn duration(text: &str) -> Option<Duration> {
    let span: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(span).ok()
}

/// A prefix without host bits, or an address that stands for itself.
///
/// A prefix with host bits is refused: it may be meant as the address or as the network.
pub fn prefix(text: &str) -> Option<IpNet> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse().ok()?,
    };
    (net.trunc() == net).then_some(net)
}

/// The name of an upstream: it goes to terminals, labels and file names.
pub fn name(text: &str) -> Option<String> {
    const LONGEST: usize = 64;
    let fits = (1..=LONGEST).contains(&text.chars().count());
    let clean = text.trim() == text && !text.chars().any(|char| char == '/' || hidden(char));
    (fits && clean && text != "." && text != "..").then(|| text.to_owned())
}

/// The name of an interface (`IFNAMSIZ` is 16 with its final zero).
pub(super) fn interface(text: &str) -> Option<String> {
    let clean = !text
        .chars()
        .any(|char| char == '/' || char.is_whitespace() || hidden(char));
    ((1..16).contains(&text.len()) && clean).then(|| text.to_owned())
}

/// Control characters, and those that change the direction or the place of others.
pub(crate) fn hidden(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
