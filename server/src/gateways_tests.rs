//! What nodes say, and what is made of it.

use atoll_model::{
    Actor, Addresses, CentralGateway, GatewayNode, GatewayType, NodeSpec, Operation, Origin,
    Revision, SubnetName, SubnetNet, SubnetSpec, Txn, Uid,
};

use super::*;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

struct World {
    state: State,
    heard: All,
    judge: Judge,
    now: Instant,
}

impl World {
    /// Nodes n1 to n4; a subnet leaves by n1 or n2.
    fn new() -> Self {
        let mut state = State::default();
        apply(&mut state, atoll_store::setup::defaults());
        for index in 1..=4 {
            let node = name(&format!("n{index}"));
            let spec = NodeSpec {
                name: node.clone(),
                uid: Uid::new(node.as_str()).unwrap(),
                addresses: vec![format!("172.31.0.10{index}").parse().unwrap()],
                labels: [].into(),
            };
            let (chassis, encap) = (node.as_str().parse().unwrap(), "172.30.0.1".parse().unwrap());
            let register = Operation::RegisterNode { node, chassis, encap };
            apply(&mut state, vec![Operation::PutNode(spec), register]);
        }
        apply(&mut state, vec![Operation::PutSubnet(through(&["n1", "n2"]), Origin::Api)]);
        let now = Instant::now();
        Self { state, heard: All::new(), judge: Judge::new(now), now }
    }

    /// A node tells that it has everything, and how its neighbours answer.
    fn tells(&mut self, node: &str, words: &[(&str, u64)]) {
        let newest = self.state.subnets_changed().0;
        let applied = Applied { firewall: newest, ..Applied::default() };
        let word = |(node, silent_ms): &(&str, u64)| Neighbour {
            node: (*node).to_owned(),
            silent_ms: *silent_ms,
        };
        let words = words.iter().map(word).collect();
        self.heard.insert(name(node), Heard::new(applied, words, self.now));
    }

    /// Judges, and does what comes of it; the changes, as `+n1` or `-n1`.
    fn judged(&mut self) -> Vec<String> {
        let changes = self.judge.judge(&self.state, &self.heard, self.now);
        let told =
            changes.iter().map(|(node, ready)| format!("{}{node}", if *ready { '+' } else { '-' }));
        let told = told.collect();
        for (node, ready) in changes {
            apply(&mut self.state, vec![Operation::NodeReady { node, ready }]);
        }
        told
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
    }

    /// All are ready, and n1 serves.
    fn well() -> Self {
        let mut it = Self::new();
        it.all_tell(0);
        assert_eq!(it.judged(), ["+n1", "+n2", "+n3", "+n4"]);
        it
    }

    /// All tell; of n1 its neighbours say that it has been silent for so long.
    fn all_tell(&mut self, silent_ms: u64) {
        self.tells("n1", &[("n2", 0)]);
        self.others_tell(silent_ms);
    }

    fn others_tell(&mut self, silent_ms: u64) {
        self.tells("n2", &[("n1", silent_ms)]);
        self.tells("n3", &[("n1", silent_ms), ("n2", 0)]);
        self.tells("n4", &[]);
    }

    fn active(&self) -> String {
        let subnet = self.state.subnet(&"blue".parse::<SubnetName>().unwrap()).unwrap();
        subnet.active_gateways.iter().map(|it| it.as_str()).collect()
    }
}

fn apply(state: &mut State, operations: Vec<Operation>) {
    let index = Revision(state.revision().0 + 1);
    let (request, actor, preconditions) = (None, Actor::Leader, Vec::new());
    let txn = Txn { request, actor, clock_ms: 0, wall_ms: 0, preconditions, operations };
    let applied = state.apply(index, &txn);
    assert!(matches!(applied.outcome, atoll_model::Outcome::Applied { .. }), "{applied:?}");
}

fn through(nodes: &[&str]) -> SubnetSpec {
    let cidr: atoll_model::Cidr = "10.99.0.0/24".parse().unwrap();
    let net = SubnetNet { cidr, gateway: cidr.assignable().first() };
    let gateway = |node: &&str| GatewayNode { node: name(node), egress: Addresses::default() };
    let nodes = nodes.iter().map(gateway).collect();
    SubnetSpec {
        gateway_type: GatewayType::Centralized(CentralGateway { nodes, ecmp: false }),
        ..SubnetSpec::new("blue".parse().unwrap(), vec![net])
    }
}

const LATER: Duration = Duration::from_millis(1_100);

#[test]
fn a_gateway_that_is_dead_for_itself_and_its_neighbours_is_replaced() {
    let mut it = World::well();
    assert_eq!(it.active(), "n1");
    it.passes(LATER);
    it.others_tell(1_100);
    assert_eq!(it.judged(), ["-n1"]);
    assert_eq!(it.active(), "n2");
    let reasons = it.judge.reasons(&it.state);
    assert_eq!(
        reasons[&name("n1")],
        "it does not answer n2 and n3, nor does its agent tell anything"
    );
}

/// An agent that is restarted costs nobody a connection.
#[test]
fn a_gateway_whose_agent_alone_is_silent_goes_on() {
    let mut it = World::well();
    for _ in 0..5 {
        it.passes(LATER);
        it.others_tell(100);
        assert!(it.judged().is_empty());
    }
}

#[test]
fn one_neighbour_that_does_not_reach_it_is_no_reason() {
    let mut it = World::well();
    it.passes(LATER);
    it.all_tell(0);
    it.tells("n3", &[("n1", 5_000), ("n2", 0)]);
    assert!(it.judged().is_empty());
    // Nor if nobody else says anything.
    it.passes(LATER);
    it.tells("n1", &[]);
    it.tells("n3", &[("n1", 5_000)]);
    assert!(it.judged().is_empty());
}

/// Its agent may tell for a long time what its switch does not do any more.
#[test]
fn a_gateway_that_two_neighbours_do_not_reach_is_replaced_although_its_agent_tells() {
    let mut it = World::well();
    it.passes(LATER);
    it.all_tell(1_100);
    assert_eq!(it.judged(), ["-n1"]);
}

/// Whoever looks from a machine that stood still sees nobody.
#[test]
fn words_of_who_is_not_heard_himself_do_not_count() {
    let mut it = World::well();
    it.others_tell(1_100);
    it.passes(LATER);
    assert!(it.judged().is_empty());
}

#[test]
fn a_fresh_leader_has_heard_nobody_and_takes_nobody_away() {
    let mut it = World::well();
    it.passes(LATER);
    it.judge = Judge::new(it.now);
    it.others_tell(900);
    assert!(it.judged().is_empty());
    it.passes(LATER);
    it.others_tell(2_000);
    assert_eq!(it.judged(), ["-n1"]);
}

#[test]
fn who_comes_back_has_to_be_well_for_a_while() {
    let mut it = World::well();
    it.passes(LATER);
    it.others_tell(1_100);
    it.judged();
    it.all_tell(0);
    assert!(it.judged().is_empty());
    it.passes(SETTLED / 2);
    it.all_tell(1_500);
    assert!(it.judged().is_empty(), "once more silent");
    it.all_tell(0);
    assert!(it.judged().is_empty());
    it.passes(SETTLED / 2);
    it.all_tell(0);
    assert!(it.judged().is_empty());
    it.passes(SETTLED / 2);
    it.all_tell(0);
    assert_eq!(it.judged(), ["+n1"]);
    assert_eq!(it.active(), "n2", "who serves goes on");
    assert!(it.judged().is_empty());
    assert!(it.judge.reasons(&it.state).is_empty());
}

#[test]
fn a_node_without_the_newest_packet_filter_does_not_become_a_gateway() {
    let mut it = World::new();
    it.all_tell(0);
    it.heard.get_mut(&name("n1")).unwrap().applied.firewall -= 1;
    assert_eq!(it.judged(), ["+n2", "+n3", "+n4"]);
    assert_eq!(it.active(), "n2");
}

#[test]
fn two_who_are_about_watch_each_gateway() {
    let mut it = World::well();
    let watches = |it: &World, me: &str| {
        let orders = orders(&it.state, &it.heard, &name(me), it.now);
        let watch: Vec<String> = orders.watch.iter().map(|it| it.node.clone()).collect();
        (watch.join(" "), orders.period_ms)
    };
    let close = millis(CLOSE);
    assert_eq!(watches(&it, "n1"), (String::new(), close));
    assert_eq!(watches(&it, "n2"), ("n1".to_owned(), close));
    assert_eq!(watches(&it, "n3"), ("n1 n2".to_owned(), close));
    assert_eq!(watches(&it, "n4"), ("n2".to_owned(), close));
    // One of them is gone; n1 would come next for n2.
    it.passes(LATER);
    it.tells("n2", &[("n1", 0)]);
    it.tells("n4", &[]);
    it.tells("n1", &[]);
    assert_eq!(watches(&it, "n4").0, "n1 n2");
    assert_eq!(watches(&it, "n1").0, "n2");
    let orders = orders(&it.state, &it.heard, &name("n2"), it.now);
    let watched = &orders.watch[0];
    assert_eq!(watched.address, "172.31.0.101");
    assert!(watched.leg.starts_with("100.64.0."), "{watched:?}");
}
