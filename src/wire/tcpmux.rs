//! The request of a TCPMUX client: a service's name and CRLF, and the answers to it (RFC 1078).
//!
//! Must never keep more than [`MAX_REQUEST`] bytes, never wait for the rest of a line that cannot become a request any
//! more, and never take a byte behind the line: that is the service's.

use std::fmt;

/// The most bytes a request can have, its line end included.
pub const MAX_REQUEST: usize = 256;

/// The name that asks for the names (RFC 1078), in whatever case.
pub const HELP: &str = "HELP";

/// The service speaks next.
pub const ACCEPTED: &[u8] = b"+Go ahead\r\n";

/// There is no such service, or none that is told of. The connection is to be closed.
pub const REFUSED: &[u8] = b"-Service not available\r\n";

/// Not now: there are too many connections. The connection is to be closed.
pub const BUSY: &[u8] = b"-Try again\r\n";

/// What is offered to the clients.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The names of the services, in whatever case; none of them is [`HELP`].
    pub services: &'a [String],
    /// Whether strangers are told of them.
    pub help: bool,
}

impl Offer<'_> {
    /// The answer to [`HELP`]: the names, each in a line of its own; the connection is to be closed behind it.
    #[must_use]
    pub fn list(&self) -> Vec<u8> {
        self.services.iter().flat_map(|name| format!("{name}\r\n").into_bytes()).collect()
    }
}

/// What a [`Decoder`] made of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The request is not complete; all bytes were taken.
    More,
    /// A service that is offered, to be answered with [`ACCEPTED`].
    Service {
        /// How many bytes of this last input belong to the request. Those behind are the service's first data.
        consumed: usize,
    },
    /// [`HELP`], to be answered with [`Offer::list`].
    Help,
}

/// Why a request is refused, with [`REFUSED`], and what was read of it, its line end left out.
///
/// The text is as the client sent it but for what is not UTF-8: to be escaped before it is shown. It has at most
/// [`MAX_REQUEST`] characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such service is offered.
    Unknown(String),
    /// There is a control character in it, the last one that was read.
    ControlCharacter(String),
    /// It has more than [`MAX_REQUEST`] bytes.
    TooLong(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => write!(f, "no such TCPMUX service: {text}"),
            Self::ControlCharacter(text) => write!(f, "a control character in the TCPMUX request: {text}"),
            Self::TooLong(text) => write!(f, "the TCPMUX request is too long: {text}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Takes a request as it comes, in pieces of any size.
///
/// It is good for one request: after [`Progress::Service`], [`Progress::Help`] or an error it must be dropped.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What came of the line.
    line: Vec<u8>,
}

impl Decoder {
    /// Takes the next bytes of the connection. A bare LF ends the line as CRLF does.
    ///
    /// # Errors
    /// A [`Refusal`], with the first byte that makes one certain. How the bytes were split makes no difference.
    pub fn push(&mut self, bytes: &[u8], offer: Offer<'_>) -> Result<Progress, Refusal> {
        for (consumed, &byte) in (1..).zip(bytes) {
            if byte == b'\n' {
                return self.decide(consumed, offer);
            }
            let behind_return = self.line.last() == Some(&b'\r');
            self.line.push(byte);
            // A carriage return that no LF follows is a control character like any other.
            if behind_return || (byte.is_ascii_control() && byte != b'\r') {
                return Err(Refusal::ControlCharacter(self.text()));
            }
            if self.line.len() == MAX_REQUEST {
                return Err(Refusal::TooLong(self.text()));
            }
        }
        Ok(Progress::More)
    }

    /// The bytes taken so far: another decoder that is given them is where this one is.
    pub fn taken(&self) -> &[u8] {
        &self.line
    }

    fn decide(&self, consumed: usize, offer: Offer<'_>) -> Result<Progress, Refusal> {
        let name = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        if offer.services.iter().any(|service| service.as_bytes().eq_ignore_ascii_case(name)) {
            Ok(Progress::Service { consumed })
        } else if offer.help && name.eq_ignore_ascii_case(HELP.as_bytes()) {
            Ok(Progress::Help)
        } else {
            Err(Refusal::Unknown(String::from_utf8_lossy(name).into_owned()))
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(bytes: &[u8], help: bool) -> Result<Progress, Refusal> {
        let services = ["login", "rlogin", "Printer"].map(str::to_owned);
        Decoder::default().push(bytes, Offer { services: &services, help })
    }

    #[test]
    fn services_are_found_in_any_case() {
        let table: [(&[u8], usize); 8] = [
            (b"login\r\n", 7),
            (b"rlogin\r\n", 8),
            (b"RLOGIN\r\n", 8),
            (b"rLoGiN\n", 7),
            (b"login\n", 6),
            (b"printer\r\n", 9),
            (b"rlogin\r\n\0a\0b\0vt100/9600\0", 8),
            (b"login\n\nrest", 6),
        ];
        for (bytes, consumed) in table {
            assert_eq!(push(bytes, true), Ok(Progress::Service { consumed }), "{bytes:?}");
        }
    }

    #[test]
    fn help_is_answered_only_when_switched_on() {
        for bytes in [b"HELP\r\n".as_slice(), b"help\n", b"Help\r\nmore"] {
            assert_eq!(push(bytes, true), Ok(Progress::Help));
            assert!(matches!(push(bytes, false), Err(Refusal::Unknown(_))), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        let table: [(&[u8], &str); 9] = [
            (b"\r\n", ""),
            (b"\n", ""),
            (b"finger\r\n", "finger"),
            (b"logi\r\n", "logi"),
            (b"logins\r\n", "logins"),
            (b" login\r\n", " login"),
            (b"login \n", "login "),
            (b"caf\xc3\xa9\r\n", "caf\u{e9}"),
            (b"\xff\r\n", "\u{fffd}"),
        ];
        for (bytes, text) in table {
            assert_eq!(push(bytes, true), Err(Refusal::Unknown(text.to_owned())), "{bytes:?}");
        }
    }

    #[test]
    fn control_characters_are_refused_at_once() {
        let table: [(&[u8], &str); 8] = [
            (b"\0alice\0bob\0xterm/38400\0", "\0"),
            (b"login\0\r\n", "login\0"),
            (b"lo\tgin\r\n", "lo\t"),
            (b"a\x1b[2J\r\n", "a\x1b"),
            (b"a\x7f\r\n", "a\x7f"),
            (b"login\rx\n", "login\rx"),
            (b"login\r\r\n", "login\r\r"),
            (b"login\r\0", "login\r\0"),
        ];
        for (bytes, text) in table {
            assert_eq!(push(bytes, true), Err(Refusal::ControlCharacter(text.to_owned())), "{bytes:?}");
        }
    }

    #[test]
    fn a_request_has_256_bytes_with_its_line_end() {
        let name = "x".repeat(MAX_REQUEST - 2);
        assert_eq!(push(name.as_bytes(), true), Ok(Progress::More));
        let longest = [name.as_bytes(), b"\r\n"].concat();
        assert_eq!(push(&longest, true), Err(Refusal::Unknown(name.clone())));
        let longest_of_lf = [name.as_bytes(), b"x\n"].concat();
        assert_eq!(push(&longest_of_lf, true), Err(Refusal::Unknown(format!("{name}x"))));
        for too_many in ["x\r\n", "xx\n", "xx"] {
            let bytes = [name.as_bytes(), too_many.as_bytes()].concat();
            let Err(Refusal::TooLong(text)) = push(&bytes, true) else { panic!("{too_many:?}") };
            assert_eq!(text.len(), MAX_REQUEST);
        }
    }

    #[test]
    fn the_answers() {
        let services = ["login", "rlogin"].map(str::to_owned);
        assert_eq!(Offer { services: &services, help: true }.list(), b"login\r\nrlogin\r\n");
        assert!(ACCEPTED.starts_with(b"+") && ACCEPTED.ends_with(b"\r\n"));
        assert_eq!(REFUSED, b"-Service not available\r\n");
    }
}
