//! The client's first bytes: `NUL client-user NUL server-user NUL terminal/speed NUL` (RFC 1282,
//! "Connection Establishment").
//!
//! Must never keep more than the limits below, never wait for the rest of a string that is too
//! long already, and never show a name: SyncTERM sends the user's password as the client user. So names
//! print as their length only and are wiped when they are dropped.

use std::fmt;

use zeroize::Zeroizing;

/// Longest user name, in bytes: Linux's `LOGIN_NAME_MAX` (sysconf(3)) is 256 with the NUL.
pub const MAX_NAME: usize = 255;
/// Longest terminal type, in bytes.
pub const MAX_TERMINAL: usize = 64;
/// Longest remainder of the terminal field, in bytes, counted from its first slash on.
pub const MAX_SPEED: usize = 32;
/// The most bytes a handshake can have, its four NULs included.
pub const MAX_HANDSHAKE: usize = MAX_NAME * 2 + MAX_TERMINAL + MAX_SPEED + 4;

/// What stands in for a terminal type that is missing or not to be trusted.
const DUMB: &str = "dumb";

/// A user name as it came over the wire: at most [`MAX_NAME`] bytes, no control character, no `-` in front.
///
/// It may be empty, and need not be UTF-8.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(Zeroizing<Vec<u8>>);

impl Name {
    /// Takes bytes that may be a name.
    ///
    /// # Errors
    /// What keeps them from being one.
    pub fn new(bytes: &[u8]) -> Result<Self, NameFault> {
        if bytes.len() > MAX_NAME {
            return Err(NameFault::TooLong);
        }
        // A name ends up in the words of other programs, where this would be an option.
        if bytes.starts_with(b"-") {
            return Err(NameFault::LeadingDash);
        }
        // Chunk by chunk, so that one stray byte does not hide a C1 control that a UTF-8 terminal obeys.
        if bytes.utf8_chunks().any(|chunk| chunk.valid().contains(char::is_control)) {
            return Err(NameFault::ControlCharacter);
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the client left the field empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Shows the length alone, because the bytes may be a password.
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({} bytes)", self.0.len())
    }
}

/// A terminal type that is safe as the value of `TERM`: 1 to [`MAX_TERMINAL`] of the characters
/// `A-Z a-z 0-9 + . _ : -`, or `dumb` where the client sent anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalType(String);

impl TerminalType {
    fn new(bytes: &[u8]) -> Self {
        let harmless = |b: &u8| b.is_ascii_alphanumeric() || b"+._:-".contains(b);
        match str::from_utf8(bytes) {
            Ok(text) if !bytes.is_empty() && bytes.iter().all(harmless) => Self(text.to_owned()),
            Ok(_) | Err(_) => Self(DUMB.to_owned()),
        }
    }

    /// The type's name, e.g. `xterm`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// All that a client says before the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The user on the client's host ("remuser" in BSD's messages). Some clients put a password here.
    pub client_user: Name,
    /// The account wanted on this host ("locuser"). Empty: ask for it.
    pub server_user: Name,
    /// The client's terminal.
    pub terminal: TerminalType,
    /// The terminal's speed in bits per second, when the client named one.
    pub speed: Option<u32>,
}

impl Handshake {
    /// Checks the three strings of a handshake, without their NULs; `terminal` still has its `/speed`.
    ///
    /// The speed is the digits between the first slash and the next one or the end; without digits, or
    /// with anything else there, or with a number beyond 32 bits, there is none.
    ///
    /// # Errors
    /// The first [`Refusal`] that applies, in the order of the strings.
    pub fn from_parts(client_user: &[u8], server_user: &[u8], terminal: &[u8]) -> Result<Self, Refusal> {
        let client_user = Name::new(client_user).map_err(Refusal::ClientUser)?;
        let server_user = Name::new(server_user).map_err(Refusal::ServerUser)?;
        check_terminal_length(terminal)?;
        let mut words = terminal.split(|&b| b == b'/');
        let terminal = TerminalType::new(words.next().unwrap_or_default());
        let speed = words.next().and_then(parse_speed);
        Ok(Self { client_user, server_user, terminal, speed })
    }

    /// The third string again, e.g. `xterm/38400`: [`Handshake::from_parts`] reads it back as the same values.
    pub fn terminal_field(&self) -> String {
        match self.speed {
            Some(speed) => format!("{}/{speed}", self.terminal.as_str()),
            None => self.terminal.as_str().to_owned(),
        }
    }
}

fn parse_speed(word: &[u8]) -> Option<u32> {
    // `parse` alone would take a sign as well.
    if !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(word).ok()?.parse().ok()
}

fn check_terminal_length(field: &[u8]) -> Result<(), Refusal> {
    let kind = field.iter().position(|&b| b == b'/').unwrap_or(field.len());
    if kind > MAX_TERMINAL {
        Err(Refusal::TerminalTooLong)
    } else if field.len() - kind > MAX_SPEED {
        Err(Refusal::SpeedTooLong)
    } else {
        Ok(())
    }
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// It has more than [`MAX_NAME`] bytes.
    TooLong,
    /// It holds a control character (C0, DEL, or C1 as UTF-8).
    ControlCharacter,
    /// It starts with `-`.
    LeadingDash,
}

/// Why a handshake is refused. `Display` gives the reason for the audit log; neither it nor
/// [`Refusal::message`] ever holds what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The first byte is not NUL: whatever this is, it is not rlogin.
    NotRlogin,
    /// The client user is not acceptable.
    ClientUser(NameFault),
    /// The server user is not acceptable.
    ServerUser(NameFault),
    /// The terminal type has more than [`MAX_TERMINAL`] bytes.
    TerminalTooLong,
    /// What follows the terminal type has more than [`MAX_SPEED`] bytes.
    SpeedTooLong,
}

impl Refusal {
    /// What the client is told, in the words BSD's server uses; see [`super::answer::refusal`].
    pub fn message(&self) -> &'static str {
        match self {
            Self::ClientUser(NameFault::TooLong) => "remuser too long",
            Self::ServerUser(NameFault::TooLong) => "locuser too long",
            Self::TerminalTooLong | Self::SpeedTooLong => "Terminal type too long",
            Self::NotRlogin
            | Self::ClientUser(NameFault::ControlCharacter | NameFault::LeadingDash)
            | Self::ServerUser(NameFault::ControlCharacter | NameFault::LeadingDash) => "Permission denied",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (field, fault) = match self {
            Self::NotRlogin => return f.write_str("not the rlogin protocol: the first byte is not NUL"),
            Self::TerminalTooLong => return f.write_str("terminal type too long"),
            Self::SpeedTooLong => return f.write_str("terminal speed too long"),
            Self::ClientUser(fault) => ("client user", fault),
            Self::ServerUser(fault) => ("server user", fault),
        };
        let fault = match fault {
            NameFault::TooLong => "too long",
            NameFault::ControlCharacter => "has a control character",
            NameFault::LeadingDash => "starts with a dash",
        };
        write!(f, "{field} {fault}")
    }
}

impl std::error::Error for Refusal {}

/// Which byte or string of the handshake comes next.
enum Expecting {
    LeadingNul,
    ClientUser,
    ServerUser,
    Terminal,
}

/// What a [`Decoder`] made of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The handshake is not complete; all bytes were taken.
    More,
    /// The handshake is complete.
    Done {
        /// What the client said.
        handshake: Handshake,
        /// How many bytes of this last input belong to it. Those behind are the session's first data.
        consumed: usize,
    },
}

/// Takes a handshake apart as it comes, in pieces of any size.
///
/// It is good for one handshake: after [`Progress::Done`] or an error it must be dropped.
pub struct Decoder {
    expecting: Expecting,
    client_user: Zeroizing<Vec<u8>>,
    server_user: Zeroizing<Vec<u8>>,
    terminal: Vec<u8>,
}

/// Shows nothing that the client sent.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    pub fn new() -> Self {
        // A name's whole room at once: growing would leave copies behind that nobody wipes.
        let name = || Zeroizing::new(Vec::with_capacity(MAX_NAME));
        Self {
            expecting: Expecting::LeadingNul,
            client_user: name(),
            server_user: name(),
            terminal: Vec::new(),
        }
    }

    /// Takes the next bytes of the connection.
    ///
    /// # Errors
    /// A [`Refusal`], for a length with the first byte that is too many, otherwise when the handshake is
    /// complete. How the bytes were split makes no difference.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Progress, Refusal> {
        for (consumed, &byte) in (1..).zip(bytes) {
            if self.take(byte)? {
                let handshake = Handshake::from_parts(&self.client_user, &self.server_user, &self.terminal)?;
                return Ok(Progress::Done { handshake, consumed });
            }
        }
        Ok(Progress::More)
    }

    /// The bytes taken so far: another decoder that is given them is where this one is.
    pub fn taken(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_HANDSHAKE));
        let before: [&[u8]; 3] = [b"", &self.client_user, &self.server_user];
        let (complete, begun): (usize, &[u8]) = match self.expecting {
            Expecting::LeadingNul => (0, b""),
            Expecting::ClientUser => (1, &self.client_user),
            Expecting::ServerUser => (2, &self.server_user),
            Expecting::Terminal => (3, &self.terminal),
        };
        for field in &before[..complete] {
            bytes.extend_from_slice(field);
            bytes.push(0);
        }
        bytes.extend_from_slice(begun);
        bytes
    }

    /// Takes one byte and says whether it was the last one.
    fn take(&mut self, byte: u8) -> Result<bool, Refusal> {
        match self.expecting {
            Expecting::LeadingNul if byte == 0 => self.expecting = Expecting::ClientUser,
            Expecting::LeadingNul => return Err(Refusal::NotRlogin),
            Expecting::ClientUser if byte == 0 => self.expecting = Expecting::ServerUser,
            Expecting::ClientUser => {
                push_name(&mut self.client_user, byte).map_err(Refusal::ClientUser)?;
            }
            Expecting::ServerUser if byte == 0 => self.expecting = Expecting::Terminal,
            Expecting::ServerUser => {
                push_name(&mut self.server_user, byte).map_err(Refusal::ServerUser)?;
            }
            Expecting::Terminal if byte == 0 => return Ok(true),
            Expecting::Terminal => {
                self.terminal.push(byte);
                check_terminal_length(&self.terminal)?;
            }
        }
        Ok(false)
    }
}

fn push_name(name: &mut Vec<u8>, byte: u8) -> Result<(), NameFault> {
    if name.len() == MAX_NAME {
        return Err(NameFault::TooLong);
    }
    name.push(byte);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(client: &[u8], server: &[u8], terminal: &[u8]) -> Result<Handshake, Refusal> {
        Handshake::from_parts(client, server, terminal)
    }

    #[test]
    fn what_real_clients_send() {
        let table: [(&[u8], [&str; 3], Option<u32>); 5] = [
            (b"\0alice\0bob\0xterm/38400\0", ["alice", "bob", "xterm"], Some(38400)),
            (b"\0\0bob\0vt100/9600\0", ["", "bob", "vt100"], Some(9600)),
            (b"\0\0\0xterm-256color/115200\0", ["", "", "xterm-256color"], Some(115_200)),
            (b"\0alice\0bob\0\0", ["alice", "bob", "dumb"], None),
            (b"\0alice\0bob\0ansi\0", ["alice", "bob", "ansi"], None),
        ];
        for (bytes, [client, server, terminal], speed) in table {
            let Ok(Progress::Done { handshake, consumed }) = Decoder::new().push(bytes) else {
                panic!("{bytes:?} not understood");
            };
            assert_eq!(consumed, bytes.len());
            assert_eq!(handshake.client_user.as_bytes(), client.as_bytes());
            assert_eq!(handshake.server_user.as_bytes(), server.as_bytes());
            assert_eq!(handshake.server_user.is_empty(), server.is_empty());
            assert_eq!(handshake.terminal.as_str(), terminal);
            assert_eq!(handshake.speed, speed);
        }
    }

    #[test]
    fn terminal_fields() {
        let table: [(&[u8], &str, Option<u32>, &str); 17] = [
            (b"xterm/38400", "xterm", Some(38400), "xterm/38400"),
            (b"xterm/38400/more", "xterm", Some(38400), "xterm/38400"),
            (b"xterm", "xterm", None, "xterm"),
            (b"xterm/", "xterm", None, "xterm"),
            (b"xterm//9600", "xterm", None, "xterm"),
            (b"xterm/+9600", "xterm", None, "xterm"),
            (b"xterm/-1", "xterm", None, "xterm"),
            (b"xterm/9600baud", "xterm", None, "xterm"),
            (b"xterm/4294967295", "xterm", Some(u32::MAX), "xterm/4294967295"),
            (b"xterm/4294967296", "xterm", None, "xterm"),
            (b"", "dumb", None, "dumb"),
            (b"/9600", "dumb", Some(9600), "dumb/9600"),
            (b"x term/9600", "dumb", Some(9600), "dumb/9600"),
            (b"x\nterm", "dumb", None, "dumb"),
            (b"x\xffterm", "dumb", None, "dumb"),
            ("xtérm".as_bytes(), "dumb", None, "dumb"),
            (b"A-z0.9_+:", "A-z0.9_+:", None, "A-z0.9_+:"),
        ];
        for (field, terminal, speed, again) in table {
            let handshake = parts(b"a", b"b", field).unwrap();
            assert_eq!((handshake.terminal.as_str(), handshake.speed), (terminal, speed), "{field:?}");
            assert_eq!(handshake.terminal_field(), again);
            assert_eq!(parts(b"a", b"b", again.as_bytes()).unwrap(), handshake);
        }
    }

    #[test]
    fn names_that_are_refused() {
        let table: [(&[u8], NameFault); 10] = [
            (b"a\nb", NameFault::ControlCharacter),
            (b"\x1b[2J", NameFault::ControlCharacter),
            (b"a\x7f", NameFault::ControlCharacter),
            (b"a\0b", NameFault::ControlCharacter),
            ("a\u{9b}b".as_bytes(), NameFault::ControlCharacter),
            (b"\xff\xc2\x9b\xff", NameFault::ControlCharacter),
            (b"\xff\x07", NameFault::ControlCharacter),
            (b"-froot", NameFault::LeadingDash),
            (b"-", NameFault::LeadingDash),
            (&[b'a'; MAX_NAME + 1], NameFault::TooLong),
        ];
        for (name, fault) in table {
            assert_eq!(parts(name, b"b", b"vt100").unwrap_err(), Refusal::ClientUser(fault), "{name:?}");
            assert_eq!(parts(b"a", name, b"vt100").unwrap_err(), Refusal::ServerUser(fault), "{name:?}");
        }
    }

    #[test]
    fn names_that_are_not() {
        let table: [&[u8]; 6] = [b"", b"a-b", b"J\xfcrgen", b"\x9b", "Jürgen".as_bytes(), &[b'a'; MAX_NAME]];
        for name in table {
            let handshake = parts(name, name, b"vt100").unwrap();
            assert_eq!(handshake.client_user.as_bytes(), name);
            assert_eq!(handshake.server_user.as_bytes(), name);
        }
    }

    #[test]
    fn limits_hold_to_the_byte_and_do_not_wait_for_the_end() {
        let name = vec![b'n'; MAX_NAME];
        let kind = vec![b't'; MAX_TERMINAL];
        let speed = vec![b'/'; MAX_SPEED];
        let longest = [b"\0", name.as_slice(), b"\0", &name, b"\0", &kind, &speed, b"\0"].concat();
        assert_eq!(longest.len(), MAX_HANDSHAKE);
        assert!(matches!(Decoder::new().push(&longest), Ok(Progress::Done { consumed: MAX_HANDSHAKE, .. })));

        let table: [(Vec<u8>, u8, Refusal); 4] = [
            ([b"\0", name.as_slice()].concat(), b'n', Refusal::ClientUser(NameFault::TooLong)),
            ([b"\0\0", name.as_slice()].concat(), b'n', Refusal::ServerUser(NameFault::TooLong)),
            ([b"\0\0\0", kind.as_slice()].concat(), b't', Refusal::TerminalTooLong),
            ([b"\0\0\0", speed.as_slice()].concat(), b'1', Refusal::SpeedTooLong),
        ];
        for (fits, one_more, refusal) in table {
            let mut decoder = Decoder::new();
            assert_eq!(decoder.push(&fits), Ok(Progress::More));
            assert_eq!(decoder.push(&[one_more]), Err(refusal));
        }
        let just_types = [kind.as_slice(), b"t/9600"].concat();
        assert_eq!(parts(b"", b"", &just_types).unwrap_err(), Refusal::TerminalTooLong);
    }

    #[test]
    fn other_protocols_are_refused_at_the_first_byte() {
        for first in 1..=u8::MAX {
            assert_eq!(Decoder::new().push(&[first]), Err(Refusal::NotRlogin));
        }
        assert_eq!(Decoder::new().push(b""), Ok(Progress::More));
    }

    #[test]
    fn names_do_not_show() {
        let handshake = parts(b"s3cret", b"bob", b"vt100").unwrap();
        let shown = format!("{handshake:?}");
        assert!(shown.contains("client_user: Name(6 bytes)"), "{shown}");
        // Neither as text nor as the numbers a `Vec<u8>` prints.
        assert!(!shown.contains("s3cret") && !shown.contains("115, 51"), "{shown}");
    }

    #[test]
    fn refusals_in_words() {
        let table = [
            (Refusal::NotRlogin, "Permission denied", "not the rlogin protocol: the first byte is not NUL"),
            (Refusal::ClientUser(NameFault::TooLong), "remuser too long", "client user too long"),
            (Refusal::ServerUser(NameFault::TooLong), "locuser too long", "server user too long"),
            (
                Refusal::ClientUser(NameFault::ControlCharacter),
                "Permission denied",
                "client user has a control character",
            ),
            (
                Refusal::ServerUser(NameFault::LeadingDash),
                "Permission denied",
                "server user starts with a dash",
            ),
            (Refusal::TerminalTooLong, "Terminal type too long", "terminal type too long"),
            (Refusal::SpeedTooLong, "Terminal type too long", "terminal speed too long"),
        ];
        for (refusal, message, reason) in table {
            assert_eq!(refusal.message(), message);
            assert_eq!(refusal.to_string(), reason);
        }
    }
}
