//! Netgroups, by innetgr(3).
//!
//! Must never ask with both fields missing, nor with the one that is asked for
//! missing: innetgr takes that for "anyone".

use std::ffi::CString;

use libc::{c_char, c_int};

unsafe extern "C" {
    fn innetgr(
        netgroup: *const c_char,
        host: *const c_char,
        user: *const c_char,
        domain: *const c_char,
    ) -> c_int;
}

/// Whether the netgroup has a host of this name. A name service that does not
/// answer looks the same as "no".
pub fn has_host(group: &[u8], host: &str) -> bool {
    let (Ok(group), Ok(host)) = (CString::new(group), CString::new(host)) else { return false };
    // SAFETY: two C strings that outlive the call and two nulls, which
    // innetgr(3) allows; it only reads them.
    unsafe { innetgr(group.as_ptr(), host.as_ptr(), std::ptr::null(), std::ptr::null()) == 1 }
}

/// Whether the netgroup has a user of this name. A name service that does not
/// answer looks the same as "no".
pub fn has_user(group: &[u8], user: &[u8]) -> bool {
    let (Ok(group), Ok(user)) = (CString::new(group), CString::new(user)) else { return false };
    // SAFETY: as above.
    unsafe { innetgr(group.as_ptr(), std::ptr::null(), user.as_ptr(), std::ptr::null()) == 1 }
}
