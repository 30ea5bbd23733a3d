//! What a change of a file would be, as diff(1) shows it with `-u`.
//!
//! Pure. For one change in one place, which is all that a block of ours ever is.

/// Lines shown around the change.
const CONTEXT: usize = 3;

/// The difference; empty when there is none.
pub(super) fn unified(name: &str, old: &[u8], new: &[u8]) -> String {
    if old == new {
        return String::new();
    }
    let (old, new): (Vec<_>, Vec<_>) = (lines(old).collect(), lines(new).collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old[same..].iter().rev().zip(new[same..].iter().rev());
    let same_behind = rest.take_while(|(a, b)| a == b).count();
    let start = same.saturating_sub(CONTEXT);
    let (old_end, new_end) = (old.len() - same_behind, new.len() - same_behind);
    let behind = same_behind.min(CONTEXT);
    let span = |end: usize| {
        let count = end + behind - start;
        // Of no lines at all, the number is that of the line before.
        format!("{},{count}", if count == 0 { start } else { start + 1 })
    };
    let mut text = format!("--- {name}\n+++ {name}\n@@ -{} +{} @@\n", span(old_end), span(new_end));
    let parts = [
        (' ', &old[start..same]),
        ('-', &old[same..old_end]),
        ('+', &new[same..new_end]),
        (' ', &old[old_end..old_end + behind]),
    ];
    for (sign, lines) in parts {
        lines.iter().for_each(|line| text.push_str(&shown(sign, line)));
    }
    text
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split_inclusive(|&b| b == b'\n')
}

fn shown(sign: char, line: &[u8]) -> String {
    let (line, end) = match line.strip_suffix(b"\n") {
        Some(line) => (line, "\n"),
        None => (line, "\n\\ No newline at end of file\n"),
    };
    let escape = |c: char| {
        if c.is_control() && c != '\t' { c.escape_default().to_string() } else { c.to_string() }
    };
    let text: String = String::from_utf8_lossy(line).chars().map(escape).collect();
    format!("{sign}{text}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_diff_shows_it() {
        let table = [
            ("a\n", "a\n", ""),
            ("", "x\n", "@@ -0,0 +1,1 @@\n+x\n"),
            ("x\n", "", "@@ -1,1 +0,0 @@\n-x\n"),
            ("1\n2\n3\n4\n", "1\n2\n3\n4\nx\n", "@@ -2,3 +2,4 @@\n 2\n 3\n 4\n+x\n"),
            (
                "1\n2\n3\n4\nx\n5\n6\n7\n8\n",
                "1\n2\n3\n4\ny\nz\n5\n6\n7\n8\n",
                "@@ -2,7 +2,8 @@\n 2\n 3\n 4\n-x\n+y\n+z\n 5\n 6\n 7\n",
            ),
            ("a", "a\nb\n", "@@ -1,1 +1,2 @@\n-a\n\\ No newline at end of file\n+a\n+b\n"),
            ("a\r\n", "a\r\n\x1b\tb\n", "@@ -1,1 +1,2 @@\n a\\r\n+\\u{1b}\tb\n"),
            ("x\nx\n", "x\nx\nx\n", "@@ -1,2 +1,3 @@\n x\n x\n+x\n"),
        ];
        for (old, new, hunk) in table {
            let expected = if hunk.is_empty() { String::new() } else { format!("--- f\n+++ f\n{hunk}") };
            assert_eq!(unified("f", old.as_bytes(), new.as_bytes()), expected);
        }
    }
}
