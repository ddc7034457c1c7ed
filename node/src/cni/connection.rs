//! One connection: one request, one response.

use std::{io, sync::Arc, time::Duration};

use atoll_cni_wire::{
    CniError, Code, Command, FrameError, LENGTH_BYTES, Request, Response, VERSION,
    check_container_id, check_ifname, decode, encode, frame_length,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, error, warn};

use super::{
    AddRequest, Attachments, DelRequest,
    server::{Shared, is_allowed},
};

/// How long a plugin may take to send its request or to read the response: it does both at once.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(5);

/// How much longer than its deadline a request is waited for, so that one that ends by its
/// deadline can say why. Less than what the plugin keeps for itself.
const GRACE: Duration = Duration::from_millis(200);

pub(super) async fn serve<A: Attachments>(mut stream: UnixStream, shared: Arc<Shared<A>>) {
    if !is_allowed(&stream, shared.limits.uid) {
        return;
    }
    let response = match read(&mut stream).await {
        Ok(request) => answer(request, &shared).await,
        // Another agent that looks whether this one lives.
        Err(FrameError::Closed) => return,
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "cannot read a CNI request");
            Response::Error(unreadable(&error))
        }
    };
    if let Err(error) = write(&mut stream, &response).await {
        // The plugin gave up; its runtime asks again.
        debug!(error = &error as &dyn std::error::Error, "nobody took a CNI response");
    }
}

async fn read(stream: &mut UnixStream) -> Result<Request, FrameError> {
    let reading = async {
        let mut prefix = [0; LENGTH_BYTES];
        stream.read_exact(&mut prefix).await.map_err(closed)?;
        let mut body = vec![0; frame_length(prefix)?];
        stream.read_exact(&mut body).await.map_err(closed)?;
        decode(&body)
    };
    timeout(TRANSFER_TIME_MAX, reading).await.unwrap_or_else(|elapsed| Err(io_error(elapsed)))
}

async fn write(stream: &mut UnixStream, response: &Response) -> Result<(), FrameError> {
    let frame = encode(response)?;
    let writing = timeout(TRANSFER_TIME_MAX, stream.write_all(&frame)).await;
    Ok(writing.map_err(io_error)??)
}

fn closed(error: io::Error) -> FrameError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Closed,
        _ => FrameError::Io(error),
    }
}

fn io_error(elapsed: tokio::time::error::Elapsed) -> FrameError {
    FrameError::Io(elapsed.into())
}

fn unreadable(error: &FrameError) -> CniError {
    let message = "the node agent cannot read the request; update plugin and agent alike";
    CniError::new(Code::DECODE_FAILURE, message).with_details(error.to_string())
}

async fn answer<A: Attachments>(request: Request, shared: &Arc<Shared<A>>) -> Response {
    if let Err(refused) = check(&request) {
        return Response::Error(refused);
    }
    let allowed = Duration::from_millis(request.deadline_ms).min(shared.limits.request_time_max);
    let deadline = Instant::now() + allowed;
    let answered = match request.command {
        Command::Add => add(request, deadline, shared).await,
        Command::Del => del(request, deadline, shared).await,
        other => Err(CniError::new(
            Code::NOT_PROVIDED,
            format!("{} is not provided by this release of the node agent", String::from(other)),
        )),
    };
    answered.unwrap_or_else(Response::Error)
}

fn check(request: &Request) -> Result<(), CniError> {
    if request.version != VERSION {
        let message = format!(
            "the plugin speaks version {} and the node agent version {VERSION} of their \
             protocol; update both alike",
            request.version
        );
        return Err(CniError::new(Code::WIRE_MISMATCH, message));
    }
    check_container_id(&request.container_id)
        .and_then(|()| check_ifname(&request.ifname))
        .map_err(|invalid| CniError::new(Code::INVALID_ENVIRONMENT, invalid.to_string()))
}

async fn add<A: Attachments>(
    request: Request,
    deadline: Instant,
    shared: &Arc<Shared<A>>,
) -> Result<Response, CniError> {
    let add = AddRequest::new(request, deadline).ok_or_else(|| {
        let message = "ADD needs the sandbox's network namespace and the pod's name and namespace";
        CniError::new(Code::INVALID_ENVIRONMENT, message)
    })?;
    let job = Job {
        what: format!("ADD of pod {}/{}", add.pod.namespace, add.pod.name),
        container_id: add.container_id.clone(),
        ifname: add.ifname.clone(),
        deadline,
        permits: Arc::clone(&shared.adds),
    };
    let of_work = Arc::clone(shared);
    let work = async move { of_work.attachments.add(add).await };
    Ok(Response::Added(job.run(shared, work).await?))
}

async fn del<A: Attachments>(
    request: Request,
    deadline: Instant,
    shared: &Arc<Shared<A>>,
) -> Result<Response, CniError> {
    let del = DelRequest::new(request, deadline);
    let job = Job {
        what: format!("DEL of container {}", del.container_id),
        container_id: del.container_id.clone(),
        ifname: del.ifname.clone(),
        deadline,
        permits: Arc::clone(&shared.dels),
    };
    let of_work = Arc::clone(shared);
    let work = async move { of_work.attachments.del(del).await };
    job.run(shared, work).await?;
    Ok(Response::Deleted)
}

/// Work for one attachment.
struct Job {
    /// For people.
    what: String,
    container_id: String,
    ifname: String,
    deadline: Instant,
    permits: Arc<Semaphore>,
}

impl Job {
    /// Waits for a permit and for its turn, both until the deadline; then does the work.
    async fn run<A: Attachments, T: Send + 'static>(
        self,
        shared: &Shared<A>,
        work: impl Future<Output = Result<T, CniError>> + Send + 'static,
    ) -> Result<T, CniError> {
        let waiting = async {
            // The turn first: what waits for its own predecessor must not hold up others.
            let turn = shared.turns.take(&self.container_id, &self.ifname).await;
            (turn, Arc::clone(&self.permits).acquire_owned().await)
        };
        let Ok((turn, permit)) = timeout_at(self.deadline, waiting).await else {
            return Err(self.not_begun());
        };
        let working = shared.running.spawn(async move {
            let result = work.await;
            drop((turn, permit));
            result
        });
        match timeout_at(self.deadline + GRACE, working).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => {
                error!(error = %panicked, what = self.what, "a CNI request ended in a panic");
                Err(self.panicked())
            }
            Err(_) => Err(self.still_running()),
        }
    }

    fn not_begun(&self) -> CniError {
        let message = format!(
            "{} was not begun: the node agent is busy with other requests; the runtime tries \
             again by itself",
            self.what
        );
        CniError::new(Code::TRY_AGAIN_LATER, message)
    }

    fn still_running(&self) -> CniError {
        let message = format!(
            "{} did not end in time and goes on, outcome unknown; the node agent's log says what \
             it waits for, and the runtime tries again by itself",
            self.what
        );
        CniError::new(Code::TRY_AGAIN_LATER, message)
    }

    fn panicked(&self) -> CniError {
        let message = format!(
            "{} met a defect of the node agent, outcome unknown; please report it with its log",
            self.what
        );
        CniError::new(Code::INTERNAL, message)
    }
}
