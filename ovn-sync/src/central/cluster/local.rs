//! Where a southbound in a cluster listens for nodes, and as whom it takes them.
//!
//! A role can be given to those who come in a row only. In the southbound itself that row would be
//! everybody's, with one address for all servers, each of which writes into it who is connected. So
//! each server has a second database for its own row, made anew at each start. It knows the tables by
//! which OVSDB asks what a role may do, and nothing is in them: over the network nobody writes there.

use std::path::{Path, PathBuf};

use super::super::database::{DatabaseError, tool};
use super::super::network::Network;
use super::super::southbound::{INACTIVITY_PROBE_MS, ROLE};

/// The remote that is all rows that the one row of `Config` names.
pub(super) const CONNECTIONS: &str = "db:Atoll_Local,Config,connections";

const SCHEMA: &str = r#"{
    "name": "Atoll_Local",
    "version": "1.0.0",
    "tables": {
        "Config": {
            "isRoot": true,
            "columns": {
                "connections": {
                    "type": {
                        "key": {"type": "uuid", "refTable": "Connection"},
                        "min": 0,
                        "max": "unlimited"
                    }
                }
            }
        },
        "Connection": {
            "columns": {
                "target": {"type": "string"},
                "role": {"type": "string"},
                "inactivity_probe": {"type": {"key": "integer", "min": 0, "max": 1}}
            }
        },
        "RBAC_Role": {"isRoot": true, "columns": {"name": {"type": "string"}}}
    }
}
"#;

/// The file.
#[derive(Debug)]
pub(super) struct LocalDatabase {
    path: PathBuf,
    schema: PathBuf,
}

impl LocalDatabase {
    pub(super) fn new(run_dir: &Path) -> Self {
        Self { path: run_dir.join("local.db"), schema: run_dir.join("local.ovsschema") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it anew: a server with it listens as `network` says.
    pub(super) async fn make(&self, network: &Network) -> Result<(), DatabaseError> {
        let write = |source| DatabaseError::Write { path: self.path.clone(), source };
        std::fs::write(&self.schema, SCHEMA).map_err(write)?;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(write(error)),
            Ok(()) | Err(_) => {}
        }
        let (path, schema) = (self.path.as_os_str(), self.schema.as_os_str());
        tool("create", &[path, schema]).await?;
        let row = serde_json::json!([
            "Atoll_Local",
            {
                "op": "insert",
                "table": "Connection",
                "uuid-name": "connection",
                "row": {
                    "target": network.listen(),
                    "role": ROLE,
                    "inactivity_probe": INACTIVITY_PROBE_MS,
                },
            },
            {
                "op": "insert",
                "table": "Config",
                "row": { "connections": ["named-uuid", "connection"] },
            },
        ]);
        tool("transact", &[path, row.to_string().as_ref()]).await.map(drop)
    }
}
