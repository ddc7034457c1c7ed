//! Everything that needs the whole of Atoll at once: the lab, and what the suites share.
//!
//! * [`lab`] builds a complete pod network on one machine, out of network namespaces, real Open
//!   vSwitch and real OVN: members, nodes, pods and an outside host, and the faults to hurt them
//!   with. The `atoll-lab` program is a thin command line over it.
//! * [`apiserver_faults`]: what is done to what passes between members and an apiserver.
//! * [`audit`]: did any address ever have two owners, by the members' logs?
//! * [`bare`]: members alone, for what concerns disks.
//! * [`certificates`]: whom members alone believe.
//! * [`flow`]: how much of what pods send arrives.
//! * [`histories`]: do the answers that clients got under faults fit one order?
//! * [`intruders`]: who comes to databases over the network, and how far.
//! * [`kubectl`]: what the apiserver of a lab says, and pods that it knows of.
//! * [`kubelet`]: what a container runtime does around the CNI plugin, one step at a time.
//! * [`mod@bench`]: members and etcd side by side, under the same load.
//! * [`outside`]: frames, as somebody outside sees them.
//! * [`people`]: what a person types.
//! * [`probe`]: running traffic, and what it lost.
//! * [`referee`]: what a northbound database has to hold, computed a second time.
//! * [`report`]: what a run saw, for people and for programs.
//! * [`talk`]: streams and floods of pods.
//! * [`vectors`]: recorded answers of another allocator, and ours.
//! * [`wire`]: what the CNI plugin says to the agent, for crowds of pods.
//! * [`wait`] is how a test waits: for a condition, until a deadline, saying what it last saw.
//!
//! Deliberately absent: sleeps, global locks, and anything that production code could depend on.

pub mod apiserver_faults;
pub mod audit;
pub mod bare;
pub mod bench;
pub mod certificates;
pub mod flow;
pub mod histories;
pub mod intruders;
pub mod kubectl;
pub mod kubelet;
pub mod lab;
pub mod outside;
pub mod people;
pub mod probe;
pub mod referee;
pub mod report;
pub mod talk;
pub mod vectors;
pub mod wait;
pub mod wire;
