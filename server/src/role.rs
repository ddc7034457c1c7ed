//! Which member's ovn-central serves the nodes: a pure, sticky choice, made by the raft leader.
//!
//! It changes only when the serving member cannot be heard for [`UNHEARD`], or says that its central does
//! not work for [`BROKEN`]. If another member has a copy of its southbound, it also changes at once
//! when its machine says that nobody listens there any more, or it says that the nodes have lost
//! it; and after [`BROKEN_BESIDE_A_COPY`] if it did serve and does not work. A raft leader change alone moves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use atoll_model::{Central, MemberId, MemberName};

/// How long the serving member may be unheard: above a raft election and a few lost answers.
pub const UNHEARD: Duration = Duration::from_secs(2);

/// How long a member that is heard may be busy restarting or rebuilding its own databases: as long
/// as the others hold no copy of its southbound, they would have to rebuild them too.
pub const BROKEN: Duration = Duration::from_secs(10);

/// How long it may be so when another member could go on where it was: a process that is started
/// again, or one question that was not answered in time, moves no node.
pub const BROKEN_BESIDE_A_COPY: Duration = Duration::from_secs(1);

/// [`BROKEN`] is doubled for each member that was chosen and never came to serve, so often at most.
const FAILED_MAX: u32 = 4;

/// What a member last said of its central.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The member.
    pub member: MemberId,
    /// Its name.
    pub name: MemberName,
    /// Its northbound's remote.
    pub nb: String,
    /// Its southbound's remote.
    pub sb: String,
    /// Its databases answer, and if it was chosen, it serves.
    pub healthy: bool,
    /// Its southbound is open to the nodes.
    pub serving: bool,
    /// The nodes have lost its southbound, whose server ended.
    pub interrupted: bool,
    /// Its southbound is a copy of the serving one.
    pub copying: bool,
}

/// What each member was last heard to say.
#[derive(Debug, Default)]
pub struct Healths {
    members: BTreeMap<MemberId, Health>,
    /// Whose machines refuse connections: the member has ended, and its central with it.
    gone: BTreeSet<MemberId>,
    since: Option<Instant>,
    appointed: Option<Appointed>,
    /// How many before that one never came to serve, one after the other.
    failed: u32,
}

/// Who was given the role last.
#[derive(Debug, Clone, Copy)]
struct Appointed {
    member: MemberId,
    at: Instant,
    has_served: bool,
}

/// Why the role moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody had it.
    Nobody,
    /// The serving member was not heard for [`UNHEARD`].
    Unheard,
    /// Its nodes have lost the serving member, and another one has a copy.
    Lost,
    /// The serving member's central does not work.
    Broken,
    /// The serving member has another address.
    Moved,
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nobody => "nobody serves",
            Self::Unheard => "the serving member is not heard",
            Self::Lost => "the nodes have lost the serving member's southbound",
            Self::Broken => "the serving member's ovn-central does not work",
            Self::Moved => "the serving member has another address",
        })
    }
}

#[derive(Debug)]
struct Health {
    heard: Instant,
    healthy: Option<Instant>,
    /// When it last did serve and was healthy.
    served: Option<Instant>,
    report: Report,
}

impl Healths {
    /// Takes in one member's report.
    pub fn heard(&mut self, now: Instant, report: Report) {
        self.since.get_or_insert(now);
        self.gone.remove(&report.member);
        let before = self.members.get(&report.member);
        let latest = |is_so: bool, last: fn(&Health) -> Option<Instant>| {
            if is_so { Some(now) } else { before.and_then(last) }
        };
        let healthy = latest(report.healthy, |it| it.healthy);
        let served = latest(report.healthy && report.serving, |it| it.served);
        if let Some(appointed) = self.appointed.as_mut().filter(|it| it.member == report.member) {
            // What it says while it prepares is of before.
            appointed.has_served |= report.healthy && report.serving && now > appointed.at;
        }
        self.members.insert(report.member, Health { heard: now, healthy, served, report });
    }

    /// Notes that nobody listens at a member's address. That is no silence: its machine answers.
    pub fn refused(&mut self, now: Instant, member: MemberId) {
        self.since.get_or_insert(now);
        self.gone.insert(member);
    }

    /// Notes that a member was given the role: it has to start before it can be healthy.
    pub fn appointed(&mut self, now: Instant, member: MemberId) {
        let has_failed = self.appointed.is_some_and(|before| !before.has_served);
        self.failed = if has_failed { (self.failed + 1).min(FAILED_MAX) } else { 0 };
        self.appointed = Some(Appointed { member, at: now, has_served: false });
    }

    /// The member that should serve, if it is not the one that does, and why.
    ///
    /// A fresh leader has heard nobody yet, so each patience begins with its own reign; and with
    /// the appointment, so that one long start does not pass the role round and round.
    #[must_use]
    pub fn choose(&self, now: Instant, serving: Option<&Central>) -> Option<(&Report, Why)> {
        let since = self.since?;
        let why = match serving {
            Some(serving) => match self.verdict(now, since, serving) {
                Some(why) => why,
                None => return self.moved(serving).map(|report| (report, Why::Moved)),
            },
            None => Why::Nobody,
        };
        let fit = |health: &&Health| {
            let listens = !self.gone.contains(&health.report.member);
            let is_heard = now.duration_since(health.heard.max(since)) < UNHEARD;
            listens && health.report.healthy && is_heard
        };
        let fit = self.members.values().filter(fit).map(|health| &health.report);
        fit.min_by_key(|report| !report.copying).map(|report| (report, why))
    }

    /// Why the serving member should not go on, if it should not.
    fn verdict(&self, now: Instant, since: Instant, serving: &Central) -> Option<Why> {
        let within = |at: Instant, patience| now.duration_since(at.max(since)) < patience;
        let health = self.members.get(&serving.member);
        let appointed = self.appointed.filter(|it| it.member == serving.member);
        let begun = appointed.map_or(since, |it| it.at.max(since));
        if !within(health.map_or(begun, |it| it.heard), UNHEARD) {
            return Some(Why::Unheard);
        }
        let has_copy = self.has_copy(now, serving.member);
        // The nodes have to connect anew anyway.
        let is_lost = self.gone.contains(&serving.member)
            || health.is_some_and(|it| {
                // One that ends soon after it was chosen may end wherever the nodes go.
                let settled = appointed.is_none_or(|appointed| it.heard > appointed.at + UNHEARD);
                it.report.interrupted && settled
            });
        if is_lost && has_copy {
            return Some(Why::Lost);
        }
        let healthy = health.and_then(|it| it.healthy).unwrap_or(begun).max(begun);
        // Not while it starts: another one would have to start as well.
        let has_served = health.and_then(|it| it.served).is_some_and(|at| at > begun);
        let patience = match has_served && has_copy {
            true => BROKEN_BESIDE_A_COPY,
            // Where each takes long, none would ever serve.
            false => BROKEN * 2_u32.pow(self.failed),
        };
        (!within(healthy, patience)).then_some(Why::Broken)
    }

    /// Who serves may have come back under another address.
    fn moved(&self, serving: &Central) -> Option<&Report> {
        let report = self.members.get(&serving.member).map(|health| &health.report);
        let report = report.filter(|it| it.healthy);
        report.filter(|it| it.nb != serving.nb || it.sb != serving.sb)
    }

    /// The report of the member that an operator wants to serve, if it can go on where the serving
    /// one is.
    ///
    /// # Errors
    ///
    /// [`NotFit`].
    pub fn successor(
        &self,
        now: Instant,
        to: MemberId,
        serving: Option<&Central>,
    ) -> Result<&Report, NotFit> {
        if serving.is_some_and(|serving| serving.member == to) {
            return Err(NotFit::Serves);
        }
        let heard = |health: &&Health| now.duration_since(health.heard) < UNHEARD;
        let health = self.members.get(&to).filter(heard).ok_or(NotFit::Unheard)?;
        match &health.report {
            report if !report.healthy => Err(NotFit::Broken),
            report if !report.copying && serving.is_some() => Err(NotFit::NoCopy),
            report => Ok(report),
        }
    }

    /// Whether a member other than `serving` could go on where that one is.
    fn has_copy(&self, now: Instant, serving: MemberId) -> bool {
        let others = self.members.iter().filter(|(member, _)| **member != serving);
        others.map(|(_, health)| health).any(|health| {
            let heard = now.duration_since(health.heard) < UNHEARD;
            let listens = !self.gone.contains(&health.report.member);
            listens && heard && health.report.healthy && health.report.copying
        })
    }
}

/// Why a member is not given the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFit {
    /// It has it.
    #[error("that member serves already")]
    Serves,
    /// It said nothing.
    #[error(
        "nothing was heard of that member's ovn-central for {UNHEARD:?}; see `atollctl status`"
    )]
    Unheard,
    /// It cannot serve.
    #[error("that member's ovn-central does not work; see `atollctl ovn status`")]
    Broken,
    /// Nodes would meet an empty southbound.
    #[error(
        "that member has no copy of the serving southbound yet, and the nodes would lose what is only \
         there; wait until `atollctl ovn status` says that it copies"
    )]
    NoCopy,
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::Revision;

    fn chosen<'a>(
        healths: &'a Healths,
        now: Instant,
        serving: Option<&Central>,
    ) -> Option<&'a Report> {
        healths.choose(now, serving).map(|(report, _)| report)
    }

    fn report(member: u64, healthy: bool) -> Report {
        Report {
            member: MemberId(member),
            name: MemberName::new(&format!("m{member}")).unwrap(),
            nb: format!("tcp:10.0.0.{member}:6641"),
            sb: format!("tcp:10.0.0.{member}:6642"),
            healthy,
            serving: false,
            interrupted: false,
            copying: false,
        }
    }

    fn serving(member: u64) -> Central {
        let report = report(member, true);
        Central {
            member: report.member,
            name: report.name,
            nb: report.nb,
            sb: report.sb,
            since: Revision(1),
        }
    }

    #[test]
    fn the_first_healthy_member_serves() {
        let start = Instant::now();
        let mut healths = Healths::default();
        assert_eq!(chosen(&healths, start, None), None);
        healths.heard(start, report(2, false));
        assert_eq!(chosen(&healths, start, None), None, "a broken central is no candidate");
        healths.heard(start, report(3, true));
        assert_eq!(chosen(&healths, start, None).unwrap().member, MemberId(3));
    }

    #[test]
    fn a_serving_member_keeps_the_role_while_it_is_heard() {
        let start = Instant::now();
        let mut healths = Healths::default();
        healths.heard(start, report(1, true));
        healths.heard(start, report(2, true));
        assert_eq!(chosen(&healths, start, Some(&serving(2))), None);
    }

    /// A new leader has heard nobody yet; taking the role away at once would move every node at
    /// every election.
    #[test]
    fn a_fresh_leader_waits_before_it_takes_the_role_away() {
        let start = Instant::now();
        let mut healths = Healths::default();
        healths.heard(start, report(1, true));
        assert_eq!(chosen(&healths, start + UNHEARD / 2, Some(&serving(2))), None);
        let late = start + UNHEARD;
        healths.heard(late, report(1, true));
        assert_eq!(chosen(&healths, late, Some(&serving(2))).unwrap().member, MemberId(1));
    }

    #[test]
    fn a_member_that_repairs_itself_keeps_the_role_and_one_that_cannot_loses_it() {
        let start = Instant::now();
        let mut healths = Healths::default();
        healths.heard(start, report(2, true));
        let repairing = start + BROKEN / 2;
        healths.heard(repairing, report(2, false));
        healths.heard(repairing, report(1, true));
        assert_eq!(chosen(&healths, repairing, Some(&serving(2))), None);
        let late = start + BROKEN;
        healths.heard(late, report(2, false));
        healths.heard(late, report(1, true));
        assert_eq!(chosen(&healths, late, Some(&serving(2))).unwrap().member, MemberId(1));
    }

    /// Member 2 serves, member 3 has a copy, and nothing is wrong since `start`.
    fn beside_a_copy(start: Instant) -> Healths {
        let mut healths = Healths::default();
        healths.heard(start, report(1, true));
        healths.heard(start + UNHEARD / 8, Report { serving: true, ..report(2, true) });
        healths.heard(start, Report { copying: true, ..report(3, true) });
        healths
    }

    #[test]
    fn a_copy_takes_over_soon_after_the_serving_one_broke_and_before_who_has_none() {
        let start = Instant::now();
        let mut healths = beside_a_copy(start);
        let broken = start + UNHEARD / 8 + BROKEN_BESIDE_A_COPY;
        healths.heard(broken, report(2, false));
        assert_eq!(chosen(&healths, broken, Some(&serving(2))).unwrap().member, MemberId(3));
        healths.heard(broken, Report { copying: true, ..report(3, false) });
        assert_eq!(chosen(&healths, broken, Some(&serving(2))), None, "nobody has a copy");
    }

    /// A member that was killed need not be waited for; one that is alone is.
    #[test]
    fn a_member_that_has_ended_is_replaced_at_once_by_a_copy() {
        let start = Instant::now();
        let mut healths = beside_a_copy(start);
        healths.refused(start, MemberId(2));
        assert_eq!(chosen(&healths, start, Some(&serving(2))).unwrap().member, MemberId(3));
        // It is back before anybody took over.
        healths.heard(start, Report { serving: true, ..report(2, true) });
        assert_eq!(chosen(&healths, start, Some(&serving(2))), None);
        healths.refused(start, MemberId(2));
        healths.refused(start, MemberId(3));
        assert_eq!(chosen(&healths, start, Some(&serving(2))), None, "nobody has a copy");
        let late = start + UNHEARD * 2;
        healths.heard(late, report(1, true));
        assert_eq!(chosen(&healths, late, Some(&serving(2))).unwrap().member, MemberId(1));
    }

    /// Started again at its address it would wait for nodes that try less and less often.
    #[test]
    fn a_southbound_that_ended_is_replaced_at_once_by_a_copy() {
        let start = Instant::now();
        let mut healths = beside_a_copy(start);
        let now = start + UNHEARD / 4;
        healths.heard(now, Report { interrupted: true, serving: true, ..report(2, true) });
        assert_eq!(chosen(&healths, now, Some(&serving(2))).unwrap().member, MemberId(3));
        healths.heard(now, report(3, true));
        assert_eq!(chosen(&healths, now, Some(&serving(2))), None, "nobody has a copy");
        // Contents that end every server would send the nodes round and round.
        healths.heard(now, Report { copying: true, ..report(3, true) });
        healths.appointed(now, MemberId(2));
        let soon = now + UNHEARD / 2;
        healths.heard(soon, Report { interrupted: true, serving: true, ..report(2, true) });
        healths.heard(soon, Report { copying: true, ..report(3, true) });
        assert_eq!(chosen(&healths, soon, Some(&serving(2))), None);
        let later = now + UNHEARD * 2;
        healths.heard(later, Report { interrupted: true, serving: true, ..report(2, true) });
        healths.heard(later, Report { copying: true, ..report(3, true) });
        assert_eq!(chosen(&healths, later, Some(&serving(2))).unwrap().member, MemberId(3));
    }

    /// A fresh leader, too, who has heard of nobody but itself.
    #[test]
    fn a_fresh_leader_with_a_copy_need_not_wait_for_a_member_that_has_ended() {
        let start = Instant::now();
        let mut healths = Healths::default();
        healths.heard(start, Report { copying: true, ..report(1, true) });
        healths.refused(start, MemberId(2));
        assert_eq!(chosen(&healths, start, Some(&serving(2))).unwrap().member, MemberId(1));
    }

    /// One question that was answered late moved every node to another southbound.
    #[test]
    fn one_bad_answer_moves_nothing() {
        let start = Instant::now();
        let mut healths = beside_a_copy(start);
        let broken = start + UNHEARD / 8 + BROKEN_BESIDE_A_COPY / 2;
        healths.heard(broken, report(2, false));
        assert_eq!(chosen(&healths, broken, Some(&serving(2))), None);
    }

    #[test]
    fn the_role_is_handed_over_to_a_healthy_copy_only() {
        let start = Instant::now();
        let mut healths = beside_a_copy(start);
        let serves = serving(2);
        let successor = |healths: &Healths, now, to| {
            healths.successor(now, MemberId(to), Some(&serves)).map(|report| report.member.0)
        };
        assert_eq!(successor(&healths, start, 3), Ok(3));
        assert_eq!(successor(&healths, start, 2), Err(NotFit::Serves));
        assert_eq!(successor(&healths, start, 1), Err(NotFit::NoCopy));
        assert_eq!(successor(&healths, start, 9), Err(NotFit::Unheard));
        assert_eq!(successor(&healths, start + UNHEARD, 3), Err(NotFit::Unheard));
        healths.heard(start, Report { copying: true, ..report(3, false) });
        assert_eq!(successor(&healths, start, 3), Err(NotFit::Broken));
    }

    /// It is healthy before it learns of its choice, and is not while it prepares to serve; the
    /// others go on saying that they copy one who is dead.
    #[test]
    fn a_newly_appointed_member_is_not_passed_over_for_a_copy() {
        let start = Instant::now();
        let mut healths = beside_a_copy(start);
        let late = start + UNHEARD;
        healths.heard(late, Report { copying: true, ..report(3, true) });
        healths.appointed(late, MemberId(1));
        healths.heard(late + UNHEARD / 8, report(1, true));
        let preparing = late + BROKEN_BESIDE_A_COPY * 2;
        healths.heard(preparing, report(1, false));
        healths.heard(preparing, Report { copying: true, ..report(3, true) });
        assert_eq!(chosen(&healths, preparing, Some(&serving(1))), None);
    }

    /// A start that takes longer than the patience once passed the role round and round.
    #[test]
    fn a_newly_appointed_member_has_time_to_start() {
        let start = Instant::now();
        let mut healths = Healths::default();
        healths.heard(start, report(2, true));
        let late = start + BROKEN * 3;
        healths.appointed(late, MemberId(2));
        let starting = late + BROKEN / 2;
        healths.heard(starting, report(2, false));
        healths.heard(starting, report(1, true));
        assert_eq!(chosen(&healths, starting, Some(&serving(2))), None);
    }

    /// All are as slow: with the same patience for each the role would go round for ever.
    #[test]
    fn who_comes_after_one_that_never_served_has_more_time() {
        let start = Instant::now();
        let mut healths = Healths::default();
        healths.heard(start, report(1, true));
        healths.heard(start, report(2, true));
        let mut now = start;
        let mut patience = Vec::new();
        for number in 0..7 {
            let (member, other) = if number % 2 == 0 { (1, 2) } else { (2, 1) };
            healths.appointed(now, MemberId(member));
            let begun = now;
            loop {
                now += BROKEN / 4;
                healths.heard(now, report(member, false));
                healths.heard(now, report(other, true));
                match healths.choose(now, Some(&serving(member))) {
                    None => (),
                    Some((next, why)) => {
                        assert_eq!((next.member, why), (MemberId(other), Why::Broken));
                        break;
                    }
                }
            }
            patience.push((now - begun).as_secs() / BROKEN.as_secs());
        }
        assert_eq!(patience, [1, 2, 4, 8, 16, 16, 16]);
        healths.heard(now + UNHEARD / 4, Report { serving: true, ..report(1, true) });
        healths.appointed(now + UNHEARD / 2, MemberId(2));
        let broken = now + UNHEARD / 2 + BROKEN;
        healths.heard(broken, report(2, false));
        healths.heard(broken, report(1, true));
        let next = healths.choose(broken, Some(&serving(2)));
        assert_eq!(next.unwrap().0.member, MemberId(1), "one that served ends the row");
    }

    #[test]
    fn a_member_under_a_new_address_is_appointed_anew() {
        let start = Instant::now();
        let mut healths = Healths::default();
        let moved = Report { sb: "tcp:10.0.0.99:6642".to_owned(), ..report(2, true) };
        healths.heard(start, moved);
        assert_eq!(chosen(&healths, start, Some(&serving(2))).unwrap().sb, "tcp:10.0.0.99:6642");
    }
}
