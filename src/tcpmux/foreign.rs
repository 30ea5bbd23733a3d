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
    fn services_of_an_inetd_conf() {
        let text = b"#tcpmux/+a stream\ntcpmux stream tcp nowait root internal\ntcpmux/+date\tstream tcp\n\
                     tcpmux/book stream tcp\r\n tcpmux/no\n\n*:tcpmux/x stream\nlogin stream tcp";
        let found = inetd_services(text);
        assert_eq!(found, [(3, "date".to_owned()), (4, "book".to_owned()), (7, "x".to_owned())]);
    }
}
