//! The command line: parse, run, print, exit code.

mod cli;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (result, json) = cli::run();
    let output = match result {
        Ok(output) => output,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    let text = if json { format!("{:#}\n", output.json) } else { output.text };
    // A reader that has seen enough (`vsepp vocab show | head`) is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(output.exit)
}
