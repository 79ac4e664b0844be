//! The executable: parses the command line, starts the log and runs the command.

use std::process::ExitCode;

use codex_proxy::cli::Invocation;
use codex_proxy::config::Environment;

/// Faster than the system allocator for long request bodies, which are often freed by another thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut invocation = Invocation::parse(Environment::of_process());
    invocation.start_log();
    invocation.run().into()
}
