//! Capabilities, capabilities(7): none is left, and none can come back.

use std::io;

use nix::errno::Errno;

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`: two words of each set.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Takes every capability out of the bounding set, so that no program could give one.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP.
pub(super) fn empty_bounding_set() -> io::Result<()> {
    for capability in 0.. {
        let capability: libc::c_ulong = capability;
        // SAFETY: integers only; it reads one bit of the calling thread's set.
        let has = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
        match Errno::result(has) {
            // Behind the last one that this kernel knows.
            Err(Errno::EINVAL) => break,
            Err(error) => return Err(error.into()),
            Ok(0) => {}
            Ok(_) => {
                // SAFETY: integers only; it clears that bit.
                Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })?;
            }
        }
    }
    Ok(())
}

/// Gives up the effective, permitted and inheritable ones, and with those the ambient ones.
///
/// # Errors
/// Those of capset(2).
pub(super) fn drop_all() -> io::Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    let none = [Sets::default(); 2];
    // SAFETY: both pointers are to what this version of the call reads, and to memory that
    // outlives it.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })?;
    Ok(())
}
