//! hosts.equiv and .rhosts: any bytes are entries, in the order of their lines; a
//! comment in front moves them by a line and changes nothing else.

use rlogind::trust::rules::entries;

pub(crate) fn check(file: &[u8]) {
    let plain: Vec<String> =
        entries(file).map(|entry| format!("{:?} {:?}", entry.host, entry.user)).collect();
    let lines: Vec<_> = entries(file).map(|entry| entry.line).collect();
    assert!(lines.is_sorted_by(|one, next| one < next));
    let commented = [b"# a comment\n", file].concat();
    // A byte-order mark counts at the start of a file only.
    if !file.starts_with(b"\xef\xbb\xbf") {
        let moved: Vec<String> =
            entries(&commented).map(|entry| format!("{:?} {:?}", entry.host, entry.user)).collect();
        assert_eq!(plain, moved);
    }
}
