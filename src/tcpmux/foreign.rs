//! What a superserver's configuration has that is not ours.
//!
//! Pure. Reads the files only as far as it takes to keep two entries from having one name,
//! or one port.

use std::net::IpAddr;

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
            // "=", "+=" or "-=". What is taken away counts as still there: xinetd does not take that of a type.
            let key = key.trim();
            let takes_away = key.ends_with('-');
            match key.trim_end_matches(['+', '-']).trim_end() {
                _ if takes_away => {}
                "type" => section.multiplexed |= has("TCPMUX") || has("TCPMUXPLUS"),
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
    let text = String::from_utf8_lossy(content);
    let (number, why) = first_fault(&text)?;
    let hint = if is_xinetd(&text) {
        "; it is a file of xinetd's, whose directory goes with --xinetd-dir"
    } else {
        ""
    };
    Some(format!(
        "line {number} is no line of an inetd.conf (SERVICE stream tcp nowait USER PROGRAM): {why}{hint}"
    ))
}

/// The first line that is wrong, and why.
fn first_fault(text: &str) -> Option<(usize, String)> {
    let mut entries: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut after_entry = false;
    let mut address = None;
    for (number, line) in (1..).zip(text.split('\n')) {
        // Line ends may be those of another system.
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Some((number, "it has a control character".to_owned()));
        }
        if number == 1 && line.starts_with("#!") {
            return Some((number, "it starts a script".to_owned()));
        }
        let mut words = line.split_whitespace().peekable();
        match words.peek() {
            None => {}
            Some(first) if first.starts_with('#') => {}
            // A line that begins with white space goes on with the one before.
            Some(_) if line.starts_with(char::is_whitespace) => match entries.last_mut() {
                Some((_, entry)) if after_entry => {
                    entry.extend(words);
                    continue;
                }
                Some(_) | None => return Some((number, "it goes on with no entry".to_owned())),
            },
            Some(first) if is_address_line(first) && line.split_whitespace().nth(1).is_none() => {
                address = address.or(Some(number));
            }
            Some(_) => {
                entries.push((number, words.collect()));
                after_entry = true;
                continue;
            }
        }
        after_entry = false;
    }
    let fault = entries.iter().find_map(|(number, words)| Some((*number, entry_fault(words)?)));
    let lonely = address.filter(|_| entries.is_empty());
    fault.or_else(|| Some((lonely?, "it has an address, and the file has no entry for it".to_owned())))
}

/// The address for the lines below it: `ADDRESS[,ADDRESS...]:`.
fn is_address_line(word: &str) -> bool {
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
    };
    let is_address = |text: &str| {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        text == "*" || bare.parse::<IpAddr>().is_ok() || is_name(text)
    };
    word.strip_suffix(':').is_some_and(|addresses| addresses.split(',').all(is_address))
}

/// What keeps these words from being an entry. Generous to all inetds: of GNU, OpenBSD, NetBSD and FreeBSD.
fn entry_fault(words: &[&str]) -> Option<String> {
    let [_, kind, protocol, wait, user, program, ..] = words else {
        return Some("it has less than these six words".to_owned());
    };
    let wrong = |word: &str, what: &str| Some(format!("\"{}\" is no {what}", word.escape_debug()));
    // Behind the type there may be sizes of buffers or a filter, behind the protocol sizes and options.
    let kind_name = kind.split([',', ':']).next().unwrap_or_default();
    if !["stream", "dgram", "raw", "rdm", "seqpacket"].contains(&kind_name) {
        return wrong(kind, "socket type");
    }
    let transport = protocol.strip_prefix("rpc/").unwrap_or(protocol);
    let transport = transport.split([',', '/']).next().unwrap_or_default();
    let family = transport.strip_prefix("tcp").or_else(|| transport.strip_prefix("udp"));
    let is_internet = family.is_some_and(|family| ["", "4", "6", "46"].contains(&family));
    if !is_internet && !["unix", "local", "sctp"].contains(&transport) {
        return wrong(protocol, "protocol");
    }
    // Behind it there may be how many are started in a minute, or at once.
    let rate = wait.strip_prefix("no").unwrap_or(wait).strip_prefix("wait");
    let is_rate = |rate: &str| {
        rate.is_empty()
            || (rate.starts_with(['.', '/', ':'])
                && rate[1..]
                    .split(['.', '/', ':'])
                    .all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())))
    };
    if !rate.is_some_and(is_rate) {
        return wrong(wait, "\"wait\" or \"nowait\"");
    }
    if !user.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return wrong(user, "user");
    }
    if !program.starts_with('/') && *program != "internal" {
        return wrong(program, "program: neither an absolute path nor \"internal\"");
    }
    None
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

/// The directories that an xinetd.conf has xinetd read (xinetd.conf(5), "includedir").
pub(super) fn included(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "includedir").and(words.next())
    })
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
    fn inetd_confs_of_all_kinds_are_known() {
        for text in [
            "",
            "# only comments\n\n\t\n  # another\n#no line end",
            "# caf\u{e9}\r\n\r\ntime stream tcp nowait root internal\r\n",
            "*:\ntcpmux stream tcp nowait root internal",
            "127.0.0.1,::1:\nlocalhost,mail-1.example.org:\n[::1]:\n*:\na stream tcp nowait root /a a",
            "a stream,rcvbuf=1 tcp,sndbuf=16k nowait\n root /usr/sbin/a a\n\t-x\n# x\nb dgram udp wait b /b\n",
            // GNU's and Debian's.
            "tcpmux/+date stream tcp nowait nobody /bin/date date\ntcpmux/x stream tcp6 nowait root /x x",
            "ident\tstream\ttcp\twait\tidentd\t/usr/sbin/identd\tidentd",
            "swat stream tcp nowait.400 root /usr/sbin/tcpd /usr/sbin/swat",
            "10.0.0.1:login stream tcp4 nowait root /a\n[::1]:login stream tcp6 nowait root /a",
            "rstatd/1-5 dgram rpc/udp wait nobody.tty /usr/sbin/rpc.rstatd rpc.rstatd",
            // OpenBSD's, NetBSD's and FreeBSD's.
            "http stream:httpready tcp nowait:600 _httpd /usr/libexec/httpd httpd",
            "rusersd/2-3 dgram rpc/udp6 wait nobody:tty /usr/libexec/rpc.rusersd -",
            "login stream tcp46 nowait/10/5/2 root:wheel/daemon /usr/libexec/rlogind rlogind",
            "finger stream tcp6/faith nowait/3 nobody /usr/libexec/fingerd fingerd -k",
            "/var/run/echo stream unix nowait root internal",
            "auth stream tcp nowait root internal auth -r -f -n",
            "tftp dgram udp46 wait root /x x\nt dgram udp4 wait root /x\nt dgram udp6 wait root /x",
        ] {
            assert_eq!(inetd_fault(text.as_bytes()), None, "{text}");
        }
        assert_eq!(inetd_fault(b"# \xe4\xff not UTF-8\n"), None);
    }

    #[test]
    fn what_is_no_inetd_conf_is_told_by_its_line() {
        let lines = ["root:x:0:\nadm:x:4:syslog\n", "root:x:0:\ndaemon:x:1:\n", "root:*::\ndaemon:*::\n"];
        let yaml =
            ["version:\nservices:\n", "all:\n  hosts:\n", "  a:\n", "a stream tcp nowait root /a\n\n  b\n"];
        for (text, line) in [
            (lines[0], 1),
            (lines[1], 1),
            (lines[2], 1),
            (yaml[0], 1),
            (yaml[1], 2),
            (yaml[2], 1),
            (yaml[3], 3),
            ("# x\nroot:x:0:0:root:/root:/bin/sh\n", 2),
            ("[limits]\nsessions = 7\n", 1),
            ("sessions = 7\n", 1),
            ("login 513/tcp\n", 1),
            ("\n\n127.0.0.1 localhost\n", 3),
            ("service echo\n{\n}\n", 1),
            ("#!/bin/sh\n", 1),
            ("\x7fELF\x02\x01\x01\0\0\0", 1),
            ("# \u{1}\n\n", 1),
            ("# x\n# \0\n", 2),
            ("# \u{1b}[2J\n", 1),
            ("# \u{9b}2J\n", 1),
            ("a\rb stream tcp nowait root /a\n", 1),
            ("a stream tcp nowait root /a\n \0", 2),
            ("video stream file.mp4\n", 1),
            ("login stream tcp\n", 1),
            ("login stream tcp nowait root\n", 1),
            ("login stream xyz nowait root /x\n", 1),
            ("login stream tcp5 nowait root /x\n", 1),
            ("login stream rpc/xyz nowait root /x\n", 1),
            ("login flow tcp nowait root /x\n", 1),
            ("login stream tcp now root /x\n", 1),
            ("login stream tcp nowait. root /x\n", 1),
            ("login stream tcp nowait.many root /x\n", 1),
            ("login stream tcp nowait -r /x\n", 1),
            ("login stream tcp nowait root x\n", 1),
            ("a stream tcp nowait root /a\nkey_name:\n", 2),
            ("a stream tcp nowait root /a\n*,:\n", 2),
        ] {
            let fault = inetd_fault(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert!(
                fault.starts_with(&format!("line {line} is no line of an inetd.conf")),
                "{text}: {fault}"
            );
            assert_eq!(fault.ends_with("--xinetd-dir"), text.starts_with("service"), "{fault}");
            assert!(!fault.contains(char::is_control), "{fault:?}");
        }
    }

    #[test]
    fn a_type_is_seen_however_it_is_set() {
        for (attributes, multiplexed) in [
            ("type = TCPMUX", true),
            ("type += TCPMUX", true),
            ("type+=UNLISTED TCPMUXPLUS", true),
            ("type = UNLISTED\ntype += TCPMUX", true),
            ("type = TCPMUX\ntype += UNLISTED", true),
            // xinetd does not let a type be taken away.
            ("type = TCPMUX\ntype -= TCPMUX", true),
            ("type += UNLISTED", false),
            ("type -= TCPMUX", false),
            ("types = TCPMUX", false),
        ] {
            let found = sections(&format!("service a\n{{\n{attributes}\n}}\n"));
            assert_eq!(found[0].multiplexed, multiplexed, "{attributes}");
        }
    }

    #[test]
    fn included_directories() {
        let text = "defaults\n{\n}\n#includedir /no\n\tincludedir  /etc/xinetd.d \nincludedir\ninclude /x\n";
        assert_eq!(included(text).collect::<Vec<_>>(), ["/etc/xinetd.d"]);
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
