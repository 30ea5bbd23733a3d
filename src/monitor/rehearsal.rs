//! Asking an executable whether it could serve, before anything is changed: our own for a reload, the one on disk
//! for an upgrade.
//!
//! The configuration, accounts, groups and directories belong to whoever can make them wait: a name service, a file
//! system, somebody who lists a directory. So a process of its own looks at them, opens what is not open yet, and
//! answers. An upgrade has a second step: the image is started as it will be when it takes over, reads the state that
//! it would get, and has a relay of its version enter its sandbox.
//!
//! Question and answer cross versions, so they are JSON; fields are added and never changed. The settings are read
//! by the image that has written them only.

use std::ffi::OsString;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::upgrade::state;
use super::*;
use crate::config::Source;
use crate::sys::channel::Received;
use crate::sys::local::LocalListener;
use crate::sys::memory_file;
use crate::sys::process::Image;

mod answer;

pub use answer::{is_trial, rehearse, try_out};

/// The argument that starts an image only to ask whether it could serve.
pub const REHEARSAL_ROLE: &str = "--role=rehearsal";
/// The variable that has an image read what it will be handed, and have a relay enter its sandbox.
pub(super) const TRIAL_VARIABLE: &str = "RLOGIND_TRIAL";
/// How long that may take. A name service may be slow.
const REHEARSAL_TIME: Duration = Duration::from_secs(30);
/// The longest reason that is passed on, in characters. As JSON it fits a message whatever the characters are.
const LONGEST_REASON: usize = 1000;

/// What an image is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// To read the configuration again.
    Reload,
    /// To find the executable on disk. Asked of our own image only.
    LookUp,
    /// To take over.
    Upgrade,
    /// To do all that it will do then but to serve.
    Trial,
}

/// What is asked. A memory file for the [`Settings`] comes with it.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    purpose: Purpose,
    /// Where the configuration came from that applies now.
    source: String,
    /// The addresses that are open.
    open: Vec<SocketAddr>,
    /// No others are to be opened: they are the service manager's, or the daemon drains.
    listeners_stay: bool,
    /// The name of the relay's account, and its user and group id.
    account: (String, u32, u32),
    /// The control socket, if there is one: its path, and its file's device and inode.
    control: Option<(PathBuf, (u64, u64))>,
    /// The path that the control socket has by the configuration that applies now.
    control_path: PathBuf,
    /// The executable to be found.
    #[serde(default)]
    executable: Option<PathBuf>,
}

/// What is answered. The descriptors that were opened come with it: listeners, then the control socket.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// It could; what it needs besides the settings.
    Ready {
        /// The formats of the state that it reads.
        formats: String,
        /// The listeners that come with the answer.
        opened: Vec<(Via, SocketAddr)>,
        /// The control socket that comes with the answer: its path, and its file's device and inode.
        control: Option<(PathBuf, (u64, u64))>,
    },
    /// The executable was found; it comes with the answer.
    Found,
    /// It could not.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What serving needs of the machine, as it was found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) shared: Shared,
    /// The relay's account.
    pub(super) account: Account,
    /// What stands in for what is missing.
    pub(super) warnings: Vec<String>,
}

/// A rehearsal that succeeded.
#[derive(Debug)]
pub(super) struct Rehearsed {
    pub(super) image: Image,
    /// The [`Settings`], in that image's own words.
    pub(super) settings: OwnedFd,
    pub(super) opened: Vec<Listener>,
    pub(super) control: Option<LocalListener>,
}

/// A rehearsal that is going on.
#[derive(Debug)]
pub(super) struct Rehearsal {
    purpose: Purpose,
    process: Process,
    channel: Channel,
    image: Image,
    settings: OwnedFd,
    until: Instant,
}

/// How an image is started to be asked.
struct Start {
    arguments: Vec<OsString>,
    environment: &'static [(&'static str, &'static str)],
    question: Vec<u8>,
    /// What comes with the question.
    files: Vec<OwnedFd>,
}

impl Monitor {
    /// Asks an image. The answer comes to [`Monitor::hear_rehearsal`].
    pub(super) fn start_rehearsal(&mut self, purpose: Purpose, image: Image, now: Instant) -> io::Result<()> {
        let mut arguments = vec![OsString::from(REHEARSAL_ROLE)];
        arguments.extend(self.arguments.iter().cloned());
        let settings = memory_file::create()?;
        let question = Question {
            purpose,
            source: self.source.clone(),
            open: self.parts.listeners.iter().map(|listener| listener.address).collect(),
            listeners_stay: self.activated || self.leaving.is_some(),
            account: (self.config.user.clone(), self.parts.account.uid, self.parts.account.gid),
            control: self.control.file(),
            control_path: self.config.control.socket.clone(),
            executable: (purpose == Purpose::LookUp).then(|| self.executable().to_owned()),
        };
        let question = serde_json::to_vec(&question)?;
        let copy = settings.try_clone()?;
        let start = Start { arguments, environment: &[], question, files: vec![copy] };
        self.ask_image(purpose, image, settings, start, now)
    }

    /// Has an image that could take over do what it will do then.
    pub(super) fn start_trial(&mut self, rehearsed: Rehearsed, now: Instant) -> io::Result<()> {
        let (image, settings) = (rehearsed.image.try_clone()?, rehearsed.settings.try_clone()?);
        let state = self.state_for_trial(&rehearsed, now)?;
        let files = vec![state, settings.try_clone()?, self.parts.root.try_clone()?];
        self.upgrade_trial(rehearsed);
        let arguments = self.arguments.clone();
        let start =
            Start { arguments, environment: &[(TRIAL_VARIABLE, "1")], question: b"try".to_vec(), files };
        self.ask_image(Purpose::Trial, image, settings, start, now)
    }

    fn ask_image(
        &mut self,
        purpose: Purpose,
        image: Image,
        settings: OwnedFd,
        start: Start,
        now: Instant,
    ) -> io::Result<()> {
        let Start { arguments, environment, question, files } = start;
        let (ours, theirs) = Channel::pair()?;
        ours.set_nonblocking()?;
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        ours.send(&question, &files)?;
        let process = Process::start_image(&mut self.launcher, &image, &arguments, environment, theirs)?;
        let token = Watched::Rehearsal.token();
        let registry = self.poll.registry();
        if let Err(error) = registry.register(&mut SourceFd(&ours.as_raw_fd()), token, Interest::READABLE) {
            self.dispose(process);
            return Err(error);
        }
        let until = now + REHEARSAL_TIME;
        self.rehearsal = Some(Rehearsal { purpose, process, channel: ours, image, settings, until });
        Ok(())
    }

    /// What the image says.
    pub(super) fn hear_rehearsal(&mut self, now: Instant) {
        let Some(rehearsal) = &self.rehearsal else { return };
        let outcome = match rehearsal.channel.receive() {
            Ok(Received::Nothing) => return,
            Ok(Received::Message(text, files)) => Ok((text, files)),
            Ok(Received::Closed) if rehearsal.purpose == Purpose::Upgrade => {
                Err("it does not know of taking over".to_owned())
            }
            Ok(Received::Closed) => Err("it ended".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err("its answer is too long to be read; its check command says what is wrong".to_owned())
            }
            Err(error) => Err(format!("it cannot be asked: {error}")),
        };
        let Some((purpose, image, settings)) = self.end_rehearsal() else { return };
        let outcome = outcome.and_then(|(text, files)| {
            if purpose == Purpose::LookUp {
                let image = read_found(&text, files)?;
                return Ok(Rehearsed { image, settings, opened: Vec::new(), control: None });
            }
            let (mut opened, control) = read_reply(&text, files)?;
            if self.leaving.is_some() {
                // It drains since it was asked.
                opened.clear();
            }
            Ok(Rehearsed { image, settings, opened, control })
        });
        self.rehearsed(purpose, outcome, now);
    }

    fn rehearsed(&mut self, purpose: Purpose, outcome: Result<Rehearsed, String>, now: Instant) {
        if matches!(purpose, Purpose::Reload | Purpose::Upgrade) {
            self.members_are_in();
        }
        match (purpose, outcome) {
            (Purpose::Reload, outcome) => self.finish_reload(outcome, now),
            (Purpose::LookUp, Ok(found)) => self.rehearse_executable(found.image, now),
            (Purpose::Upgrade, Ok(successor)) => {
                if let Err(error) = self.start_trial(successor, now) {
                    self.no_upgrade(&format!("it cannot be started: {error}"), now);
                }
            }
            (Purpose::Trial, Ok(_)) => self.accept_successor(now),
            (Purpose::LookUp | Purpose::Upgrade, Err(why)) => self.no_upgrade(&why, now),
            (Purpose::Trial, Err(why)) => {
                self.no_upgrade(&format!("it fails when it is started to take over: {why}"), now);
            }
        }
    }

    /// Nobody is asked any more; returns who was.
    pub(super) fn end_rehearsal(&mut self) -> Option<(Purpose, Image, OwnedFd)> {
        let Rehearsal { purpose, process, channel, image, settings, .. } = self.rehearsal.take()?;
        let _ = self.poll.registry().deregister(&mut SourceFd(&channel.as_raw_fd()));
        self.dispose(process);
        Some((purpose, image, settings))
    }

    pub(super) fn rehearsal_due(&self) -> Option<Instant> {
        self.rehearsal.as_ref().map(|rehearsal| rehearsal.until)
    }

    pub(super) fn expire_rehearsal(&mut self, now: Instant) {
        if self.rehearsal_due().is_some_and(|until| until <= now)
            && let Some((purpose, ..)) = self.end_rehearsal()
        {
            let seconds = REHEARSAL_TIME.as_secs();
            let mut why = format!("no answer within {seconds} s");
            match purpose {
                Purpose::LookUp => why += ": its file system does not answer",
                Purpose::Reload | Purpose::Upgrade => {
                    why += ": the configuration's file system or a name service does not answer";
                }
                Purpose::Trial => {}
            }
            self.rehearsed(purpose, Err(why), now);
        }
    }
}

/// What an answer says. What an image says that may be any program is shown as text only.
fn read_reply(text: &[u8], sockets: Vec<OwnedFd>) -> Result<(Vec<Listener>, Option<LocalListener>), String> {
    let reply = serde_json::from_slice(text)
        // An older version says it in plain words.
        .unwrap_or_else(|_| Reply::Refused { reason: String::from_utf8_lossy(text).into_owned() });
    match reply {
        Reply::Ready { formats, .. } if formats != state::formats() => {
            Err("it does not read the state of this version".to_owned())
        }
        Reply::Ready { opened, control, .. } => {
            if sockets.len() != opened.len() + usize::from(control.is_some()) {
                return Err("there is no descriptor free for its listeners".to_owned());
            }
            let mut sockets = sockets.into_iter();
            let listeners = opened.into_iter().zip(sockets.by_ref());
            let listeners =
                listeners.map(|((via, address), socket)| Listener { socket, via, address }).collect();
            let control = control.zip(sockets.next());
            let control = control.map(|((path, file), socket)| LocalListener::inherited(socket, path, file));
            Ok((listeners, control))
        }
        Reply::Found => Err("it answers what it was not asked".to_owned()),
        Reply::Refused { reason } => Err(shown(&reason)),
    }
}

/// The executable that was found.
fn read_found(text: &[u8], files: Vec<OwnedFd>) -> Result<Image, String> {
    match serde_json::from_slice(text) {
        Ok(Reply::Found) => {
            files.into_iter().next().map(Image::found).ok_or("there is no descriptor free for it".to_owned())
        }
        Ok(Reply::Refused { reason }) => Err(shown(&reason)),
        Ok(Reply::Ready { .. }) | Err(_) => Err("it cannot be looked up".to_owned()),
    }
}

fn shown(reason: &str) -> String {
    cut(&crate::control::visible(reason))
}

/// At most [`LONGEST_REASON`] characters, with a sign where it was cut.
fn cut(reason: &str) -> String {
    match reason.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

/// The settings that a rehearsal of this image has found.
///
/// # Errors
/// When the file does not hold settings.
pub(super) fn read_settings(file: OwnedFd) -> io::Result<Settings> {
    postcard::from_bytes(&memory_file::read(file)?).map_err(io::Error::other)
}

/// The same settings again, for this image and the configuration that applies.
pub(super) fn write_settings(settings: &Settings) -> io::Result<OwnedFd> {
    memory_file::write(&postcard::to_stdvec(settings).map_err(io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::channel::MAX_MESSAGE;

    #[test]
    fn any_reason_arrives_and_shows_where_it_was_cut() {
        for piece in ["a", "\u{e4}", "\u{1f600}", "\0", "\"", "\\", "\u{2028}", "two words "] {
            for length in [1, 999, 1000, 1001, 100_000] {
                let reason: String = piece.chars().cycle().take(length).collect();
                let bytes = answer::refusal(&reason).unwrap();
                assert!(bytes.len() < MAX_MESSAGE, "{piece:?}: {}", bytes.len());
                let told = read_reply(&bytes, Vec::new()).unwrap_err();
                assert_eq!(told.chars().next(), crate::control::visible(piece).chars().next());
                assert!(told.chars().count() <= LONGEST_REASON + 1);
                assert_eq!(
                    told.ends_with('…'),
                    crate::control::visible(&reason).chars().count() > LONGEST_REASON
                );
            }
        }
    }
}
