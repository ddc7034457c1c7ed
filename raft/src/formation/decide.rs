//! What a member that is not in a cluster does next. Pure: answers in, step out.

use atoll_model::{ClusterId, MemberId};

use super::marker::Marker;

/// What a peer said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: MemberId,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) cluster: Option<ClusterId>,
    /// Its disk holds nothing.
    pub(crate) empty: bool,
    pub(crate) has_quorum: bool,
    pub(crate) leader_address: Option<String>,
}

impl Answer {
    fn label(&self) -> String {
        format!("{} ({})", self.name, self.address)
    }
}

/// Everything that the decision rests on.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// This member, as it would answer.
    pub(crate) me: Answer,
    /// The cluster that this member was about to form.
    pub(crate) forming: Option<ClusterId>,
    pub(crate) others: Vec<Answer>,
    /// Addresses that did not answer, each with the reason.
    pub(crate) silent: Vec<String>,
    pub(crate) expected: usize,
    pub(crate) marker: Option<Marker>,
    /// For messages.
    pub(crate) marker_path: String,
    /// When the marker says that the cluster was formed, for people.
    pub(crate) formed: String,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing can be done; people are told why.
    Wait(String),
    /// Another member is forming the cluster; it will call.
    AwaitFormer,
    /// Ask this leader to be taken in.
    Join { leader: String, cluster: ClusterId },
    /// Form the cluster of these members, under this id if it was begun before.
    Form { members: Vec<Answer>, resume: Option<ClusterId> },
}

/// Decides.
pub(crate) fn decide(view: &View) -> Step {
    let holders: Vec<&Answer> = view.others.iter().filter(|other| !other.empty).collect();
    if let Some(step) = meet(view, &holders) {
        return step;
    }
    if let Some(why) = incomplete(view) {
        return Step::Wait(why);
    }
    all_empty(view)
}

/// Somebody holds a cluster's data: enter that cluster, or wait for it.
fn meet(view: &View, holders: &[&Answer]) -> Option<Step> {
    let first = holders.first()?;
    let cluster = first.cluster?;
    if let Some(other) = holders.iter().find(|other| other.cluster != first.cluster) {
        return Some(Step::Wait(format!(
            "the peers belong to different clusters: {} to {cluster}, {} to {}; correct the list \
             of peers",
            first.label(),
            other.label(),
            other.cluster.map(|cluster| cluster.to_string()).unwrap_or_default()
        )));
    }
    if let Some(mine) = view.me.cluster.filter(|&mine| mine != cluster) {
        return Some(Step::Wait(foreign(mine, cluster, first)));
    }
    let leader = holders.iter().find(|holder| holder.has_quorum);
    if let Some(leader) = leader.and_then(|holder| holder.leader_address.clone()) {
        return Some(Step::Join { leader, cluster });
    }
    Some(Step::Wait(no_quorum(view, cluster, holders)))
}

pub(crate) fn foreign(mine: ClusterId, theirs: ClusterId, peer: &Answer) -> String {
    format!(
        "this disk belongs to cluster {mine}, but {} belongs to cluster {theirs}; they do not mix. \
         Correct the list of peers, or move this data directory away to join {theirs} anew",
        peer.label()
    )
}

pub(crate) fn no_quorum(view: &View, cluster: ClusterId, holders: &[&Answer]) -> String {
    let empty: Vec<String> =
        view.others.iter().chain([&view.me]).filter(|m| m.empty).map(Answer::label).collect();
    let here: Vec<String> = holders.iter().map(|holder| holder.label()).collect();
    let mut text = format!(
        "cluster {cluster} has no quorum: {} of {} disks are not there",
        view.expected.saturating_sub(holders.len()),
        view.expected
    );
    text.push_str(&format!("; its data is on {}", here.join(", ")));
    if !empty.is_empty() {
        text.push_str(&format!("; {} answer with empty disks", empty.join(", ")));
    }
    if !view.silent.is_empty() {
        text.push_str(&format!("; {} do not answer", view.silent.join(", ")));
    }
    text.push_str(
        ". Bring a disk back. Nothing else is done: a second cluster would lose this one's data",
    );
    text
}

/// Not everybody has answered.
fn incomplete(view: &View) -> Option<String> {
    let present = view.others.len() + 1;
    if present >= view.expected {
        return None;
    }
    let mut why = format!("waiting for all {} members to answer", view.expected);
    if view.silent.is_empty() {
        why.push_str(&format!(", but the list of peers names only {present}; complete it"));
    } else {
        why.push_str(&format!(": {} do not", view.silent.join(", ")));
    }
    if let Some(marker) = &view.marker {
        why.push_str(&format!("; cluster {} was formed {}", marker.cluster, view.formed));
    }
    Some(why)
}

/// All expected members answer, and nobody holds anything.
fn all_empty(view: &View) -> Step {
    let mut members: Vec<Answer> = view.others.iter().chain([&view.me]).cloned().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = members.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Step::Wait(format!(
            "{} and {} have the same name; each member needs its own",
            pair[0].label(),
            pair[1].label()
        ));
    }
    if members.len() > view.expected {
        return Step::Wait(format!(
            "{} members answer, but only {} are expected; correct one of the two",
            members.len(),
            view.expected
        ));
    }
    match &view.marker {
        Some(marker) if view.forming == Some(marker.cluster) => {
            Step::Form { members, resume: Some(marker.cluster) }
        }
        Some(marker) if members.iter().any(|m| m.id == marker.former && m.id != view.me.id) => {
            Step::AwaitFormer
        }
        Some(marker) => Step::Wait(format!(
            "cluster {} was formed {}, but all {} disks are empty. Nothing is done, so that no \
             second cluster arises: put back a disk of that cluster, or, if everything shall \
             really start anew, stop all members, remove {}, and start them",
            marker.cluster, view.formed, view.expected, view.marker_path
        )),
        None if members.first().is_some_and(|first| first.id == view.me.id) => {
            Step::Form { members, resume: None }
        }
        None => Step::AwaitFormer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: ClusterId = ClusterId(10);
    const Y: ClusterId = ClusterId(11);

    fn empty(number: u64) -> Answer {
        Answer {
            id: MemberId(number),
            name: format!("m{number}"),
            address: format!("h{number}:7400"),
            cluster: None,
            empty: true,
            has_quorum: false,
            leader_address: None,
        }
    }

    fn holder(number: u64, cluster: ClusterId, leader: Option<&str>) -> Answer {
        Answer {
            cluster: Some(cluster),
            empty: false,
            has_quorum: leader.is_some(),
            leader_address: leader.map(str::to_owned),
            ..empty(number)
        }
    }

    fn view(me: u64, others: Vec<Answer>) -> View {
        View {
            me: empty(me),
            forming: None,
            others,
            silent: Vec::new(),
            expected: 3,
            marker: None,
            marker_path: "/marker".to_owned(),
            formed: "at noon".to_owned(),
        }
    }

    fn marker(former: u64) -> Option<Marker> {
        Some(Marker { cluster: X, former: MemberId(former), formed_at_ms: 0 })
    }

    #[track_caller]
    fn why(step: Step) -> String {
        match step {
            Step::Wait(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_lowest_name_forms_and_only_when_all_are_there() {
        let members = vec![empty(1), empty(2), empty(3)];
        let step = decide(&view(1, vec![empty(3), empty(2)]));
        assert_eq!(step, Step::Form { members, resume: None });
        assert_eq!(decide(&view(2, vec![empty(1), empty(3)])), Step::AwaitFormer);
        let mut partial = view(1, vec![empty(2)]);
        partial.silent = vec!["h3:7400".to_owned()];
        assert!(why(decide(&partial)).contains("h3:7400 do not"));
    }

    #[test]
    fn an_empty_member_joins_the_cluster_that_it_meets() {
        let others = vec![holder(1, X, Some("h3:7400")), holder(3, X, Some("h3:7400"))];
        let step = decide(&view(2, others));
        assert_eq!(step, Step::Join { leader: "h3:7400".to_owned(), cluster: X });
    }

    #[test]
    fn a_cluster_without_quorum_is_never_replaced_by_a_second_one() {
        let text = why(decide(&view(2, vec![holder(1, X, None), empty(3)])));
        assert!(text.contains("no quorum: 2 of 3 disks are not there"), "{text}");
        assert!(text.contains("Bring a disk back"), "{text}");
    }

    #[test]
    fn empty_disks_and_a_marker_form_nothing() {
        let mut lost = view(1, vec![empty(2), empty(3)]);
        lost.marker = marker(77);
        let text = why(decide(&lost));
        assert!(text.contains("was formed at noon, but all 3 disks are empty"), "{text}");
        assert!(text.contains("remove /marker"), "{text}");
    }

    #[test]
    fn a_former_that_crashed_finishes_what_it_began_and_the_others_wait_for_it() {
        let mut former = view(1, vec![empty(2), empty(3)]);
        former.marker = marker(1);
        former.forming = Some(X);
        assert!(matches!(decide(&former), Step::Form { resume: Some(X), .. }));
        let mut other = view(2, vec![empty(1), empty(3)]);
        other.marker = marker(1);
        assert_eq!(decide(&other), Step::AwaitFormer);
    }

    #[test]
    fn a_former_that_forgot_its_cluster_does_not_resume() {
        let mut former = view(1, vec![empty(2), empty(3)]);
        former.marker = marker(1);
        assert!(matches!(decide(&former), Step::Wait(_)));
        former.forming = Some(Y);
        assert!(matches!(decide(&former), Step::Wait(_)));
    }

    #[test]
    fn different_clusters_are_named_and_none_is_entered() {
        let text = why(decide(&view(2, vec![holder(1, X, Some("a")), holder(3, Y, Some("b"))])));
        assert!(text.contains(&X.to_string()) && text.contains(&Y.to_string()), "{text}");
        let mut enlisted = view(2, vec![holder(1, Y, Some("a")), empty(3)]);
        enlisted.me.cluster = Some(X);
        let text = why(decide(&enlisted));
        assert!(text.contains(&X.to_string()) && text.contains(&Y.to_string()), "{text}");
    }

    #[test]
    fn two_members_of_one_name_form_nothing() {
        let mut twin = empty(3);
        twin.name = "m2".to_owned();
        assert!(why(decide(&view(1, vec![empty(2), twin]))).contains("same name"));
    }
}
