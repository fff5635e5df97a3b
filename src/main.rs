//! The program; everything is in [`vsepp::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    vsepp::cli::main()
}
