//! Stands between members and a kube-apiserver, and does to what passes what it is told.
//!
//! It ends the members' TLS and speaks to the apiserver as the user of a kubeconfig, so that it sees
//! what passes. Orders are `atoll_tests::apiserver_faults::Faults`.

mod cut;
mod orders;
mod pass;
mod tamper;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use orders::Desk;
use pass::Proxy;

/// Stands between members and an apiserver.
#[derive(Debug, Parser)]
#[command(about, disable_help_subcommand = true)]
struct Arguments {
    /// Where members come.
    #[arg(long)]
    listen: SocketAddr,
    /// What it shows them (PEM).
    #[arg(long)]
    certificate: PathBuf,
    /// Its key (PEM).
    #[arg(long)]
    key: PathBuf,
    /// How the apiserver is reached, and as whom.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Where it is told what to do: a unix socket, which is made.
    #[arg(long)]
    orders: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let acceptor = TlsAcceptor::from(Arc::new(tls(&arguments.certificate, &arguments.key)?));
    let client = client(&arguments.kubeconfig).await?;
    let listener = TcpListener::bind(arguments.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let desk = Desk::default();
    let proxy = Arc::new(Proxy { client, desk: desk.clone() });
    tokio::spawn(orders::listen(desk, arguments.orders));
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(meet(stream, acceptor.clone(), proxy.clone()));
    }
}

/// One connection, until either end has enough of it.
async fn meet(stream: TcpStream, acceptor: TlsAcceptor, proxy: Arc<Proxy>) {
    stream.set_nodelay(true).ok();
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let answer = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.answer(request).await) }
    });
    // An error is a fault that was ordered, or a member that went away.
    http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.ok();
}

fn tls(certificate: &Path, key: &Path) -> Result<ServerConfig> {
    let shown = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // Who comes is whoever the lab gave its kubeconfig.
    Ok(versions?.with_no_client_auth().with_single_cert(shown, key)?)
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    // How long a watch may be silent is for its reader to say.
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}
