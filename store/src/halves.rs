//! Two pieces of pure work at a time. What comes of it is what comes of one after the other.

/// So many objects are the work of one thread: a second one would cost more than it saves. Tests
/// meet it at once.
const ALONE_MAX: usize = if cfg!(test) { 12 } else { 10_000 };

/// What both of two works give, which go over `objects` objects: many of them in two threads.
pub(crate) fn both<A, B: Send>(
    objects: usize,
    one: impl FnOnce() -> A,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    if objects <= ALONE_MAX {
        return (one(), other());
    }
    std::thread::scope(|scope| {
        let other = scope.spawn(other);
        let one = one();
        (one, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
