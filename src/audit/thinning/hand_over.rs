//! What of the counts another image has to know: those of commands and of what comes of them.
//!
//! Who asks for an upgrade may ask for the next one. If each image counted from the first on, each
//! would write all its lines. Strangers cannot have an image taken over, so theirs are counted anew.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::{Event, Group, GroupCount, Kind, Origin, PERIOD, Thinning};

/// What is left of the period, if one has begun, and the groups of each kind.
type Left<G> = (Option<Duration>, Vec<(Cow<'static, str>, Vec<G>)>);

impl Group {
    fn is_handed_over(&self) -> bool {
        !matches!(self.origin, Origin::Network(_))
    }
}

impl Thinning {
    /// The counts for another image. A change of their form is one of the state that it reads.
    pub(in crate::audit) fn leave(&self, now: Instant) -> Vec<u8> {
        let kinds = self.kinds.iter().map(|(name, kind)| {
            let groups = kind.groups.iter().filter(|(group, _)| group.is_handed_over());
            (name.clone(), groups.collect())
        });
        let left: Left<(&Group, &GroupCount)> =
            (self.end.map(|end| end.saturating_duration_since(now)), kinds.collect());
        // It has nothing that cannot be written down.
        postcard::to_stdvec(&left).unwrap_or_default()
    }

    /// Goes on with what another image has left; begins anew if that cannot be read.
    pub(in crate::audit) fn go_on(&mut self, left: &[u8], now: Instant) {
        let Ok((time, kinds)) = postcard::from_bytes::<Left<(Group, GroupCount)>>(left) else { return };
        for (name, groups) in kinds.into_iter().filter(|(_, groups)| !groups.is_empty()) {
            let mut kind = Kind { groups: groups.into_iter().collect(), ..Kind::default() };
            self.held |= kind.groups.values().any(GroupCount::has_held);
            kind.count_members();
            self.kinds.insert(name, kind);
        }
        self.end = time.filter(|_| !self.kinds.is_empty()).map(|time| now + time.min(PERIOD));
    }

    /// The numbers of all that another image does not get to know.
    pub(in crate::audit) fn finish_others(&mut self) -> Vec<Event> {
        let mut counted = Vec::new();
        for kind in self.kinds.values_mut() {
            kind.groups.retain(|group, count| {
                let stays = group.is_handed_over();
                if !stays {
                    count.end_period(&mut counted);
                }
                stays
            });
            if let Some(mut others) = kind.others.take() {
                others.end_period(&mut counted);
            }
            kind.count_members();
        }
        counted
    }
}

impl GroupCount {
    fn has_held(&self) -> bool {
        self.count.held > 0 || self.members.values().any(|member| member.held > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reload(uid: u32) -> Event {
        Event::Control { uid, pid: 1, command: "reload".to_owned(), count: 1 }
    }

    fn warning(text: &str) -> Event {
        Event::CommandWarning { text: text.to_owned(), count: 1 }
    }

    fn refused() -> Event {
        let peer = "192.0.2.7:1023".parse().unwrap();
        Event::Refused { peer, reason: "busy".to_owned(), count: 1 }
    }

    fn written(thinning: &mut Thinning, event: &Event, times: u32, now: Instant) -> u32 {
        (0..times).map(|_| u32::from(thinning.lets_through(event, now))).sum()
    }

    #[test]
    fn an_upgrade_gives_nobody_his_first_lines_again() {
        let start = Instant::now();
        let mut thinning = Thinning::default();
        let (mut lines, mut numbers) = (0, 0);
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(thinning.due(now), []);
            for event in [reload(1001), warning("no upgrade to /x: it is none"), refused()] {
                lines += written(&mut thinning, &event, 5, now);
            }
            numbers += thinning.finish_others().len();
            let mut next = Thinning::default();
            next.go_on(&thinning.leave(now), now);
            thinning = next;
        }
        // Of the stranger all: five are never too many.
        assert_eq!((lines, numbers), (10 + 10 + 300, 0));
        let end = start + PERIOD;
        assert_eq!(thinning.next(), Some(end));
        let mut counts: Vec<Event> = thinning.due(end);
        counts.sort_by_key(|event| matches!(event, Event::Control { .. }));
        let [Event::CommandWarning { count: 290, .. }, Event::Control { uid: 1001, count: 290, .. }] =
            counts.as_slice()
        else {
            panic!("{counts:#?}")
        };
        // They go on, and a minute without any ends it.
        assert_eq!(written(&mut thinning, &reload(1001), 5, end), 0);
        assert_eq!(thinning.due(end + PERIOD).len(), 1);
        assert_eq!(thinning.due(end + PERIOD * 2), []);
        assert_eq!(written(&mut thinning, &reload(1001), 5, end + PERIOD * 2), 5);
    }

    #[test]
    fn what_another_image_does_not_know_is_written_before() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        written(&mut thinning, &refused(), 15, now);
        written(&mut thinning, &reload(1001), 15, now);
        let Some(Event::Refused { count: 5, .. }) = thinning.finish_others().pop() else { panic!() };
        assert_eq!(thinning.finish_others(), []);
        assert_eq!(thinning.finish().len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_counted_anew() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        thinning.go_on(b"\xff", now);
        assert_eq!(written(&mut thinning, &reload(1001), 15, now), 10);
    }

    /// A change here is a new format: see the upgrade's state.
    #[test]
    fn the_counts_are_written_as_they_always_were() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        written(&mut thinning, &reload(1001), 11, now);
        let hex: String = thinning.leave(now).iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "013c000107636f6e74726f6c010001e9070a3c0a003200000001000672656c6f61640001\
                        0106e907010672656c6f616401";
        assert_eq!(hex, expected);
    }
}
