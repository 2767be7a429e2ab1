//! The kernel programs: two that announce trouble, two that walk all connections, one that looks for
//! the processes which hold those in trouble, and one that counts what else these have open.
//!
//! **Invariant:** read, count, emit; never judge. None of them is on a path that packets take
//! when nothing is wrong.
#![no_std]
#![no_main]

mod kernel;

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use detector_ebpf::{
    COUNTERS, Column, Counter, KIND_ACTIVE, KIND_CLOSED, KIND_SUSPICIOUS, KIND_TIMEOUT, LOOPBACK,
    MAX_DESTINATIONS, MAX_FLOWS, MAX_NEXT_HOPS, MAX_PROCESSES, MAX_STREAMS, MAX_WANTED, RING_BYTES,
    RawCounts, RawDestination, RawFlow, RawNextHop, RawRoute, RawRoutes, RawSampled, RawSock,
    RawStream,
};
use kernel::{Connections, FileContext, Files, IterContext, Sock, Vitals, Walk, setting};

const SUSPICIOUS: u32 = Column::Suspicious as u32;
const BUSY: u32 = Column::Busy as u32;
const APP_LIMITED: u32 = Column::AppLimited as u32;
const IDLE: u32 = Column::Idle as u32;
const _: () = assert!(Column::Waiting as u32 == IDLE - 1);

/// `ICSK_TIME_PROBE0`, `include/net/inet_connection_sock.h`.
const TIMER_PROBE: u8 = 3;

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static COUNTER: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);
#[map]
static NEXT_HOPS: HashMap<RawNextHop, RawCounts> = HashMap::with_max_entries(MAX_NEXT_HOPS, 0);
#[map]
static ROUTES: Array<RawRoutes> = Array::with_max_entries(1, 0);
#[map]
static FLOWS: HashMap<RawFlow, RawCounts> = HashMap::with_max_entries(MAX_FLOWS, 0);
#[map]
static SAMPLED: LruHashMap<RawDestination, RawSampled> =
    LruHashMap::with_max_entries(MAX_DESTINATIONS, 0);
#[map]
static STREAMS: LruHashMap<u64, RawStream> = LruHashMap::with_max_entries(MAX_STREAMS, 0);
#[map]
static WANTED: HashMap<u64, u32> = HashMap::with_max_entries(MAX_WANTED, 0);
#[map]
static PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(MAX_PROCESSES, 0);
#[map]
static SCRATCH: PerCpuArray<RawSock> = PerCpuArray::with_max_entries(1, 0);

/// A segment is sent again. Loss probes and fast retransmissions pass here too; a timeout is told
/// by `icsk_retransmits`, which only the retransmission timer raises and only progress clears:
/// <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_timer.c>, `tcp_update_rto_stats`.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn on_retransmit(ctx: BtfTracePointContext) -> Option<()> {
    let sock = Sock::from_common(ctx.arg(0))?;
    let timeouts = sock.timeouts();
    if u32::from(timeouts) < setting!(report_timeouts) || !sock.is_connection() {
        return None;
    }
    let err: i32 = if setting!(has_err) != 0 {
        ctx.arg(2)
    } else {
        0
    };
    let head_len = kernel::segment_len(ctx.arg(1));
    debug!(
        &ctx,
        "timeout {}, err {}, segment of {} bytes", timeouts, err, head_len
    );
    emit(sock, KIND_TIMEOUT, head_len, err)
}

/// A connection ends. Only those in trouble are of interest; timers and backoff are cleared by now,
/// the counts are not: <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp.c>,
/// `tcp_write_queue_purge`.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn on_destroy(ctx: BtfTracePointContext) -> Option<()> {
    let sock = Sock::from_common(ctx.arg(0))?;
    if (sock.timeouts() == 0 && sock.probes() == 0) || !sock.outstanding() {
        return None;
    }
    debug!(&ctx, "closed while in trouble");
    emit(sock, KIND_CLOSED, 0, 0)
}

/// The walk over all connections of the daemon's network namespace.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
#[expect(unsafe_code, reason = "aya-ebpf has no macro for iterators")]
fn sweep(context: *const IterContext) -> i32 {
    let connections = Connections::new(context);
    if let Some((sock, opening)) = connections.connection() {
        let _ = visit(connections.walk(), sock, opening, false);
    }
    0
}

/// The walk over the connections of all other network namespaces that a process holds open. It needs
/// no right to enter them. A connection that several processes hold comes several times.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
#[expect(unsafe_code, reason = "aya-ebpf has no macro for iterators")]
fn sweep_others(context: *const FileContext) -> i32 {
    let files = Files::new(context);
    if let Some((sock, opening)) = files.connection()
        && sock.netns() != setting!(netns)
    {
        let _ = visit(files.walk(), sock, opening, true);
    }
    0
}

/// The walk over the open files of all processes, for the holders of a few sockets.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
#[expect(unsafe_code, reason = "aya-ebpf has no macro for iterators")]
fn holders(context: *const FileContext) -> i32 {
    let files = Files::new(context);
    if let Some(inode) = files.socket()
        && WANTED.get_ptr(inode).is_some()
    {
        files.write_holder(inode);
    }
    0
}

/// The walk over the open files of all processes, to count those of a few.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
#[expect(unsafe_code, reason = "aya-ebpf has no macro for iterators")]
fn descriptors(context: *const FileContext) -> i32 {
    if let Some(pid) = Files::new(context).process()
        && let Some(count) = PROCESSES.get_ptr_mut(pid)
    {
        kernel::count(count);
    }
    0
}

/// A walk that looks at nothing: what the kernel itself takes to show all connections. Only
/// measurements load it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
#[expect(unsafe_code, reason = "aya-ebpf has no macro for iterators")]
fn floor(_context: *const IterContext) -> i32 {
    0
}

/// A walk that asks of each connection whether data waits, and tells nobody: less does not do to find a
/// stall. Only measurements load it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
#[expect(unsafe_code, reason = "aya-ebpf has no macro for iterators")]
fn least(context: *const IterContext) -> i32 {
    if let Some((sock, _)) = Connections::new(context).connection() {
        let _ = sock.outstanding();
    }
    0
}

#[inline(always)]
fn visit(walk: Walk, sock: Sock, opening: bool, elsewhere: bool) -> Option<()> {
    if opening && u32::from(sock.timeouts()) < setting!(handshake_timeouts) {
        return None;
    }
    // First of all: most of it is not in any cache, and the processor fetches it while it goes on.
    let route = sock.route();
    let vitals = sock.vitals();
    let now = kernel::jiffies() as u32;
    let place = place(sock, &vitals, now);
    let shown = if opening {
        None
    } else {
        shown(place, &vitals, now)
    };
    let at_hand = if elsewhere {
        None
    } else {
        at_hand(walk, sock, route, shown)
    };
    let counts = match at_hand {
        Some(counts) => counts,
        None => show_and_find(walk, sock, route, shown, elsewhere)?,
    };
    if opening {
        kernel::increment(counts, Column::Handshakes as u32);
        return Some(());
    }
    kernel::increment(counts, place);
    if let Some(hearing) = hearing(sock, &vitals, now) {
        kernel::increment(counts, hearing as u32);
    }
    Some(())
}

/// As what a connection past the handshake is written out, if at all.
#[inline(always)]
fn shown(place: u32, vitals: &Vitals, now: u32) -> Option<u8> {
    match place {
        SUSPICIOUS => Some(KIND_SUSPICIOUS),
        _ if lacks_data(vitals, now) => Some(KIND_SUSPICIOUS),
        BUSY | APP_LIMITED => Some(KIND_ACTIVE),
        _ => None,
    }
}

/// Reads a connection's next hop, writes the connection out where that is asked for, and finds the
/// counts that it belongs to: those of its next hop, or of its addresses where the gateway here is not
/// known. It is written before it is counted: without room the kernel shows the same socket again.
#[inline(always)]
fn show_and_find(
    walk: Walk,
    sock: Sock,
    route: Option<u64>,
    shown: Option<u8>,
    elsewhere: bool,
) -> Option<*mut RawCounts> {
    let mut next_hop = RawNextHop::NONE;
    let shared = sock.next_hop(&mut next_hop);
    if stays_elsewhere(&next_hop) {
        return None;
    }
    let number = kernel::number(&next_hop);
    match shown {
        Some(KIND_SUSPICIOUS) => write(walk, sock, KIND_SUSPICIOUS, &next_hop)?,
        Some(_) => sample(walk, sock, number, &next_hop)?,
        None => {}
    }
    let told = setting!(may_probe) != 0 || next_hop.ifindex == LOOPBACK;
    if told && !elsewhere {
        let counts = entry(&NEXT_HOPS, &next_hop, Counter::NextHopsFull)?;
        if shared {
            keep_at_hand(route, number, &next_hop);
        }
        return Some(counts);
    }
    let mut flow = RawFlow {
        local: [0; 16],
        remote: [0; 16],
        next_hop,
        reserved: 0,
    };
    sock.addresses(&mut flow.local, &mut flow.remote);
    entry(&FLOWS, &flow, Counter::FlowsFull)
}

/// The counts of a cached route that this walk has met before, unless another one is kept in its place
/// or the connection is to be written out.
#[inline(always)]
fn at_hand(
    walk: Walk,
    sock: Sock,
    route: Option<u64>,
    shown: Option<u8>,
) -> Option<*mut RawCounts> {
    if shown == Some(KIND_SUSPICIOUS) {
        return None;
    }
    let itself = route?;
    let route = kernel::route(ROUTES.get_ptr_mut(0)?, itself);
    if route.route != itself {
        return None;
    }
    if shown.is_some() {
        let destination = destination(sock, route.number);
        if samples(walk, &destination) < u64::from(setting!(samples_per_destination)) {
            return None;
        }
    }
    Some(&raw mut route.counts)
}

/// Has the route of this connection at hand from here on, unless another one is kept in its place.
/// Should it go while the walk lasts, and another route come where it was, the rest of the walk counts
/// that one's connections here; those that are written out read their next hop themselves.
#[inline(always)]
fn keep_at_hand(route: Option<u64>, number: u64, next_hop: &RawNextHop) -> Option<()> {
    let itself = route?;
    let route = kernel::route(ROUTES.get_ptr_mut(0)?, itself);
    if route.route == 0 {
        *route = RawRoute {
            route: itself,
            number,
            next_hop: *next_hop,
            ..RawRoute::NONE
        };
    }
    Some(())
}

/// Whether it never leaves another network namespace.
#[inline(always)]
fn stays_elsewhere(next_hop: &RawNextHop) -> bool {
    next_hop.ifindex == LOOPBACK && next_hop.netns != setting!(netns)
}

/// The number of that one of the first five columns of [`RawCounts`] that a connection belongs to: what it
/// sends decides, so that one that lacks data is counted like any other.
#[inline(always)]
fn place(sock: Sock, vitals: &Vitals, now: u32) -> u32 {
    if vitals.outstanding {
        if is_late(sock) {
            return SUSPICIOUS;
        }
        return BUSY;
    }
    let segments = sock.segments_out();
    if segments != 0 && ago(now, vitals.sent_at) <= setting!(active_jiffies) {
        return APP_LIMITED;
    }
    // By arithmetic: no processor guesses which of the two it is, and each wrong guess delays the next
    // connection.
    let spoke_last = vitals.received_at.wrapping_sub(vitals.sent_at) >> 31;
    let ever_spoke = (segments | segments.wrapping_neg()) >> 31;
    IDLE - (spoke_last & ever_spoke)
}

/// A timer is behind schedule. A window probe is one too: the kernel runs that timer also when the
/// host itself swallows the packets.
#[inline(always)]
fn is_late(sock: Sock) -> bool {
    u32::from(sock.timeouts()) >= setting!(report_timeouts)
        || sock.backoff() > 0
        || (sock.pending() == TIMER_PROBE && sock.probes() > 0)
}

/// Data has arrived behind a hole, and what is missing did not come for a while. Out-of-order data
/// does not move `lrcvtime`: <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_input.c>,
/// `tcp_data_queue_ofo`.
#[inline(always)]
fn lacks_data(vitals: &Vitals, now: u32) -> bool {
    vitals.hole && ago(now, vitals.received_at) > setting!(hole_jiffies)
}

/// The column for what a connection hears from its peer, if any.
///
/// In order; the first that applies wins:
/// 1. data arrived lately: receiving, and remembered when it streams
/// 2. it stopped longer ago than anyone asks for, or was little: none
/// 3. no sweep saw it stream: none
/// 4. this host keeps the peer from sending, or it has the word: none
/// 5. it streamed for long enough, and the last that came were full segments: fell silent
#[inline(always)]
fn hearing(sock: Sock, vitals: &Vitals, now: u32) -> Option<Column> {
    let silence = ago(now, vitals.received_at);
    if silence > setting!(silent_until_jiffies) {
        return None;
    }
    let received = sock.received();
    if received == 0 {
        return None;
    }
    let bytes = received as u32;
    let much = received >= u64::from(setting!(stream_bytes));
    if silence <= setting!(receiving_jiffies) {
        if much {
            remember(sock, bytes, now);
        }
        return Some(Column::Receiving);
    }
    if !much {
        return None;
    }
    let stream = kernel::stream(STREAMS.get_ptr_mut(sock.cookie())?);
    stream.paused = 1;
    if silence < setting!(silent_jiffies)
        || vitals.hole
        || is_after(vitals.sent_at, vitals.received_at)
        || !sock.is_all_ears()
    {
        return None;
    }
    let lasted = vitals.received_at.wrapping_sub(stream.since) as i32;
    if lasted < setting!(stream_jiffies) as i32 {
        return None;
    }
    let before = if bytes == stream.bytes {
        stream.bytes_before
    } else {
        stream.bytes
    };
    let size = sock.arriving_size();
    (size != 0 && bytes.wrapping_sub(before) % size == 0).then_some(Column::FellSilent)
}

/// Notes that data streams to a connection. Losing the entry costs a count, nothing else.
#[inline(always)]
fn remember(sock: Sock, bytes: u32, now: u32) {
    let cookie = sock.cookie();
    if let Some(stream) = STREAMS.get_ptr_mut(cookie) {
        let stream = kernel::stream(stream);
        // After a long pause nobody looked while it lasted.
        if stream.paused != 0 || ago(now, stream.seen) > setting!(silent_until_jiffies) {
            stream.paused = 0;
            stream.since = now;
        }
        stream.seen = now;
        if stream.bytes != bytes {
            stream.bytes_before = stream.bytes;
            stream.bytes = bytes;
        }
        return;
    }
    let stream = RawStream {
        since: now,
        seen: now,
        bytes,
        bytes_before: bytes,
        paused: 0,
    };
    let _ = STREAMS.insert(cookie, stream, 0);
}

/// Jiffies since a moment; zero when it is slightly ahead.
#[inline(always)]
fn ago(now: u32, moment: u32) -> u32 {
    let ago = now.wrapping_sub(moment);
    if ago > u32::MAX / 2 { 0 } else { ago }
}

#[inline(always)]
fn is_after(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) as i32 > 0
}

/// Writes one of the connections at work, as long as the destination has not had its share.
#[inline(always)]
fn sample(walk: Walk, sock: Sock, number: u64, next_hop: &RawNextHop) -> Option<()> {
    let destination = destination(sock, number);
    let sent = samples(walk, &destination);
    if sent >= u64::from(setting!(samples_per_destination)) {
        return Some(());
    }
    write(walk, sock, KIND_ACTIVE, next_hop)?;
    // Losing this entry costs a further sample, nothing else.
    let sampled = RawSampled {
        session: walk.session(),
        count: sent + 1,
    };
    let _ = SAMPLED.insert(destination, sampled, 0);
    Some(())
}

#[inline(always)]
fn destination(sock: Sock, number: u64) -> RawDestination {
    RawDestination {
        next_hop: number,
        prefix: sock.prefix(),
    }
}

/// How many of a destination this walk has written.
#[inline(always)]
fn samples(walk: Walk, destination: &RawDestination) -> u64 {
    SAMPLED
        .get_ptr(destination)
        .map_or(0, |sampled| kernel::sampled_in(sampled, walk.session()))
}

#[inline(always)]
fn write(walk: Walk, sock: Sock, kind: u8, next_hop: &RawNextHop) -> Option<()> {
    let record = SCRATCH.get_ptr_mut(0)?;
    sock.describe(kind, next_hop, record);
    walk.write(record).then_some(())
}

#[inline(always)]
fn entry<K>(map: &HashMap<K, RawCounts>, key: &K, full: Counter) -> Option<*mut RawCounts> {
    if let Some(counts) = map.get_ptr_mut(key) {
        return Some(counts);
    }
    if map.insert(key, RawCounts::ZERO, 0).is_err() {
        bump(full);
        return None;
    }
    map.get_ptr_mut(key)
}

#[inline(always)]
fn emit(sock: Sock, kind: u8, head_len: u32, err: i32) -> Option<()> {
    let mut next_hop = RawNextHop::NONE;
    sock.next_hop(&mut next_hop);
    let other = next_hop.netns != setting!(netns);
    if other && (setting!(other_netns) == 0 || stays_elsewhere(&next_hop)) {
        return None;
    }
    let Some(mut record) = EVENTS.reserve::<RawSock>(0) else {
        return bump(Counter::RingFull);
    };
    let out = record.as_mut_ptr();
    sock.describe(kind, &next_hop, out);
    kernel::complete(out, head_len, err);
    record.submit(0);
    Some(())
}

#[inline(always)]
fn bump(counter: Counter) -> Option<()> {
    let slot = COUNTER.get_ptr_mut(counter as u32)?;
    kernel::increment64(slot);
    None
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the kernel looks for this section")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
