//! Who is it? The trust rules first, then PAM.
//!
//! Only this file makes an [`Authenticated`], and a shell is started for nothing
//! else.

use std::ffi::CString;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use nix::unistd::User;
use zeroize::Zeroizing;

use super::console::Prompts;
use super::{Login, Names, NoSession};
use crate::audit::event::LoginEvent;
use crate::config::{RootLogin, Rule, RuleVerdict};
use crate::records::{self, Who};
use crate::sys::ownership;
use crate::sys::pam::{Failure, Item, Transaction};
use crate::sys::socket;
use crate::trust::world::{NO_ACCOUNT, reserved};
use crate::trust::{self, Account, Decision, Granted, Policy, Query, RefusedBy, Verdict};
use crate::wire::handshake::Name;

/// The most bytes of a banner that are shown.
const MAX_BANNER: u64 = 64 * 1024;
/// How often an empty line at `login:` is asked again.
const MAX_EMPTY: u32 = 20;
/// How often the account modules may put another account in the place of the one they are asked of.
const MAX_CHANGES: u32 = 3;

/// A user who may have a shell, and the PAM transaction that says so.
pub(super) struct Authenticated {
    pub(super) user: User,
    pub(super) pam: Transaction<Prompts>,
    /// The user on the client's side, when a trust rule decided: only then is it
    /// certain to be a name.
    pub(super) remote_user: Option<String>,
    _proof: Proof,
}

/// What makes somebody authenticated.
enum Proof {
    /// A trust rule, for this account.
    Rule(#[allow(dead_code, reason = "its existence is the proof")] Granted),
    /// PAM's authentication.
    Pam,
}

impl Login {
    /// Finds out who it is and that the account may be used now.
    pub(super) fn identify(&self, names: Names) -> Result<Authenticated, NoSession> {
        if self.host.is_none() && self.config.login.confirm_host {
            self.refuse("Permission denied");
            return Err(NoSession::Refused("the client's address has no confirmed name".to_owned()));
        }
        self.show_banner();
        match self.try_trust(&names)? {
            Some(trusted) => Ok(trusted),
            None => self.ask_for_password(&names),
        }
    }

    fn show_banner(&self) {
        let Some(path) = &self.config.login.banner else { return };
        match read_banner(path) {
            Ok(text) => self.console.show(&text),
            Err(error) => {
                let (file, reason) = (path.display().to_string(), error.to_string());
                self.report(LoginEvent::BannerNotShown { file, reason });
            }
        }
    }

    fn try_trust(&self, names: &Names) -> Result<Option<Authenticated>, NoSession> {
        let wanted = names.server_user.as_bytes();
        let user = find_user(wanted)?;
        let decision = self.decide(user.as_ref(), &String::from_utf8_lossy(wanted), &names.client_user);
        let (user_name, host) = (user.as_ref().map(|user| user.name.clone()), self.host.clone());
        if !matches!(decision.verdict, Verdict::Trusted { .. }) {
            look_up_the_other(user.as_ref());
        }
        match (decision.verdict, user) {
            (Verdict::Trusted { place, wildcard, granted }, Some(user)) => {
                // Of a client whose user may be anyone, that field may be a password.
                let named = !wildcard || names.client_user.as_bytes() == user.name.as_bytes();
                let remote_user = if named { names.client_user.as_bytes() } else { b"(anyone)" };
                let remote_user = String::from_utf8_lossy(remote_user).into_owned();
                let trusted = self.let_in_trusted(user, remote_user.clone(), granted)?;
                // Only now: somebody whose account is refused was not let in, and may try without end.
                let (user, file, line) = (trusted.user.name.clone(), place.file, place.line);
                self.report(LoginEvent::TrustGranted { user, remote_user, host, file, line, wildcard });
                Ok(Some(trusted))
            }
            (Verdict::Refused(by), _) => {
                let reason = match by {
                    RefusedBy::Rule(place) => {
                        let reason = format!("refused by {place}");
                        let (file, line) = (place.file, place.line);
                        self.report(LoginEvent::TrustDenied { user: user_name, host, file, line });
                        reason
                    }
                    RefusedBy::UnreservedPort => "the source port is not a reserved one".to_owned(),
                };
                self.refuse("Permission denied");
                Err(NoSession::Refused(reason))
            }
            (Verdict::Denied { place }, _) => {
                let (file, line) = (place.file, place.line);
                self.report(LoginEvent::TrustDenied { user: user_name, host, file, line });
                Ok(None)
            }
            (Verdict::Undecided(reason), _) => {
                let reason = reason.to_string();
                self.report(LoginEvent::TrustAbsent { user: user_name, host, reason });
                Ok(None)
            }
            (Verdict::Trusted { .. }, None) => Ok(None),
        }
    }

    /// What the trust rules say of an account.
    fn decide(&self, user: Option<&User>, name: &str, client_user: &Name) -> Decision {
        let account = user.map(Account::from);
        let query = Query {
            peer: self.peer.ip(),
            port_reserved: reserved(self.peer.port()),
            port_open_here: socket::is_open_to_all(self.peer.port()) && socket::is_local(self.peer.ip()),
            host: self.host.as_deref(),
            remote_user: client_user.as_bytes(),
            user: name,
            account: account.as_ref(),
        };
        let policy =
            Policy { trust: &self.config.trust, login: &self.config.login, config_path: &self.source };
        trust::decide(&policy, &query, &mut *self.world.borrow_mut())
    }

    /// Whether a rule refuses that account to this client, password or not.
    fn is_refused(&self, user: &User, client_user: &Name) -> bool {
        let refuses = |rule: &Rule| rule.verdict == RuleVerdict::Refuse;
        self.config.trust.rules.iter().any(refuses)
            && matches!(self.decide(Some(user), &user.name, client_user).verdict, Verdict::Refused(_))
    }

    fn let_in_trusted(
        &self,
        user: User,
        remote_user: String,
        granted: Granted,
    ) -> Result<Authenticated, NoSession> {
        if granted.account() != user.name {
            return Err(NoSession::Refused("the verdict is about another account".to_owned()));
        }
        let mut pam = self.start_pam(&user.name)?;
        let granted_to = user.uid;
        // Only here: otherwise a pam_rhosts left in the service file would let people
        // in behind the rules.
        if let Ok(name) = CString::new(remote_user.as_bytes()) {
            pam.set(Item::RemoteUser, &name).map_err(refused)?;
        }
        match self.admit(user, &mut pam)? {
            Some(user) if user.uid == granted_to => {
                Ok(Authenticated { user, pam, remote_user: Some(remote_user), _proof: Proof::Rule(granted) })
            }
            // A rule's trust is in one account, whatever account modules make of it.
            Some(_) | None => {
                self.refuse("Permission denied");
                Err(NoSession::Refused(format!("the account of {} may not be used", granted.account())))
            }
        }
    }

    fn ask_for_password(&self, names: &Names) -> Result<Authenticated, NoSession> {
        let mut name = Zeroizing::new(names.server_user.as_bytes().to_vec());
        for attempt in 1..=self.config.login.attempts {
            if name.is_empty() {
                name = self.ask_for_name()?;
            }
            match self.try_password(&name, &names.client_user, attempt)? {
                Some(authenticated) => return Ok(authenticated),
                None => self.console.show(b"Login incorrect\n"),
            }
            name.clear();
        }
        Err(NoSession::Refused("too many attempts".to_owned()))
    }

    fn ask_for_name(&self) -> Result<Zeroizing<Vec<u8>>, NoSession> {
        for _ in 0..MAX_EMPTY {
            let name = self.console.ask(b"login: ", true).map_err(NoSession::Over)?;
            let name = Zeroizing::new(name.trim_ascii().to_vec());
            if !name.is_empty() {
                return Ok(name);
            }
        }
        Err(NoSession::Refused("no name was given".to_owned()))
    }

    /// One attempt; `None` when it failed and the user has not been told yet.
    fn try_password(
        &self,
        name: &[u8],
        client_user: &Name,
        attempt: u32,
    ) -> Result<Option<Authenticated>, NoSession> {
        let known = if Name::new(name).is_ok() { find_user(name)? } else { None };
        look_up_the_other(known.as_ref());
        // What was given may be a password, and modules log the name they are asked about.
        let mut pam = self.start_pam(known.as_ref().map_or(NO_ACCOUNT, |user| &user.name))?;
        // What failed is written down before it costs time: the user may leave meanwhile.
        match self.authenticate(known.as_ref(), &mut pam, attempt) {
            // The rules were asked about the first name only, and here is another.
            Ok(Some(user)) if self.is_refused(&user, client_user) => {
                self.password_failed(Some(&user), attempt, "a rule refuses this account from there");
                self.console.pause(pam.failure_delay());
                Ok(None)
            }
            Ok(Some(user)) => {
                self.report(LoginEvent::PasswordAccepted {
                    user: user.name.clone(),
                    host: self.host.clone(),
                });
                Ok(Some(Authenticated { user, pam, remote_user: None, _proof: Proof::Pam }))
            }
            Ok(None) => {
                // A right password of an account that may not log in takes as long as a wrong one.
                self.console.pause(pam.failure_delay());
                Ok(None)
            }
            Err(NoSession::Refused(reason)) => {
                self.console.pause(pam.failure_delay());
                self.refuse("Permission denied");
                Err(NoSession::Refused(reason))
            }
            Err(NoSession::Over(over)) => Err(NoSession::Over(over)),
        }
    }

    /// Asks PAM; `None` when the log knows why not.
    fn authenticate(
        &self,
        known: Option<&User>,
        pam: &mut Transaction<Prompts>,
        attempt: u32,
    ) -> Result<Option<User>, NoSession> {
        let outcome = pam.authenticate();
        if let Some(over) = self.console.over() {
            return Err(NoSession::Over(over));
        }
        if let Err(failure) = outcome {
            self.password_failed(known, attempt, &failure.to_string());
            return if failure.is_final() {
                Err(NoSession::Refused(format!("PAM wants no other attempt: {failure}")))
            } else {
                Ok(None)
            };
        }
        // A module may have made another account of it; that one counts from here on.
        let pam_name = pam.user().unwrap_or_default();
        let Some(user) = find_user(pam_name.to_bytes())? else {
            self.password_failed(None, attempt, "there is no such account");
            return Ok(None);
        };
        if user.uid.is_root() && self.config.login.root == RootLogin::No {
            self.password_failed(Some(&user), attempt, "root may not log in (login.root)");
            return Ok(None);
        }
        self.admit(user, pam)
    }

    /// Begins with PAM about an account, or about none.
    fn start_pam(&self, account: &str) -> Result<Transaction<Prompts>, NoSession> {
        let impossible = |_| NoSession::Refused("a name with a NUL in it".to_owned());
        let service = CString::new(self.config.login.pam_service.as_str()).map_err(impossible)?;
        let account = CString::new(account).map_err(impossible)?;
        // Never the name: modules look it up, and its owner may give it any address besides the own one.
        let address = CString::new(self.peer.ip().to_string()).map_err(impossible)?;
        let tty = CString::new(self.tty.as_str()).map_err(impossible)?;
        let prompts = Prompts(Rc::clone(&self.console));
        let mut pam = Transaction::start(&service, Some(&account), prompts).map_err(refused)?;
        pam.set(Item::RemoteHost, &address).map_err(refused)?;
        pam.set(Item::Tty, &tty).map_err(refused)?;
        Ok(pam)
    }

    /// Asks whether the account may be used now; `None` when it may not, and the log knows why.
    ///
    /// The modules may put another account in its place. What they said was of the first one,
    /// so they are asked again.
    fn admit(&self, mut user: User, pam: &mut Transaction<Prompts>) -> Result<Option<User>, NoSession> {
        for _ in 0..MAX_CHANGES {
            self.console.take_told();
            if let Err(failure) = check_account(pam) {
                self.account_refused(&user, failure.to_string());
                return self.console.over().map_or(Ok(None), |over| Err(NoSession::Over(over)));
            }
            let name = pam.user().unwrap_or_default();
            if name.to_bytes() == user.name.as_bytes() {
                return Ok(Some(user));
            }
            user = match find_user(name.to_bytes())? {
                Some(other) if !other.uid.is_root() || user.uid.is_root() => other,
                Some(_) | None => {
                    self.account_refused(&user, "PAM changed it to one that may not log in".to_owned());
                    return Ok(None);
                }
            };
        }
        self.account_refused(&user, "PAM changes it at each look".to_owned());
        Ok(None)
    }

    fn password_failed(&self, user: Option<&User>, attempt: u32, reason: &str) {
        if let Some(user) = user {
            let host = self.host_or_address();
            let who = Who { line: &self.tty, user: &user.name, host: &host, address: self.peer.ip() };
            records::failure(self.config.audit.records, &who);
        }
        self.report(LoginEvent::PasswordFailed {
            user: user.map(|user| user.name.clone()),
            host: self.host.clone(),
            attempt,
            reason: reason.to_owned(),
        });
    }

    /// PAM's result alone does not tell nologin from a time restriction; the module's words do.
    fn account_refused(&self, user: &User, mut reason: String) {
        if let Some(told) = self.console.take_told() {
            reason = format!("{reason}: {told}");
        }
        let (user, host) = (user.name.clone(), self.host.clone());
        self.report(LoginEvent::AccountRefused { user, host, reason });
    }
}

/// A FIFO would hold up every login, and what others than root can put there is not the administrator's word: it may be a
/// link to a file that only root can read.
fn read_banner(path: &Path) -> Result<Vec<u8>, ownership::Error> {
    let mut text = Vec::new();
    ownership::open(path)?.take(MAX_BANNER).read_to_end(&mut text)?;
    Ok(text)
}

/// Whether the account may be used now; an expired password is changed on the spot.
fn check_account(pam: &mut Transaction<Prompts>) -> Result<(), Failure> {
    match pam.account() {
        Err(failure) if failure.needs_new_password() => pam.change_expired_password(),
        outcome => outcome,
    }
}

/// The account of that name. A name service that does not answer is not the same
/// as an account that does not exist, and ends the login.
fn find_user(name: &[u8]) -> Result<Option<User>, NoSession> {
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() && !name.contains('\0') => User::from_name(name).map_err(|errno| {
            NoSession::Refused(format!("the accounts cannot be looked up: {}", errno.desc()))
        }),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// After a name that exists one that does not, and the other way round: the name services are asked one after the other
/// until one knows it, and the time until the prompt would tell whether one did.
fn look_up_the_other(found: Option<&User>) {
    let _ = User::from_name(if found.is_some() { NO_ACCOUNT } else { "root" });
}

fn refused(failure: Failure) -> NoSession {
    NoSession::Refused(format!("PAM does not work: {failure}"))
}
