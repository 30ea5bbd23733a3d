//! What a superserver's configuration has about TCPMUX that is not ours.
//!
//! Pure. Reads the files only as far as it takes to keep two entries from having one name.

/// A service in an xinetd file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    /// Started through TCPMUX.
    pub(super) multiplexed: bool,
    pub(super) disabled: bool,
}

/// The services of an xinetd file (xinetd.conf(5)).
pub(super) fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("service").filter(|name| name.starts_with(char::is_whitespace))
        {
            let name = name.trim().trim_end_matches('{').trim_end().to_owned();
            sections.push(Section { name, multiplexed: false, disabled: false });
            inside = true;
        } else if line == "}" {
            inside = false;
        } else if inside
            && let Some(section) = sections.last_mut()
            && let Some((key, values)) = line.split_once('=')
        {
            let has = |wanted: &str| values.split_whitespace().any(|v| v.eq_ignore_ascii_case(wanted));
            match key.trim() {
                "type" => section.multiplexed = has("TCPMUX") || has("TCPMUXPLUS"),
                "disable" => section.disabled = has("yes"),
                _ => {}
            }
        }
    }
    sections
}

/// The names of the TCPMUX services in an inetd.conf, with their lines from 1.
pub(super) fn inetd_services(content: &[u8]) -> Vec<(usize, String)> {
    let lines = (1..).zip(content.split(|&b| b == b'\n'));
    let service = |(number, line): (usize, &[u8])| {
        let line = String::from_utf8_lossy(line);
        // A line that begins with white space goes on with the one before.
        let first =
            if line.starts_with(char::is_whitespace) { "" } else { line.split_whitespace().next()? };
        // An address to listen on may stand before it.
        let first = first.rsplit(':').next()?;
        let name = first.strip_prefix("tcpmux/")?;
        Some((number, name.strip_prefix('+').unwrap_or(name).to_owned()))
    };
    lines.filter_map(service).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_an_xinetd_file() {
        let text = "# service no\nservice echo\n{\n\tdisable\t= yes\n\ttype\t\t= INTERNAL\n}\n\n\
                    service\tdate {\n type = TCPMUXPLUS UNLISTED\n disable = no\n}\n\
                    defaults\n{\n disable = yes\n}\nservices = x\n";
        let section =
            |name: &str, multiplexed, disabled| Section { name: name.to_owned(), multiplexed, disabled };
        assert_eq!(sections(text), [section("echo", false, true), section("date", true, false)]);
    }

    #[test]
    fn services_of_an_inetd_conf() {
        let text = b"#tcpmux/+a stream\ntcpmux stream tcp nowait root internal\ntcpmux/+date\tstream tcp\n\
                     tcpmux/book stream tcp\r\n tcpmux/no\n\n*:tcpmux/x stream\nlogin stream tcp";
        let found = inetd_services(text);
        assert_eq!(found, [(3, "date".to_owned()), (4, "book".to_owned()), (7, "x".to_owned())]);
    }
}
