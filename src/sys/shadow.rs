//! Whether the password of an account is locked, in shadow(5) or passwd(5): by getspnam_r(3) and getpwnam_r(3), which ask
//! the name services.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;

use nix::errno::Errno;
use nix::unistd::geteuid;
use zeroize::Zeroizing;

/// The longest entry that is read.
const MOST: usize = 64 * 1024;

/// Whether somebody has locked the account's password (`passwd -l`, `usermod -L`). If root cannot find that out, it is.
///
/// Where there is no shadow entry (pwunconv(8)), or an older one, the password and its lock are in passwd(5).
#[must_use]
pub fn is_locked(account: &str) -> bool {
    let Ok(name) = CString::new(account) else { return true };
    match in_shadow(&name).and_then(|locked| Ok(locked || in_passwd(&name)?)) {
        Ok(locked) => locked,
        // Others than root are not told, and have no say either.
        Err(_) => geteuid().is_root(),
    }
}

/// Looks with more and more room for the entry's strings.
fn with_room(look: impl Fn(&mut [u8]) -> Result<bool, Errno>) -> Result<bool, Errno> {
    let mut room = Zeroizing::new(vec![0_u8; 1024]);
    loop {
        match look(&mut room) {
            Err(Errno::ERANGE) if room.len() < MOST => room = Zeroizing::new(vec![0; room.len() * 4]),
            found => return found,
        }
    }
}

fn in_shadow(name: &CStr) -> Result<bool, Errno> {
    with_room(|room| {
        let mut entry = MaybeUninit::<libc::spwd>::uninit();
        let mut found: *mut libc::spwd = ptr::null_mut();
        // SAFETY: a C string, a place for the entry, room for its strings with its length, and a place for the result,
        // all of which live during the call.
        let error = unsafe {
            libc::getspnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                room.as_mut_ptr().cast(),
                room.len(),
                &raw mut found,
            )
        };
        // SAFETY: not null means that it points to `entry`, which is filled then, with strings in `room`.
        unsafe { is_locked_entry(found.as_ref().map(|entry| entry.sp_pwdp), error) }
    })
}

fn in_passwd(name: &CStr) -> Result<bool, Errno> {
    with_room(|room| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found: *mut libc::passwd = ptr::null_mut();
        // SAFETY: as for getspnam_r.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                room.as_mut_ptr().cast(),
                room.len(),
                &raw mut found,
            )
        };
        // SAFETY: as for getspnam_r.
        unsafe { is_locked_entry(found.as_ref().map(|entry| entry.pw_passwd), error) }
    })
}

/// What the field of an entry says, or the error with which there is none.
///
/// # Safety
/// The field must be null or a C string.
unsafe fn is_locked_entry(field: Option<*mut libc::c_char>, error: i32) -> Result<bool, Errno> {
    match field {
        // SAFETY: not null, so the caller says that it is a C string.
        Some(field) if !field.is_null() => Ok(is_lock(unsafe { CStr::from_ptr(field) }.to_bytes())),
        Some(_) => Ok(false),
        // No such entry: glibc's own word for it, and what some name services say.
        None if [0, libc::ENOENT].contains(&error) => Ok(false),
        None => Err(Errno::from_raw(error)),
    }
}

/// Whether a password field is a lock on something. `!` alone, `!!` and `*` are what accounts are made with that
/// have never had a password; those are meant to log in without one.
fn is_lock(field: &[u8]) -> bool {
    let behind = field.iter().position(|byte| *byte != b'!').unwrap_or(field.len());
    behind > 0 && behind < field.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_stands_before_something() {
        for field in ["!$y$j9T$abc", "!!$6$x$y", "!*", "!x"] {
            assert!(is_lock(field.as_bytes()), "{field}");
        }
        for field in ["", "!", "!!", "*", "$y$j9T$abc!", "x"] {
            assert!(!is_lock(field.as_bytes()), "{field}");
        }
    }

    #[test]
    fn an_entry_that_is_not_there_is_no_lock_and_one_that_cannot_be_read_is_no_answer() {
        // SAFETY: null, none, or a C string.
        let said = |field: Option<*const libc::c_char>, error| unsafe {
            is_locked_entry(field.map(<*const libc::c_char>::cast_mut), error)
        };
        assert_eq!(said(Some(c"!$6$x$y".as_ptr()), 0), Ok(true));
        assert_eq!(said(Some(c"x".as_ptr()), 0), Ok(false));
        assert_eq!(said(Some(ptr::null()), 0), Ok(false));
        assert_eq!(said(None, 0), Ok(false));
        assert_eq!(said(None, libc::ENOENT), Ok(false));
        assert_eq!(said(None, libc::ERANGE), Err(Errno::ERANGE));
        assert_eq!(said(None, libc::EIO), Err(Errno::EIO));
    }

    #[test]
    fn accounts_without_an_entry_are_not_locked() {
        assert!(!is_locked("nosuchaccount"));
    }
}
