//! One connection: one request, one response.

use std::{io, sync::Arc, time::Duration};

use atoll_cni_wire::{
    CniError, Code, Command, FrameError, LENGTH_BYTES, Request, Response, VERSION,
    check_container_id, check_ifname, decode, encode, frame_length,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, warn};

use super::{
    AddRequest, Attachments, CheckRequest, DelRequest, collect,
    job::{GRACE, Job},
    server::{Shared, check_peer},
};

/// How long a plugin may take to send its request or to read the response: it does both at once.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) async fn serve<A: Attachments>(mut stream: UnixStream, shared: Arc<Shared<A>>) {
    if let Err(stranger) = check_peer(&stream, shared.limits.uid) {
        // Nothing of theirs is read; whether they listen is their own business.
        let _ = write(&mut stream, &Response::Error(stranger)).await;
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
    let (name, begun) = (name(&request.command), Instant::now());
    let allowed = Duration::from_millis(request.deadline_ms).min(shared.limits.request_time_max);
    let deadline = Instant::now() + allowed;
    let answered = match request.command {
        Command::Add => add(request, deadline, shared).await,
        Command::Del => del(request, deadline, shared).await,
        Command::Check => check_attachment(request, deadline, shared).await,
        Command::Gc => collect::collect(request, deadline, shared).await,
        Command::Status => status(deadline, shared).await,
        other => Err(CniError::new(
            Code::NOT_PROVIDED,
            format!("{} is not provided by this release of the node agent", String::from(other)),
        )),
    };
    if let Some(name) = name {
        shared.meter.answered(name, begun.elapsed(), answered.as_ref().err());
    }
    answered.unwrap_or_else(Response::Error)
}

/// By which name a command is counted: whoever invents others makes no numbers.
fn name(command: &Command) -> Option<&'static str> {
    Some(match command {
        Command::Add => "ADD",
        Command::Del => "DEL",
        Command::Check => "CHECK",
        Command::Gc => "GC",
        Command::Status => "STATUS",
        _ => return None,
    })
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
    let (of_work, known) = (Arc::clone(shared), add.clone());
    let work = async move { of_work.attachments.add(add).await };
    let added = job.run_after(shared.attachments.known(&known), shared, work);
    Ok(Response::Added(added.await?))
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

async fn check_attachment<A: Attachments>(
    request: Request,
    deadline: Instant,
    shared: &Arc<Shared<A>>,
) -> Result<Response, CniError> {
    let check = CheckRequest::new(request, deadline).ok_or_else(|| {
        let message = "CHECK needs the sandbox's network namespace, the pod's name and namespace, \
                       and what ADD said";
        CniError::new(Code::INVALID_ENVIRONMENT, message)
    })?;
    let AddRequest { container_id, ifname, pod, .. } = check.attachment.clone();
    let what = format!("CHECK of pod {}/{}", pod.namespace, pod.name);
    let permits = Arc::clone(&shared.checks);
    let job = Job { what, container_id, ifname, deadline, permits };
    let of_work = Arc::clone(shared);
    let work = async move { of_work.attachments.check(check).await };
    job.run(shared, work).await?;
    Ok(Response::Checked)
}

/// Waits for nobody: an agent that is busy with pods is ready for more.
async fn status<A: Attachments>(
    deadline: Instant,
    shared: &Arc<Shared<A>>,
) -> Result<Response, CniError> {
    match timeout_at(deadline + GRACE, shared.attachments.status()).await {
        Ok(known) => known.map(|()| Response::Ready),
        Err(_) => Err(CniError::new(
            Code::NOT_AVAILABLE,
            "the node agent did not find out in time whether pods can be attached",
        )),
    }
}
