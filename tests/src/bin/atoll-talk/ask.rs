//! Many places asked at once, each once: who is answered, and as whom.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{pause, towards};

/// How many are asked at a time.
const AT_ONCE: usize = 48;

/// A datagram, or its answer, may be lost: it is said again.
const AGAIN: Duration = Duration::from_millis(300);

/// Room for what is said in a datagram: who asks, and whom.
const WORD: usize = 128;

/// Answers each datagram with the address that it comes from, and says once what it said.
pub(crate) fn seen_udp(socket: &UdpSocket) {
    let (mut word, mut heard) = ([0; WORD], BTreeSet::new());
    loop {
        // The kernel tells of peers that are gone.
        let Ok((length, from)) = socket.recv_from(&mut word) else { continue };
        let said = String::from_utf8_lossy(&word[..length]).into_owned();
        if heard.insert(said.clone()) {
            let _ = writeln!(std::io::stdout(), "{said}");
        }
        let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
    }
}

/// Answers each stream with the address that it comes from.
pub(crate) fn seen_tcp(listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        if let Ok(from) = stream.peer_addr() {
            let _ = stream.write_all(from.ip().to_string().as_bytes());
        }
    }
}

/// A line for each target, in their order: the target, and what it answered, `-` for nothing.
pub(crate) fn ask(who: &str, patience: Duration, targets: &[&str]) -> Result<()> {
    let (next, answers) = (AtomicUsize::new(0), Mutex::new(vec![None; targets.len()]));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(target) = targets.get(index) else { return anyhow::Ok(()) };
            let answer = one(who, target, patience)?;
            answers.lock().ok().context("a thread panicked")?[index] = answer;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|it| it.join().ok().context("a thread panicked")?)
    })?;
    let answers = answers.into_inner().ok().context("a thread panicked")?;
    let mut out = std::io::stdout().lock();
    for (target, answer) in targets.iter().zip(answers) {
        writeln!(out, "{target} {}", answer.as_deref().unwrap_or("-"))?;
    }
    Ok(())
}

fn one(who: &str, target: &str, patience: Duration) -> Result<Option<String>> {
    match target.split_once('/').context("PROTOCOL/ADDRESS")? {
        ("udp", to) => ask_udp(&format!("{who} {target}"), to.parse()?, patience),
        // A refusal, a reset and silence are all no answer.
        ("tcp", to) => Ok(ask_tcp(to.parse()?, patience).ok()),
        ("icmp", to) => ask_icmp(to, patience),
        (other, _) => bail!("{other}: udp, tcp or icmp"),
    }
}

fn ask_udp(saying: &str, to: SocketAddr, patience: Duration) -> Result<Option<String>> {
    let (socket, until) = (towards(to)?, Instant::now() + patience);
    // Answers of others than who was asked are none.
    socket.connect(to)?;
    socket.set_read_timeout(Some(AGAIN))?;
    let mut word = [0; WORD];
    while Instant::now() < until {
        // The kernel tells that nobody is there, or of a rule against it: also in place of sending.
        let heard = socket.send(saying.as_bytes()).and_then(|_| socket.recv(&mut word));
        match heard {
            Ok(length) => return Ok(Some(String::from_utf8_lossy(&word[..length]).into_owned())),
            Err(_) => pause(AGAIN / 10),
        }
    }
    Ok(None)
}

fn ask_tcp(to: SocketAddr, patience: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Who asks by an echo request is not told as whom.
fn ask_icmp(to: &str, patience: Duration) -> Result<Option<String>> {
    let seconds = patience.as_secs().to_string();
    let mut ping = Command::new("ping");
    ping.args(["-n", "-c", "1", "-i", "0.3", "-w", &seconds, to]);
    let status = ping.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    Ok(status.context("ping cannot be started")?.success().then(|| "answered".to_owned()))
}
