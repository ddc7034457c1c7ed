//! Members and etcd side by side: the reports `bench-cluster` and `failover`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use atoll_tests::bench::cluster::{Cluster, System};
use atoll_tests::bench::{failover, throughput};
use atoll_tests::report::Report;
use clap::{Parser, Subcommand};

/// Measures real members and a real etcd; the reports go to target/report.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Throughput and latency: the report `bench-cluster`.
    Cluster {
        /// Seconds of each point.
        #[arg(long, env = "ATOLL_BENCH_SECONDS", default_value_t = 3.0)]
        seconds: f64,
        /// How often each point is measured.
        #[arg(long, env = "ATOLL_BENCH_ROUNDS", default_value_t = 5)]
        rounds: usize,
        /// Without TLS, with it, or both.
        #[arg(long, env = "ATOLL_BENCH_TLS", value_delimiter = ',', default_value = "off,on")]
        tls: Vec<Tls>,
        /// Only these numbers of clients.
        #[arg(long, env = "ATOLL_BENCH_CLIENTS", value_delimiter = ',')]
        clients: Vec<usize>,
    },

    /// Leaders that die, stop or freeze, and members that come back: the report `failover`.
    Failover {
        /// Leaders killed at each size.
        #[arg(long, env = "ATOLL_FAILOVER_KILLS", default_value_t = 100)]
        kills: usize,
        /// Leaders of etcd killed at each size, for comparison.
        #[arg(long, env = "ATOLL_FAILOVER_ETCD_KILLS", default_value_t = 100)]
        etcd_kills: usize,
        /// Leaders stopped with SIGTERM.
        #[arg(long, env = "ATOLL_FAILOVER_STOPS", default_value_t = 20)]
        stops: usize,
        /// Allocations that are there before.
        #[arg(
            long,
            env = "ATOLL_FAILOVER_SIZES",
            value_delimiter = ',',
            default_value = "10,100000,1000000"
        )]
        sizes: Vec<u64>,
        /// Seconds that a leader is frozen.
        #[arg(long, env = "ATOLL_FAILOVER_FROZEN", default_value_t = 30)]
        frozen: u64,
        /// Minutes of full load.
        #[arg(long, env = "ATOLL_SOAK_MINUTES", default_value_t = 30.0)]
        soak: f64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Tls {
    Off,
    On,
}

// One thread: as the servers, it shares the processors, and should take little of them.
#[allow(clippy::float_arithmetic, reason = "minutes, from the command line")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    for system in [System::Atoll, System::Etcd] {
        let program = Cluster::program(system);
        anyhow::ensure!(program.exists(), "{} is not built; `make` does it", program.display());
    }
    let report = match arguments.command {
        Command::Cluster { seconds, rounds, tls, clients } => {
            let mut report = Report::new("bench-cluster", "make bench-cluster");
            let plan = throughput::Plan {
                point: Duration::try_from_secs_f64(seconds)?,
                rounds,
                is_secure: tls.iter().map(|it| *it == Tls::On).collect(),
                only: clients,
            };
            throughput::run(&plan, &mut report).await?;
            report
        }
        Command::Failover { kills, etcd_kills, stops, sizes, frozen, soak } => {
            let mut report = Report::new("failover", "make failover");
            let plan = failover::Plan {
                kills,
                etcd_kills,
                stops,
                sizes,
                frozen: Duration::from_secs(frozen),
                soak: Duration::try_from_secs_f64(soak * 60.0)?,
            };
            failover::run(&plan, &mut report).await?;
            report
        }
    };
    writeln!(std::io::stdout(), "{}", report.table())?;
    report.save()?;
    let failures = report.failures();
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
