//! What tests have in place of the world: a store of one member in memory, an apiserver that
//! answers from a script, and one that listens.

mod apiserver;
mod listening;
mod store;

pub(crate) use apiserver::{Asked, apiserver};
pub(crate) use listening::listening;
pub(crate) use store::Fake;
