//! Words that are said back, and who waits for them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{pause, tell, towards};

const KNOCK: Duration = Duration::from_millis(50);
const SPEAK: Duration = Duration::from_millis(20);
const MANY: Duration = Duration::from_millis(100);

/// How long somebody who knocks waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// A little after the kernel has begun anew: a call that is broken is seen by its reset.
const REDIAL: Duration = Duration::from_millis(300);

const WORD: &[u8; 4] = b"word";

pub(crate) fn echo(addresses: &[&str]) -> Result<()> {
    listen(addresses, echo_udp, echo_tcp)
}

/// Does so with what comes to each address, for ever.
pub(crate) fn listen(addresses: &[&str], udp: fn(&UdpSocket), tcp: fn(&TcpListener)) -> Result<()> {
    let mut ears = Vec::new();
    for address in addresses {
        let address: SocketAddr = address.parse()?;
        // Bound to the one address: answers have to come from it.
        let datagrams = UdpSocket::bind(address).context("cannot listen")?;
        let streams = TcpListener::bind(address).context("cannot listen")?;
        ears.push(thread::spawn(move || udp(&datagrams)));
        ears.push(thread::spawn(move || tcp(&streams)));
    }
    ears.into_iter().for_each(|ear| drop(ear.join()));
    Ok(())
}

fn echo_udp(socket: &UdpSocket) {
    let mut word = [0; 2048];
    loop {
        // The kernel tells of peers that are gone.
        if let Ok((length, from)) = socket.recv_from(&mut word) {
            let _ = socket.send_to(&word[..length], from);
        }
    }
}

fn echo_tcp(listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut word = [0; 2048];
            while let Ok(length) = stream.read(&mut word) {
                if length == 0 || stream.write_all(&word[..length]).is_err() {
                    return;
                }
            }
        });
    }
}

pub(crate) fn knock(at: SocketAddr) -> Result<()> {
    loop {
        thread::spawn(move || {
            if open(at, PATIENCE).is_ok_and(|mut stream| say(&mut stream).is_ok()) {
                let _ = tell();
            }
        });
        pause(KNOCK);
    }
}

fn open(to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE * 30))?;
    Ok(stream)
}

/// Says a word and waits for it.
fn say(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(WORD)?;
    stream.read_exact(&mut [0; WORD.len()])
}

pub(crate) fn call_tcp(to: SocketAddr) -> Result<()> {
    let mut stream = open(to, PATIENCE)?;
    loop {
        say(&mut stream)?;
        tell()?;
        pause(SPEAK);
    }
}

pub(crate) fn redial(to: SocketAddr) -> Result<()> {
    loop {
        let Ok(mut stream) = open(to, REDIAL) else { continue };
        while say(&mut stream).is_ok() {
            tell()?;
            pause(SPEAK);
        }
    }
}

pub(crate) fn call_udp(to: SocketAddr) -> Result<()> {
    let socket = towards(to)?;
    socket.connect(to)?;
    let ear = socket.try_clone()?;
    thread::spawn(move || {
        loop {
            match ear.recv(&mut [0; WORD.len()]) {
                Ok(_) => drop(tell()),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => pause(SPEAK),
            }
        }
    });
    loop {
        let _ = socket.send(WORD);
        pause(SPEAK);
    }
}

pub(crate) fn many(to: SocketAddr, streams: usize) -> Result<()> {
    let open_one = |_| Ok(open(to, PATIENCE)?);
    let streams = (0..streams).map(open_one).collect::<Result<Vec<_>>>()?;
    let talk = |mut stream: TcpStream| {
        while say(&mut stream).is_ok() {
            pause(MANY);
        }
    };
    let talks = streams.into_iter().map(|stream| thread::spawn(move || talk(stream)));
    talks.collect::<Vec<_>>().into_iter().for_each(|talk| drop(talk.join()));
    Ok(())
}
