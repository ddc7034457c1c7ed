//! `atolld`, with the bugs that `ATOLL_MUTANT` names: only for the tests that must see them.

use std::process::ExitCode;

#[path = "main.rs"]
mod member;

fn main() -> ExitCode {
    member::main()
}
