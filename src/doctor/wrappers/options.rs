//! The options behind a line's clients, hosts_options(5): whether the line grants in the end. Pure.
//!
//! A mistake in them makes tcpd refuse the line's clients, whatever the other options say.

use super::table::{Effect, Lost};

/// What `severity` knows, in libwrap's own table; it has no others of syslog(3).
const FACILITIES: [&str; 17] = [
    "auth", "cron", "daemon", "kern", "lpr", "mail", "news", "user", "uucp", "local0", "local1", "local2",
    "local3", "local4", "local5", "local6", "local7",
];
const LEVELS: [&str; 8] = ["alert", "crit", "debug", "emerg", "err", "info", "notice", "warning"];

/// What one option does.
enum Does {
    /// Ends the line.
    Decides(bool),
    /// Ends the line with a program in the place of the server.
    Twists,
    /// Something that is not done any more.
    Acts(&'static str),
    /// The clients may be refused because of it: nobody knows here.
    MayRefuse(&'static str),
}

/// Whether a line with these options grants, when without them it would or would not. What is not said by that goes
/// to `lost`.
pub(super) fn verdict(options: &str, grants: bool, lost: &mut Vec<Lost>) -> bool {
    let fields = fields(options);
    let (mut grants, mut uncertain) = (grants, Vec::new());
    for (index, field) in fields.iter().enumerate() {
        let said = |why, effect| Lost { word: field.clone(), why, effect };
        match does(field, index + 1 == fields.len()) {
            Ok(Does::Decides(verdict)) => grants = verdict,
            Ok(Does::Twists) => {
                let why = "another program in the place of rlogin; its clients are refused here";
                lost.push(said(why, Effect::NotDone));
                grants = false;
            }
            Ok(Does::Acts(why)) => lost.push(said(why, Effect::NotDone)),
            Ok(Does::MayRefuse(why)) => uncertain.push(said(why, Effect::NotDone)),
            Err(why) => {
                lost.push(said(why, Effect::Mistake));
                grants = false;
                break;
            }
        }
    }
    if grants && !uncertain.is_empty() {
        uncertain.iter_mut().for_each(|lost| lost.effect = Effect::ShutsOut);
        grants = false;
    }
    lost.extend(uncertain);
    grants
}

/// What stands between colons, a `\:` being one that does not count.
fn fields(options: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = options.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, fields.last_mut()) {
            (':', _) => fields.push(String::new()),
            ('\\', Some(field)) if letters.next_if_eq(&':').is_some() => field.push(':'),
            (letter, Some(field)) => field.push(letter),
            (_, None) => {}
        }
    }
    fields.iter().map(|field| field.trim().to_owned()).collect()
}

fn does(field: &str, last: bool) -> Result<Does, &'static str> {
    let is_blank = |letter: char| letter.is_ascii_whitespace();
    let end = field.find(|letter| is_blank(letter) || letter == '=').unwrap_or(field.len());
    let (name, rest) = field.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix('=').unwrap_or(rest).trim_matches(is_blank);
    let name = name.to_ascii_lowercase();
    let wants = |right: bool, does| if right { Ok(does) } else { Err("not what this option takes") };
    let given = !value.is_empty();
    let number = |least: i32| value.parse::<i32>().is_ok_and(|number| number >= least);
    const OF_TCPD: Does = Does::Acts("an option of tcpd");
    match name.as_str() {
        "allow" | "deny" | "twist" if !last => Err("not the last option"),
        "allow" => wants(!given, Does::Decides(true)),
        "deny" => wants(!given, Does::Decides(false)),
        "twist" => wants(given, Does::Twists),
        "spawn" => wants(given, Does::Acts("a command for each connection")),
        "aclexec" => wants(given, Does::MayRefuse("a program that decides")),
        "user" | "group" => wants(given, Does::MayRefuse("refuses when tcpd cannot be that user or group")),
        "setenv" | "banners" => wants(given, OF_TCPD),
        "keepalive" => wants(!given, OF_TCPD),
        "nice" => wants(!given || number(i32::MIN), OF_TCPD),
        "rfc931" => wants(!given || number(1), OF_TCPD),
        "linger" => wants(number(0), OF_TCPD),
        "umask" => wants(u32::from_str_radix(value, 8).is_ok_and(|mask| mask <= 0o777), OF_TCPD),
        "severity" => wants(is_severity(value), OF_TCPD),
        "" => Err("an empty option"),
        _ => Err("no option that tcpd knows"),
    }
}

fn is_severity(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    match value.split_once('.') {
        Some((facility, level)) => FACILITIES.contains(&facility) && LEVELS.contains(&level),
        None => LEVELS.contains(&value.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on a line that would grant, and the effects of what is lost.
    fn told(options: &str) -> (bool, Vec<Effect>) {
        let mut lost = Vec::new();
        let grants = verdict(options, true, &mut lost);
        (grants, lost.into_iter().map(|lost| lost.effect).collect())
    }

    /// As tcpdmatch(8) of libwrap 7.6.q says.
    #[test]
    fn mistakes_refuse() {
        for option in [
            "allow foo",
            "deny=1",
            "allow = x",
            "allow==",
            "bogus",
            "",
            " ",
            "allow :",
            ": allow",
            "bogus : allow",
            "allow : bogus",
            "deny : spawn x",
            "twist /bin/x : allow",
            "umask",
            "umask 99",
            "umask 1000",
            "umask 7x",
            "umask 0x1",
            "severity",
            "severity foo.bar",
            "severity mail.foo",
            "severity auth.warn",
            "severity authpriv.info",
            "severity auth . info",
            "linger",
            "linger x",
            "linger -1",
            "linger 5x",
            "daemon x",
            "nice x",
            "nice 5 5",
            "keepalive 1",
            "user",
            "group",
            "rfc931 a",
            "rfc931 0",
            "rfc931 -1",
            "setenv",
            "setenv =",
            "banners",
            "spawn",
            "spawn = ",
            "twist",
            "aclexec",
            "(/bin/mail root) &",
            "/bin/x",
            "spawn x [a:allow] : allow",
        ] {
            let (grants, effects) = told(option);
            assert!(!grants && effects.last() == Some(&Effect::Mistake), "{option} {effects:?}");
        }
    }

    #[test]
    fn what_tcpd_understands_grants() {
        for option in [
            "umask 022",
            "umask 0777",
            "umask +7",
            "severity auth.info",
            "severity AUTH.INFO",
            "severity info",
            "severity local7.debug",
            "linger 5",
            "linger 0",
            "nice",
            "nice 5",
            "nice -5",
            "nice=5",
            "keepalive",
            "keepalive=",
            "rfc931",
            "rfc931 5",
            "setenv A B",
            "setenv A",
            "banners /x",
            "spawn /bin/x",
            "Spawn=/bin/x",
            "spawn =x",
            "spawn (/bin/log a\\:b)&",
        ] {
            assert_eq!(told(option), (true, vec![Effect::NotDone]), "{option}");
            assert_eq!(told(&format!("{option} : deny")), (false, vec![Effect::NotDone]), "{option}");
            assert_eq!(told(&format!("{option}:allow")), (true, vec![Effect::NotDone]), "{option}");
        }
        assert_eq!(told("ALLOW "), (true, vec![]));
        assert_eq!(told("allow="), (true, vec![]));
        assert_eq!(told("DENY"), (false, vec![]));
        assert_eq!(told("twist /bin/echo no"), (false, vec![Effect::NotDone]));
        assert_eq!(told("spawn x [a: allow"), (true, vec![Effect::NotDone]), "brackets are nothing here");
        assert!(verdict("allow", false, &mut Vec::new()));
    }

    #[test]
    fn what_may_refuse_lets_nobody_in() {
        for option in ["aclexec /bin/x", "user nobody", "group nogroup", "user nobody : allow"] {
            assert_eq!(told(option), (false, vec![Effect::ShutsOut]), "{option}");
            assert_eq!(told(&format!("{} : deny", option.trim_end_matches(" : allow"))).1, [Effect::NotDone]);
        }
    }
}
