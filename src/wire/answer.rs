//! What the server says to the handshake: one zero byte, or a refusal in words.
//!
//! Must never put a control character of somebody else's making on the client's terminal.

/// The login goes on. It has to be a write of its own with nothing before it: some clients look
/// at the first read alone, and take anything else for a refusal.
///
/// RFC 1282, "Connection Establishment".
pub const SUCCESS: u8 = 0;

/// First byte of a refusal. BSD clients take any byte but zero here, drop it, and show the text behind it.
const FAILURE: u8 = 1;

/// The bytes that tell the client why it is sent away: `rlogind: <message>.` and a new line.
///
/// With `before_success` the text stands in the place of the zero byte and begins with a byte that
/// is not zero; afterwards it is ordinary output, so that byte is left out, or it would show.
/// Control characters in `message` become `?`, and a full stop at its end is not doubled.
pub fn refusal(message: &str, before_success: bool) -> Vec<u8> {
    let message = message.strip_suffix('.').unwrap_or(message);
    let text: String = message.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let mut bytes = Vec::new();
    if before_success {
        bytes.push(FAILURE);
    }
    bytes.extend_from_slice(format!("rlogind: {text}.\r\n").as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_clients_know() {
        assert_eq!(refusal("Permission denied", true), b"\x01rlogind: Permission denied.\r\n");
        assert_eq!(refusal("Permission denied", false), b"rlogind: Permission denied.\r\n");
    }

    #[test]
    fn a_full_stop_is_not_doubled() {
        assert_eq!(refusal("Try again.", false), b"rlogind: Try again.\r\n");
        assert_eq!(refusal("Wait...", false), b"rlogind: Wait...\r\n");
        assert_eq!(refusal("", false), b"rlogind: .\r\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(
            refusal("a\x1b[2Jb\r\nc\u{9b}d\x7fe\0", true),
            b"\x01rlogind: a?[2Jb??c?d?e?.\r\n".as_slice()
        );
        assert_eq!(refusal("Zugriff für Gäste", false), "rlogind: Zugriff für Gäste.\r\n".as_bytes());
    }
}
