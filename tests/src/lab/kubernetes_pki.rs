//! The certificates of a lab's Kubernetes: an authority of its own, which knows nothing of Atoll.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::names::{node_address, node_address6};

/// Whoever may do everything.
pub(super) const ADMIN: &str = "admin";
/// kube-controller-manager, by the name for which Kubernetes has a role.
pub(super) const CONTROLLERS: &str = "system:kube-controller-manager";
/// As [`CONTROLLERS`].
pub(super) const SCHEDULER: &str = "system:kube-scheduler";
/// Each node's kube-proxy; as [`CONTROLLERS`].
pub(super) const PROXY: &str = "system:kube-proxy";
/// Members of Atoll, by the name for which `deploy/kubernetes/rbac.yaml` has a role.
pub(super) const MEMBERS: &str = "atolld";

/// The group of kubelets.
const NODES: &str = "system:nodes";

/// A kubelet, by the name that tells Kubernetes what is its own.
pub(super) fn node(name: &str) -> String {
    format!("system:node:{name}")
}

/// The group of those who may do everything.
const MASTERS: &str = "system:masters";

/// The first address of the services' range: in the cluster, the apiserver is there.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// A file of the control plane in `dir`.
pub(super) fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join("pki").join(name)
}

/// With what `user` speaks to the apiserver.
pub(super) fn kubeconfig(dir: &Path, user: &str) -> PathBuf {
    file(dir, &format!("{}.kubeconfig", base(user)))
}

/// With what members would speak to the apiserver, if somebody stands between ([`detour`]).
pub(super) fn direct_kubeconfig(dir: &Path) -> PathBuf {
    file(dir, &format!("{MEMBERS}-direct.kubeconfig"))
}

/// From now on members find the apiserver at another port of its host. Idempotent.
pub(super) fn detour(dir: &Path, address: Ipv4Addr, port: u16) -> Result<()> {
    let (config, direct) = (kubeconfig(dir, MEMBERS), direct_kubeconfig(dir));
    if !direct.exists() {
        fs::copy(&config, &direct).context("cannot keep the members' kubeconfig")?;
    }
    let text = fs::read_to_string(&direct)?;
    let text = text.replace(&server(address, PORT), &server(address, port));
    fs::write(config, text).context("cannot change the members' kubeconfig")
}

/// Where the apiserver listens.
const PORT: u16 = 6443;

fn server(address: Ipv4Addr, port: u16) -> String {
    format!("https://{address}:{port}")
}

/// Makes the authority and all certificates, and a kubeconfig for each user, the kubelets of the
/// nodes up to `kubelets` among them.
pub(super) fn set_up(dir: &Path, address: Ipv4Addr, kubelets: u8) -> Result<()> {
    fs::create_dir_all(file(dir, "")).context("cannot make the directory of certificates")?;
    let authority = authority()?;
    write(dir, "ca.crt", &authority.pem())?;

    let mut serving = named("kubernetes", None);
    serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    serving.subject_alt_names = [address, SERVICE, Ipv4Addr::LOCALHOST]
        .map(|it| SanType::IpAddress(IpAddr::V4(it)))
        .to_vec();
    issue(dir, &authority, "serving", serving)?;

    let accounts = KeyPair::generate()?;
    write(dir, "sa.key", &accounts.serialize_pem())?;
    write(dir, "sa.pub", &accounts.public_key_pem())?;

    let user = |name: &str, group| (named(name, group), name.to_owned());
    let others = [CONTROLLERS, SCHEDULER, PROXY, MEMBERS].map(|name| user(name, None));
    let kubelets = (1..=kubelets).map(|index| {
        let (mut params, name) = user(&node(&format!("n{index}")), Some(NODES));
        // It serves as well: `kubectl exec` and `logs` come to it through the apiserver.
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let addresses = [node_address(index).into(), node_address6(index).into()];
        params.subject_alt_names = addresses.map(SanType::IpAddress).to_vec();
        (params, name)
    });
    let admin = user(ADMIN, Some(MASTERS));
    for (mut client, user) in [admin].into_iter().chain(others).chain(kubelets) {
        client.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let user = user.as_str();
        issue(dir, &authority, base(user), client)?;
        let path = |name: &str| file(dir, name).display().to_string();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{ "name": "lab", "cluster": {
                "server": server(address, PORT),
                "certificate-authority": path("ca.crt"),
            } }],
            "users": [{ "name": user, "user": {
                "client-certificate": path(&format!("{}.crt", base(user))),
                "client-key": path(&format!("{}.key", base(user))),
            } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": user } }],
        });
        fs::write(kubeconfig(dir, user), config.to_string())?;
    }
    Ok(())
}

/// A user's name as a file's.
fn base(user: &str) -> &str {
    user.rsplit(':').next().unwrap_or(user)
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = named("kubernetes-ca", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn named(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params
}

fn issue(
    dir: &Path,
    authority: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    params: CertificateParams,
) -> Result<()> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    write(dir, &format!("{name}.crt"), &certificate.pem())?;
    write(dir, &format!("{name}.key"), &key.serialize_pem())
}

fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    let path = file(dir, name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
