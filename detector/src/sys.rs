//! The one place of user space with `unsafe`: what the libraries cannot prove.
#![expect(unsafe_code, reason = "see above")]

use std::{io, os::fd::AsRawFd};

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

/// A file descriptor that stays open and the same as long as its owner lives.
///
/// # Safety
/// `as_raw_fd` of an implementor always gives the descriptor that it owns.
unsafe trait Steady: AsRawFd {}

// SAFETY: a map owns its descriptor and never replaces it.
unsafe impl Steady for RingBuf<MapData> {}
// SAFETY: it owns such a map and gives that one's descriptor.
unsafe impl Steady for aya_log::EbpfLogger<&'static dyn log::Log> {}

/// Waits for events of the kernel programs.
///
/// # Errors
/// When the descriptor cannot be waited for.
pub fn ring(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    readable(ring)
}

/// Waits for log records of the kernel programs.
///
/// # Errors
/// When the descriptor cannot be waited for.
pub fn kernel_log(
    logger: aya_log::EbpfLogger<&'static dyn log::Log>,
) -> io::Result<AsyncFd<aya_log::EbpfLogger<&'static dyn log::Log>>> {
    readable(logger)
}

/// Has everything large returned to the system as soon as it is freed (`M_MMAP_THRESHOLD`), and everything
/// small come from one place (`M_ARENA_MAX`, mallopt(3)). Without the first the allocator takes more and more for
/// its own: after a storm that was a third of the daemon's memory. Without the second each thread that walks for a
/// moment leaves behind pages that nothing else fills.
pub fn keep_no_memory() {
    // SAFETY: the function takes no pointers; nothing else sets these.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory back to the system that was needed for a while only: the kernel's type information takes
/// twenty megabytes while the programs are loaded, and a storm takes more.
pub fn give_memory_back() {
    // SAFETY: the function takes no pointers and may be called at any time (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

fn readable<T: Steady>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the descriptor stays open and the same, by the promise of `Steady`.
    unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }.map_err(Into::into)
}
