//! The command line: flags, log, command, exit code.

use std::process::ExitCode;

use codex_proxy::cli::Call;
use codex_proxy::config::Environment;

fn main() -> ExitCode {
    let mut call = Call::parse(Environment::of_process());
    call.start_log();
    call.run().into()
}
