//! What the runtime says in the environment.

use atoll_cni_wire::{check_container_id, check_ifname};

use crate::error::PluginError;

/// The `CNI_…` variables as they are; nothing is checked yet, because which ones are needed
/// depends on the command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    pub(crate) command: Option<String>,
    container_id: Option<String>,
    netns: Option<String>,
    ifname: Option<String>,
    args: Option<String>,
}

/// One checked attachment: which interface of which sandbox of which pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) container_id: String,
    pub(crate) ifname: String,
    pub(crate) netns: Option<String>,
    pub(crate) pod: Pod,
}

/// The pod that the runtime names in `CNI_ARGS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) uid: Option<String>,
}

impl Call {
    /// Takes the variables through `variable`; an empty one counts as missing.
    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name| variable(name).filter(|value| !value.is_empty());
        Self {
            command: get("CNI_COMMAND"),
            container_id: get("CNI_CONTAINERID"),
            netns: get("CNI_NETNS"),
            ifname: get("CNI_IFNAME"),
            args: get("CNI_ARGS"),
        }
    }

    /// The attachment to make or to check: everything must be there.
    pub(crate) fn to_add(&self) -> Result<Attachment, PluginError> {
        let attachment = self.checked(&[("CNI_NETNS", &self.netns)])?;
        let Pod { namespace, name, .. } = &attachment.pod;
        let pod = [("K8S_POD_NAMESPACE", namespace), ("K8S_POD_NAME", name)];
        let names: Vec<_> =
            pod.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
        if names.is_empty() { Ok(attachment) } else { Err(PluginError::PodNotNamed { names }) }
    }

    /// The attachment to take away: the namespace may be gone and the pod unnamed.
    pub(crate) fn to_delete(&self) -> Result<Attachment, PluginError> {
        self.checked(&[])
    }

    fn checked(&self, also: &[(&'static str, &Option<String>)]) -> Result<Attachment, PluginError> {
        let mut needed =
            vec![("CNI_CONTAINERID", &self.container_id), ("CNI_IFNAME", &self.ifname)];
        needed.extend_from_slice(also);
        let names: Vec<_> =
            needed.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
        let (Some(container_id), Some(ifname), true) =
            (&self.container_id, &self.ifname, names.is_empty())
        else {
            return Err(PluginError::MissingVariables { names });
        };
        check_container_id(container_id)
            .map_err(|problem| PluginError::InvalidVariable { name: "CNI_CONTAINERID", problem })?;
        check_ifname(ifname)
            .map_err(|problem| PluginError::InvalidVariable { name: "CNI_IFNAME", problem })?;
        Ok(Attachment {
            container_id: container_id.clone(),
            ifname: ifname.clone(),
            netns: self.netns.clone(),
            pod: Pod::from_args(self.args.as_deref().unwrap_or_default())?,
        })
    }
}

impl Pod {
    /// Reads `K=V;K=V`. Other keys are the runtime's business and are passed over.
    fn from_args(args: &str) -> Result<Self, PluginError> {
        let mut pod = Self::default();
        for pair in args.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(PluginError::MalformedArgs { pair: pair.to_owned() });
            };
            let value = Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "K8S_POD_NAMESPACE" => pod.namespace = value,
                "K8S_POD_NAME" => pod.name = value,
                "K8S_POD_UID" => pod.uid = value,
                _ => {}
            }
        }
        Ok(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(variables: &[(&str, &str)]) -> Call {
        Call::from_variables(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn all_missing_variables_are_named_at_once() {
        let error = call(&[("CNI_IFNAME", "eth0"), ("CNI_NETNS", "")]).to_add().unwrap_err();
        let PluginError::MissingVariables { names } = error else { panic!("{error}") };
        assert_eq!(names, ["CNI_CONTAINERID", "CNI_NETNS"]);
    }

    #[test]
    fn a_delete_needs_neither_namespace_nor_pod() {
        let attachment =
            call(&[("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")]).to_delete().unwrap();
        assert_eq!(attachment.netns, None);
        assert_eq!(attachment.pod, Pod::default());
    }

    #[test]
    fn the_pod_is_found_among_arguments_of_others() {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=;X=a=b";
        let pod = Pod::from_args(args).unwrap();
        assert_eq!((pod.namespace.as_deref(), pod.name.as_deref()), (Some("ns"), Some("p")));
        assert_eq!(pod.uid, None);
        assert!(Pod::from_args("K8S_POD_NAME").is_err());
    }
}
