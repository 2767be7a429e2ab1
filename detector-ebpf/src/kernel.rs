//! Follows kernel pointers at offsets that the daemon found in the running kernel's BTF.
//!
//! Loads are direct wherever the verifier knows the type behind the pointer: it then checks the
//! offset against the bounds of the field, so that a wrong one fails at load time instead of
//! giving garbage. The helper `bpf_probe_read_kernel` is used only behind casts that the verifier does
//! not know: the gateway of a route, and the queue of unacknowledged segments.
//!
//! **Invariant:** reads, never judges.
#![expect(unsafe_code, reason = "kernel pointers end here")]

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_socket_cookie, bpf_jiffies64, bpf_ktime_get_ns, bpf_probe_read_kernel,
        bpf_seq_write, bpf_skc_to_tcp_sock, bpf_sock_from_file,
    },
};
use detector_ebpf::{
    ABSENT, AF_INET, AF_INET6, GATEWAY_ON_LINK, GATEWAY_UNKNOWN, MAX_ROUTES, Offsets, RawCounts,
    RawHolder, RawNextHop, RawRoute, RawRoutes, RawSampled, RawSock, RawStream, Settings,
};

/// Written by the daemon before the programs are loaded; the verifier sees constants.
#[unsafe(no_mangle)]
static OFFSETS: Global<Offsets> = Global::new(Offsets::ABSENT);
/// Written by the daemon before the programs are loaded; the verifier sees constants.
#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    netns: 0,
    other_netns: 0,
    active_jiffies: 0,
    samples_per_destination: 0,
    report_timeouts: 0,
    has_err: 0,
    may_probe: 0,
    has_cookies: 0,
    handshake_timeouts: 0,
    hole_jiffies: 0,
    receiving_jiffies: 0,
    silent_jiffies: 0,
    silent_until_jiffies: 0,
    stream_jiffies: 0,
    stream_bytes: 0,
    route_mask: 0,
});

/// `RTF_GATEWAY`, `include/uapi/linux/ipv6_route.h`.
const RTF_GATEWAY: u32 = 0x0002;
/// `TCP_ESTABLISHED`, `include/net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
/// `TCP_SYN_SENT`.
const SYN_SENT: u8 = 2;
/// `S_IFMT` and `S_IFSOCK`, `include/uapi/linux/stat.h`.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
/// Odd, and its bits look random: the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
/// Levels of the tree of unacknowledged segments that are walked: enough for any window.
const TREE_DEPTH: u32 = 24;

/// Reads a setting.
macro_rules! setting {
    ($name:ident) => {
        $crate::kernel::settings(core::mem::offset_of!(detector_ebpf::Settings, $name))
    };
}
pub(crate) use setting;

/// Offset of a field.
macro_rules! offset {
    ($name:ident) => {
        offsets(core::mem::offset_of!(Offsets, $name))
    };
}

/// Loads a field through a pointer whose type the verifier knows; 0 when this kernel lacks it.
macro_rules! load {
    ($base:expr, $name:ident as $ty:ty) => {
        load::<$ty>($base, offset!($name))
    };
}

/// Loads a pointer; null when this kernel lacks the field.
macro_rules! follow {
    ($base:expr, $name:ident) => {
        load::<usize>($base, offset!($name)) as *const u8
    };
}

#[inline(always)]
fn load<T: Copy + Default>(base: *const u8, offset: u32) -> T {
    if offset == ABSENT {
        return T::default();
    }
    // SAFETY: the verifier checks the access against the type; a fault reads zero.
    unsafe { ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
}

/// A value of [`SETTINGS`], by its place there.
#[inline(always)]
pub(crate) fn settings(place: usize) -> u32 {
    // SAFETY: `place` comes from `offset_of!`; volatile because the daemon replaces the value.
    unsafe { ptr::read_volatile((&raw const SETTINGS).cast::<u32>().byte_add(place)) }
}

/// A value of [`OFFSETS`], by its place there.
#[inline(always)]
fn offsets(place: usize) -> u32 {
    // SAFETY: as above.
    unsafe { ptr::read_volatile((&raw const OFFSETS).cast::<u32>().byte_add(place)) }
}

/// Where something is, counted from a place of ours: the verifier allows no sums of pointers but the
/// distance of two, which does not tell where the kernel keeps things either.
#[inline(always)]
fn distance(pointer: *const u8) -> u64 {
    (pointer as u64).wrapping_sub(&raw const SETTINGS as u64)
}

/// The kernel's clock in jiffies.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_jiffies64() }
}

/// What an iterator's program is called with: `struct bpf_iter__tcp`, `net/ipv4/tcp_ipv4.c`.
#[repr(C)]
pub(crate) struct IterContext {
    meta: *const IterMeta,
    sk_common: *const u8,
}

/// `struct bpf_iter_meta`, `include/linux/bpf.h`.
#[repr(C)]
struct IterMeta {
    seq: *mut c_void,
    session: u64,
}

/// A walk, as its reader sees it.
#[derive(Clone, Copy)]
pub(crate) struct Walk(*const IterMeta);

impl Walk {
    /// Differs between walks.
    #[inline(always)]
    pub(crate) fn session(self) -> u64 {
        // SAFETY: the verifier checks accesses to what the context points to; it is never null.
        unsafe { (*self.0).session }
    }

    /// Appends a record to what the daemon reads; `false` when there is no room: the kernel then
    /// shows the same socket again.
    #[inline(always)]
    pub(crate) fn write<T>(self, raw: *const T) -> bool {
        // SAFETY: the verifier checks the buffer and its length; `meta` is never null.
        unsafe {
            let seq = (*self.0).seq;
            bpf_seq_write(seq.cast(), raw.cast_mut().cast(), size_of::<T>() as u32) == 0
        }
    }
}

/// One walk over the connections of a network namespace, at one socket.
#[derive(Clone, Copy)]
pub(crate) struct Connections(*const IterContext);

impl Connections {
    #[inline(always)]
    pub(crate) fn new(context: *const IterContext) -> Self {
        Self(context)
    }

    #[inline(always)]
    pub(crate) fn walk(self) -> Walk {
        // SAFETY: the verifier checks accesses to the context.
        Walk(unsafe { (*self.0).meta })
    }

    /// The connection that the walk is at, and whether we are still opening it; `None` at the end and for
    /// what is not one.
    #[inline(always)]
    pub(crate) fn connection(self) -> Option<(Sock, bool)> {
        // SAFETY: as above.
        connection(unsafe { (*self.0).sk_common })
    }
}

/// A connection, and whether we are still opening it; `None` for what is not one.
#[inline(always)]
fn connection(common: *const u8) -> Option<(Sock, bool)> {
    if common.is_null() {
        return None;
    }
    // Requests and time-wait entries are smaller than a socket: look before casting.
    let state = load!(common, state as u8);
    let opening = state == SYN_SENT;
    if !opening && !past_handshake(state) {
        return None;
    }
    Some((Sock::from_common(common)?, opening))
}

/// What the program of the walk over open files is called with: `struct bpf_iter__task_file`,
/// `kernel/bpf/task_iter.c`.
#[repr(C)]
pub(crate) struct FileContext {
    meta: *const IterMeta,
    task: *const u8,
    fd: u64,
    file: *const u8,
}

/// One walk over the open files of all processes, at one file.
#[derive(Clone, Copy)]
pub(crate) struct Files(*const FileContext);

impl Files {
    #[inline(always)]
    pub(crate) fn new(context: *const FileContext) -> Self {
        Self(context)
    }

    #[inline(always)]
    pub(crate) fn walk(self) -> Walk {
        // SAFETY: the verifier checks accesses to the context.
        Walk(unsafe { (*self.0).meta })
    }

    /// The connection behind the file that the walk is at, and whether we are still opening it; `None` at
    /// the end and for other files.
    #[inline(always)]
    pub(crate) fn connection(self) -> Option<(Sock, bool)> {
        // SAFETY: as above.
        let file = unsafe { (*self.0).file };
        if file.is_null() {
            return None;
        }
        // SAFETY: a file that the verifier knows; null for what is not a socket.
        let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) };
        let socket = socket.cast::<u8>().cast_const();
        if socket.is_null() {
            return None;
        }
        connection(follow!(socket, socket_sk))
    }

    /// Inode of the socket that the walk is at; `None` at the end and for other files.
    #[inline(always)]
    pub(crate) fn socket(self) -> Option<u64> {
        // SAFETY: the verifier checks accesses to the context.
        let file = unsafe { (*self.0).file };
        if file.is_null() {
            return None;
        }
        let inode = follow!(file, file_inode);
        if load!(inode, inode_mode as u16) & S_IFMT != S_IFSOCK {
            return None;
        }
        Some(load!(inode, inode_number as u64))
    }

    /// The process that has the file open; `None` at the end.
    #[inline(always)]
    pub(crate) fn process(self) -> Option<u32> {
        // SAFETY: the verifier checks accesses to the context.
        let (task, file) = unsafe { ((*self.0).task, (*self.0).file) };
        if task.is_null() || file.is_null() {
            return None;
        }
        Some(load!(task, task_tgid as u32))
    }

    /// Appends that the process which has the file open holds the socket.
    #[inline(always)]
    pub(crate) fn write_holder(self, inode: u64) {
        let Some(pid) = self.process() else { return };
        let holder = RawHolder {
            inode,
            pid,
            reserved: 0,
        };
        // Without room the kernel shows the same file again.
        self.walk().write(&raw const holder);
    }
}

/// ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING:
/// <https://elixir.bootlin.com/linux/v6.12/source/include/net/tcp_states.h>.
#[inline(always)]
fn past_handshake(state: u8) -> bool {
    state < 16 && (1u32 << state) & 0b1011_0011_0010 != 0
}

/// A TCP socket.
#[derive(Clone, Copy)]
pub(crate) struct Sock(*const u8);

impl Sock {
    /// From a `struct sock` or `struct sock_common`; `None` when it is not TCP.
    #[inline(always)]
    pub(crate) fn from_common(common: *const u8) -> Option<Self> {
        // SAFETY: the helper checks the socket and returns null for others than TCP.
        let tcp = unsafe { bpf_skc_to_tcp_sock(common.cast_mut().cast()) };
        if tcp.is_null() {
            None
        } else {
            Some(Self(tcp.cast::<u8>().cast_const()))
        }
    }

    /// Whether this is a connection past the handshake.
    #[inline(always)]
    pub(crate) fn is_connection(self) -> bool {
        past_handshake(load!(self.0, state as u8))
    }

    /// Timeouts without progress.
    #[inline(always)]
    pub(crate) fn timeouts(self) -> u8 {
        load!(self.0, retransmits as u8)
    }

    /// Identity of the socket: its cookie, or where programs cannot have that, its place and its
    /// ports: another one may take the place, but not with the same ports so soon.
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        if setting!(has_cookies) != 0 {
            // SAFETY: a socket that the verifier knows.
            return unsafe { bpf_get_socket_cookie(self.0.cast_mut().cast()) };
        }
        let ports = (
            load!(self.0, source_port as u16),
            load!(self.0, remote_port as u16),
        );
        let ports = u64::from(ports.0) << 48 | u64::from(ports.1) << 32;
        distance(self.0) ^ ports
    }

    /// Tells its cached route from others for as long as that lives; `None` where it has none.
    #[inline(always)]
    pub(crate) fn route(self) -> Option<u64> {
        let dst = follow!(self.0, dst_cache);
        (!dst.is_null()).then(|| distance(dst))
    }

    /// Whether the application has read all that arrived and neither side has closed: nothing on
    /// this host keeps the peer from sending.
    #[inline(always)]
    pub(crate) fn is_all_ears(self) -> bool {
        load!(self.0, state as u8) == ESTABLISHED
            && load!(self.0, copied_seq as u32) == load!(self.0, rcv_nxt as u32)
    }

    /// Size of the segments that arrive; 0 when it is not known.
    #[inline(always)]
    pub(crate) fn arriving_size(self) -> u32 {
        u32::from(load!(self.0, rcv_mss as u16))
    }

    /// Number of the network namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        let net = follow!(self.0, net);
        load!(net, net_inum as u32)
    }

    /// What decides about a connection. As long as data is outstanding a timer runs (`tcp_rearm_rto`,
    /// <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_input.c>, and `tcp_check_probe_timer`,
    /// `include/net/tcp.h`); most connections have none, which is told where other things are read anyway.
    #[inline(always)]
    pub(crate) fn vitals(self) -> Vitals {
        Vitals {
            received_at: load!(self.0, lrcvtime as u32),
            sent_at: load!(self.0, lsndtime as u32),
            outstanding: self.pending() != 0 && self.outstanding(),
            hole: self.hole(),
        }
    }

    /// Whether data waits to be acknowledged or to leave.
    #[inline(always)]
    pub(crate) fn outstanding(self) -> bool {
        load!(self.0, write_seq as u32) != load!(self.0, snd_una as u32)
    }

    /// The timer that runs.
    #[inline(always)]
    pub(crate) fn pending(self) -> u8 {
        load!(self.0, pending as u8)
    }

    /// Exponent of the backoff.
    #[inline(always)]
    pub(crate) fn backoff(self) -> u8 {
        load!(self.0, backoff as u8)
    }

    /// Unanswered window probes.
    #[inline(always)]
    pub(crate) fn probes(self) -> u8 {
        load!(self.0, probes_out as u8)
    }

    /// Segments with data sent.
    #[inline(always)]
    pub(crate) fn segments_out(self) -> u32 {
        load!(self.0, data_segs_out as u32)
    }

    /// Bytes that arrived in order.
    #[inline(always)]
    pub(crate) fn received(self) -> u64 {
        load!(self.0, bytes_received as u64)
    }

    /// Whether data has arrived behind a hole. Header prediction is off as long as there is one
    /// (`tcp_data_queue_ofo` and `tcp_fast_path_check`, `net/ipv4/tcp_input.c` and `include/net/tcp.h`),
    /// and is told where other things are read anyway.
    #[inline(always)]
    fn hole(self) -> bool {
        load!(self.0, pred_flags as u32) == 0 && !follow!(self.0, out_of_order).is_null()
    }

    /// The next hop of the cached route; whether it is that of all connections with this route.
    #[inline(always)]
    pub(crate) fn next_hop(self, out: &mut RawNextHop) -> bool {
        *out = RawNextHop {
            netns: self.netns(),
            gateway_family: u32::from(GATEWAY_UNKNOWN),
            ..RawNextHop::NONE
        };
        let dst = follow!(self.0, dst_cache);
        if dst.is_null() {
            return false;
        }
        let device = follow!(dst, dst_dev);
        if device.is_null() {
            return false;
        }
        out.ifindex = load!(device, dev_ifindex as u32);
        if setting!(may_probe) == 0 {
            return true;
        }
        // An IPv6 socket to a mapped IPv4 peer holds an IPv4 route: ask the addresses.
        if self.is_ipv4() {
            let family: u8 = probe(dst, offset!(rt_gw_family));
            let gateway: u32 = probe(dst, offset!(rt_gw4));
            // A route on the link names the destination once the path to it has an MTU of its own:
            // <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/route.c>, `rt_bind_exception`.
            let itself = gateway == load!(self.0, remote4 as u32);
            if u16::from(family) == AF_INET && !itself {
                let gateway = gateway.to_ne_bytes();
                out.gateway[0] = gateway[0];
                out.gateway[1] = gateway[1];
                out.gateway[2] = gateway[2];
                out.gateway[3] = gateway[3];
                out.gateway_family = u32::from(AF_INET);
            } else if u16::from(family) == AF_INET6 {
                out.gateway = probe(dst, offset!(rt_gw6));
                out.gateway_family = u32::from(AF_INET6);
            } else {
                out.gateway_family = u32::from(GATEWAY_ON_LINK);
                // A gateway that nothing but this route leads to is a destination of it as well.
                return !itself;
            }
        } else {
            let flags: u32 = probe(dst, offset!(rt6i_flags));
            if flags & RTF_GATEWAY != 0 {
                out.gateway = probe(dst, offset!(rt6i_gateway));
                out.gateway_family = u32::from(AF_INET6);
            } else {
                out.gateway_family = u32::from(GATEWAY_ON_LINK);
            }
        }
        true
    }

    /// First bytes of the remote address and the family: what a sweep counts samples by.
    #[inline(always)]
    pub(crate) fn prefix(self) -> [u8; 8] {
        if self.is_ipv4() {
            let a = load!(self.0, remote4 as u32).to_ne_bytes();
            [a[0], a[1], a[2], 0, 0, 0, 0, 4]
        } else {
            let a = load!(self.0, remote6 as u64).to_ne_bytes();
            [a[0], a[1], a[2], a[3], a[4], a[5], 0, 6]
        }
    }

    /// An IPv4 peer, on an IPv4 socket or mapped on an IPv6 one.
    #[inline(always)]
    fn is_ipv4(self) -> bool {
        if load!(self.0, family as u16) == AF_INET {
            return true;
        }
        let offset = offset!(remote6);
        let high: u64 = load(self.0, offset);
        let low: u32 = load(self.0, offset + 8);
        high == 0 && low == 0xffff_0000_u32.to_le()
    }

    /// Writes everything that the daemon wants to know.
    #[inline(always)]
    pub(crate) fn describe(self, kind: u8, next_hop: &RawNextHop, out: *mut RawSock) {
        let sk = self.0;
        // SAFETY: a whole record in a map or in the ring, checked by the verifier; plain data, so
        // that its old content does not matter. It is too large for the stack.
        let out = unsafe { &mut *out };
        out.kind = kind;
        out.cookie = self.cookie();
        out.observed_ns = nanoseconds();
        out.jiffies = jiffies();
        out.bytes_acked = load!(sk, bytes_acked as u64);
        out.bytes_received = load!(sk, bytes_received as u64);
        out.timer_expires = load!(sk, timer_expires as u64);
        out.delivered_us = self.delivered_us();
        out.inode = self.inode();
        out.gateway = next_hop.gateway;
        out.gateway_family = next_hop.gateway_family as u16;
        out.netns = next_hop.netns;
        out.ifindex = next_hop.ifindex;
        out.bound_dev_if = load!(sk, bound_dev_if as u32);
        out.memory = load!(sk, wmem_queued as u32).wrapping_add(load!(sk, rmem_alloc as u32));
        out.mark = load!(sk, mark as u32);
        out.uid = load!(sk, uid as u32);
        out.snd_una = load!(sk, snd_una as u32);
        out.snd_nxt = load!(sk, snd_nxt as u32);
        out.write_seq = load!(sk, write_seq as u32);
        out.rcv_nxt = load!(sk, rcv_nxt as u32);
        out.snd_wnd = load!(sk, snd_wnd as u32);
        out.packets_out = load!(sk, packets_out as u32);
        out.dsack_dups = load!(sk, dsack_dups as u32);
        out.mss_cache = load!(sk, mss_cache as u32);
        out.rto = load!(sk, rto as u32);
        out.srtt_us = load!(sk, srtt_us as u32);
        out.retrans_stamp = load!(sk, retrans_stamp as u32);
        out.lsndtime = load!(sk, lsndtime as u32);
        out.rcv_tstamp = load!(sk, rcv_tstamp as u32);
        out.lrcvtime = load!(sk, lrcvtime as u32);
        out.probes_tstamp = load!(sk, probes_tstamp as u32);
        out.data_segs_out = load!(sk, data_segs_out as u32);
        out.total_retrans = load!(sk, total_retrans as u32);
        out.user_timeout = load!(sk, user_timeout as u32);
        out.err = 0;
        out.err_soft = load!(sk, err_soft as i32);
        out.local_port = load!(sk, local_port as u16);
        out.remote_port = u16::from_be(load!(sk, remote_port as u16));
        out.state = load!(sk, state as u8);
        out.retransmits = load!(sk, retransmits as u8);
        out.backoff = load!(sk, backoff as u8);
        out.pending = load!(sk, pending as u8);
        out.probes_out = load!(sk, probes_out as u8);
        out.hole = u8::from(self.hole());
        out.reserved = [0; 7];
        out.head_len = self.head_len();
        self.addresses(&mut out.local, &mut out.remote);
    }

    /// When the newest segment that was acknowledged was: <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_recovery.c>,
    /// `tcp_rack_advance`.
    #[inline(always)]
    fn delivered_us(self) -> u64 {
        let sent: u64 = load!(self.0, rack_mstamp as u64);
        if sent == 0 {
            return 0;
        }
        sent + u64::from(load!(self.0, rack_rtt_us as u32))
    }

    /// Its two addresses, into places that are aligned to eight.
    #[inline(always)]
    pub(crate) fn addresses(self, local: &mut [u8; 16], remote: &mut [u8; 16]) {
        if self.is_ipv4() {
            write_mapped(local, load!(self.0, local4 as u32));
            write_mapped(remote, load!(self.0, remote4 as u32));
        } else {
            self.copy6(offset!(local6), local);
            self.copy6(offset!(remote6), remote);
        }
    }

    #[inline(always)]
    fn copy6(self, offset: u32, out: &mut [u8; 16]) {
        let high: u64 = load(self.0, offset);
        let low: u64 = load(self.0, offset + 8);
        // SAFETY: sixteen bytes, aligned to eight because of where the records hold addresses.
        unsafe {
            ptr::write(out.as_mut_ptr().cast::<u64>(), high);
            ptr::write(out.as_mut_ptr().cast::<u64>().add(1), low);
        }
    }

    /// Inode of the socket, by which user space finds its owner; 0 for an orphan.
    #[inline(always)]
    fn inode(self) -> u64 {
        let socket = follow!(self.0, socket);
        if socket.is_null() {
            return 0;
        }
        let file = follow!(socket, socket_file);
        if file.is_null() {
            return 0;
        }
        let inode = follow!(file, file_inode);
        if inode.is_null() {
            return 0;
        }
        load!(inode, inode_number as u64)
    }

    /// Data of the first unacknowledged segment: the leftmost of the tree.
    #[inline(always)]
    fn head_len(self) -> u32 {
        if setting!(may_probe) == 0 || offset!(rb_left) == ABSENT {
            return 0;
        }
        // The root shares its place with `sk_send_head`, so the verifier knows no type for it.
        let mut node: usize = load!(self.0, rtx_queue as usize);
        if node == 0 {
            return 0;
        }
        for _ in 0..TREE_DEPTH {
            let left: usize = probe(node as *const u8, offset!(rb_left));
            if left == 0 {
                // The node is the first member of the buffer (`struct sk_buff`, since 4.15).
                return probe(node as *const u8, offset!(skb_len));
            }
            node = left;
        }
        0
    }
}

/// Data of a segment that is handed to a tracepoint.
#[inline(always)]
pub(crate) fn segment_len(skb: *const u8) -> u32 {
    load!(skb, skb_len as u32)
}

/// See [`Sock::vitals`].
pub(crate) struct Vitals {
    pub(crate) received_at: u32,
    pub(crate) sent_at: u32,
    pub(crate) outstanding: bool,
    pub(crate) hole: bool,
}

/// Reads behind a cast that the verifier does not know; zero when it cannot be read.
#[inline(always)]
fn probe<T: Default>(base: *const u8, offset: u32) -> T {
    if offset == ABSENT {
        return T::default();
    }
    // SAFETY: the helper checks the address itself and fails instead of faulting.
    unsafe { bpf_probe_read_kernel(base.add(offset as usize).cast::<T>()).unwrap_or_default() }
}

/// `::ffff:a.b.c.d`.
#[inline(always)]
fn write_mapped(out: &mut [u8; 16], address: u32) {
    // SAFETY: sixteen bytes, aligned to eight because of where the records hold addresses.
    unsafe {
        ptr::write(out.as_mut_ptr().cast::<u64>(), 0);
        ptr::write(
            out.as_mut_ptr().cast::<u32>().add(2),
            0xffff_0000_u32.to_le(),
        );
        ptr::write(out.as_mut_ptr().cast::<u32>().add(3), address);
    }
}

/// The kernel's monotonic clock.
#[inline(always)]
fn nanoseconds() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Adds what only the tracepoint knows.
#[inline(always)]
pub(crate) fn complete(out: *mut RawSock, head_len: u32, err: i32) {
    // SAFETY: a record in the ring, checked by the verifier.
    unsafe {
        if head_len != 0 {
            (*out).head_len = head_len;
        }
        (*out).err = err;
    }
}

/// Samples that this walk has sent of a destination.
#[inline(always)]
pub(crate) fn sampled_in(sampled: *const RawSampled, session: u64) -> u64 {
    // SAFETY: a value of a map, checked by the verifier; a torn read costs a sample.
    unsafe {
        if (*sampled).session == session {
            (*sampled).count
        } else {
            0
        }
    }
}

/// What is remembered of a stream. Walks do not overlap, so nobody else writes it.
#[inline(always)]
pub(crate) fn stream<'a>(stream: *mut RawStream) -> &'a mut RawStream {
    // SAFETY: a value of a map, checked by the verifier; the kernel keeps it in place.
    unsafe { &mut *stream }
}

/// Where a cached route is kept at hand: the low bits of its number are the same for all. Walks do not
/// overlap, so nobody else writes it.
#[inline(always)]
pub(crate) fn route<'a>(routes: *mut RawRoutes, route: u64) -> &'a mut RawRoute {
    let slot = (route >> 6 ^ route >> 14) as u32 & setting!(route_mask) & (MAX_ROUTES - 1);
    // SAFETY: a value of a map, and a place in it; the verifier checks both.
    unsafe { &mut *routes.cast::<RawRoute>().add(slot as usize) }
}

/// A number for a next hop, much shorter than itself.
#[inline(always)]
pub(crate) fn number(next_hop: &RawNextHop) -> u64 {
    // SAFETY: sixteen bytes.
    let (high, low) = unsafe {
        let gateway = next_hop.gateway.as_ptr().cast::<u64>();
        (
            ptr::read_unaligned(gateway),
            ptr::read_unaligned(gateway.add(1)),
        )
    };
    let link = u64::from(next_hop.netns) << 32 | u64::from(next_hop.ifindex);
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    let family = u64::from(next_hop.gateway_family);
    mix(mix(mix(mix(0, high), low), link), family)
}

/// Adds one to a column. Walks do not overlap, so no other CPU counts at the same time.
#[inline(always)]
pub(crate) fn increment(counts: *mut RawCounts, column: u32) {
    // SAFETY: a value of a map, checked by the verifier; it has a place for every column.
    unsafe { *counts.cast::<u32>().add(column as usize) += 1 }
}

/// Adds one to the count of a process. Walks do not overlap, so no other CPU counts at the same time.
#[inline(always)]
pub(crate) fn count(slot: *mut u32) {
    // SAFETY: a value of a map, checked by the verifier.
    unsafe { *slot += 1 }
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn increment64(slot: *mut u64) {
    // SAFETY: a value of a map, checked by the verifier.
    unsafe { *slot += 1 }
}
