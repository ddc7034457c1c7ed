//! The command line, as typed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use atoll_tests::lab::{
    CentralMode, FaultTarget, FaultVerb, LabName, Options, Place, PodName, PodOptions, ProxyMode,
    interface_in,
};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// A whole Atoll network on this machine, in network namespaces.
#[derive(Debug, Parser)]
#[command(name = "atoll-lab", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused.")]
pub(crate) struct Cli {
    /// Which lab.
    #[arg(long, global = true, default_value = "atoll", value_name = "PREFIX")]
    pub(crate) name: LabName,

    /// For people, or for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a lab and wait until it can be used.
    Up(Up),
    /// Remove every trace of a lab, in whatever shape it is.
    Down,
    /// Show members, nodes, pods and which central serves.
    Status,
    /// Print what a shell needs: eval "$(atoll-lab env)".
    Env,
    /// Make a namespace, or replace its labels.
    Namespace {
        #[arg(value_name = "NAME")]
        namespace: String,
        /// A label.
        #[arg(long = "label", value_name = "K=V", value_parser = pair)]
        labels: Vec<(String, String)>,
    },
    /// Run and delete pods.
    #[command(subcommand)]
    Pod(Pod),
    /// Run a command somewhere in the lab.
    Exec {
        /// NS/NAME, node/N, member/I or outside.
        place: Place,
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// ovn-nbctl against the active central.
    Nbctl {
        #[arg(last = true, required = true)]
        arguments: Vec<OsString>,
    },
    /// ovn-sbctl against the active central.
    Sbctl {
        #[arg(last = true, required = true)]
        arguments: Vec<OsString>,
    },
    /// kubectl against the lab's Kubernetes.
    Kubectl {
        #[arg(last = true, required = true)]
        arguments: Vec<OsString>,
    },
    /// ovs-vsctl against a node.
    Vsctl {
        /// The node, counted from 1.
        node: u8,
        #[arg(last = true, required = true)]
        arguments: Vec<OsString>,
    },
    /// Hurt the lab.
    Fault {
        verb: FaultVerb,
        /// member/I, central/I, agent/N, kubelet/N, ovs/N, node/N, link/N:mgmt, link/N:tunnel or apiserver.
        target: FaultTarget,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// How many members: 1, 3 or 5.
    #[arg(long, default_value_t = 3)]
    members: u8,
    /// How many nodes.
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// Whose ovn-central the network has.
    #[arg(long, value_enum, default_value_t)]
    central: CentralMode,
    /// With a real Kubernetes control plane; its nodes have kubelets with --kubelets only.
    #[arg(long)]
    kubernetes: bool,
    /// With Kubernetes: a kubelet on each node, with containerd and runc.
    #[arg(long, requires = "kubernetes")]
    kubelets: bool,
    /// With Kubernetes: what members would refuse, the apiserver refuses.
    #[arg(long, requires = "kubernetes")]
    webhook: bool,
    /// With Kubernetes: a kube-proxy on each node.
    #[arg(long, value_enum, value_name = "MODE", requires = "kubernetes")]
    kube_proxy: Option<ProxyMode>,
    /// An empty or absent directory for the lab's files; without it, a fresh one.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// If it fails, leave everything as it is.
    #[arg(long)]
    keep: bool,
    /// Only namespaces, Open vSwitch and ovn-controller, and nothing of Atoll.
    #[arg(long)]
    bare: bool,
}

impl Up {
    pub(crate) fn options(self, name: LabName) -> Options {
        let Self { members, nodes, central, kubernetes, kubelets, webhook, .. } = self;
        let Self { kube_proxy, dir, keep, bare, .. } = self;
        let sizes = Options { members, nodes, central, ..Options::new(name) };
        Options { kubernetes, kubelets, webhook, kube_proxy, dir, keep, bare, ..sizes }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Pod {
    /// Announce a pod and plumb it, as kubelet does.
    Run(RunPod),
    /// Unplumb a pod and say that it has ended.
    Delete {
        #[arg(value_name = "NS/NAME")]
        pod: PodName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunPod {
    #[arg(value_name = "NS/NAME")]
    pod: PodName,
    /// Its node, counted from 1.
    #[arg(long, value_name = "N")]
    node: u8,
    /// An annotation.
    #[arg(long = "annotation", value_name = "K=V", value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// A label.
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// A subnet that it has a further interface in: net1, net2 and so on.
    #[arg(long = "interface", value_name = "SUBNET")]
    interfaces: Vec<String>,
    /// Its uid; without it, a random one.
    #[arg(long)]
    uid: Option<String>,
    /// The interface inside.
    #[arg(long, default_value = "eth0")]
    ifname: String,
}

impl RunPod {
    pub(crate) fn options(self) -> PodOptions {
        let Self { pod, node, annotations, labels, interfaces, uid, ifname } = self;
        let named = |(number, subnet): (usize, &String)| {
            interface_in(&format!("net{}", number + 1), subnet)
        };
        let further = interfaces.iter().enumerate().map(named);
        let annotations: BTreeMap<_, _> = annotations.into_iter().chain(further).collect();
        let labels: BTreeMap<_, _> = labels.into_iter().collect();
        PodOptions { name: pod, node, annotations, labels, uid, ifname }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn up_without_a_word_is_three_members_and_two_nodes_called_atoll() {
        let cli = parse("atoll-lab up").unwrap();
        let Command::Up(up) = cli.command else { panic!("{cli:?}") };
        let options = up.options(cli.name);
        assert_eq!((options.members, options.nodes), (3, 2));
        assert_eq!(options.name.to_string(), "atoll");
        assert_eq!(options.central, CentralMode::Warm);
        assert!(options.dir.is_none() && !options.keep && !options.bare);
    }

    #[test]
    fn name_and_output_may_stand_before_and_behind_the_command() {
        for line in ["atoll-lab --name x -o json status", "atoll-lab status --name x -o json"] {
            let cli = parse(line).unwrap();
            assert_eq!((cli.name.to_string().as_str(), cli.output), ("x", Output::Json), "{line}");
        }
    }

    /// An option of the command that is run must not be taken for one of ours.
    #[test]
    fn what_follows_two_dashes_belongs_to_the_command() {
        let cli = parse("atoll-lab exec shop/web -- ping --name -o json").unwrap();
        let Command::Exec { place, command } = cli.command else { panic!("{cli:?}") };
        assert_eq!(place, "shop/web".parse().unwrap());
        assert_eq!(command, ["ping", "--name", "-o", "json"]);
        assert_eq!(cli.name.to_string(), "atoll");
    }

    #[test]
    fn a_pod_takes_what_the_network_may_want_to_know() {
        let line = "atoll-lab pod run shop/web --node 2 --label app=web --label tier= \
                    --annotation ovn.kubernetes.io/ip_address=10.16.0.9 --uid u --ifname net1 \
                    --interface blue --interface red";
        let cli = parse(line).unwrap();
        let Command::Pod(Pod::Run(run)) = cli.command else { panic!("{cli:?}") };
        let options = run.options();
        assert_eq!((options.node, options.ifname.as_str()), (2, "net1"));
        assert_eq!(options.labels["app"], "web");
        assert_eq!(options.labels["tier"], "");
        assert_eq!(options.annotations["ovn.kubernetes.io/ip_address"], "10.16.0.9");
        assert_eq!(options.annotations["net1.ovn.kubernetes.io/logical_switch"], "blue");
        assert_eq!(options.annotations["net2.ovn.kubernetes.io/logical_switch"], "red");
        assert_eq!(options.uid.as_deref(), Some("u"));
    }

    /// Two arguments of one command may not share an identifier with the global `--name`.
    #[test]
    fn the_lab_can_be_named_in_every_command() {
        for line in [
            "atoll-lab down --name x",
            "atoll-lab env --name x",
            "atoll-lab namespace shop --label a=b --name x",
            "atoll-lab pod run shop/web --node 1 --name x",
            "atoll-lab pod delete shop/web --name x",
            "atoll-lab nbctl --name x -- show",
            "atoll-lab vsctl 1 --name x -- show",
            "atoll-lab fault cut link/1:tunnel --name x",
        ] {
            assert_eq!(parse(line).unwrap().name.to_string(), "x", "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_found_before_anything_is_done() {
        for line in [
            "atoll-lab",
            "atoll-lab up --name Up",
            "atoll-lab up --kube-proxy iptables",
            "atoll-lab up --kubelets",
            "atoll-lab exec outside",
            "atoll-lab exec nowhere -- true",
            "atoll-lab pod run web --node 1",
            "atoll-lab pod run shop/web",
            "atoll-lab pod run shop/web --node 1 --label app",
            "atoll-lab fault kill everything",
            "atoll-lab fault tickle member/1",
            "atoll-lab namespace shop --label",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
