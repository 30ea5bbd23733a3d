//! One PAM transaction, pam(3): items, conversation, authentication, account,
//! credentials, session, environment.
//!
//! Over the `pam` crate's raw bindings, because its safe client hides the handle
//! and knows neither RHOST nor TTY. Answers are wiped from our memory; what the
//! modules do with their copy is theirs.

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use libc::{c_char, c_int, c_uint, c_void};
use pam::ffi;
use zeroize::{Zeroize, Zeroizing};

/// The longest answer PAM takes, in bytes without the NUL (`PAM_MAX_RESP_SIZE`).
pub const MAX_ANSWER: usize = 511;
/// pam(3), `PAM_SILENT`.
const SILENT: c_int = 0x8000;
/// The most messages of one conversation call (`PAM_MAX_NUM_MSG`).
const MAX_MESSAGES: usize = 32;

/// What a module asks and tells while it works.
pub trait Conversation {
    /// Asks the user. `None` ends the conversation: the user is gone, or the time
    /// is over, or the answer is unusable.
    fn ask(&mut self, prompt: &[u8], echo: bool) -> Option<Zeroizing<Vec<u8>>>;
    /// Tells the user something.
    fn tell(&mut self, text: &[u8]);
}

/// A result of PAM that is not success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure(c_int);

/// The text items a transaction carries.
#[derive(Debug, Clone, Copy)]
pub enum Item {
    /// The account.
    User,
    /// The terminal.
    Tty,
    /// The client's host.
    RemoteHost,
    /// The user on the client's side.
    RemoteUser,
}

/// What PAM's calls back are given.
struct Callbacks<C> {
    conversation: C,
    /// Of the transaction; null before there is one.
    handle: *mut ffi::pam_handle_t,
    /// What the last failure, had it been one, was to cost.
    delay: Duration,
}

/// A transaction; `pam_end` when dropped, credentials and session before that.
pub struct Transaction<C: Conversation> {
    handle: *mut ffi::pam_handle_t,
    callbacks: *mut Callbacks<C>,
    last: c_int,
    credentials: bool,
    session: bool,
}

impl<C: Conversation> Transaction<C> {
    /// Begins one.
    ///
    /// # Errors
    /// When PAM cannot read its configuration.
    pub fn start(service: &CStr, user: Option<&CStr>, conversation: C) -> Result<Self, Failure> {
        let callbacks = Callbacks { conversation, handle: ptr::null_mut(), delay: Duration::ZERO };
        let callbacks = Box::into_raw(Box::new(callbacks));
        let functions = ffi::pam_conv { conv: Some(converse::<C>), appdata_ptr: callbacks.cast() };
        let mut handle = ptr::null_mut();
        // SAFETY: all strings are C strings alive during the call; PAM copies
        // `functions`, and `callbacks` lives until after `pam_end`.
        let result = unsafe {
            ffi::pam_start(
                service.as_ptr(),
                user.map_or(ptr::null(), CStr::as_ptr),
                &raw const functions,
                &raw mut handle,
            )
        };
        if result != ffi::PAM_SUCCESS || handle.is_null() {
            // SAFETY: made by Box::into_raw above; PAM failed and keeps nothing.
            drop(unsafe { Box::from_raw(callbacks) });
            return Err(Failure(result));
        }
        // SAFETY: alive until drop, and PAM is in no call that could use it.
        unsafe { (*callbacks).handle = handle };
        let mut transaction =
            Transaction { handle, callbacks, last: result, credentials: false, session: false };
        // SAFETY: a live handle and a function of the type PAM calls through this item.
        let result =
            unsafe { ffi::pam_set_item(handle, ffi::PAM_FAIL_DELAY, note_delay::<C> as *const c_void) };
        transaction.note(result).map(|()| transaction)
    }

    /// The conversation, between calls of PAM.
    pub fn conversation(&mut self) -> &mut C {
        // SAFETY: alive until drop; PAM uses it only inside calls that take
        // `&mut self`, so no other reference exists now.
        unsafe { &mut (*self.callbacks).conversation }
    }

    /// What a failure of the last authentication or change of password has to cost, and what any other
    /// refusal of the same attempt costs that must look like one.
    ///
    /// PAM itself would sleep before it says that it failed, and whoever leaves meanwhile would leave no trace.
    #[must_use]
    pub fn failure_delay(&self) -> Duration {
        // SAFETY: alive until drop; PAM uses it only inside calls that take `&mut self`.
        unsafe { (*self.callbacks).delay }
    }

    /// Sets an item.
    ///
    /// # Errors
    /// Out of memory.
    pub fn set(&mut self, item: Item, value: &CStr) -> Result<(), Failure> {
        // SAFETY: a live handle and a C string, which PAM copies.
        let result = unsafe { ffi::pam_set_item(self.handle, item.number(), value.as_ptr().cast()) };
        self.note(result)
    }

    /// The account as PAM has it now: a module may have changed it.
    #[must_use]
    pub fn user(&self) -> Option<CString> {
        // SAFETY: a live handle.
        unsafe { user_of(self.handle) }
    }

    /// Proves who the user is. An empty password never does.
    ///
    /// # Errors
    /// Wrong, or anything else that is in the way.
    pub fn authenticate(&mut self) -> Result<(), Failure> {
        // SAFETY: a live handle.
        let result = unsafe { ffi::pam_authenticate(self.handle, ffi::PAM_DISALLOW_NULL_AUTHTOK) };
        self.note(result)
    }

    /// Whether the account may be used now.
    ///
    /// # Errors
    /// It may not; [`Failure::needs_new_password`] tells the case that can be mended.
    pub fn account(&mut self) -> Result<(), Failure> {
        // SAFETY: a live handle.
        let result = unsafe { ffi::pam_acct_mgmt(self.handle, 0) };
        self.note(result)
    }

    /// Has an expired password changed.
    ///
    /// # Errors
    /// It was not.
    pub fn change_expired_password(&mut self) -> Result<(), Failure> {
        // SAFETY: a live handle.
        let result = unsafe { ffi::pam_chauthtok(self.handle, ffi::PAM_CHANGE_EXPIRED_AUTHTOK) };
        self.note(result)
    }

    /// Establishes the user's credentials. The supplementary groups must be set before.
    ///
    /// # Errors
    /// A module's.
    pub fn establish_credentials(&mut self) -> Result<(), Failure> {
        // SAFETY: a live handle.
        let result = unsafe { ffi::pam_setcred(self.handle, ffi::PAM_ESTABLISH_CRED) };
        self.credentials = result == ffi::PAM_SUCCESS;
        self.note(result)
    }

    /// Opens the session; `silent`: modules are to tell the user nothing.
    ///
    /// # Errors
    /// A module's.
    pub fn open_session(&mut self, silent: bool) -> Result<(), Failure> {
        let flags = if silent { SILENT } else { 0 };
        // SAFETY: a live handle.
        let result = unsafe { ffi::pam_open_session(self.handle, flags) };
        self.session = result == ffi::PAM_SUCCESS;
        self.note(result)
    }

    /// Closes the session and deletes the credentials, as far as they were opened
    /// and established; more calls do nothing.
    ///
    /// # Errors
    /// The first failure; both are done all the same.
    pub fn close(&mut self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        if std::mem::take(&mut self.session) {
            // SAFETY: a live handle.
            let result = unsafe { ffi::pam_close_session(self.handle, 0) };
            outcome = self.note(result);
        }
        if std::mem::take(&mut self.credentials) {
            // SAFETY: a live handle.
            let result = unsafe { ffi::pam_setcred(self.handle, ffi::PAM_DELETE_CRED) };
            let deleted = self.note(result);
            outcome = outcome.and(deleted);
        }
        outcome
    }

    /// The environment the modules want the session to have.
    #[must_use]
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut variables = Vec::new();
        // SAFETY: a live handle; the result is ours to free.
        let list = unsafe { ffi::pam_getenvlist(self.handle) };
        if list.is_null() {
            return variables;
        }
        // SAFETY: a NULL-terminated array of C strings from malloc, all of which
        // belong to the caller: each is read once, then freed, the array last.
        unsafe {
            let mut place = list;
            while !(*place).is_null() {
                let bytes = CStr::from_ptr(*place).to_bytes();
                if let Some(split) = bytes.iter().position(|byte| *byte == b'=') {
                    let (name, value) = (bytes[..split].to_vec(), bytes[split + 1..].to_vec());
                    variables.push((OsString::from_vec(name), OsString::from_vec(value)));
                }
                libc::free((*place).cast());
                place = place.add(1);
            }
            libc::free(list.cast());
        }
        variables
    }

    fn note(&mut self, result: c_int) -> Result<(), Failure> {
        self.last = result;
        if result == ffi::PAM_SUCCESS { Ok(()) } else { Err(Failure(result)) }
    }
}

impl<C: Conversation> Drop for Transaction<C> {
    fn drop(&mut self) {
        let _ = self.close();
        // SAFETY: the handle is live and used for the last time; the callbacks'
        // data was made by Box::into_raw and PAM is done with it.
        unsafe {
            ffi::pam_end(self.handle, self.last);
            drop(Box::from_raw(self.callbacks));
        }
    }
}

impl Item {
    fn number(self) -> c_int {
        match self {
            Item::User => ffi::PAM_USER,
            Item::Tty => ffi::PAM_TTY,
            Item::RemoteHost => ffi::PAM_RHOST,
            Item::RemoteUser => ffi::PAM_RUSER,
        }
    }
}

impl Failure {
    /// The account is fine but for its password, which must be changed now.
    #[must_use]
    pub fn needs_new_password(self) -> bool {
        self.0 == ffi::PAM_NEW_AUTHTOK_REQD
    }

    /// Another try would end in the same way: PAM itself wants no more of them.
    #[must_use]
    pub fn is_final(self) -> bool {
        [ffi::PAM_ABORT, ffi::PAM_MAXTRIES, ffi::PAM_SYSTEM_ERR, ffi::PAM_BUF_ERR].contains(&self.0)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: Linux-PAM ignores the handle and returns a static string.
        let text = unsafe { ffi::pam_strerror(ptr::null_mut(), self.0) };
        if text.is_null() {
            return write!(f, "PAM result {}", self.0);
        }
        // SAFETY: not null, so it is a C string.
        f.write_str(&unsafe { CStr::from_ptr(text) }.to_string_lossy())
    }
}

/// Takes PAM's delay down, whether or not something failed, instead of sleeping.
/// pam_fail_delay(3); PAM has varied it already.
extern "C" fn note_delay<C: Conversation>(_status: c_int, microseconds: c_uint, data: *mut c_void) {
    if !data.is_null() {
        // SAFETY: `data` is what was given to pam_start, used by nobody else
        // during the call of PAM that we are inside of.
        unsafe { (*data.cast::<Callbacks<C>>()).delay = Duration::from_micros(microseconds.into()) };
    }
}

/// PAM's way into the conversation. Everything it returns is from malloc, as PAM
/// frees it; whatever goes wrong in between is wiped and freed here.
extern "C" fn converse<C: Conversation>(
    count: c_int,
    messages: *mut *const ffi::pam_message,
    responses: *mut *mut ffi::pam_response,
    data: *mut c_void,
) -> c_int {
    let count = match usize::try_from(count) {
        Ok(count) if (1..=MAX_MESSAGES).contains(&count) => count,
        _ => return ffi::PAM_CONV_ERR,
    };
    if messages.is_null() || responses.is_null() || data.is_null() {
        return ffi::PAM_CONV_ERR;
    }
    let mut answers: [Option<Zeroizing<Vec<u8>>>; MAX_MESSAGES] = [const { None }; MAX_MESSAGES];
    for (index, place) in answers.iter_mut().enumerate().take(count) {
        // SAFETY: `messages` holds `count` pointers (Linux-PAM's layout), each to
        // a message that lives during this call.
        let message = unsafe { &**messages.add(index) };
        // SAFETY: `data` is what was given to pam_start, used by nobody else
        // during the call of PAM that we are inside of.
        let conversation = unsafe { &mut (*data.cast::<Callbacks<C>>()).conversation };
        let text = if message.msg.is_null() {
            &[]
        } else {
            // SAFETY: a C string that lives during this call.
            unsafe { CStr::from_ptr(message.msg) }.to_bytes()
        };
        let style = message.msg_style;
        // SAFETY: as above; the handle is that of the call of PAM that we are inside of.
        let user = unsafe { user_of((*data.cast::<Callbacks<C>>()).handle) };
        if style == ffi::PAM_PROMPT_ECHO_ON && user.is_none_or(|user| user.is_empty()) {
            // It asks for a name. What is typed for one may be a password, and modules log the name they have.
            return ffi::PAM_CONV_ERR;
        }
        // A panic must not run through PAM's frames.
        let step = catch_unwind(AssertUnwindSafe(|| one_message(conversation, style, text)));
        match step {
            Ok(Ok(answer)) => *place = answer,
            Ok(Err(())) | Err(_) => return ffi::PAM_CONV_ERR,
        }
    }
    match to_responses(&answers[..count]) {
        Some(array) => {
            // SAFETY: a place for one pointer, as pam_conv(3) says.
            unsafe { *responses = array };
            ffi::PAM_SUCCESS
        }
        None => ffi::PAM_BUF_ERR,
    }
}

/// The account as PAM has it now; `None` when a module has taken it away.
///
/// # Safety
/// The handle is null or live.
unsafe fn user_of(handle: *mut ffi::pam_handle_t) -> Option<CString> {
    let mut value: *const c_void = ptr::null();
    // SAFETY: Linux-PAM refuses a null handle, and stores a pointer of its own into `value`.
    let result = unsafe { ffi::pam_get_item(handle, Item::User.number(), &raw mut value) };
    if result != ffi::PAM_SUCCESS || value.is_null() {
        return None;
    }
    // SAFETY: PAM_USER is a C string that lives until the item changes.
    Some(unsafe { CStr::from_ptr(value.cast::<c_char>()) }.to_owned())
}

type Answer = Option<Zeroizing<Vec<u8>>>;

fn one_message<C: Conversation>(conversation: &mut C, style: c_int, text: &[u8]) -> Result<Answer, ()> {
    match style {
        ffi::PAM_PROMPT_ECHO_ON | ffi::PAM_PROMPT_ECHO_OFF => {
            let answer = conversation.ask(text, style == ffi::PAM_PROMPT_ECHO_ON).ok_or(())?;
            let usable = answer.len() <= MAX_ANSWER && !answer.contains(&0);
            if usable { Ok(Some(answer)) } else { Err(()) }
        }
        ffi::PAM_ERROR_MSG | ffi::PAM_TEXT_INFO => {
            conversation.tell(text);
            Ok(None)
        }
        // Binary prompts and whatever comes after them: nothing a terminal can answer.
        _ => Err(()),
    }
}

/// An array of responses as PAM wants it, or `None` when memory is out.
fn to_responses(answers: &[Answer]) -> Option<*mut ffi::pam_response> {
    // SAFETY: calloc of a plain struct; all zeros is an empty response.
    let array: *mut ffi::pam_response =
        unsafe { libc::calloc(answers.len(), size_of::<ffi::pam_response>()).cast() };
    if array.is_null() {
        return None;
    }
    for (index, answer) in answers.iter().enumerate() {
        let Some(answer) = answer else { continue };
        // SAFETY: calloc of one byte more than the answer, so that it ends in NUL.
        let copy: *mut u8 = unsafe { libc::calloc(answer.len() + 1, 1).cast() };
        if copy.is_null() {
            // SAFETY: the array and what stands in it before `index` are ours.
            unsafe { free_responses(array, index, answers) };
            return None;
        }
        // SAFETY: both are at least `answer.len()` long and do not overlap; the
        // index is below the array's length.
        unsafe {
            ptr::copy_nonoverlapping(answer.as_ptr(), copy, answer.len());
            (*array.add(index)).resp = copy.cast();
        }
    }
    Some(array)
}

/// # Safety
/// `array` comes from calloc and its first `filled` responses are null or come
/// from calloc with the length of their answer.
unsafe fn free_responses(array: *mut ffi::pam_response, filled: usize, answers: &[Answer]) {
    for (index, answer) in answers.iter().enumerate().take(filled) {
        // SAFETY: below `filled`, which the caller vouches for.
        let copy: *mut u8 = unsafe { (*array.add(index)).resp.cast() };
        if let (false, Some(answer)) = (copy.is_null(), answer) {
            // SAFETY: a block of exactly that length, by the caller's word.
            unsafe {
                std::slice::from_raw_parts_mut(copy, answer.len()).zeroize();
                libc::free(copy.cast());
            }
        }
    }
    // SAFETY: from calloc, used no more.
    unsafe { libc::free(array.cast()) };
}
