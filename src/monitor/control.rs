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
use crate::sys::channel::Received;
use crate::sys::local::{self, LocalListener, Peer};
use crate::sys::memory_file;
use upgrade::state::ControlState;

mod commands;
mod report;

pub(super) use report::count_login;

/// Commands that are heard at the same time.
const MOST_CLIENTS: usize = 16;
/// Connections accepted in one turn.
const ACCEPTS: usize = 32;
/// How long a command may take to say what it wants.
const ASKING_TIME: Duration = Duration::from_secs(5);
/// How long one is kept that waits for an answer.
const ANSWERING_TIME: Duration = Duration::from_secs(120);

/// The control socket and who uses it.
#[derive(Debug, Default)]
pub(super) struct Control {
    listener: Option<LocalListener>,
    /// The oldest first.
    clients: Vec<Client>,
    /// What is said of the configuration when it is in force.
    pub(super) notes: Vec<String>,
    /// This image has just taken over: what is said of it when it serves.
    pub(super) upgraded: Option<String>,
}

/// A command's process.
#[derive(Debug)]
struct Client {
    channel: Channel,
    peer: Peer,
    wants: Wants,
    /// Until then it is kept.
    until: Instant,
}

/// What a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// It has not said.
    Unknown,
    /// The configuration in force.
    Reload,
    /// Another executable.
    Upgrade,
}

impl Monitor {
    /// Opens the control socket where it is not open, for those it is for now. Returns what
    /// does not work.
    pub(super) fn open_control(&mut self) -> Option<String> {
        let config::Control { socket, group } = &self.config.control;
        let open =
            self.control.listener.take().filter(|listener| listener.path() == socket && listener.is_there());
        let opened = match open {
            Some(listener) => Ok(listener),
            None => self.bind_control(socket),
        };
        let listener = match opened {
            Ok(listener) => listener,
            Err(error) => {
                let path = socket.display();
                return Some(format!("there are no administrator's commands, for {path}: {error}"));
            }
        };
        let group = group.as_deref().map(host::control_group).transpose();
        let set = listener.set_group(group.as_ref().ok().copied().flatten());
        self.control.listener = Some(listener);
        match (group, set) {
            (Err(trouble), _) => Some(trouble),
            (Ok(_), Err(error)) => Some(format!("the control socket is root's alone: {error}")),
            (Ok(_), Ok(())) => None,
        }
    }

    fn bind_control(&self, path: &Path) -> io::Result<LocalListener> {
        let listener = LocalListener::bind(path).map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                io::Error::other("another process listens there")
            } else if error.kind() == io::ErrorKind::AlreadyExists {
                io::Error::other("what is there is no socket")
            } else {
                error
            }
        })?;
        self.watch_door(&listener)?;
        Ok(listener)
    }

    fn watch_door(&self, listener: &LocalListener) -> io::Result<()> {
        let token = Watched::ControlDoor.token();
        self.poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)
    }

    /// Commands that connect.
    pub(super) fn hear_control_door(&mut self, now: Instant) {
        for _ in 0..ACCEPTS {
            let Some(listener) = &self.control.listener else { return };
            match listener.accept() {
                Ok((channel, peer)) => self.admit(channel, peer, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Out of descriptors, or it has gone already.
                Err(_) => return self.look_again(now),
            }
        }
        self.look_again(now);
    }

    fn admit(&mut self, channel: Channel, peer: Peer, now: Instant) {
        if self.control.clients.len() >= MOST_CLIENTS {
            // A real command says at once what it wants: who has not makes room.
            match self.control.clients.iter().position(|client| client.wants == Wants::Unknown) {
                Some(silent) => drop(self.control.clients.remove(silent)),
                None => return reply(&channel, refused("too many commands at once")),
            }
        }
        if self.watch_client(&channel).is_ok() {
            let client = Client { channel, peer, wants: Wants::Unknown, until: now + ASKING_TIME };
            self.control.clients.push(client);
        }
    }

    fn watch_client(&self, channel: &Channel) -> io::Result<()> {
        let token = Watched::ControlClient.token();
        self.poll.registry().register(&mut SourceFd(&channel.as_raw_fd()), token, Interest::READABLE)
    }

    /// What commands ask.
    pub(super) fn hear_control(&mut self, now: Instant) {
        let mut asked = Vec::new();
        for client in std::mem::take(&mut self.control.clients) {
            match (local::receive(&client.channel), client.wants) {
                (Ok(Received::Nothing), _) => self.control.clients.push(client),
                (Ok(Received::Message(request, _)), Wants::Unknown) => asked.push((client, request)),
                // It is gone, or asks twice, or for too much.
                (Ok(Received::Message(..)), Wants::Reload | Wants::Upgrade)
                | (Ok(Received::Closed) | Err(_), _) => {}
            }
        }
        for (client, request) in asked {
            match serde_json::from_slice(&request) {
                Ok(request) => self.obey_command(client, request, now),
                Err(_) => {
                    let version = env!("CARGO_PKG_VERSION");
                    reply(&client.channel, refused(format!("rlogind {version} does not know this command")));
                }
            }
        }
    }

    fn obey_command(&mut self, client: Client, request: Request, now: Instant) {
        let Client { channel, peer, .. } = client;
        let answer = match request {
            Request::Sessions => self.list_sessions(now),
            Request::Status => self.report_status(now),
            Request::Kill { ids } => self.kill_sessions(peer, &ids, now),
            Request::Message { to, sender, text } => self.show_message(peer, &to, &sender, &text, now),
            Request::Drain | Request::Upgrade | Request::Reload if self.stop_time().is_some() => {
                refused("rlogind is stopping")
            }
            Request::Drain => {
                self.note_command(peer, "drain", now);
                self.drain(now);
                let left = self.sessions.len();
                let note =
                    format!("rlogind lets nobody in any more, and ends with its last session of {left}");
                Answer::Done { notes: vec![note] }
            }
            Request::Reload => {
                self.note_command(peer, "reload", now);
                self.await_answer(channel, peer, Wants::Reload, now);
                if let Err(reason) = self.reload(now)
                    && let Some(client) = self.control.clients.pop()
                {
                    reply(&client.channel, Answer::Refused { reason });
                }
                return;
            }
            Request::Upgrade => {
                self.note_command(peer, "upgrade", now);
                self.await_answer(channel, peer, Wants::Upgrade, now);
                return self.rehearse(now);
            }
        };
        reply(&channel, answer);
    }

    fn await_answer(&mut self, channel: Channel, peer: Peer, wants: Wants, now: Instant) {
        self.control.clients.push(Client { channel, peer, wants, until: now + ANSWERING_TIME });
    }

    /// Writes down who did what.
    fn note_command(&mut self, peer: Peer, command: &str, now: Instant) {
        let event = Event::Control { uid: peer.uid, pid: peer.pid, command: command.to_owned(), count: 1 };
        self.log.write(&event, now);
    }

    /// A relay serves with the configuration in force: who waited for that is told.
    pub(super) fn answer_serving(&mut self) {
        let notes = std::mem::take(&mut self.control.notes);
        self.answer(Wants::Reload, &Answer::Done { notes });
        if let Some(note) = self.control.upgraded.take() {
            self.answer(Wants::Upgrade, &Answer::Done { notes: vec![note] });
        }
    }

    /// Something of the configuration in force does not work: who waits for it is told as well.
    pub(super) fn warn_waiting(&mut self, text: String, now: Instant) {
        self.control.notes.push(text.clone());
        self.warn(text, now);
    }

    /// No other executable takes over: who waited for that is told why.
    pub(super) fn answer_no_upgrade(&mut self, why: &str) {
        self.answer(Wants::Upgrade, &refused(why));
    }

    fn answer(&mut self, wanted: Wants, answer: &Answer) {
        for client in std::mem::take(&mut self.control.clients) {
            if client.wants == wanted {
                reply(&client.channel, answer.clone());
            } else {
                self.control.clients.push(client);
            }
        }
    }

    /// When a command has had its time.
    pub(super) fn control_due(&self) -> Option<Instant> {
        self.control.clients.iter().map(|client| client.until).min()
    }

    pub(super) fn expire_control(&mut self, now: Instant) {
        self.control.clients.retain(|client| now < client.until);
    }

    /// What of it goes on in another image.
    pub(super) fn leave_control(
        &self,
        keep: impl Fn(BorrowedFd) -> io::Result<RawFd>,
    ) -> io::Result<ControlState> {
        let listener = match &self.control.listener {
            Some(listener) => Some((keep(listener.as_fd())?, listener.path().to_owned(), listener.file())),
            None => None,
        };
        // The other image reads the configuration, too.
        let waiting = self.control.clients.iter().filter(|client| client.wants != Wants::Unknown);
        let waiting =
            waiting.map(|client| Ok((keep(client.channel.as_fd())?, client.peer.uid, client.peer.pid)));
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
        }
        for (number, uid, pid) in state.waiting {
            let channel = Channel::from_inherited(process::inherited_descriptor(number)?)?;
            self.watch_client(&channel)?;
            self.await_answer(channel, Peer { pid, uid }, Wants::Upgrade, now);
        }
        Ok(())
    }
}

fn refused(reason: impl Into<String>) -> Answer {
    Answer::Refused { reason: reason.into() }
}

/// The last that a command hears. One that does not read it is none of our business.
fn reply(channel: &Channel, answer: Answer) {
    let reply = Reply { version: env!("CARGO_PKG_VERSION").to_owned(), answer };
    let sent = serde_json::to_vec(&reply)
        .map_err(io::Error::from)
        .and_then(|bytes| memory_file::write(&bytes))
        .and_then(|file| channel.send(b"!", &[file.as_fd()]));
    drop(sent);
}
