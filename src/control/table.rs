//! The table of sessions, as wide as the terminal and no wider.
//!
//! Pure. Where there is no room, where users come from is cut first, then columns go that
//! matter least; all is in `--json`.

use time::UtcOffset;

use super::protocol::{By, SessionRow, State};
use super::text::{bytes, cut, duration, moment, visible};

/// Between two columns.
const GAP: usize = 2;
/// What is cut first, and to how many characters at least as long as something else can go.
const SHORTEST: [(Column, usize); 2] = [(Column::From, 12), (Column::User, 8)];

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Id,
    User,
    From,
    Tty,
    Since,
    Idle,
    In,
    Out,
    By,
}

impl Column {
    /// In their order.
    const ALL: [Column; 9] = [
        Column::Id,
        Column::User,
        Column::From,
        Column::Tty,
        Column::Since,
        Column::Idle,
        Column::In,
        Column::Out,
        Column::By,
    ];
    /// What goes where there is no room, the first first.
    const DISPENSABLE: [Column; 6] =
        [Column::Out, Column::In, Column::By, Column::Since, Column::Tty, Column::Idle];

    fn title(self) -> &'static str {
        match self {
            Column::Id => "ID",
            Column::User => "USER",
            Column::From => "FROM",
            Column::Tty => "TTY",
            Column::Since => "SINCE",
            Column::Idle => "IDLE",
            Column::In => "IN",
            Column::Out => "OUT",
            Column::By => "BY",
        }
    }

    /// Numbers stand on the right.
    fn is_number(self) -> bool {
        match self {
            Column::Id | Column::Idle | Column::In | Column::Out => true,
            Column::User | Column::From | Column::Tty | Column::Since | Column::By => false,
        }
    }

    fn cell(self, row: &SessionRow, offset: UtcOffset) -> String {
        let none = || "-".to_owned();
        match self {
            Column::Id => row.id.to_string(),
            Column::User => row.user.as_deref().map_or_else(none, visible),
            Column::From => source(row),
            Column::Tty => visible(&row.tty),
            Column::Since => moment(row.since, offset),
            Column::Idle => row.idle.map_or_else(none, duration),
            Column::In => bytes(row.bytes_in),
            Column::Out => bytes(row.bytes_out),
            Column::By => match (row.state, row.by) {
                (State::Login, _) => "(login)".to_owned(),
                (State::Closing, _) => "(closing)".to_owned(),
                (State::Open, Some(By::Trust)) => "trust".to_owned(),
                (State::Open, Some(By::Password)) => "password".to_owned(),
                (State::Open, None) => none(),
            },
        }
    }
}

/// "bob@host.example", with as much as is known.
fn source(row: &SessionRow) -> String {
    let host = row.host.clone().unwrap_or_else(|| row.address.to_string());
    match &row.remote_user {
        Some(user) => visible(&format!("{user}@{host}")),
        None => visible(&host),
    }
}

/// The table, a line for each session and one above; `width` characters at most, where given.
pub(super) fn table(rows: &[SessionRow], width: Option<usize>, offset: UtcOffset) -> String {
    let mut columns: Vec<(Column, Vec<String>, usize)> = Vec::new();
    for column in Column::ALL {
        let cells: Vec<String> = rows.iter().map(|row| column.cell(row, offset)).collect();
        let widest = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        columns.push((column, cells, widest.max(column.title().len())));
    }
    if let Some(width) = width {
        fit(&mut columns, width);
    }
    let mut out = String::new();
    for line in 0..=rows.len() {
        let mut text = String::new();
        for (column, cells, width) in &columns {
            let cell = match line.checked_sub(1) {
                None => column.title(),
                Some(row) => cells.get(row).map_or("", String::as_str),
            };
            let cell = cut(cell, *width);
            let gap = if text.is_empty() { 0 } else { GAP };
            text.push_str(&" ".repeat(gap));
            text.push_str(&if column.is_number() {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            });
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Makes the columns no wider than that together.
fn fit(columns: &mut Vec<(Column, Vec<String>, usize)>, room: usize) {
    narrow(columns, room, SHORTEST);
    for column in Column::DISPENSABLE {
        if total(columns) > room {
            columns.retain(|(other, ..)| *other != column);
            narrow(columns, room, SHORTEST);
        }
    }
    narrow(columns, room, SHORTEST.map(|(column, _)| (column, 1)));
}

fn total(columns: &[(Column, Vec<String>, usize)]) -> usize {
    columns.iter().map(|(.., width)| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// Cuts these columns, one behind the other, to no less than is said of each.
fn narrow(columns: &mut [(Column, Vec<String>, usize)], room: usize, shortest: [(Column, usize); 2]) {
    for (cut, shortest) in shortest {
        let excess = total(columns).saturating_sub(room);
        for (_, _, width) in columns.iter_mut().filter(|(column, ..)| *column == cut) {
            *width = width.saturating_sub(excess).max(shortest.min(*width));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u64, state: State, user: Option<&str>, by: Option<By>) -> SessionRow {
        let trusted = by == Some(By::Trust);
        SessionRow {
            id,
            state,
            user: user.map(str::to_owned),
            remote_user: trusted.then(|| "bob".to_owned()),
            host: trusted.then(|| "workstation.lab.example".to_owned()),
            address: "192.0.2.7".parse().unwrap(),
            port: 1023,
            tty: format!("pts/{id}"),
            since: 1_795_258_922,
            idle: Some(id * 100),
            bytes_in: id * 700,
            bytes_out: id * 70_000,
            by,
        }
    }

    fn rows() -> Vec<SessionRow> {
        vec![
            row(1, State::Open, Some("alice"), Some(By::Trust)),
            row(2, State::Login, None, None),
            row(12, State::Open, Some("a-long-account-name"), Some(By::Password)),
            row(13, State::Closing, Some("\x1b[2J"), Some(By::Password)),
        ]
    }

    fn shown(width: Option<usize>) -> String {
        table(&rows(), width, UtcOffset::UTC)
    }

    #[test]
    fn everything_is_there_when_there_is_room() {
        let expected = "\
ID  USER                 FROM                         TTY     SINCE         IDLE    IN   OUT  BY
 1  alice                bob@workstation.lab.example  pts/1   Nov 21 11:02    1m   700   68K  trust
 2  -                    192.0.2.7                    pts/2   Nov 21 11:02    3m  1.4K  137K  (login)
12  a-long-account-name  192.0.2.7                    pts/12  Nov 21 11:02   20m  8.3K  820K  password
13  ^[[2J                192.0.2.7                    pts/13  Nov 21 11:02   21m  8.9K  889K  (closing)
";
        assert_eq!(shown(None), expected);
    }

    #[test]
    fn it_is_never_wider_than_the_terminal() {
        for width in 20..140 {
            for line in shown(Some(width)).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        let expected = "\
ID  USER         FROM          TTY     SINCE         IDLE    IN   OUT  BY
 1  alice        bob@worksta+  pts/1   Nov 21 11:02    1m   700   68K  trust
 2  -            192.0.2.7     pts/2   Nov 21 11:02    3m  1.4K  137K  (login)
12  a-long-acc+  192.0.2.7     pts/12  Nov 21 11:02   20m  8.3K  820K  password
13  ^[[2J        192.0.2.7     pts/13  Nov 21 11:02   21m  8.9K  889K  (closing)
";
        assert_eq!(shown(Some(80)), expected);
        let narrow = shown(Some(40));
        assert!(narrow.starts_with("ID  USER") && narrow.contains("12  a-long"), "{narrow}");
    }
}
