//! Our entry in somebody else's configuration file: a block of lines between two markers.
//!
//! Pure. Must never change a byte outside the block; taking out what was put in gives the old file again.

use std::fmt;
use std::ops::Range;

const BEGIN: &str = "# BEGIN rlogind tcpmux";
/// Behind [`BEGIN`] when the line before had no line end until we added one, so that it can lose it again.
const ADDED_LINE_END: &str = " (the line above had no line end)";
const END: &str = "# END rlogind tcpmux";

/// Markers that do not make one block; nothing is changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    line: usize,
    what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}; mend that by hand first", self.line, self.what)
    }
}

/// Where the block stands.
struct Block {
    range: Range<usize>,
    added_line_end: bool,
}

/// The file with `entry`, whole lines, in its block: in the place of the old one, or at the end.
pub(super) fn put(content: &[u8], entry: &str) -> Result<Vec<u8>, Fault> {
    let mut new = Vec::new();
    let (rest, added_line_end) = match find(content)? {
        Some(block) => {
            new.extend_from_slice(&content[..block.range.start]);
            (&content[block.range.end..], block.added_line_end)
        }
        None => {
            new.extend_from_slice(content);
            let open = content.last().is_some_and(|&b| b != b'\n');
            if open {
                new.push(b'\n');
            }
            ([].as_slice(), open)
        }
    };
    let added = if added_line_end { ADDED_LINE_END } else { "" };
    new.extend_from_slice(format!("{BEGIN}{added}\n{entry}{END}\n").as_bytes());
    new.extend_from_slice(rest);
    Ok(new)
}

/// The file without its block.
pub(super) fn take_out(content: &[u8]) -> Result<Vec<u8>, Fault> {
    let Some(block) = find(content)? else { return Ok(content.to_vec()) };
    let (before, rest) = (&content[..block.range.start], &content[block.range.end..]);
    let before = match before.strip_suffix(b"\n") {
        // Only at the end of the file: two lines would become one elsewhere.
        Some(open) if block.added_line_end && rest.is_empty() => open,
        Some(_) | None => before,
    };
    Ok([before, rest].concat())
}

/// Whether there is a block at all.
pub(super) fn is_there(content: &[u8]) -> Result<bool, Fault> {
    find(content).map(|block| block.is_some())
}

fn find(content: &[u8]) -> Result<Option<Block>, Fault> {
    let (mut found, mut begun, mut at) = (None, None, 0);
    for (number, line) in (1..).zip(content.split_inclusive(|&b| b == b'\n')) {
        // An editor may have changed the line ends.
        let text = line.trim_ascii_end();
        let fault = |what| Err(Fault { line: number, what });
        match text.strip_prefix(BEGIN.as_bytes()) {
            Some(rest) if rest.is_empty() || rest == ADDED_LINE_END.as_bytes() => {
                if begun.is_some() || found.is_some() {
                    return fault("a second \"# BEGIN rlogind tcpmux\"");
                }
                begun = Some((at, !rest.is_empty(), number));
            }
            Some(_) | None if text == END.as_bytes() => {
                let Some((start, added_line_end, _)) = begun.take() else {
                    return fault("\"# END rlogind tcpmux\" without its beginning");
                };
                found = Some(Block { range: start..at + line.len(), added_line_end });
            }
            Some(_) | None => {}
        }
        at += line.len();
    }
    match begun {
        Some((_, _, line)) => Err(Fault { line, what: "\"# BEGIN rlogind tcpmux\" without its end" }),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "one\ntwo\n";

    #[test]
    fn what_is_put_in_can_be_taken_out() {
        let table: [&[u8]; 9] = [
            b"",
            b"\n",
            b"ftp stream tcp nowait root /usr/sbin/ftpd ftpd\n",
            b"no line end",
            b"a\r\nb\r\n",
            b"a\r\nb",
            b"\n\n\n",
            b"\xff\xfe not UTF-8 \0\n",
            b"# BEGIN rlogind tcpmuxer\n# END rlogind tcpmux?\n",
        ];
        for content in table {
            let new = put(content, ENTRY).unwrap();
            assert!(new.starts_with(content));
            assert!(new.ends_with(b"\none\ntwo\n# END rlogind tcpmux\n"));
            assert_eq!(put(&new, ENTRY).unwrap(), new, "not idempotent");
            assert_eq!(take_out(&new).unwrap(), content);
            // Through another entry as well.
            let other = put(&new, "three\n").unwrap();
            assert_ne!(other, new);
            assert_eq!(take_out(&other).unwrap(), content);
            assert_eq!(take_out(content).unwrap(), content);
        }
    }

    #[test]
    fn what_stands_around_the_block_stays() {
        let content = b"a\n# BEGIN rlogind tcpmux\nold\n# END rlogind tcpmux\nb";
        assert_eq!(
            put(content, "new\n").unwrap(),
            b"a\n# BEGIN rlogind tcpmux\nnew\n# END rlogind tcpmux\nb"
        );
        assert_eq!(take_out(content).unwrap(), b"a\nb");
        // A line was added behind the block: the line end we added has become needed.
        let open = [put(b"a", ENTRY).unwrap().as_slice(), b"b\n"].concat();
        assert_eq!(take_out(&open).unwrap(), b"a\nb\n");
    }

    #[test]
    fn markers_are_found_behind_other_line_ends() {
        let content = b"a\r\n# BEGIN rlogind tcpmux\r\nold\r\n# END rlogind tcpmux\r\nb\r\n";
        assert_eq!(take_out(content).unwrap(), b"a\r\nb\r\n");
        assert_eq!(take_out(b"# BEGIN rlogind tcpmux\nx\n# END rlogind tcpmux").unwrap(), b"");
    }

    #[test]
    fn markers_that_make_no_block_are_a_fault() {
        let (begin, end) = ("# BEGIN rlogind tcpmux\n", "# END rlogind tcpmux\n");
        for (content, line) in [
            (format!("a\n{begin}b\n"), 2),
            (end.to_owned(), 1),
            (format!("{begin}{begin}{end}"), 2),
            (format!("{begin}{end}{begin}{end}"), 3),
            (format!("{begin}{end}{end}"), 3),
        ] {
            let faults = [put(content.as_bytes(), ENTRY), take_out(content.as_bytes())];
            for fault in faults {
                assert_eq!(fault.unwrap_err().line, line, "{content}");
            }
        }
    }
}
