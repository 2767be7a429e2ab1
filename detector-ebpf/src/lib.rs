//! The types that the kernel programs and the daemon share.
//!
//! Everything here is plain data in the kernel's own units: no `bool`, no enum, no `usize`, no
//! implicit padding. The daemon turns it into words in `detector/src/sense/decode.rs` and nowhere
//! else.
//!
//! **Invariant:** no thresholds live here. Whatever the programs compare against is a value that
//! the daemon gives them ([`Settings`]).
#![no_std]

/// Bytes of the ring that carries events to the daemon.
pub const RING_BYTES: u32 = 1 << 20;
/// Next hops that one sweep can tell apart; connections of further ones are counted under
/// [`Counter::NextHopsFull`].
pub const MAX_NEXT_HOPS: u32 = 4096;
/// Pairs of addresses of other network namespaces that one sweep can tell apart; connections of
/// further ones are counted under [`Counter::FlowsFull`].
pub const MAX_FLOWS: u32 = 16384;
/// Destinations for which a sweep remembers how many samples it has sent. When it forgets some,
/// more samples than needed are sent: a cost, never an error.
pub const MAX_DESTINATIONS: u32 = 16384;
/// Connections to which data streams and that a sweep remembers. One that is forgotten is not
/// counted when it falls silent.
pub const MAX_STREAMS: u32 = 16384;
/// Cached routes whose counts a sweep can keep at hand, a power of two. Connections with further ones are
/// counted by their next hop, which takes longer to find.
pub const MAX_ROUTES: u32 = 256;

/// Sockets whose holders are looked for in one walk over the open files.
pub const MAX_WANTED: u32 = 4096;

/// Processes whose descriptors are counted in one walk over the open files.
pub const MAX_PROCESSES: u32 = 1024;

/// A [`RawSock`] that an iterator wrote because the connection looks wrong.
pub const KIND_SUSPICIOUS: u8 = 0;
/// A [`RawSock`] that an iterator wrote as a sample of the connections that are at work.
pub const KIND_ACTIVE: u8 = 1;
/// A [`RawSock`] of a retransmission timeout.
pub const KIND_TIMEOUT: u8 = 2;
/// A [`RawSock`] of a connection that ended while it looked wrong.
pub const KIND_CLOSED: u8 = 3;

/// The loopback interface has this index in every network namespace (`include/net/flow.h`,
/// `LOOPBACK_IFINDEX`).
pub const LOOPBACK: u32 = 1;

/// [`RawSock::gateway_family`]: the destination is on the link, there is no gateway.
pub const GATEWAY_ON_LINK: u16 = 0;
/// [`RawSock::gateway_family`]: the kernel holds no route for this connection at the moment.
pub const GATEWAY_UNKNOWN: u16 = u16::MAX;

/// `AF_INET`, `include/linux/socket.h`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`, `include/linux/socket.h`.
pub const AF_INET6: u16 = 10;

/// An offset that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// One connection as the kernel holds it. Field names follow `struct tcp_sock` and its parents;
/// see `include/linux/tcp.h` and `include/net/inet_connection_sock.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
pub struct RawSock {
    /// Socket cookie: unique as long as the host runs.
    pub cookie: u64,
    /// `bpf_ktime_get_ns` when this was read.
    pub observed_ns: u64,
    /// `bpf_jiffies64` when this was read.
    pub jiffies: u64,
    /// Bytes the peer has acknowledged since the connection began.
    pub bytes_acked: u64,
    /// Bytes that arrived in order since the connection began.
    pub bytes_received: u64,
    /// When the retransmission (or persist) timer fires, in jiffies.
    pub timer_expires: u64,
    /// When the newest segment that was acknowledged was, in microseconds of the TCP clock
    /// (`bpf_ktime_get_ns` / 1000); 0: not known.
    pub delivered_us: u64,
    /// Inode of the socket; 0 when no process holds it.
    pub inode: u64,
    /// Local address, IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// Remote address, IPv4 as `::ffff:a.b.c.d`.
    pub remote: [u8; 16],
    /// Gateway of the cached route: 4 or 16 bytes, see [`RawSock::gateway_family`].
    pub gateway: [u8; 16],
    /// Network namespace (`ns.inum`).
    pub netns: u32,
    /// Interface of the cached route.
    pub ifindex: u32,
    /// Socket mark.
    pub mark: u32,
    /// Owner.
    pub uid: u32,
    /// First sequence number that is not acknowledged.
    pub snd_una: u32,
    /// Next sequence number to be sent.
    pub snd_nxt: u32,
    /// End of what the application has written.
    pub write_seq: u32,
    /// Next sequence number expected from the peer.
    pub rcv_nxt: u32,
    /// The window that the peer offers.
    pub snd_wnd: u32,
    /// Segments in flight.
    pub packets_out: u32,
    /// Segments that arrived at the peer more than once, as it has reported.
    pub dsack_dups: u32,
    /// Maximum segment size in use.
    pub mss_cache: u32,
    /// Retransmission timeout, in jiffies.
    pub rto: u32,
    /// Smoothed round-trip time, in eighths of a microsecond.
    pub srtt_us: u32,
    /// Time of the first retransmission of this episode, in milliseconds of the TCP clock; 0: none.
    pub retrans_stamp: u32,
    /// Last transmission of data, first or repeated, in jiffies.
    pub lsndtime: u32,
    /// Last segment with an acknowledgement that arrived, in jiffies; data of the peer carries one that
    /// need not be new.
    pub rcv_tstamp: u32,
    /// Last data that arrived in order, in jiffies.
    pub lrcvtime: u32,
    /// First unanswered window probe of this episode, in jiffies; 0: none.
    pub probes_tstamp: u32,
    /// Segments with data sent since the connection began, repeats included.
    pub data_segs_out: u32,
    /// All retransmissions since the connection began.
    pub total_retrans: u32,
    /// `TCP_USER_TIMEOUT` in milliseconds; 0: not set.
    pub user_timeout: u32,
    /// Bytes of data in the first unacknowledged segment; 0: not known.
    pub head_len: u32,
    /// Result of the retransmission as the kernel saw it (a negative errno), 0 when it left.
    pub err: i32,
    /// Soft error of the socket (an errno).
    pub err_soft: i32,
    /// Interface that the socket is bound to; 0: none.
    pub bound_dev_if: u32,
    /// Kernel memory of what is queued to be sent and of what has arrived and was not read, bytes; 0: not known.
    pub memory: u32,
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order.
    pub remote_port: u16,
    /// `AF_INET`, `AF_INET6`, [`GATEWAY_ON_LINK`] or [`GATEWAY_UNKNOWN`].
    pub gateway_family: u16,
    /// Which program wrote this, one of the `KIND_` constants.
    pub kind: u8,
    /// `skc_state`: `TCP_ESTABLISHED` is 1, see `include/net/tcp_states.h`.
    pub state: u8,
    /// Timeouts without progress.
    pub retransmits: u8,
    /// Exponent of the backoff.
    pub backoff: u8,
    /// The pending timer: 1 retransmit, 3 window probe, 5 loss probe, 6 reordering.
    pub pending: u8,
    /// Unanswered window probes.
    pub probes_out: u8,
    /// 1 when data has arrived behind a hole, else 0.
    pub hole: u8,
    /// Zero: the size is a multiple of eight.
    pub reserved: [u8; 7],
}
const _: () = assert!(size_of::<RawSock>() == 240);

/// Where a connection is sent: the key under which a sweep counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
pub struct RawNextHop {
    /// See [`RawSock::gateway`].
    pub gateway: [u8; 16],
    /// Network namespace (`ns.inum`).
    pub netns: u32,
    /// Interface index; 0 when the route is not known.
    pub ifindex: u32,
    /// See [`RawSock::gateway_family`].
    pub gateway_family: u32,
}
const _: () = assert!(size_of::<RawNextHop>() == 28);

impl RawNextHop {
    /// Nothing is known.
    pub const NONE: Self = Self {
        gateway: [0; 16],
        netns: 0,
        ifindex: 0,
        gateway_family: 0,
    };
}

/// Two addresses that connections of another network namespace are between: the key under which a
/// sweep counts those, since their own next hop does not say through what they leave this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
pub struct RawFlow {
    /// See [`RawSock::local`].
    pub local: [u8; 16],
    /// See [`RawSock::remote`].
    pub remote: [u8; 16],
    /// Where its own namespace sends it.
    pub next_hop: RawNextHop,
    /// Zero: the size is a multiple of eight.
    pub reserved: u32,
}
const _: () = assert!(size_of::<RawFlow>() == 64);

/// What one sweep counted at one next hop. Every connection past the handshake is in exactly one of
/// the first five, and [`RawCounts::suspicious`] ones are also written out. The programs count by
/// place: the order is [`Column`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
pub struct RawCounts {
    /// Data outstanding and timers behind schedule.
    pub suspicious: u32,
    /// Data outstanding, nothing unusual.
    pub busy: u32,
    /// Everything acknowledged, and something was sent within the window: the sender has no more.
    pub app_limited: u32,
    /// Nothing sent for a while, and the last word was ours: waiting for the peer.
    pub waiting: u32,
    /// Nothing sent for a while, and the last word was the peer's.
    pub idle: u32,
    /// Not past the handshake: the first segment was sent again and again.
    pub handshakes: u32,
    /// Past the handshake, and data has arrived lately.
    pub receiving: u32,
    /// Past the handshake, and data that had streamed in has stopped, see [`RawStream`].
    pub fell_silent: u32,
}
const _: () = assert!(size_of::<RawCounts>() == 32);

/// A cached route and what one sweep counted with it: what a next hop is need not be found out for
/// every connection. Routes of one next hop are few, one for each processor and each path with an MTU of
/// its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
pub struct RawRoute {
    /// Tells the route from others as long as it lives; 0 when none is kept here.
    pub route: u64,
    /// See [`RawDestination::next_hop`].
    pub number: u64,
    /// Where it leads.
    pub next_hop: RawNextHop,
    /// What was counted.
    pub counts: RawCounts,
    /// Zero: the size is a multiple of eight.
    pub reserved: u32,
}
const _: () = assert!(size_of::<RawRoute>() == 80);

impl RawRoute {
    /// No walk has met one.
    pub const NONE: Self = Self {
        route: 0,
        number: 0,
        next_hop: RawNextHop::NONE,
        counts: RawCounts::ZERO,
        reserved: 0,
    };
}

/// The routes that a sweep has at hand: one value, so that the daemon reads them at once.
pub type RawRoutes = [RawRoute; MAX_ROUTES as usize];

/// A process that holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
pub struct RawHolder {
    /// Inode of the socket.
    pub inode: u64,
    /// The process (`task_struct.tgid`).
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<RawHolder>() == 16);

/// The columns of [`RawCounts`], in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Column {
    /// [`RawCounts::suspicious`].
    Suspicious = 0,
    /// [`RawCounts::busy`].
    Busy = 1,
    /// [`RawCounts::app_limited`].
    AppLimited = 2,
    /// [`RawCounts::waiting`].
    Waiting = 3,
    /// [`RawCounts::idle`].
    Idle = 4,
    /// [`RawCounts::handshakes`].
    Handshakes = 5,
    /// [`RawCounts::receiving`].
    Receiving = 6,
    /// [`RawCounts::fell_silent`].
    FellSilent = 7,
}

impl RawCounts {
    /// Nothing counted yet.
    pub const ZERO: Self = Self {
        suspicious: 0,
        busy: 0,
        app_limited: 0,
        waiting: 0,
        idle: 0,
        handshakes: 0,
        receiving: 0,
        fell_silent: 0,
    };
}

/// A destination behind a next hop, for counting how many samples a sweep has sent of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RawDestination {
    /// Stands for the next hop: a short key is found sooner. Should two next hops have the same, they
    /// share the samples of a destination.
    pub next_hop: u64,
    /// First 48 bits of an IPv6 address or 24 bits of an IPv4 address, and the family.
    pub prefix: [u8; 8],
}
const _: () = assert!(size_of::<RawDestination>() == 16);

/// How many samples of a destination the sweep `session` has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RawSampled {
    /// Session of the iterator.
    pub session: u64,
    /// Samples sent.
    pub count: u64,
}

/// What the sweeps remember of a connection to which data streams.
///
/// The kernel does not say whether a reply is complete. What it does say is how large the segments
/// are: a sender that has more to send fills each, and the last one of a reply is rarely full. So the
/// bytes of the last interval in which any arrived are a multiple of the segment size in the middle,
/// and at the end they are not. A sender that is slower than the path sends small segments in the
/// middle, too: it is not counted when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RawStream {
    /// Since when every sweep has found that data arrives, in jiffies.
    pub since: u32,
    /// The newest sweep that found that, in jiffies.
    pub seen: u32,
    /// Low half of the bytes received at the newest sweep that found more of them.
    pub bytes: u32,
    /// The same, one such sweep earlier.
    pub bytes_before: u32,
    /// 1 when a sweep found that nothing had arrived lately, else 0.
    pub paused: u32,
}
const _: () = assert!(size_of::<RawStream>() == 20);

/// Per-CPU counters of what the programs could not do. Indices of the `COUNTERS` map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// An event found the ring full.
    RingFull = 0,
    /// A connection could not be counted because the table of next hops is full.
    NextHopsFull = 1,
    /// A connection could not be counted because the table of flows is full.
    FlowsFull = 2,
}
/// Number of [`Counter`]s.
pub const COUNTERS: u32 = 3;

/// What the daemon tells the programs at load time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
pub struct Settings {
    /// The daemon's network namespace (`ns.inum`).
    pub netns: u32,
    /// 1 when connections of other network namespaces are reported, too.
    pub other_netns: u32,
    /// A connection that sent data within this many jiffies is at work.
    pub active_jiffies: u32,
    /// How many samples a sweep sends for each destination.
    pub samples_per_destination: u32,
    /// From how many timeouts without progress on a connection is reported.
    pub report_timeouts: u32,
    /// 1 when `tcp_retransmit_skb` has the argument `err` (from 6.17).
    pub has_err: u32,
    /// 1 when `bpf_probe_read_kernel` may be used; without it gateways and head sizes are unknown.
    pub may_probe: u32,
    /// 1 when programs like ours may ask for a socket's cookie (from 5.12).
    pub has_cookies: u32,
    /// From how many timeouts on a handshake is counted.
    pub handshake_timeouts: u32,
    /// A connection is written when data waits behind a hole and none came in order for so many
    /// jiffies: reordered packets are no hole.
    pub hole_jiffies: u32,
    /// Data has arrived lately when it did within this many jiffies.
    pub receiving_jiffies: u32,
    /// A stream has fallen silent from this many jiffies without data on.
    pub silent_jiffies: u32,
    /// And is no longer counted after this many.
    pub silent_until_jiffies: u32,
    /// Data streams in when it has arrived for this many jiffies.
    pub stream_jiffies: u32,
    /// And so many bytes have come since the connection began.
    pub stream_bytes: u32,
    /// Bits of the places at which routes are kept at hand, less than [`MAX_ROUTES`].
    pub route_mask: u32,
}
const _: () = assert!(size_of::<Settings>() == 64);

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident: $width:literal $path:literal $(| $more:literal)*;)*) => {
        /// Byte offsets of kernel fields, found in the running kernel's BTF at start.
        /// [`ABSENT`] marks what this kernel does not have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(C)]
        #[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
        pub struct Offsets {
            $($(#[$doc])* pub $name: u32,)*
        }

        impl Offsets {
            /// No field is known yet.
            pub const ABSENT: Self = Self { $($name: ABSENT,)* };

            /// Every field: its name, width in bytes and the BTF paths to try, in order, as
            /// `struct.member.member`.
            pub const FIELDS: &'static [Field] = &[
                $(Field {
                    name: stringify!($name),
                    width: $width,
                    paths: &[$path $(, $more)*],
                    set: |offsets, value| offsets.$name = value,
                },)*
            ];
        }
    };
}

/// A kernel field that the programs read.
#[derive(Debug)]
pub struct Field {
    /// The field's name in [`Offsets`].
    pub name: &'static str,
    /// Bytes that the programs load.
    pub width: u32,
    /// Where it was in the kernels that are known, newest last.
    pub paths: &'static [&'static str],
    /// Writes the offset.
    pub set: fn(&mut Offsets, u32),
}

offsets! {
    /// Address family.
    family: 2 "sock_common.skc_family";
    /// TCP state.
    state: 1 "sock_common.skc_state";
    /// Local port, host order.
    local_port: 2 "sock_common.skc_num";
    /// Remote port, network order.
    remote_port: 2 "sock_common.skc_dport";
    /// Local IPv4 address.
    local4: 4 "sock_common.skc_rcv_saddr";
    /// Remote IPv4 address.
    remote4: 4 "sock_common.skc_daddr";
    /// Local IPv6 address.
    local6: 16 "sock_common.skc_v6_rcv_saddr";
    /// Remote IPv6 address.
    remote6: 16 "sock_common.skc_v6_daddr";
    /// Network namespace.
    net: 8 "sock_common.skc_net.net";
    /// Number of a network namespace.
    net_inum: 4 "net.ns.inum";
    /// Cached route.
    dst_cache: 8 "sock.sk_dst_cache";
    /// Interface that the socket is bound to.
    bound_dev_if: 4 "sock_common.skc_bound_dev_if";
    /// Mark.
    mark: 4 "sock.sk_mark";
    /// Owner.
    uid: 4 "sock.sk_uid.val";
    /// Soft error.
    err_soft: 4 "sock.sk_err_soft";
    /// Memory of what is queued to be sent.
    wmem_queued: 4 "sock.sk_wmem_queued";
    /// Memory of what has arrived and was not read.
    rmem_alloc: 4 "sock.sk_backlog.rmem_alloc";
    /// The socket's face towards processes.
    socket: 8 "sock.sk_socket";
    /// The socket itself, as the face sees it.
    socket_sk: 8 "socket.sk";
    /// Its file.
    socket_file: 8 "socket.file";
    /// The file's inode.
    file_inode: 8 "file.f_inode";
    /// The inode's number.
    inode_number: 8 "inode.i_ino";
    /// What the inode is of: a file, a socket.
    inode_mode: 2 "inode.i_mode";
    /// The local port, also of a connection that has ended: `skc_num` is zero then.
    source_port: 2 "inet_sock.inet_sport";
    /// The process, as user space counts it.
    task_tgid: 4 "task_struct.tgid";
    /// Root of the queue of unacknowledged segments.
    rtx_queue: 8 "sock.tcp_rtx_queue.rb_node";
    /// Left child of a tree node.
    rb_left: 8 "rb_node.rb_left";
    /// Data bytes of a queued segment.
    skb_len: 4 "sk_buff.len";
    /// Device of a route.
    dst_dev: 8 "dst_entry.dev";
    /// Index of a device.
    dev_ifindex: 4 "net_device.ifindex";
    /// Family of an IPv4 route's gateway, 0 when on the link.
    rt_gw_family: 1 "rtable.rt_gw_family";
    /// IPv4 gateway.
    rt_gw4: 4 "rtable.rt_gw4";
    /// IPv6 gateway of an IPv4 route.
    rt_gw6: 16 "rtable.rt_gw6";
    /// IPv6 gateway, zero when on the link.
    rt6i_gateway: 16 "rt6_info.rt6i_gateway";
    /// Flags of an IPv6 route.
    rt6i_flags: 4 "rt6_info.rt6i_flags";
    /// Timeouts without progress.
    retransmits: 1 "inet_connection_sock.icsk_retransmits";
    /// Exponent of the backoff.
    backoff: 1 "inet_connection_sock.icsk_backoff";
    /// Unanswered window probes.
    probes_out: 1 "inet_connection_sock.icsk_probes_out";
    /// The pending timer.
    pending: 1 "inet_connection_sock.icsk_pending";
    /// Retransmission timeout.
    rto: 4 "inet_connection_sock.icsk_rto";
    /// First unanswered window probe.
    probes_tstamp: 4 "inet_connection_sock.icsk_probes_tstamp";
    /// User timeout.
    user_timeout: 4 "inet_connection_sock.icsk_user_timeout";
    /// Size of the segments that arrive.
    rcv_mss: 2 "inet_connection_sock.icsk_ack.rcv_mss";
    /// Last data that arrived in order.
    lrcvtime: 4 "inet_connection_sock.icsk_ack.lrcvtime";
    /// When the timer fires.
    timer_expires: 8 "inet_connection_sock.icsk_timeout"
        | "inet_connection_sock.icsk_retransmit_timer.expires"
        | "sock.tcp_retransmit_timer.expires";
    /// First unacknowledged sequence number.
    snd_una: 4 "tcp_sock.snd_una";
    /// Next sequence number to be sent.
    snd_nxt: 4 "tcp_sock.snd_nxt";
    /// End of what was written.
    write_seq: 4 "tcp_sock.write_seq";
    /// Next sequence number expected.
    rcv_nxt: 4 "tcp_sock.rcv_nxt";
    /// Offered window.
    snd_wnd: 4 "tcp_sock.snd_wnd";
    /// Segments in flight.
    packets_out: 4 "tcp_sock.packets_out";
    /// Segments that arrived more than once.
    dsack_dups: 4 "tcp_sock.dsack_dups";
    /// Root of the queue of segments that arrived behind a hole.
    out_of_order: 8 "tcp_sock.out_of_order_queue.rb_node";
    /// Header prediction; zero while segments wait behind a hole.
    pred_flags: 4 "tcp_sock.pred_flags";
    /// Next sequence number that the application has not read.
    copied_seq: 4 "tcp_sock.copied_seq";
    /// Segment size.
    mss_cache: 4 "tcp_sock.mss_cache";
    /// Smoothed round-trip time.
    srtt_us: 4 "tcp_sock.srtt_us";
    /// First retransmission of the episode.
    retrans_stamp: 4 "tcp_sock.retrans_stamp";
    /// Last transmission.
    lsndtime: 4 "tcp_sock.lsndtime";
    /// Last segment that carried an acknowledgement, new or not.
    rcv_tstamp: 4 "tcp_sock.rcv_tstamp";
    /// When the newest segment that was acknowledged was sent.
    rack_mstamp: 8 "tcp_sock.rack.mstamp";
    /// How long its acknowledgement took.
    rack_rtt_us: 4 "tcp_sock.rack.rtt_us";
    /// Bytes acknowledged.
    bytes_acked: 8 "tcp_sock.bytes_acked";
    /// Bytes received.
    bytes_received: 8 "tcp_sock.bytes_received";
    /// Segments with data sent.
    data_segs_out: 4 "tcp_sock.data_segs_out";
    /// Retransmissions.
    total_retrans: 4 "tcp_sock.total_retrans";
}

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "the one place where the ABI is declared plain data"
)]
mod pod {
    macro_rules! pod {
        ($bound:path: $($ty:ty),* $(,)?) => {$(
            // SAFETY: zerocopy proves the type free of padding and, where it is read, valid for
            // any bytes.
            unsafe impl aya::Pod for $ty where $ty: $bound {}
        )*};
    }
    pod!(zerocopy::FromBytes: super::RawSock, super::RawNextHop, super::RawFlow, super::RawCounts, super::RawRoute);
    pod!(zerocopy::IntoBytes: super::Settings, super::Offsets);
}
