//! Whether the password of an account is locked, shadow(5): by getspnam_r(3), which asks the name services.

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
/// Accounts without a shadow entry have no such lock.
#[must_use]
pub fn is_locked(account: &str) -> bool {
    let Ok(name) = CString::new(account) else { return true };
    let mut room = Zeroizing::new(vec![0_u8; 1024]);
    loop {
        match entry(&name, &mut room) {
            Err(Errno::ERANGE) if room.len() < MOST => room = Zeroizing::new(vec![0; room.len() * 4]),
            // Others than root are not told, and have no say either.
            Err(_) => return geteuid().is_root(),
            Ok(locked) => return locked,
        }
    }
}

fn entry(name: &CStr, room: &mut [u8]) -> Result<bool, Errno> {
    let mut entry = MaybeUninit::<libc::spwd>::uninit();
    let mut found: *mut libc::spwd = ptr::null_mut();
    // SAFETY: a C string, a place for the entry, room for its strings with its length, and a place for the result, all of
    // which live during the call.
    let error = unsafe {
        libc::getspnam_r(
            name.as_ptr(),
            entry.as_mut_ptr(),
            room.as_mut_ptr().cast(),
            room.len(),
            &raw mut found,
        )
    };
    // SAFETY: not null means that it points to `entry`, which is filled then.
    match unsafe { found.as_ref() } {
        Some(entry) if !entry.sp_pwdp.is_null() => {
            // SAFETY: a C string in `room`.
            Ok(is_lock(unsafe { CStr::from_ptr(entry.sp_pwdp) }.to_bytes()))
        }
        Some(_) => Ok(false),
        // No such entry: glibc's own word for it, and what some name services say.
        None if [0, libc::ENOENT].contains(&error) => Ok(false),
        None => Err(Errno::from_raw(error)),
    }
}

/// Whether a field of shadow(5) is a lock on something. `!` alone, `!!` and `*` are what accounts are made with that
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
    fn accounts_without_an_entry_are_not_locked() {
        assert!(!is_locked("nosuchaccount"));
    }
}
