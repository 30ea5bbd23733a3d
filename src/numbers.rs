//! Numbers for connections in an event loop: a token of mio is as wide as a pointer, and a [`ConnectionId`] is wider
//! on some machines.
//!
//! ```
//! use rlogind::ipc::ConnectionId;
//! use rlogind::numbers::Numbers;
//!
//! let numbers = Numbers::default();
//! let number = numbers.take(ConnectionId(1 << 40));
//! assert_eq!(numbers.of(number.value()), Some(ConnectionId(1 << 40)));
//! ```

use std::cell::RefCell;
use std::rc::Rc;

use slab::Slab;

use crate::ipc::ConnectionId;

/// The numbers that are taken. Copies of it share them.
#[derive(Debug, Clone, Default)]
pub struct Numbers(Rc<RefCell<Slab<ConnectionId>>>);

/// A number that stands for one connection, and is free again after it.
#[derive(Debug)]
pub struct Number {
    value: usize,
    numbers: Numbers,
}

impl Numbers {
    /// A number that is free: there are never more of them than there were connections at a time. One that is free
    /// again is the next to be taken.
    #[must_use]
    pub fn take(&self, id: ConnectionId) -> Number {
        Number { value: self.0.borrow_mut().insert(id), numbers: self.clone() }
    }

    /// Whose it is. An event may be older than that: what it says has to be looked at before it is believed.
    #[must_use]
    pub fn of(&self, value: usize) -> Option<ConnectionId> {
        self.0.borrow().get(value).copied()
    }
}

impl Number {
    /// The number itself: below the number of connections that there have been at a time.
    #[must_use]
    pub fn value(&self) -> usize {
        self.value
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.numbers.0.borrow_mut().try_remove(self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_one_connection_and_is_used_again() {
        let numbers = Numbers::default();
        // Wider than 32 bits, and alike in the lower ones.
        let ids = [1, (1 << 36) + 1, (1 << 40) + 1].map(ConnectionId);
        let mut taken = ids.map(|id| Some(numbers.take(id)));
        let values = taken.each_ref().map(|number| number.as_ref().unwrap().value());
        assert_eq!(values.map(|value| numbers.of(value)), ids.map(Some));
        assert!(values.iter().all(|value| *value < ids.len()));
        drop(taken[1].take());
        assert_eq!(numbers.of(values[1]), None);
        assert_eq!(numbers.take(ConnectionId(7)).value(), values[1]);
    }
}
