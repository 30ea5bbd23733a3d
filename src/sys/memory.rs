//! What a process that waits for long keeps of the memory it has used.

/// How far below its present end the stack is given back, in bytes.
const DEPTH: usize = 256 * 1024;
const PAGE: usize = 4096;

/// Gives back the pages that the calling thread's stack has used below its present end:
/// programs like PAM modules keep buffers there that nobody needs any more.
#[inline(never)]
pub fn release_stack() {
    let here = 0_u8;
    // A page is left for the call itself, and for what a compiler may keep below a frame.
    let end = ((&raw const here).addr() & !(PAGE - 1)) - PAGE;
    // SAFETY: below the frame of this function, which calls nothing but the system, there is
    // only what earlier calls have left. What of it is not mapped is an error that changes
    // nothing.
    unsafe { libc::madvise((end - DEPTH) as *mut libc::c_void, DEPTH, libc::MADV_DONTNEED) };
}
