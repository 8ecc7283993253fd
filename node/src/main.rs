//! The `carrack` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    carrack::cli::main()
}
