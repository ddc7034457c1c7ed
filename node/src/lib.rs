//! The node agent: what one node does so that its pods have a network.
//!
//! The agent is one process for each node. It follows the store, plumbs pods when the runtime
//! asks for it, and keeps the node itself (its interface on the join switch, routes, packet
//! filter) as the store says. `atoll-node` (the binary) only reads the configuration and starts
//! what is here.
//!
//! * [`agent`]: which loops run; [`config`]: its one file;
//! * [`view`], [`follow`], [`cache`]: what the store says, watched and kept on disk;
//! * [`queue`]: what the store must still be told;
//! * [`attached`], [`inventory`]: what is plugged in here, and the node's word on it when it is asked;
//! * [`applied`]: as of which revision all that is in force, told to the leader;
//! * [`neighbours`]: gateways that this node watches, on the leader's behalf;
//! * `nic`: what is made of each of a pod's interfaces;
//! * [`attach`], [`detach`]: one pod, from the plugin's call to packets, and the way back, in steps
//!   at each of which the agent may die ([`step`]); [`check`]: whether it is still so;
//!   `rivals`: whether somebody else has its addresses; [`held`]: what a `GC` chooses from; [`status`]: whether the next one can work;
//! * `southbound`: since when a new pod could not be installed;
//! * `keep`: the loop that each of the following has;
//! * [`over`]: pods that the store has given up are unplugged, asked for or not;
//! * [`leg`]: the node itself: Open vSwitch's settings, `ovn0`, routes, packet filter;
//! * [`ovs`]: this node's Open vSwitch;
//! * [`link`]: links, addresses, routes, offloads, queueing and sysctls, natively over netlink;
//! * [`firewall`]: ipsets and iptables chains for traffic that leaves the pod network;
//! * [`connections`]: what a private subnet does not allow any more is ended;
//! * [`priority`]: what important pods send leaves first;
//! * [`mirror`]: copies of pods' frames on `mirror0`;
//! * [`pause`]: an operator's word that nothing is to be changed here;
//! * [`brake`]: what is not undone, because too much is gone at once;
//! * [`drain`]: the store's word that this node is to be emptied;
//! * [`trace`]: what the switch would do with a packet, by order of the leader;
//! * [`metrics`]: what it does and how it fares, as numbers;
//! * [`belief`]: what the node believes, and whether it holds;
//! * [`cleanup`]: nothing of all this is left;
//! * [`cni`]: the socket on which the CNI plugin asks.
//!
//! Invariants:
//! * nothing that is not marked as ours is changed: names of links, protocol number of routes,
//!   names of sets and chains, number of a queueing discipline;
//! * every operation may be repeated: it finds what is there and changes only what differs;
//! * no process is started for a pod.

pub mod agent;
pub mod applied;
pub mod config;

pub mod attached;
pub mod cache;
pub mod follow;
mod grievance;
pub mod inventory;
mod keep;
pub mod metrics;
pub mod neighbours;
pub mod queue;
pub mod view;

pub mod attach;
pub mod brake;
pub mod check;
pub mod connections;
pub mod detach;
pub mod drain;
pub mod held;
pub mod leg;
pub mod mirror;
mod nic;
pub mod over;
pub mod pause;
pub mod priority;
mod rivals;
mod southbound;
pub mod status;
pub mod step;
pub mod trace;

pub mod belief;
pub mod cleanup;
pub mod cni;
pub mod firewall;
pub mod link;
pub mod ovs;
