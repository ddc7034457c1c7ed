//! What tests have in place of the world: a store of one member in memory, and an apiserver that
//! answers from a script.

mod apiserver;
mod store;

pub(crate) use apiserver::{Asked, apiserver};
pub(crate) use store::Fake;
