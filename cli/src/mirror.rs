//! `atollctl mirror`: whose frames are copied to a node's `mirror0`.

use std::io::Write as _;

use atoll_api::Client;
use atoll_api::proto::Kind;
use atoll_model::{MirrorTarget, Object, Operation};
use clap::Subcommand;

use crate::Failure;
use crate::arguments::Format;
use crate::change::{carried_out, said};
use crate::key;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Mirror {
    /// Shows whose frames are copied by order; pods may also ask for it themselves.
    List,
    /// Copies what it sends and receives, from now on; it need not be there yet.
    #[command(
        after_help = "Examples:\n  atollctl mirror on node/n1\n  atollctl mirror on pod/shop/web"
    )]
    On {
        /// `node/NAME` (all its pods) or `pod/NAMESPACE/NAME`.
        #[arg(value_parser = key::mirror)]
        target: MirrorTarget,
    },
    /// Ends the copying.
    #[command(after_help = "Example:\n  atollctl mirror off pod/shop/web")]
    Off {
        /// `node/NAME` or `pod/NAMESPACE/NAME`.
        #[arg(value_parser = key::mirror)]
        target: MirrorTarget,
    },
}

pub(crate) async fn run(client: &Client, mirror: &Mirror, format: Format) -> Result<(), Failure> {
    let (target, operation, what) = match mirror {
        Mirror::List => return list(client, format).await,
        Mirror::On { target } => (target, Operation::PutMirror(target.clone()), "on"),
        Mirror::Off { target } => (target, Operation::DeleteMirror(target.clone()), "off"),
    };
    carried_out(client.txn(Vec::new(), vec![operation]).await?)?;
    said("mirror", &key::of_mirror(target), what, format)
}

async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let read = client.read(&[Kind::Mirror], None).await?;
    let targets = read.objects.into_iter().filter_map(|object| match object {
        Object::Mirror(mirror) => Some(key::of_mirror(&mirror.target)),
        _ => None,
    });
    let mut targets = targets.peekable();
    if targets.peek().is_none() && matches!(format, Format::Table | Format::Wide) {
        writeln!(std::io::stdout(), "nothing is mirrored by order")?;
    }
    targets.try_for_each(|target| said("mirror", &target, "on", format))
}
