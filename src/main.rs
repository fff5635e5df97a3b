//! The command line: parse, run, print, exit code.

mod cli;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use vsepp::escape;

fn main() -> ExitCode {
    let (result, json) = cli::run();
    let output = match result {
        Ok(output) => output,
        Err(error) => {
            vsepp::report::say(&format!("error: {error:#}"));
            return ExitCode::from(2);
        }
    };
    let text = if json { format!("{:#}\n", output.json) } else { output.text };
    // What comes from other people's files is shown, never obeyed.
    let text = if json { escape::json(&text) } else { escape::text(&text) };
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has seen enough (`vsepp vocab show | head`) is no error.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            vsepp::report::say(&format!("error: cannot write to stdout: {e}"));
            ExitCode::from(2)
        }
        _ => ExitCode::from(output.exit),
    }
}
