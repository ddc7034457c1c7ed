//! ovn-central as one OVSDB cluster per database, formed from the store's members.
//!
//! Every member asks all others how their servers are, and so knows what to do by itself: create, join,
//! or remove. What must happen once is in the store: the `Central` role names who creates the
//! clusters, with empty remotes until that is done. The leader fills them in, and then nobody creates
//! a cluster again.

use std::collections::BTreeMap;

use atoll_model::{Central as Role, MemberId, MemberName, Revision};
use atoll_ovn_sync::{
    CentralOptions, CentralStatus, ClusterCentral, ClusterStatus, Form, Part, Projector, Remotes,
    ServerRole, ServerStatus,
};
use atoll_ovsdb::Endpoint;
use atoll_raft::{Published, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::reign::Clients;
use super::shared::{LOOK, LeaderSource, choose};
use super::{LocalCentral, Mode};
use crate::config::ClusterOptions;

/// Which of the two databases.
const NB: usize = 0;
const SB: usize = 1;

/// What a member was last heard to say of its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) name: MemberName,
    pub(super) servers: [ServerStatus; 2],
    /// northd has written its southbound.
    pub(super) complete: bool,
}

/// What everybody knows who has to decide.
struct Known<'a> {
    me: MemberId,
    /// All members of the store.
    members: &'a [MemberId],
    heard: &'a BTreeMap<MemberId, Heard>,
    chosen: Option<&'a Role>,
}

/// Whether the clusters were made.
fn is_made(chosen: &Role) -> bool {
    !chosen.sb.is_empty()
}

impl Known<'_> {
    fn heard(&self) -> impl Iterator<Item = (MemberId, &Heard)> {
        let heard = |member: &MemberId| Some((*member, self.heard.get(member)?));
        self.members.iter().filter_map(heard)
    }

    /// What this member has to do if its databases are missing.
    fn form(&self) -> Form {
        match self.chosen {
            None => Form::Wait,
            Some(chosen) if is_made(chosen) => {
                let through = |which: usize| {
                    let others = self.heard().filter(|(member, _)| *member != self.me);
                    let servers = others.map(|(_, heard)| &heard.servers[which]);
                    let inside = servers.filter(|it| it.connected);
                    inside.map(|it| it.address.clone()).collect::<Vec<_>>()
                };
                Form::Join([through(NB), through(SB)])
            }
            Some(chosen) if chosen.member == self.me => Form::Create,
            Some(_) => Form::Wait,
        }
    }

    /// Servers that this member's one knows and that belong to nobody. `own` was read before the
    /// others were asked: what they say of themselves is never older.
    fn strays(&self, own: &ServerStatus, which: usize) -> Vec<String> {
        // Who was never heard may be any of them.
        if own.role != ServerRole::Leader || self.heard().count() < self.members.len() {
            return Vec::new();
        }
        let belongs = |sid: &str, address: &str| {
            let mut servers = self.heard().map(|(_, heard)| &heard.servers[which]);
            servers.any(|it| {
                let is_it = it.sid.as_ref().is_none_or(|full| full.starts_with(sid));
                // Without a file it is about to join, and what is left of the one before goes then.
                it.address == address && is_it
            })
        };
        let listed = own.servers.iter().filter(|it| !belongs(&it.sid, &it.address));
        listed.map(|it| it.sid.clone()).collect()
    }

    /// The cluster that members are in, if they agree.
    fn cluster(&self, which: usize) -> Option<String> {
        let servers = self.heard().map(|(_, heard)| &heard.servers[which]);
        let mut clusters = servers.filter(|it| it.connected).map(|it| it.cid.as_ref());
        let first = clusters.next()??;
        clusters.all(|it| it == Some(first)).then(|| first.clone())
    }

    /// All servers of a database, by their members' names, where `endpoint` says that they are.
    fn remotes(&self, which: usize, endpoint: fn(&ServerStatus) -> &String) -> Option<Remotes> {
        let mut known: Vec<_> = self.heard().map(|(_, heard)| heard).collect();
        known.sort_by(|a, b| a.name.cmp(&b.name));
        let endpoints =
            known.iter().map(|it| endpoint(&it.servers[which]).parse::<Endpoint>().ok());
        let endpoints: Option<Vec<_>> = endpoints.collect();
        endpoints.filter(|it| !it.is_empty()).map(Remotes::from)
    }

    /// The same for everybody.
    fn public(&self, which: usize) -> Option<Remotes> {
        self.remotes(which, |it| &it.endpoint)
    }

    /// The same for members.
    fn inner(&self, which: usize) -> Option<Remotes> {
        self.remotes(which, |it| &it.member_endpoint)
    }

    /// What the store has to say; `None` if it does.
    fn choice(&self, name: &MemberName) -> Option<Role> {
        let role = |member, name: &MemberName, [nb, sb]: [String; 2]| Role {
            member,
            name: name.clone(),
            nb,
            sb,
            since: Revision(0),
        };
        let Some(chosen) = self.chosen else {
            return Some(role(self.me, name, Default::default()));
        };
        let everybody = self.heard().count() == self.members.len();
        if !is_made(chosen) {
            // Who left before it was done has told nobody of a cluster.
            if !self.members.contains(&chosen.member) {
                return Some(role(self.me, name, Default::default()));
            }
            let founder = self.heard.get(&chosen.member)?;
            if !founder.complete {
                return None;
            }
        } else if !everybody {
            // Who was not heard yet is no less a member.
            return None;
        }
        let [nb, sb] = [self.public(NB)?.to_string(), self.public(SB)?.to_string()];
        let is_said = chosen.nb == nb && chosen.sb == sb;
        (!is_said).then(|| role(chosen.member, &chosen.name, [nb, sb]))
    }

    fn part(&self, own: &ClusterStatus) -> Part {
        let remotes = self.chosen.and_then(|chosen| {
            match is_made(chosen) {
                true => Some((self.inner(NB)?, self.inner(SB)?)),
                // Only its maker has servers yet.
                false => {
                    let [nb, sb] = [&own.nb, &own.sb].map(|it| it.member_endpoint.parse().ok());
                    Some((nb?, sb?))
                }
            }
        });
        let remove = [self.strays(&own.nb, NB), self.strays(&own.sb, SB)];
        let clusters = [self.cluster(NB), self.cluster(SB)];
        Part { form: self.form(), remotes, clusters, remove }
    }
}

impl LocalCentral {
    /// Starts this member's servers and, fenced, the projection into the one that leads.
    ///
    /// # Errors
    ///
    /// The run directory or a thread cannot be made.
    pub(super) fn clustered(
        options: CentralOptions,
        cluster: &ClusterOptions,
        store: &Store,
        clients: Clients,
        cancel: &CancellationToken,
    ) -> std::io::Result<Self> {
        let own = options.nb_socket().parse::<Endpoint>().map_err(std::io::Error::other)?;
        let tls = options.tls.as_ref().map(|tls| tls.client.clone());
        let tracer = Some(options.tracer());
        let central = ClusterCentral::start(options, cluster.clone())?;
        let (servers, status) = (watch::channel(Remotes::from(own)), central.status());
        let projector = Projector::following(LeaderSource::new(store), servers.1, tls)?;
        let local = Self::shared(Mode::Cluster(status), projector, Some(central), tracer);
        let cancel = cancel.clone();
        tokio::spawn(local.clone().fence(store.clone(), cancel.clone()));
        tokio::spawn(local.clone().take_part(store.clone(), clients, servers.0, cancel));
        Ok(local)
    }

    async fn take_part(
        self,
        store: Store,
        mut clients: Clients,
        servers: watch::Sender<Remotes>,
        cancel: CancellationToken,
    ) {
        let mut heard = BTreeMap::new();
        let Mode::Cluster(central) = &self.mode else { return };
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = cancel.cancelled() => return,
            }
            // Before the others are asked: see `strays`.
            let own = central.borrow().clone();
            let status = store.status();
            let others = status.members.iter().filter(|it| it.id != status.id);
            heard.extend(clients.ask_servers(others).await);
            heard.insert(status.id, self.own_servers(&status.name, &own));
            let members: Vec<_> = status.members.iter().map(|it| it.id).collect();
            heard.retain(|member, _| members.contains(member));
            let now = store.published().borrow().clone();
            if !now.is_formed() {
                continue;
            }
            let chosen = now.state.central().cloned();
            drop(now);
            let (me, members, heard) = (status.id, &members, &heard);
            let known = Known { me, members, heard, chosen: chosen.as_deref() };
            self.set_part(known.part(&own));
            if let Some(remotes) = known.inner(NB) {
                servers.send_if_modified(|was| std::mem::replace(was, remotes.clone()) != remotes);
            }
            let wanted = |now: &Published| {
                let chosen = now.state.central().map(AsRef::as_ref);
                Known { me, members, heard, chosen }.choice(&status.name)
            };
            let leads = store.leadership().borrow().is_leader;
            if leads
                && wanted(&store.published().borrow()).is_some()
                && let Err(error) = choose(&store, wanted).await
            {
                tracing::warn!(%error, "what the members know of the databases is not in the store");
            }
        }
    }

    fn own_servers(&self, name: &MemberName, own: &ClusterStatus) -> Heard {
        let servers = [own.nb.clone(), own.sb.clone()];
        Heard { name: name.clone(), servers, complete: own.complete }
    }

    fn set_part(&self, part: Part) {
        let running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(cluster) = running.as_ref().and_then(|running| running.cluster.as_ref()) {
            cluster.set_part(part);
        }
    }
}

/// A member's part in the words of those that serve alone.
pub(super) fn status(own: &ClusterStatus) -> CentralStatus {
    CentralStatus {
        nb_running: own.nb.connected,
        sb_running: own.sb.connected,
        northd_running: own.northd_running,
        active: true,
        serving: own.complete,
        nb_endpoint: own.nb.endpoint.clone(),
        sb_endpoint: own.sb.endpoint.clone(),
        healthy: own.is_healthy(),
        last_error: why(own),
        ..CentralStatus::default()
    }
}

/// What is wrong, first of all that a database has no majority.
fn why(own: &ClusterStatus) -> Option<String> {
    let servers = [("OVN_Northbound", &own.nb), ("OVN_Southbound", &own.sb)];
    let mut without = servers.iter().filter(|(_, it)| !it.connected && it.sid.is_some());
    let lost = without.next().map(|(database, it)| match it.role {
        ServerRole::Outside => {
            format!("{database}: this member's server has not joined its cluster yet")
        }
        ServerRole::Leader | ServerRole::Follower => format!(
            "{database}: most of its {} servers are not there, and it has no leader. If their files \
             are lost, see \"Databases in a cluster\" in the README",
            it.servers.len()
        ),
    });
    lost.or_else(|| own.last_error.clone().filter(|_| !own.is_healthy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_ovn_sync::Listed;

    fn server(member: u64, ports: [u16; 2], sid: Option<&str>) -> ServerStatus {
        let at = |port| format!("tcp:10.0.0.{member}:{port}");
        ServerStatus {
            endpoint: at(ports[0]),
            member_endpoint: at(ports[0] + 1_000),
            address: at(ports[1]),
            sid: sid.map(|sid| format!("{sid}5678-0000")),
            cid: sid.map(|_| "one".to_owned()),
            role: ServerRole::Follower,
            connected: sid.is_some(),
            leader: None,
            servers: Vec::new(),
        }
    }

    fn member(id: u64, sid: Option<&str>) -> (MemberId, Heard) {
        let name = MemberName::new(&format!("m{id}")).unwrap();
        let servers = [server(id, [6641, 6643], sid), server(id, [6642, 6644], sid)];
        (MemberId(id), Heard { name, servers, complete: sid.is_some() })
    }

    fn role(member: u64, made: bool) -> Role {
        let all = |port| {
            let at: Vec<_> = (1..=3).map(|it| format!("tcp:10.0.0.{it}:{port}")).collect();
            if made { at.join(",") } else { String::new() }
        };
        Role {
            member: MemberId(member),
            name: MemberName::new(&format!("m{member}")).unwrap(),
            nb: all(6641),
            sb: all(6642),
            since: Revision(3),
        }
    }

    const MEMBERS: [MemberId; 3] = [MemberId(1), MemberId(2), MemberId(3)];

    fn known<'a>(
        me: u64,
        heard: &'a BTreeMap<MemberId, Heard>,
        chosen: Option<&'a Role>,
    ) -> Known<'a> {
        Known { me: MemberId(me), members: &MEMBERS, heard, chosen }
    }

    #[test]
    fn one_member_creates_the_clusters_and_only_until_that_is_done() {
        let none = BTreeMap::from([member(1, None), member(2, None), member(3, None)]);
        let form = |me, heard, chosen: &Role| known(me, heard, Some(chosen)).form();
        assert_eq!(known(1, &none, None).form(), Form::Wait);
        assert_eq!(form(1, &none, &role(1, false)), Form::Create);
        assert_eq!(form(2, &none, &role(1, false)), Form::Wait);
        // All files are lost: still nobody makes a second cluster.
        let lost = Form::Join([Vec::new(), Vec::new()]);
        assert_eq!(form(1, &none, &role(1, true)), lost);
        let some = BTreeMap::from([member(1, None), member(2, Some("aaaa")), member(3, None)]);
        let through = |port| vec![format!("tcp:10.0.0.2:{port}")];
        let join = Form::Join([through(6643), through(6644)]);
        assert_eq!(form(1, &some, &role(1, true)), join);
        assert_eq!(form(3, &some, &role(1, true)), join);
    }

    #[test]
    fn the_store_hears_of_the_clusters_when_they_are_made_and_of_all_their_servers() {
        let name = MemberName::new("m2").unwrap();
        let choice = |heard: &_, chosen: Option<&Role>| known(2, heard, chosen).choice(&name);
        let none = BTreeMap::from([member(1, None), member(2, None)]);
        let first = choice(&none, None).unwrap();
        assert_eq!((first.member, first.sb.as_str()), (MemberId(2), ""));
        assert_eq!(choice(&none, Some(&role(1, false))), None);
        // One that is away does not hold the others up.
        let made = BTreeMap::from([member(1, Some("aaaa")), member(2, None)]);
        let said = choice(&made, Some(&role(1, false))).unwrap();
        assert_eq!(said.member, MemberId(1));
        assert_eq!(said.sb, "tcp:10.0.0.1:6642,tcp:10.0.0.2:6642");
        // But neither is it forgotten because a leader has not heard it yet.
        assert_eq!(choice(&made, Some(&role(1, true))), None);
        let all = BTreeMap::from([member(1, Some("aaaa")), member(2, None), member(3, None)]);
        assert_eq!(choice(&all, Some(&role(1, true))), None);
        assert_eq!(choice(&all, Some(&said)).unwrap().sb, role(1, true).sb);
        // Who left before it was done had told nobody of a cluster.
        assert_eq!(choice(&all, Some(&role(9, false))).unwrap().member, MemberId(2));
    }

    #[test]
    fn servers_of_nobody_are_removed_and_those_of_silent_members_stay() {
        let listed = |sid: &str, member: u64| Listed {
            sid: sid.to_owned(),
            address: format!("tcp:10.0.0.{member}:6643"),
        };
        let leads = ServerStatus {
            role: ServerRole::Leader,
            servers: vec![listed("aaaa", 1), listed("bbbb", 2), listed("cccc", 3)],
            ..ServerStatus::default()
        };
        let strays = |heard: &_, own: &ServerStatus| known(1, heard, None).strays(own, NB);
        let of = |second, third| BTreeMap::from([member(1, Some("aaaa")), second, third]);
        let all = of(member(2, Some("bbbb")), member(3, Some("cccc")));
        assert!(strays(&all, &leads).is_empty());
        // It has joined with a new file.
        let anew = of(member(2, Some("dddd")), member(3, Some("cccc")));
        assert_eq!(strays(&anew, &leads), ["bbbb"]);
        // It may be about to start with the file that it has.
        let starting = of(member(2, None), member(3, Some("cccc")));
        assert!(strays(&starting, &leads).is_empty());
        let follows = ServerStatus { role: ServerRole::Follower, ..leads.clone() };
        assert!(strays(&anew, &follows).is_empty());
        let unheard = BTreeMap::from([member(1, Some("aaaa")), member(2, Some("bbbb"))]);
        assert!(strays(&unheard, &leads).is_empty());
        // One that the store has no more.
        let two = Known { members: &MEMBERS[..2], ..known(1, &unheard, None) };
        assert_eq!(two.strays(&leads, NB), ["cccc"]);
    }

    /// As after a recovery from the one file that was left.
    #[test]
    fn a_file_of_another_cluster_than_the_others_is_of_no_use() {
        let mut heard = BTreeMap::from([member(1, Some("aaaa")), member(2, None), member(3, None)]);
        let clusters = |heard: &_| known(2, heard, None).part(&ClusterStatus::default()).clusters;
        assert_eq!(clusters(&heard), [Some("one".to_owned()), Some("one".to_owned())]);
        let (id, mut third) = member(3, Some("cccc"));
        third.servers[NB].cid = Some("two".to_owned());
        heard.insert(id, third);
        // Of two that both work none is better.
        assert_eq!(clusters(&heard), [None, Some("one".to_owned())]);
    }

    #[test]
    fn a_database_without_a_majority_says_so() {
        let mut own = ClusterStatus::default();
        assert_eq!(why(&own), None);
        own.nb.sid = Some("aaaa".to_owned());
        assert!(why(&own).unwrap().contains("has not joined its cluster yet"));
        own.nb.role = ServerRole::Follower;
        own.nb.servers = vec![Listed { sid: "aaaa".to_owned(), address: "tcp:a:6643".to_owned() }];
        let said = why(&own).unwrap();
        assert!(said.contains("OVN_Northbound: most of its 1 servers are not there"), "{said}");
    }
}
