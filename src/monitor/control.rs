//! The daemon's side of the administrator's commands: who connects to the control socket, what
//! is asked, and when it is answered.
//!
//! Whom the socket's mode lets in is an administrator, but no command may hold the daemon up:
//! nothing here waits for one, reads more than one request of it, or takes a descriptor.

use std::os::fd::{BorrowedFd, RawFd};

use super::*;
use crate::config;
use crate::control::protocol::{Answer, Reply, Request};
use crate::host;
use crate::sys::local::{self, LocalListener, Peer};
use crate::sys::memory_file;
use upgrade::state::ControlState;

mod commands;
mod door;
mod notices;
mod places;
mod report;

pub(super) use commands::ENDING;
pub(super) use notices::NoticeId;
use notices::Notices;
pub(super) use report::count_login;

/// How long a command may take to say what it wants.
const ASKING_TIME: Duration = Duration::from_secs(5);
/// How much of that is left when another image can take over.
const LAST_ASKING_TIME: Duration = Duration::from_secs(1);
/// How long one is kept that waits for an answer.
const ANSWERING_TIME: Duration = Duration::from_secs(120);

/// The control socket and who uses it.
#[derive(Debug, Default)]
pub(super) struct Control {
    listener: Option<LocalListener>,
    /// Until then only root may connect, whatever `control.group` says.
    members_out: Option<Instant>,
    /// The oldest first.
    clients: Vec<Client>,
    /// Messages to users that are not shown yet.
    notices: Notices,
    /// What is said of the configuration when it is in force.
    pub(super) notes: Vec<String>,
    /// This image has just taken over: what is said of it when it serves.
    pub(super) upgraded: Option<String>,
}

impl Control {
    /// The control socket's path, and its file's device and inode.
    pub(super) fn file(&self) -> Option<(PathBuf, (u64, u64))> {
        self.listener.as_ref().map(|listener| (listener.path().to_owned(), listener.file()))
    }

    /// Takes out the command that makes room for another one of that user.
    fn silent_to_displace(&mut self, uid: u32, full: places::Full) -> Option<Client> {
        let silent = |client: &Client| (client.wants == Wants::Unknown).then_some(client.peer.uid);
        let silent: Vec<Option<u32>> = self.clients.iter().map(silent).collect();
        places::to_displace(uid, full, &silent).map(|index| self.clients.remove(index))
    }
}

/// A command's process.
#[derive(Debug)]
struct Client {
    channel: Channel,
    peer: Peer,
    wants: Wants,
    /// Until then it is kept.
    until: Instant,
    /// Descriptors came with what it asked: that stays where it is, and is not looked at again.
    asked_with_descriptors: bool,
}

/// A command that wants a message shown.
#[derive(Debug)]
struct Asks {
    channel: Channel,
    peer: Peer,
    with_descriptors: bool,
}

/// What a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// It has not said.
    Unknown,
    /// The configuration that applies.
    Reload(ReloadStage),
    /// Another executable.
    Upgrade,
}

/// How far a reload is that a command waits for. It is answered for its own one: others who ask again and again
/// cannot put the answer off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReloadStage {
    /// A rehearsal that begins later reads the configuration.
    Asked,
    /// A rehearsal that began since reads it.
    Rehearsed,
    /// It applies; a relay that starts later has it.
    Applied,
    /// A relay with it is starting.
    Starting,
}

/// What is said when there is no control socket.
pub(super) fn unusable(path: &Path, error: &io::Error) -> String {
    let why = if error.kind() == io::ErrorKind::AddrInUse {
        "another process listens there".to_owned()
    } else if error.kind() == io::ErrorKind::AlreadyExists {
        "what is there is no socket".to_owned()
    } else {
        error.to_string()
    };
    format!("control socket disabled: cannot use {}: {why}", path.display())
}

/// Opens the control socket, at the start, and says what does not work.
pub(super) fn open(config: &Config, warnings: &mut Vec<String>) -> Option<LocalListener> {
    let config::Control { socket, group } = &config.control;
    match LocalListener::bind(socket) {
        Ok(listener) => {
            let_in(socket, group.as_deref(), warnings);
            Some(listener)
        }
        Err(error) => {
            warnings.push(unusable(socket, &error));
            None
        }
    }
}

/// Lets those use the control socket that the configuration names.
pub(super) fn let_in(socket: &Path, group: Option<&str>, warnings: &mut Vec<String>) {
    let group = group.map(host::control_group).transpose();
    let set = local::set_group(socket, group.as_ref().ok().copied().flatten());
    warnings.extend(group.err());
    warnings.extend(set.err().map(|error| format!("only root can use the control socket: {error}")));
}

impl Monitor {
    fn admit(&mut self, channel: Channel, peer: Peer, now: Instant) {
        let users = self.control.clients.iter().map(|client| client.peer.uid);
        if let Err(full) = places::find(peer.uid, users) {
            // A real command says at once what it wants: one that has not makes room.
            match self.control.silent_to_displace(peer.uid, full) {
                Some(silent) => self.close_command(silent.channel),
                None => return self.reply(channel, refused(full.reason("commands"))),
            }
        }
        if self.watch_client(&channel).is_ok() {
            self.control.clients.push(Client {
                channel,
                peer,
                wants: Wants::Unknown,
                until: now + ASKING_TIME,
                asked_with_descriptors: false,
            });
        } else {
            self.close_command(channel);
        }
    }

    fn watch_client(&self, channel: &Channel) -> io::Result<()> {
        let token = Watched::ControlClient.token();
        self.poll.registry().register(&mut SourceFd(&channel.as_raw_fd()), token, Interest::READABLE)
    }

    /// Closes a command's connection, by another process if descriptors wait in it.
    fn close_command(&mut self, channel: Channel) {
        if !local::end(&channel) {
            self.close_elsewhere(Closes::Commands, vec![channel.into()]);
        }
    }

    /// What commands ask.
    pub(super) fn hear_control(&mut self, now: Instant) {
        let mut asked = Vec::new();
        for mut client in std::mem::take(&mut self.control.clients) {
            if client.asked_with_descriptors {
                self.control.clients.push(client);
                continue;
            }
            match (local::receive(&client.channel), client.wants) {
                (Ok(local::Request::Nothing), _) => self.control.clients.push(client),
                (Ok(local::Request::Message(request)), Wants::Unknown) => asked.push((client, request)),
                (Ok(local::Request::WithDescriptors(request)), Wants::Unknown) => {
                    client.asked_with_descriptors = true;
                    asked.push((client, request));
                }
                // It is gone, or asks twice or for too much.
                (
                    Ok(local::Request::Message(_) | local::Request::WithDescriptors(_)),
                    Wants::Reload(_) | Wants::Upgrade,
                )
                | (Ok(local::Request::Over) | Err(_), _) => self.close_command(client.channel),
            }
        }
        for (client, request) in asked {
            match serde_json::from_slice(&request) {
                Ok(request) => self.obey_command(client, request, now),
                Err(_) => {
                    let version = env!("CARGO_PKG_VERSION");
                    let answer = refused(format!("rlogind {version} does not know this command"));
                    self.reply(client.channel, answer);
                }
            }
        }
        self.forget_gone_senders();
        self.go_on_with_upgrade(now);
    }

    /// Another image can take over: no more commands are accepted, and those that were have little time left to say what
    /// they want.
    pub(super) fn hear_last_commands(&mut self, now: Instant) {
        for client in &mut self.control.clients {
            if client.wants == Wants::Unknown {
                client.until = client.until.min(now + LAST_ASKING_TIME);
            }
        }
    }

    /// Whether a command has yet to say what it wants.
    pub(super) fn is_about_to_be_asked(&self) -> bool {
        self.control.clients.iter().any(|client| client.wants == Wants::Unknown)
    }

    fn go_on_with_upgrade(&mut self, now: Instant) {
        if self.upgrade_is_due() && !self.is_about_to_be_asked() {
            self.begin_upgrade(now);
        }
    }

    fn obey_command(&mut self, client: Client, request: Request, now: Instant) {
        let Client { channel, peer, asked_with_descriptors, .. } = client;
        let answer = match request {
            Request::Sessions => self.list_sessions(now),
            Request::Status => self.report_status(now),
            Request::Kill { ids } => self.kill_sessions(peer, &ids, now),
            Request::Message { to, sender, text } => {
                let asks = Asks { channel, peer, with_descriptors: asked_with_descriptors };
                return self.show_message(asks, &to, &sender, &text, now);
            }
            Request::Drain | Request::Upgrade | Request::Reload if self.stop_time().is_some() => {
                refused("rlogind is stopping")
            }
            Request::Drain => {
                self.note_command(peer, "drain", now);
                self.drain(now);
                let left = self.sessions.living();
                let note =
                    format!("rlogind lets nobody in any more, and ends with its last session of {left}");
                Answer::Done { notes: vec![note] }
            }
            Request::Reload => {
                self.note_command(peer, "reload", now);
                let wants = Wants::Reload(ReloadStage::Asked);
                self.await_answer(channel, peer, wants, asked_with_descriptors, now);
                return self.reload(now);
            }
            Request::Upgrade => {
                self.note_command(peer, "upgrade", now);
                self.await_answer(channel, peer, Wants::Upgrade, asked_with_descriptors, now);
                return self.upgrade(now);
            }
        };
        self.reply(channel, answer);
    }

    fn await_answer(
        &mut self,
        channel: Channel,
        peer: Peer,
        wants: Wants,
        asked_with_descriptors: bool,
        now: Instant,
    ) {
        let until = now + ANSWERING_TIME;
        self.control.clients.push(Client { channel, peer, wants, until, asked_with_descriptors });
    }

    /// Writes down who did what.
    fn note_command(&mut self, peer: Peer, command: &str, now: Instant) {
        let event = Event::Control { uid: peer.uid, pid: peer.pid, command: command.to_owned(), count: 1 };
        self.log.write(&event, now);
    }

    /// A relay serves: answers the commands whose reload or upgrade that was.
    pub(super) fn answer_serving(&mut self) {
        let notes = std::mem::take(&mut self.control.notes);
        self.answer(Wants::Reload(ReloadStage::Starting), &Answer::Done { notes });
        if let Some(note) = self.control.upgraded.take() {
            self.answer(Wants::Upgrade, &Answer::Done { notes: vec![note] });
        }
    }

    /// The reloads that were that far are further now.
    pub(super) fn advance_reloads(&mut self, from: ReloadStage, to: ReloadStage) {
        for client in &mut self.control.clients {
            if client.wants == Wants::Reload(from) {
                client.wants = Wants::Reload(to);
            }
        }
    }

    /// Something of the configuration in force does not work: who waits for it is told as well.
    pub(super) fn warn_waiting(&mut self, text: String, now: Instant) {
        self.control.notes.push(text.clone());
        self.warn_of_command(text, now);
    }

    /// The configuration that was read cannot be used: answers the commands that wait for it.
    pub(super) fn answer_no_reload(&mut self, why: &str) {
        self.answer(Wants::Reload(ReloadStage::Rehearsed), &refused(why));
    }

    /// The daemon stops: answers all commands that wait.
    pub(super) fn answer_stopping(&mut self) {
        for client in std::mem::take(&mut self.control.clients) {
            if client.wants == Wants::Unknown {
                self.control.clients.push(client);
            } else {
                self.reply(client.channel, refused("rlogind is stopping"));
            }
        }
    }

    /// No other executable takes over: who waited for that is told why.
    pub(super) fn answer_no_upgrade(&mut self, why: &str) {
        self.answer(Wants::Upgrade, &refused(why));
    }

    fn answer(&mut self, wanted: Wants, answer: &Answer) {
        for client in std::mem::take(&mut self.control.clients) {
            if client.wants == wanted {
                self.reply(client.channel, answer.clone());
            } else {
                self.control.clients.push(client);
            }
        }
    }

    /// When a command has had its time.
    pub(super) fn control_due(&self) -> Option<Instant> {
        let clients = self.control.clients.iter().map(|client| client.until);
        clients.chain(self.control.notices.due()).chain(self.control.members_out).min()
    }

    pub(super) fn expire_control(&mut self, now: Instant) {
        for client in std::mem::take(&mut self.control.clients) {
            if now < client.until {
                self.control.clients.push(client);
            } else {
                self.close_command(client.channel);
            }
        }
        self.expire_notices(now);
        self.mind_members(now);
        self.go_on_with_upgrade(now);
    }

    /// What of it goes on in another image, with this control socket instead of its own if there is one.
    pub(super) fn leave_control(
        &self,
        other: Option<&LocalListener>,
        keep: impl Fn(BorrowedFd) -> io::Result<RawFd>,
    ) -> io::Result<ControlState> {
        let listener = match other.or(self.control.listener.as_ref()) {
            Some(listener) => Some((keep(listener.as_fd())?, listener.path().to_owned(), listener.file())),
            None => None,
        };
        let waiting = self.control.clients.iter().filter(|client| client.wants != Wants::Unknown);
        let waiting = waiting.map(|client| {
            let reload = matches!(client.wants, Wants::Reload(_));
            Ok((keep(client.channel.as_fd())?, client.peer.uid, client.peer.pid, reload))
        });
        Ok(ControlState { listener, waiting: waiting.collect::<io::Result<_>>()? })
    }

    /// Goes on with what the image before has left.
    ///
    /// # Errors
    /// A descriptor is not there.
    pub(super) fn take_control(&mut self, state: ControlState, now: Instant) -> io::Result<()> {
        if let Some((number, path, file)) = state.listener {
            let listener = LocalListener::inherited(process::inherited_descriptor(number)?, path, file);
            self.watch_door(&listener)?;
            self.control.listener = Some(listener);
            // The image before may have kept members out.
            self.control.members_out = self.config.control.group.is_some().then_some(now);
        }
        for (number, uid, pid, reload) in state.waiting {
            let channel = Channel::from_inherited(process::inherited_descriptor(number)?)?;
            self.watch_client(&channel)?;
            // This image has read the configuration, too; perhaps before it was asked to.
            let stage = if self.reload_again { ReloadStage::Asked } else { ReloadStage::Applied };
            let wants = if reload { Wants::Reload(stage) } else { Wants::Upgrade };
            // It may have; then its end is not noticed before its time.
            let asked_with_descriptors = local::has_more(&channel);
            self.await_answer(channel, Peer { pid, uid }, wants, asked_with_descriptors, now);
        }
        Ok(())
    }

    /// The last that a command hears. One that does not read it is none of our business.
    fn reply(&mut self, channel: Channel, answer: Answer) {
        let reply = Reply { version: env!("CARGO_PKG_VERSION").to_owned(), answer };
        let sent = serde_json::to_vec(&reply)
            .map_err(io::Error::from)
            .and_then(|bytes| memory_file::write(&bytes))
            .and_then(|file| channel.send(b"!", &[file.as_fd()]));
        drop(sent);
        self.close_command(channel);
    }
}

fn refused(reason: impl Into<String>) -> Answer {
    Answer::Refused { reason: reason.into() }
}
