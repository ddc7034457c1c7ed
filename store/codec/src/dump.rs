//! Reading a dump.
//!
//! Object by object: the messages of a million pods are more memory than their state, and to fill
//! it costs more than to read the bytes. And as the live state does it: the names that many objects
//! have in common are one text each.

use std::collections::BTreeSet;
use std::sync::Arc;

use atoll_model::{Dump, NamespaceName, NodeName, Object, Owner, SubnetName};
use prost::Message;
use prost::decode_length_delimiter as decode_varint;

use crate::{DecodeError, proto};

/// How an object begins: field 4, with a length.
const OBJECT: usize = 4 << 3 | 2;
/// So many objects are read by one thread: a second one would cost more than it saves.
const ALONE_MAX: usize = 10_000;

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
