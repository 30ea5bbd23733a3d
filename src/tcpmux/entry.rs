//! What is written into a superserver's configuration, in its own language.
//!
//! Pure. Must never write a word that the superserver reads as more than that word.

use std::path::Path;

/// How rlogind is to be started, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    program: String,
    config: Option<String>,
    services: Vec<String>,
}

impl Entry {
    /// `program` is the absolute path of rlogind, `config` that of a configuration file other than the default one,
    /// `services` are names as [`crate::config::Tcpmux::services`] has them.
    ///
    /// # Errors
    /// Says which path cannot stand in a superserver's configuration.
    pub fn new(program: &Path, config: Option<&Path>, services: &[String]) -> Result<Self, String> {
        Ok(Self {
            program: word(program)?,
            config: config.map(word).transpose()?,
            services: services.to_vec(),
        })
    }

    /// The names.
    #[must_use]
    pub fn services(&self) -> &[String] {
        &self.services
    }

    /// Lines of inetd.conf. With the `+` inetd itself gives the positive answer, and rlogind need not.
    pub(super) fn inetd(&self) -> String {
        let arguments = self.arguments("");
        let line =
            |name: &String| format!("tcpmux/+{name} stream tcp nowait root {} {arguments}\n", self.program);
        self.services.iter().map(line).collect()
    }

    /// Sections of an xinetd file. rlogind gives the positive answer: xinetd's own (TCPMUXPLUS) has a NUL
    /// behind it, which an rlogin client takes for the login's success.
    ///
    /// `multiplexer`: xinetd's own service on port 1 is to be switched on as well.
    pub(super) fn xinetd(&self, multiplexer: bool) -> String {
        let mut text = String::new();
        if multiplexer {
            text.push_str(&section("tcpmux", "id = rlogind-tcpmux\ntype = INTERNAL"));
        }
        // NAMEINARGS: the name a program is started under can mean something to it.
        let server = format!(
            "flags = NAMEINARGS\nserver = {}\nserver_args = {}",
            self.program,
            self.arguments(" --tcpmux-reply")
        );
        for name in &self.services {
            // UNLISTED whatever /etc/services has: xinetd insists on it here.
            let head = format!("id = rlogind-tcpmux-{name}\ntype = TCPMUX UNLISTED\n{server}");
            text.push_str(&section(name, &head));
        }
        text
    }

    fn arguments(&self, reply: &str) -> String {
        let config = self.config.as_ref().map(|path| format!(" --config {path}")).unwrap_or_default();
        format!("rlogind inetd{reply}{config}")
    }
}

fn section(name: &str, attributes: &str) -> String {
    let common = "socket_type = stream\nprotocol = tcp\nwait = no\nuser = root\ndisable = no";
    let lines = attributes.lines().chain(common.lines());
    let lines: String = lines.map(|line| format!("\t{line}\n")).collect();
    format!("service {name}\n{{\n{lines}}}\n")
}

/// A path that is one word in any of these files, whatever the superserver makes of quotes and other signs.
fn word(path: &Path) -> Result<String, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@=~".contains(c);
    match path.to_str() {
        Some(text) if path.is_absolute() && text.chars().all(harmless) => Ok(text.to_owned()),
        Some(_) | None => Err(format!(
            "{path:?} cannot stand in a superserver's configuration: not absolute, or with signs other than \
             letters, digits and / . _ - + , : @ = ~"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(config: Option<&str>) -> Entry {
        let services = ["login", "rlogin"].map(str::to_owned);
        Entry::new(Path::new("/usr/sbin/rlogind"), config.map(Path::new), &services).unwrap()
    }

    #[test]
    fn inetd_answers_for_us() {
        assert_eq!(
            entry(None).inetd(),
            "tcpmux/+login stream tcp nowait root /usr/sbin/rlogind rlogind inetd\n\
             tcpmux/+rlogin stream tcp nowait root /usr/sbin/rlogind rlogind inetd\n"
        );
        assert!(entry(Some("/c.toml")).inetd().ends_with(" rlogind inetd --config /c.toml\n"));
    }

    #[test]
    fn xinetd_leaves_the_answer_to_us() {
        let text = entry(Some("/c.toml")).xinetd(false);
        assert!(!text.contains("TCPMUXPLUS") && !text.contains("service tcpmux"));
        assert_eq!(text.matches("\ttype = TCPMUX UNLISTED\n").count(), 2);
        let arguments = "\tserver_args = rlogind inetd --tcpmux-reply --config /c.toml\n";
        assert_eq!(text.matches(arguments).count(), 2);
        assert!(
            entry(None)
                .xinetd(true)
                .starts_with("service tcpmux\n{\n\tid = rlogind-tcpmux\n\ttype = INTERNAL\n")
        );
    }

    #[test]
    fn a_path_that_is_no_word_is_refused() {
        for path in
            ["rlogind", "/a b", "/a\tb", "/a#b", "/a\"b", "/a'b", "/a\\b", "/a\nb", "/b (deleted)", "/ä", ""]
        {
            assert!(Entry::new(Path::new(path), None, &[]).is_err(), "{path}");
            assert!(Entry::new(Path::new("/r"), Some(Path::new(path)), &[]).is_err(), "{path}");
        }
    }
}
