//! What a process that waits for long keeps of the memory it has used.

use nix::unistd::{getpid, gettid};

/// How far below its present end the stack is given back, in bytes.
const DEPTH: usize = 256 * 1024;
const PAGE: usize = 4096;

/// Gives back the pages that the stack of the first thread, which has to be the caller, has used
/// below its present end: PAM modules had buffers there that nobody needs any more.
#[inline(never)]
pub fn release_stack() {
    // Below the stack of the first thread the kernel keeps a gap that is wider than this; below
    // another one's there may be anything.
    if gettid() != getpid() {
        return;
    }
    let here = 0_u8;
    // A page is left for the call itself, and for what a compiler may keep below a frame.
    let end = ((&raw const here).addr() & !(PAGE - 1)) - PAGE;
    // SAFETY: below the frame of this function, which calls nothing but the system, there is
    // only what earlier calls have left, and then the gap. What is not mapped is an error that
    // changes nothing.
    unsafe { libc::madvise((end - DEPTH) as *mut libc::c_void, DEPTH, libc::MADV_DONTNEED) };
}
