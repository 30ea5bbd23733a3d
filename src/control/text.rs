//! Numbers, times and strings from outside as people read them.

use std::fmt::Write;

use time::{OffsetDateTime, UtcOffset};

use crate::audit::is_visible;

/// Stands where something was cut, as ps(1) has it.
const CUT: char = '+';

/// The text with everything made visible that a terminal would act on, or not show.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            c if is_visible(c) => out.push(c),
            '\0'..='\x1f' => out.extend(['^', char::from(b'@' + u8::try_from(c).unwrap_or(0))]),
            '\x7f' => out.push_str("^?"),
            // Writing to a String cannot fail.
            c => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
        }
    }
    out
}

/// At most so many characters of it, with a sign where it was cut.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain([CUT]).collect()
}

/// At most four characters wide, up to the petabytes: `0`, `999`, `1.5K`, `23K`, `4.0M`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    let mut tenths = u128::from(count) * 10;
    let mut unit = 0;
    while tenths >= 9995 && unit + 1 < UNITS.len() {
        tenths = tenths.div_ceil(1024);
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("");
    if unit == 0 || tenths >= 100 {
        return format!("{}{name}", (tenths + 5) / 10);
    }
    format!("{}.{}{name}", tenths / 10, tenths % 10)
}

/// The two largest units: `7s`, `3m`, `2h05m`, `4d03h`.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m"),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// `Nov 21 11:02`, in the time zone that is so far from UTC.
pub(super) fn moment(since: i64, offset: UtcOffset) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(since) else { return "-".to_owned() };
    let time = time.to_offset(offset);
    let month = time.month().to_string();
    format!("{:.3} {:>2} {:02}:{:02}", month, time.day(), time.hour(), time.minute())
}

/// How far this machine's time is from UTC now.
pub(super) fn offset() -> UtcOffset {
    UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_acts_on() {
        for (text, want) in [
            ("it's \"quoted\" \\o/ Ärger", "it's \"quoted\" \\o/ Ärger"),
            ("\x1b[2J\r\n\t\0\x7f", "^[[2J^M^J^I^@^?"),
            ("\u{9b}\u{202e}", "\\u{9b}\\u{202e}"),
        ] {
            assert_eq!(visible(text), want);
        }
    }

    #[test]
    fn numbers_are_short() {
        for (count, want) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0K"),
            (1024, "1.0K"),
            (1536, "1.5K"),
            (23 * 1024, "23K"),
            (999 * 1024, "999K"),
            (1000 * 1024, "1.0M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(bytes(count), want, "{count}");
        }
        for count in (0..64).map(|bits| (1_u64 << bits) - 1) {
            assert!(bytes(count).len() <= 4, "{}", bytes(count));
        }
        for (seconds, want) in [(0, "0s"), (59, "59s"), (60, "1m"), (7500, "2h05m"), (100 * 3600, "4d04h")] {
            assert_eq!(duration(seconds), want);
        }
    }

    #[test]
    fn moments_are_local() {
        assert_eq!(moment(0, UtcOffset::UTC), "Jan  1 00:00");
        assert_eq!(moment(1_795_258_922, UtcOffset::from_hms(2, 0, 0).unwrap()), "Nov 21 13:02");
        assert_eq!(moment(i64::MAX, UtcOffset::UTC), "-");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("alice", 5), "alice");
        assert_eq!(cut("alice", 4), "ali+");
        assert_eq!(cut("Ärger", 2), "Ä+");
    }
}
