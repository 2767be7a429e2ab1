//! The kernel programs: two that announce trouble and one that walks all connections.
//!
//! **Invariant:** read, count, emit; never judge. None of them is on a path that packets take
//! when nothing is wrong.
#![no_std]
#![no_main]

mod kernel;

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::{HashMap, LruHashMap, PerCpuArray, RingBuf},
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use detector_ebpf::{
    COUNTERS, Counter, KIND_ACTIVE, KIND_CLOSED, KIND_SUSPICIOUS, KIND_TIMEOUT, MAX_DESTINATIONS,
    MAX_NEXT_HOPS, RING_BYTES, RawCounts, RawDestination, RawNextHop, RawSampled, RawSock,
};
use kernel::{IterContext, Sock, Vitals, Walk, setting};

/// `ICSK_TIME_PROBE0`, `include/net/inet_connection_sock.h`.
const TIMER_PROBE: u8 = 3;

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static COUNTER: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);
#[map]
static NEXT_HOPS: HashMap<RawNextHop, RawCounts> = HashMap::with_max_entries(MAX_NEXT_HOPS, 0);
#[map]
static SAMPLED: LruHashMap<RawDestination, RawSampled> =
    LruHashMap::with_max_entries(MAX_DESTINATIONS, 0);
#[map]
static SCRATCH: PerCpuArray<RawSock> = PerCpuArray::with_max_entries(1, 0);

/// A segment is sent again. Loss probes and fast retransmissions pass here too; a timeout is told
/// by `icsk_retransmits`, which only the retransmission timer raises and only progress clears:
/// <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_timer.c>, `tcp_update_rto_stats`.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn on_retransmit(ctx: BtfTracePointContext) -> Option<()> {
    let sock = Sock::from_common(ctx.arg(0))?;
    let vitals = sock.vitals();
    if u32::from(vitals.timeouts) < setting!(report_timeouts) || !sock.is_connection() {
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
        "timeout {}, err {}, segment of {} bytes", vitals.timeouts, err, head_len
    );
    emit(sock, KIND_TIMEOUT, head_len, err)
}

/// A connection ends. Only those in trouble are of interest; timers and backoff are cleared by now,
/// the counts are not: <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp.c>,
/// `tcp_write_queue_purge`.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn on_destroy(ctx: BtfTracePointContext) -> Option<()> {
    let sock = Sock::from_common(ctx.arg(0))?;
    let vitals = sock.vitals();
    if !vitals.outstanding || (vitals.timeouts == 0 && vitals.probes == 0) {
        return None;
    }
    debug!(&ctx, "closed while in trouble");
    emit(sock, KIND_CLOSED, 0, 0)
}

/// The walk over all connections of a network namespace.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
#[expect(unsafe_code, reason = "aya-ebpf has no macro for iterators")]
fn sweep(context: *const IterContext) -> i32 {
    let _ = visit(Walk::new(context));
    0
}

#[inline(always)]
fn visit(walk: Walk) -> Option<()> {
    let sock = walk.connection()?;
    let vitals = sock.vitals();
    let mut next_hop = RawNextHop {
        gateway: [0; 16],
        netns: 0,
        ifindex: 0,
        gateway_family: 0,
    };
    sock.next_hop(&mut next_hop);
    let place = place(&vitals, kernel::jiffies() as u32);
    // Written before it is counted: without room the kernel shows the same socket again.
    match place {
        Place::Suspicious => write(walk, sock, KIND_SUSPICIOUS, &next_hop)?,
        Place::Busy | Place::AppLimited => sample(walk, sock, &next_hop)?,
        Place::Waiting | Place::Idle => {}
    }
    count(&next_hop, place)
}

/// The column of [`RawCounts`] that a connection belongs to.
#[derive(Clone, Copy)]
enum Place {
    Suspicious,
    Busy,
    AppLimited,
    Waiting,
    Idle,
}

#[inline(always)]
fn place(vitals: &Vitals, now: u32) -> Place {
    if looks_wrong(vitals) {
        Place::Suspicious
    } else if vitals.outstanding {
        Place::Busy
    } else if vitals.segments_out == 0 {
        Place::Idle
    } else if now.wrapping_sub(vitals.sent_at) <= setting!(active_jiffies) {
        Place::AppLimited
    } else if vitals.sent_at.wrapping_sub(vitals.received_at) as i32 > 0 {
        Place::Waiting
    } else {
        Place::Idle
    }
}

/// Data waits and a timer is behind schedule. A window probe is one too: the kernel runs that
/// timer also when the host itself swallows the packets.
#[inline(always)]
fn looks_wrong(vitals: &Vitals) -> bool {
    vitals.outstanding
        && (u32::from(vitals.timeouts) >= setting!(report_timeouts)
            || (vitals.pending == TIMER_PROBE && (vitals.backoff > 0 || vitals.probes > 0)))
}

/// Writes one of the connections at work, as long as the destination has not had its share.
#[inline(always)]
fn sample(walk: Walk, sock: Sock, next_hop: &RawNextHop) -> Option<()> {
    let destination = RawDestination {
        next_hop: *next_hop,
        prefix: sock.prefix(),
    };
    let session = walk.session();
    let sent = match SAMPLED.get_ptr(destination) {
        Some(sampled) => kernel::sampled_in(sampled, session),
        None => 0,
    };
    if sent >= u64::from(setting!(samples_per_destination)) {
        return Some(());
    }
    write(walk, sock, KIND_ACTIVE, next_hop)?;
    // Losing this entry costs a further sample, nothing else.
    let _ = SAMPLED.insert(
        destination,
        RawSampled {
            session,
            count: sent + 1,
        },
        0,
    );
    Some(())
}

#[inline(always)]
fn write(walk: Walk, sock: Sock, kind: u8, next_hop: &RawNextHop) -> Option<()> {
    let record = SCRATCH.get_ptr_mut(0)?;
    sock.describe(kind, next_hop, record);
    walk.write(record).then_some(())
}

#[inline(always)]
fn count(next_hop: &RawNextHop, place: Place) -> Option<()> {
    let counts = match NEXT_HOPS.get_ptr_mut(next_hop) {
        Some(counts) => counts,
        None => {
            if NEXT_HOPS.insert(next_hop, RawCounts::ZERO, 0).is_err() {
                return bump(Counter::NextHopsFull);
            }
            NEXT_HOPS.get_ptr_mut(next_hop)?
        }
    };
    let column = match place {
        Place::Suspicious => 0,
        Place::Busy => 1,
        Place::AppLimited => 2,
        Place::Waiting => 3,
        Place::Idle => 4,
    };
    kernel::increment(counts.cast::<u32>().wrapping_add(column));
    Some(())
}

#[inline(always)]
fn emit(sock: Sock, kind: u8, head_len: u32, err: i32) -> Option<()> {
    let mut next_hop = RawNextHop {
        gateway: [0; 16],
        netns: 0,
        ifindex: 0,
        gateway_family: 0,
    };
    sock.next_hop(&mut next_hop);
    if next_hop.netns != setting!(netns) {
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
