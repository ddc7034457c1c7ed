//! Netlink sockets inside a network namespace.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    sched::{CloneFlags, setns},
};
use rtnetlink::Handle;
use tokio::sync::oneshot;

/// Longest time that one piece of work may take. The kernel answers within microseconds, under
/// memory pressure or with `rtnl_lock` held by others within seconds.
const WORK_TIME_MAX: Duration = Duration::from_secs(10);

/// A network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// The one that the calling thread is in: the node's.
    Own,
    /// One that is mounted or held under a path, as the container runtime names it.
    At(PathBuf),
}

/// Netlink sockets on the two sides of a pod's sandbox. In [`Namespace::Own`] both are the same.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// In the namespace of the caller.
    pub outside: Handle,
    /// In the namespace that was asked for. The thread itself is there as well.
    pub inside: Handle,
}

/// Why no work could be done in a namespace.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// There is no namespace at this path (any more): nothing was done.
    #[error("there is no network namespace at {path}")]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path is not a network namespace, or may not be entered: nothing was done.
    #[error("cannot enter {path} as a network namespace")]
    Enter {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path leads to the namespace that the caller is in, the node's own: nothing was done.
    #[error("{path} is the node's own network namespace, not a pod's")]
    Node {
        /// The path.
        path: PathBuf,
    },
    /// A thread, a runtime or a netlink socket could not be made: nothing was done.
    #[error("cannot make {what}")]
    Setup {
        /// What could not be made.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The work did not end in time; how far it came is unknown.
    #[error("the kernel did not answer within {} s, outcome unknown", WORK_TIME_MAX.as_secs())]
    TimedOut,
    /// The thread ended without a result: a defect; how far it came is unknown.
    #[error("the thread in the namespace panicked, outcome unknown")]
    Panicked,
}

impl Namespace {
    /// Runs `work` on a thread of its own inside the namespace.
    ///
    /// Once started, the work goes on to its end even if the returned future is dropped: half a
    /// plumbed pod is worse than a late one, and `WORK_TIME_MAX` bounds it.
    ///
    /// Costs one thread: about 100 µs.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`], converted; otherwise whatever `work` returns.
    pub async fn run<T, E, F, W>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(Sockets) -> W + Send + 'static,
        W: Future<Output = Result<T, E>>,
        T: Send + 'static,
        E: From<NamespaceError> + Send + 'static,
    {
        let namespace = self.clone();
        let (sender, receiver) = oneshot::channel();
        let body = move || {
            // The caller may have gone away; the work is done all the same.
            let _ = sender.send(namespace.run_here(work));
        };
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn(body)
            .map_err(|source| NamespaceError::Setup { what: "a thread", source })?;
        receiver.await.unwrap_or_else(|_| Err(NamespaceError::Panicked.into()))
    }

    /// Moves this thread into the namespace and does the work: only for a thread of our own.
    fn run_here<T, E, F, W>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(Sockets) -> W,
        W: Future<Output = Result<T, E>>,
        E: From<NamespaceError>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| NamespaceError::Setup { what: "a runtime", source })?;
        runtime.block_on(async {
            let sockets = self.open().map_err(E::from)?;
            let worked = tokio::time::timeout(WORK_TIME_MAX, work(sockets)).await;
            worked.unwrap_or_else(|_| Err(NamespaceError::TimedOut.into()))
        })
    }

    fn open(&self) -> Result<Sockets, NamespaceError> {
        let outside = open_socket()?;
        let inside = match self {
            Self::Own => outside.clone(),
            Self::At(path) => {
                enter(path)?;
                open_socket()?
            }
        };
        Ok(Sockets { outside, inside })
    }
}

/// A socket in the namespace of this thread, driven by this thread's runtime.
fn open_socket() -> Result<Handle, NamespaceError> {
    let (connection, handle, _) = rtnetlink::new_connection()
        .map_err(|source| NamespaceError::Setup { what: "a netlink socket", source })?;
    tokio::spawn(connection);
    Ok(handle)
}

fn enter(path: &Path) -> Result<(), NamespaceError> {
    let file = open(path)?;
    if is_own(&file).map_err(|source| cannot_enter(path, source))? {
        return Err(NamespaceError::Node { path: path.to_owned() });
    }
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| cannot_enter(path, errno.into()))
}

/// Whether the file stands for the namespace that this thread is in.
fn is_own(file: &File) -> io::Result<bool> {
    let (there, here) = (file.metadata()?, std::fs::metadata("/proc/thread-self/ns/net")?);
    Ok((there.dev(), there.ino()) == (here.dev(), here.ino()))
}

fn cannot_enter(path: &Path, source: io::Error) -> NamespaceError {
    match source.kind() {
        io::ErrorKind::NotFound => NamespaceError::Absent { path: path.to_owned(), source },
        _ => NamespaceError::Enter { path: path.to_owned(), source },
    }
}

/// Opens the file that stands for a namespace.
pub(crate) fn open(path: &Path) -> Result<File, NamespaceError> {
    // A pipe under this path would be waited for until somebody writes.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    opened.map_err(|source| cannot_enter(path, source))
}
