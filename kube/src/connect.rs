//! Which apiserver, and as whom.

use std::path::PathBuf;

use atoll_model::{NameError, Uid};
use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Config};

use crate::objects;

/// How the apiserver is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connect {
    /// With a file as kubectl has it, and the context that it calls current.
    Kubeconfig(PathBuf),
    /// As a pod of the cluster, with its service account.
    InCluster,
}

/// Why the apiserver cannot be spoken with.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file cannot be used.
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// No service account is there.
    #[error("no service account is found here")]
    InCluster(#[from] kube::config::InClusterError),
    /// It does not answer, or not as it should.
    #[error("the apiserver does not answer")]
    Apiserver(#[source] Box<kube::Error>),
    /// It has no `kube-system` with a uid.
    #[error("the apiserver says who it is in a way that cannot be read")]
    Identity(#[from] NameError),
}

impl From<kube::Error> for ConnectError {
    fn from(error: kube::Error) -> Self {
        Self::Apiserver(Box::new(error))
    }
}

impl Connect {
    /// A client. Nothing is sent yet, and files are read anew each time.
    pub(crate) async fn client(&self) -> Result<Client, ConnectError> {
        let config = match self {
            Self::Kubeconfig(path) => {
                let file = Kubeconfig::read_from(path)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
            }
            Self::InCluster => Config::incluster()?,
        };
        Ok(Client::try_from(config)?)
    }
}

/// Which apiserver it is, or rather which etcd behind it: the uid of `kube-system`.
pub(crate) async fn identity(client: &Client) -> Result<Uid, ConnectError> {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let system = namespaces.get("kube-system").await?;
    Ok(Uid::new(objects::uid(&system.metadata))?)
}
