//! The command line: flags, log, command, exit code.

use std::process::ExitCode;

use codex_proxy::cli::Call;
use codex_proxy::config::Environment;

/// Long bodies come and go, on whatever thread has time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut call = Call::parse(Environment::of_process());
    call.start_log();
    call.run().into()
}
