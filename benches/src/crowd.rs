//! Many connections in the care of one thread, so that they behave (take what comes,
//! answer for their window) while something else is measured.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::Outcome;
use crate::client::{Buffer, Client, Events};

/// The connections and their thread, which ends when this is dropped.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: Epoll,
    clients: Mutex<Vec<Client>>,
    stop: AtomicBool,
}

impl Crowd {
    /// None yet.
    pub(crate) fn new() -> Outcome<Crowd> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let shared = Arc::new(Shared { epoll, clients: Mutex::default(), stop: AtomicBool::new(false) });
        let theirs = Arc::clone(&shared);
        Ok(Crowd { shared, thread: Some(thread::spawn(move || theirs.serve())) })
    }

    /// Takes over a connection; its number is that of those before it.
    pub(crate) fn add(&self, client: Client) -> Outcome<()> {
        let mut clients = self.clients();
        let token = u64::try_from(clients.len())?;
        let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI;
        self.shared.epoll.add(client.as_fd(), EpollEvent::new(events, token))?;
        clients.push(client);
        Ok(())
    }

    /// All of them; their thread waits meanwhile.
    pub(crate) fn clients(&self) -> MutexGuard<'_, Vec<Client>> {
        self.shared.clients()
    }
}

impl Shared {
    // A panic of the other thread leaves nothing half done here.
    fn clients(&self) -> MutexGuard<'_, Vec<Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut buffer = Buffer::new();
        let mut events = vec![EpollEvent::empty(); 256];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::from(100_u8)) else { continue };
            for event in events.iter().take(count) {
                // One at a time, so that nobody else waits for long.
                let mut clients = self.clients();
                let at = usize::try_from(event.data()).unwrap_or(usize::MAX);
                let Some(client) = clients.get_mut(at) else { continue };
                let urgent = event.events().contains(EpollFlags::EPOLLPRI);
                client.look(&mut buffer, if urgent { Events::Urgent } else { Events::Data });
                if client.end.is_some() {
                    let _ = self.epoll.delete(client.as_fd());
                }
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
