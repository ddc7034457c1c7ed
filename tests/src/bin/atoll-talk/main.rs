//! What pods of the tests say to each other, where `ping` does not do: streams that go the other way
//! than they were opened, and floods.
//!
//! ```text
//! atoll-talk push udp|tcp PORT            answers the first word of each peer with one every 10 ms
//! atoll-talk pull udp|tcp ADDRESS:PORT    opens such a stream; a line with the time for each word
//! atoll-talk flood ADDRESS:PORT RATE SECONDS BYTES
//! atoll-talk hear PORT                    a line with the time for each datagram
//! atoll-talk echo ADDRESS:PORT ...        answers datagrams and streams with what they say
//! atoll-talk seen ADDRESS:PORT ...        answers both with the address that they come from; a line
//!                                         for each datagram that says what none said before
//! atoll-talk ask WHO SECONDS TARGET ...   asks udp/ADDRESS:PORT, tcp/... and icmp/ADDRESS at once;
//!                                         a line for each with what it answered in that time.
//!                                         Datagrams say WHO and TARGET
//! atoll-talk knock ADDRESS:PORT           a new stream every 50 ms; a line for each that is answered
//! atoll-talk call udp|tcp ADDRESS:PORT    says a word every 20 ms; a line for each that is answered
//! atoll-talk redial ADDRESS:PORT          as call tcp, and begins anew whenever that ends
//! atoll-talk many ADDRESS:PORT STREAMS    so many streams, a word every 100 ms in each
//! atoll-talk capture                      a line for each frame that came in from the network
//! atoll-talk pour ADDRESS:PORT            a stream, as fast as it goes
//! atoll-talk drain udp|tcp PORT           takes what comes, and says nothing
//! ```
//!
//! Times are milliseconds since 1970.

mod ask;
mod capture;
mod echo;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

const PACE: Duration = Duration::from_millis(10);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["push", "udp", port] => push_udp(&bound(port)?),
        ["push", "tcp", port] => push_tcp(port),
        ["pull", "udp", to] => pull_udp(to.parse()?),
        ["pull", "tcp", to] => pull_tcp(to.parse()?),
        ["flood", to, rate, seconds, bytes] => {
            flood(to.parse()?, rate.parse()?, seconds.parse()?, bytes.parse()?)
        }
        ["hear", port] => hear(&bound(port)?),
        ["echo", ref at @ ..] => echo::echo(at),
        ["seen", ref at @ ..] => echo::listen(at, ask::seen_udp, ask::seen_tcp),
        ["ask", who, seconds, ref targets @ ..] => {
            ask::ask(who, Duration::from_secs(seconds.parse()?), targets)
        }
        ["knock", at] => echo::knock(at.parse()?),
        ["call", "udp", to] => echo::call_udp(to.parse()?),
        ["call", "tcp", to] => echo::call_tcp(to.parse()?),
        ["redial", to] => echo::redial(to.parse()?),
        ["many", to, streams] => echo::many(to.parse()?, streams.parse()?),
        ["capture"] => capture::capture(),
        ["pour", to] => pour(to.parse()?),
        ["drain", "udp", port] => drain_udp(&bound(port)?),
        ["drain", "tcp", port] => drain_tcp(port),
        _ => bail!("atoll-talk push|pull|flood|hear|pour|drain|echo|...: see its source"),
    }
}

/// A socket for both families.
fn bound(port: &str) -> Result<UdpSocket> {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port.parse()?)).context("cannot listen")
}

/// A socket of the family of `to`.
pub(crate) fn towards(to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).context("no socket")
}

#[expect(clippy::disallowed_methods, reason = "a pace is no wait for anything")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

pub(crate) fn tell() -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    writeln!(std::io::stdout(), "{now}")?;
    Ok(())
}

fn push_udp(socket: &UdpSocket) -> Result<()> {
    let mut word = [0; 64];
    let (_, peer) = socket.recv_from(&mut word)?;
    loop {
        // The kernel tells of an address that is gone; it may come back.
        let _ = socket.send_to(b"word", peer);
        pause(PACE);
    }
}

fn push_tcp(port: &str) -> Result<()> {
    let (mut stream, _) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port.parse()?))?.accept()?;
    stream.set_nodelay(true)?;
    loop {
        stream.write_all(b"word")?;
        pause(PACE);
    }
}

fn pull_udp(to: SocketAddr) -> Result<()> {
    let socket = towards(to)?;
    socket.send_to(b"open", to)?;
    hear(&socket)
}

fn pull_tcp(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    let mut word = [0; 4096];
    while stream.read(&mut word)? > 0 {
        tell()?;
    }
    Ok(())
}

fn hear(socket: &UdpSocket) -> Result<()> {
    let mut word = [0; 2048];
    loop {
        socket.recv_from(&mut word)?;
        tell()?;
    }
}

/// The other side may need a moment until it listens.
fn pour(to: SocketAddr) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(5);
    let mut stream = loop {
        match TcpStream::connect(to) {
            Err(_) if Instant::now() < until => pause(PACE),
            connected => break connected.context("nobody listens")?,
        }
    };
    let words = vec![0; 64 << 10];
    loop {
        stream.write_all(&words)?;
    }
}

fn drain_udp(socket: &UdpSocket) -> Result<()> {
    let mut word = [0; 2048];
    loop {
        socket.recv_from(&mut word)?;
    }
}

fn drain_tcp(port: &str) -> Result<()> {
    let (mut stream, _) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port.parse()?))?.accept()?;
    let mut words = vec![0; 64 << 10];
    while stream.read(&mut words)? > 0 {}
    Ok(())
}

/// Says at the end how many were sent.
fn flood(to: SocketAddr, rate: u32, seconds: u64, bytes: usize) -> Result<()> {
    let socket = towards(to)?;
    let begun = Instant::now();
    let (word, mut sent) = (vec![0; bytes], 0_u128);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let due = begun.elapsed().as_micros() * u128::from(rate) / 1_000_000;
        while sent < due {
            // What the kernel cannot take now is not sent later.
            let _ = socket.send_to(&word, to);
            sent += 1;
        }
        pause(Duration::from_millis(1));
    }
    writeln!(std::io::stdout(), "{sent}")?;
    Ok(())
}
