//! Asks whoever is on the TCPMUX port for the names of the services (RFC 1078).
//!
//! Must never wait longer, or keep more, than the limits below: the other side can be anything.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For the connection and the whole answer, each.
const PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_ANSWER: usize = 4096;

/// The answer to `HELP`, in one line for people; the error says why there is none.
pub(super) fn ask(port: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&port, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"HELP\r\n")?;
    let answer = read(&mut stream, Instant::now() + PATIENCE);
    Ok(describe(&answer))
}

fn read(stream: &mut TcpStream, deadline: Instant) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while answer.len() < LONGEST_ANSWER {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            break;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What came is the answer: a reset behind it is nothing unusual.
            Err(_) => break,
        }
    }
    answer
}

fn describe(answer: &[u8]) -> String {
    if answer.is_empty() {
        return "connects, but says nothing".to_owned();
    }
    let text = String::from_utf8_lossy(answer);
    let mut lines = text.lines().map(|line| line.trim().escape_debug().to_string());
    if text.starts_with(['-', '+']) {
        return format!("answers, but tells no names: {}", lines.next().unwrap_or_default());
    }
    format!("answers, and offers {}", lines.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn ask_server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 6];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"HELP\r\n");
            let _ = stream.write_all(answer);
        });
        let text = ask(port).unwrap();
        server.join().unwrap();
        text
    }

    #[test]
    fn answers() {
        assert_eq!(ask_server(b"login\r\nrlogin\r\n"), "answers, and offers login, rlogin");
        assert_eq!(
            ask_server(b"-Service not available\r\n"),
            "answers, but tells no names: -Service not available"
        );
        assert_eq!(ask_server(b""), "connects, but says nothing");
        assert_eq!(ask_server(b"\x1b[2J\r\n"), "answers, and offers \\u{1b}[2J");
        let endless: &[u8] = &[b'x'; 3 * LONGEST_ANSWER];
        assert!(ask_server(endless).len() < 2 * LONGEST_ANSWER);
    }

    #[test]
    fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(ask(port).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
