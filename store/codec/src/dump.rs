//! Reading and writing a dump object by object: the messages of a million pods are more memory than
//! their state, and to fill it costs more than to read or write the bytes.
//!
//! What is read is as in the live state: the names that many objects have in common are one text
//! each.

use std::collections::BTreeSet;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use atoll_model::{
    Dump, NamespaceName, NodeName, Object, Outcome, Owner, RequestId, Revision, SubnetName,
};
use prost::Message;
use prost::decode_length_delimiter as decode_varint;
use prost::encoding;

use crate::envelope::{self, Kind, Sealing};
use crate::txn::remembered;
use crate::{DecodeError, proto};

/// How an object begins: field 4, with a length.
const OBJECT: usize = 4 << 3 | 2;
/// So many objects are read by one thread: a second one would cost more than it saves.
const ALONE_MAX: usize = 10_000;

/// Writes a state section that reads as one of [`crate::encode_dump`], holding one object of it at a time.
#[derive(Debug)]
pub struct DumpWriter<W> {
    out: W,
    /// Where the section begins.
    at: u64,
    sealing: Sealing,
    buffer: Vec<u8>,
}

impl<W: Write + Seek> DumpWriter<W> {
    /// Begins a section where `out` stands, with all of `dump`; what it is too large to hold follows.
    ///
    /// # Errors
    ///
    /// `out` cannot be written.
    pub fn begin(mut out: W, dump: &Dump) -> io::Result<Self> {
        let at = out.stream_position()?;
        out.write_all(&[0; envelope::HEADER_BYTES])?;
        let sealing = Sealing::begin(Kind::Dump);
        let mut writer = Self { out, at, sealing, buffer: Vec::new() };
        proto::Dump::from(dump).encode(&mut writer.buffer).expect("a vector has room");
        writer.write()?;
        Ok(writer)
    }

    /// The next object; they come in the order of their keys.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn object(&mut self, object: &Object) -> io::Result<()> {
        encoding::message::encode(4, &proto::Object::from(object), &mut self.buffer);
        self.write()
    }

    /// The next remembered outcome; they come in the order of their revisions.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn outcome(&mut self, id: RequestId, at: Revision, outcome: &Outcome) -> io::Result<()> {
        encoding::message::encode(6, &remembered(id, at, outcome), &mut self.buffer);
        self.write()
    }

    /// Seals the section and gives `out` back, at the section's end.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        let end = self.out.stream_position()?;
        self.out.seek(SeekFrom::Start(self.at))?;
        self.out.write_all(&self.sealing.header())?;
        self.out.seek(SeekFrom::Start(end))?;
        Ok(self.out)
    }

    fn write(&mut self) -> io::Result<()> {
        self.sealing.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// The dump in the bytes of a `Dump` message. O(n log n) for the names among the n objects.
pub(crate) fn decode(body: &[u8]) -> Result<Dump, DecodeError> {
    let (objects, rest) = split(body)?;
    let mut dump: Dump = proto::Dump::decode(&*rest)?.try_into()?;
    dump.objects = read(&objects)?;
    Ok(dump)
}

/// The objects, in their order. Many are read by two threads, half of them each.
fn read(objects: &[&[u8]]) -> Result<Vec<Object>, DecodeError> {
    if objects.len() < ALONE_MAX {
        return read_alone(objects);
    }
    let (first, second) = objects.split_at(objects.len() / 2);
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| read_alone(second));
        (read_alone(first), second.join())
    });
    let mut all = first?;
    all.append(&mut second.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
    Ok(all)
}

fn read_alone(objects: &[&[u8]]) -> Result<Vec<Object>, DecodeError> {
    let mut names = Names::default();
    let object = |bytes: &&[u8]| Ok(names.share((&proto::Object::decode(*bytes)?).try_into()?));
    objects.iter().map(object).collect()
}

/// The bytes of each object, and those of all other fields, which are a message without objects.
fn split(body: &[u8]) -> Result<(Vec<&[u8]>, Vec<u8>), DecodeError> {
    let (mut objects, mut rest) = (Vec::new(), Vec::new());
    let mut left = body;
    while !left.is_empty() {
        let field = left;
        let key = decode_varint(&mut left)?;
        let length = match key & 7 {
            0 => decode_varint(&mut left).map(|_| 0)?,
            1 => 8,
            2 => decode_varint(&mut left)?,
            5 => 4,
            other => return Err(DecodeError::Protobuf(format!("wire type {other} in a dump"))),
        };
        let Some((content, behind)) = left.split_at_checked(length) else {
            return Err(DecodeError::Protobuf("a dump's field ends behind its bytes".into()));
        };
        left = behind;
        if key == OBJECT {
            objects.push(content);
        } else {
            rest.extend_from_slice(&field[..field.len() - left.len()]);
        }
    }
    Ok((objects, rest))
}

/// The names so far that many objects have in common.
#[derive(Default)]
struct Names {
    namespaces: BTreeSet<NamespaceName>,
    nodes: BTreeSet<NodeName>,
    subnets: BTreeSet<SubnetName>,
}

impl Names {
    /// The object, with the texts that were seen before.
    fn share(&mut self, mut object: Object) -> Object {
        match &mut object {
            Object::Pod(pod) => {
                if let Some(pod) = Arc::get_mut(pod) {
                    let spec = &mut pod.spec;
                    spec.key = spec.key.sharing(&known(&mut self.namespaces, spec.key.namespace()));
                    spec.node = known(&mut self.nodes, &spec.node);
                }
            }
            Object::Allocation(it) => {
                if let Some(it) = Arc::get_mut(it) {
                    it.subnet = known(&mut self.subnets, &it.subnet);
                    if let Owner::Pod(key, _) = &mut it.owner {
                        *key = key.sharing(&known(&mut self.namespaces, key.namespace()));
                    }
                }
            }
            _ => {}
        }
        object
    }
}

/// The first of all names that are equal to `name`.
fn known<T: Ord + Clone>(names: &mut BTreeSet<T>, name: &T) -> T {
    if let Some(known) = names.get(name) {
        return known.clone();
    }
    names.insert(name.clone());
    name.clone()
}
