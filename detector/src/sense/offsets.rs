//! Which kernel fields there are, and what is lost without the others.

use detector_ebpf::{Field, Offsets};

use super::{
    Check,
    btf::{Btf, BtfError},
};

/// Fields without which the daemon still works, and what is lost.
const OPTIONAL: &[(&str, &str)] = &[
    ("err_soft", "the soft error of a connection"),
    (
        "wmem_queued",
        "some of the kernel memory that a connection holds",
    ),
    (
        "rmem_alloc",
        "some of the kernel memory that a connection holds",
    ),
    ("socket", "the process that owns a connection"),
    ("socket_sk", "connections of other network namespaces"),
    ("socket_file", "the process that owns a connection"),
    ("file_inode", "the process that owns a connection"),
    ("inode_number", "the process that owns a connection"),
    ("inode_mode", "the process that owns a connection"),
    ("task_tgid", "the process that owns a connection"),
    ("source_port", "nothing, where sockets have cookies"),
    (
        "rtx_queue",
        "the size of the segment that waits: mtu is told less surely",
    ),
    (
        "rb_left",
        "the size of the segment that waits: mtu is told less surely",
    ),
    (
        "rt_gw_family",
        "IPv4 gateways, which are then looked up from outside",
    ),
    (
        "rt_gw4",
        "IPv4 gateways, which are then looked up from outside",
    ),
    ("rt_gw6", "IPv6 gateways of IPv4 routes"),
    (
        "rt6i_gateway",
        "IPv6 gateways, which are then looked up from outside",
    ),
    (
        "rt6i_flags",
        "IPv6 gateways, which are then looked up from outside",
    ),
    (
        "probes_tstamp",
        "the age of a stall that began before the daemon, when no segment is in flight",
    ),
    ("user_timeout", "when the kernel gives up on a connection"),
    ("timer_expires", "when the kernel tries again"),
    (
        "rack_mstamp",
        "when data was acknowledged to a connection to which data arrives as well",
    ),
    (
        "rack_rtt_us",
        "when data was acknowledged to a connection to which data arrives as well",
    ),
    (
        "dsack_dups",
        "what the peer reports to have received twice: a broken way back is told less surely",
    ),
    ("out_of_order", "holes in what arrives"),
    ("pred_flags", "some of the speed of sweeps"),
    ("copied_seq", "streams that fell silent"),
    ("rcv_mss", "streams that fell silent"),
    (
        "bound_dev_if",
        "the next hop of a connection bound to an interface, once its cached route is gone",
    ),
    ("srtt_us", "the round-trip time"),
    ("total_retrans", "the number of retransmissions"),
    ("uid", "the owner of a connection"),
    ("mark", "upstreams that are told by mark"),
];

/// Finds every field.
///
/// # Errors
/// The first field that is missing and without which nothing can be said.
pub fn find(btf: &Btf) -> Result<Offsets, BtfError> {
    let mut offsets = Offsets::ABSENT;
    for field in Offsets::FIELDS {
        match locate(btf, field) {
            Ok(offset) => (field.set)(&mut offsets, offset),
            Err(_) if lost(field).is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(offsets)
}

/// What `doctor` says of the fields: one line when all are there, else a line per missing one.
pub fn checks(btf: &Btf) -> Vec<Check> {
    let missing: Vec<_> = Offsets::FIELDS
        .iter()
        .filter_map(|field| locate(btf, field).err().map(|error| (field, error)))
        .map(|(field, error)| Check {
            feature: format!("field:{}", field.name),
            ok: false,
            required: lost(field).is_none(),
            found: error.to_string(),
            lost: lost(field)
                .unwrap_or("everything: the daemon does not start")
                .to_owned(),
            remedy: "report the kernel's release, so that the new place of the field is learned"
                .to_owned(),
        })
        .collect();
    let all = Offsets::FIELDS.len();
    if missing.is_empty() {
        return vec![Check::present(
            "fields",
            true,
            format!("all {all} fields found"),
        )];
    }
    let found = format!("{} of {all} fields are missing, see below", missing.len());
    let mut checks = vec![Check {
        ok: false,
        lost: "what the lines below say".to_owned(),
        remedy: "see below".to_owned(),
        ..Check::present("fields", missing.iter().any(|check| check.required), found)
    }];
    checks.extend(missing);
    checks
}

fn lost(field: &Field) -> Option<&'static str> {
    OPTIONAL
        .iter()
        .find(|(name, _)| *name == field.name)
        .map(|(_, lost)| *lost)
}

/// The newest place is tried first; the error is the oldest one's.
fn locate(btf: &Btf, field: &Field) -> Result<u32, BtfError> {
    let mut result = Err(BtfError::Missing(field.name.to_owned()));
    for path in field.paths.iter().rev() {
        result = btf.offset(path, field.width);
        if result.is_ok() {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_every_field() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("needs a kernel with BTF");
        let btf = Btf::parse(bytes).unwrap();
        let checks = checks(&btf);
        assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
        assert!(find(&btf).is_ok());
    }

    #[test]
    fn optional_fields_exist() {
        for (name, _) in OPTIONAL {
            assert!(
                Offsets::FIELDS.iter().any(|field| field.name == *name),
                "{name}"
            );
        }
    }
}
