//! What a superserver's configuration has that is not ours.
//!
//! Pure. Reads the files only as far as it takes to keep two entries from having one name,
//! or one port.

/// A service in an xinetd file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Started through TCPMUX.
    pub multiplexed: bool,
    /// Switched off.
    pub disabled: bool,
    /// The port, where that does not follow from the name.
    pub port: Option<String>,
    /// The program, and its arguments.
    pub server: Vec<String>,
}

/// A service in an inetd.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number of the line, from 1.
    pub number: usize,
    /// Its name, or its port.
    pub service: String,
    /// The program, and its arguments.
    pub server: Vec<String>,
}

/// The services of an inetd.conf (inetd.conf(5)), but for those of TCPMUX.
#[must_use]
pub fn inetd_lines(text: &str) -> Vec<Line> {
    let line = |(number, line): (usize, &str)| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let first = words.next().filter(|first| !first.starts_with('#') && !first.contains('/'))?;
        // An address to listen on may stand before it.
        let service = first.rsplit(':').next()?.to_owned();
        // Behind it: type of socket, protocol, wait or nowait, user, program.
        Some(Line { number, service, server: words.skip(4).collect() })
    };
    (1..).zip(text.lines()).filter_map(line).filter(|line| !line.server.is_empty()).collect()
}

/// The services of an xinetd file (xinetd.conf(5)).
#[must_use]
pub fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("service").filter(|name| name.starts_with(char::is_whitespace))
        {
            let name = name.trim().trim_end_matches('{').trim_end().to_owned();
            sections.push(Section { name, ..Section::default() });
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
                "port" => section.port = Some(values.trim().to_owned()),
                "server" | "server_args" => {
                    section.server.extend(values.split_whitespace().map(str::to_owned));
                }
                _ => {}
            }
        }
    }
    sections
}

/// What keeps a file from being an inetd.conf (inetd.conf(5)), with the number of its line.
pub(super) fn inetd_fault(content: &[u8]) -> Option<String> {
    const TYPES: [&str; 5] = ["stream", "dgram", "raw", "rdm", "seqpacket"];
    let mut after_entry = false;
    let mut is_fine = |number: usize, line: &str| {
        if number == 1 && line.starts_with("#!") {
            return false;
        }
        if line.trim().is_empty() || line.starts_with('#') {
            return true;
        }
        // A line that begins with white space goes on with the one before.
        if line.starts_with(char::is_whitespace) {
            return after_entry && !line.contains('\0');
        }
        after_entry = true;
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            // The address for the lines below.
            (Some(address), None) => address.ends_with(':') && !address.contains('\0'),
            // Behind the type there may be sizes of buffers.
            (_, Some(kind)) => TYPES.contains(&kind.split([',', ':']).next().unwrap_or_default()),
            (None, None) => true,
        }
    };
    let mut lines = (1..).zip(content.split(|&b| b == b'\n'));
    let (number, _) = lines.find(|(number, line)| !is_fine(*number, &String::from_utf8_lossy(line)))?;
    let hint = if is_xinetd(&String::from_utf8_lossy(content)) {
        "; it is a file of xinetd's, whose directory goes with --xinetd-dir"
    } else {
        ""
    };
    Some(format!("line {number} is no line of an inetd.conf (SERVICE stream tcp nowait USER PROGRAM){hint}"))
}

/// Whether there is a section of xinetd's in it: a service, or the defaults (xinetd.conf(5)).
pub(super) fn is_xinetd(text: &str) -> bool {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<&str> = lines.collect();
    let begins = |line: &str| {
        let name = line.trim_end_matches('{').trim_end();
        name == "defaults"
            || name.strip_prefix("service").is_some_and(|rest| rest.split_whitespace().count() == 1)
    };
    let opens = |next: Option<&&str>| next.is_some_and(|line| line.starts_with('{'));
    (1..).zip(&lines).any(|(next, line)| begins(line) && (line.ends_with('{') || opens(lines.get(next))))
}

/// Whether there is nothing in it but comments.
pub(super) fn is_blank(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
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
        let section = |name: &str, multiplexed, disabled| Section {
            name: name.to_owned(),
            multiplexed,
            disabled,
            ..Section::default()
        };
        assert_eq!(sections(text), [section("echo", false, true), section("date", true, false)]);
        let text = "service rl\n{\n\ttype = UNLISTED\n\tport = 513\n\tserver = /usr/sbin/tcpd\n\t\
                    server_args = /usr/sbin/in.rlogind -a\n}\n";
        let [section] = &sections(text)[..] else { panic!("{text}") };
        assert_eq!(section.port.as_deref(), Some("513"));
        assert_eq!(section.server, ["/usr/sbin/tcpd", "/usr/sbin/in.rlogind", "-a"]);
    }

    #[test]
    fn lines_of_an_inetd_conf_less_those_of_tcpmux() {
        let text = "#login stream tcp nowait root /a a\ntcpmux/login stream tcp nowait root /b b\n\
                    login\tstream  tcp nowait root /usr/sbin/tcpd /usr/sbin/in.rlogind -a\n\n\
                    10.0.0.1:513 stream tcp nowait root /c\necho stream tcp nowait root\n";
        let line = |number, service: &str, server: &[&str]| Line {
            number,
            service: service.to_owned(),
            server: server.iter().map(|word| (*word).to_owned()).collect(),
        };
        assert_eq!(
            inetd_lines(text),
            [line(3, "login", &["/usr/sbin/tcpd", "/usr/sbin/in.rlogind", "-a"]), line(5, "513", &["/c"])]
        );
    }

    #[test]
    fn what_is_no_inetd_conf_is_told_by_its_line() {
        for text in [
            "",
            "# \u{1}\0\n\n",
            "*:\ntcpmux stream tcp nowait root internal",
            "a stream,rcvbuf=1 tcp\n more",
        ] {
            assert_eq!(inetd_fault(text.as_bytes()), None, "{text}");
        }
        for (text, line) in [
            ("# x\nroot:x:0:0:root:/root:/bin/sh\n", 2),
            ("[limits]\nsessions = 7\n", 1),
            ("sessions = 7\n", 1),
            ("login 513/tcp\n", 1),
            ("\n\n127.0.0.1 localhost\n", 3),
            ("service echo\n{\n}\n", 1),
            ("\x7fELF\x02\x01\x01\0\0\0", 1),
            ("a stream tcp\n \0", 2),
        ] {
            let fault = inetd_fault(text.as_bytes()).unwrap();
            assert!(
                fault.starts_with(&format!("line {line} is no line of an inetd.conf")),
                "{text}: {fault}"
            );
            assert_eq!(fault.ends_with("--xinetd-dir"), text.starts_with("service"), "{fault}");
        }
    }

    #[test]
    fn what_is_of_xinetd_is_known_by_a_section() {
        for text in ["service a\n{\n}\n", "# x\nservice a {\n", "defaults\n\n# y\n{\n", "x\nservice\ta\n {\n"]
        {
            assert!(is_xinetd(text), "{text}");
        }
        for text in
            ["", "# service a\n{\n", "service a\nservice b", "services x {", "auth required pam_unix.so\n"]
        {
            assert!(!is_xinetd(text), "{text}");
        }
    }

    #[test]
    fn services_of_an_inetd_conf() {
        let text = b"#tcpmux/+a stream\ntcpmux stream tcp nowait root internal\ntcpmux/+date\tstream tcp\n\
                     tcpmux/book stream tcp\r\n tcpmux/no\n\n*:tcpmux/x stream\nlogin stream tcp";
        let found = inetd_services(text);
        assert_eq!(found, [(3, "date".to_owned()), (4, "book".to_owned()), (7, "x".to_owned())]);
    }
}
