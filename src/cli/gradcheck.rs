//! `vsepp gradcheck`

use crate::gradcheck::{DIRECTIONS, SLOPES, TOLERANCE, all};
use crate::report::gradcheck_table;
use anyhow::Result;
use serde_json::json;

use super::{Output, busy};

/// Checks the gradient of every layer and of whole models: complex steps on every number, Taylor
/// remainders along random directions. Exit code 1 if one fails.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Also print a line for every block of numbers
    #[arg(long)]
    blocks: bool,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let bar = busy("checking".into());
    let reports = all(|report| bar.set_message(format!("{}: done", report.problem)))?;
    bar.finish_and_clear();
    let passed = reports.iter().all(|report| report.passed);
    let json = json!({
        "passed": passed,
        "tolerance": TOLERANCE,
        "slopes": [SLOPES.start(), SLOPES.end()],
        "directions": DIRECTIONS,
        "problems": reports,
    });
    Ok(Output { text: gradcheck_table(&reports, args.blocks), json, exit: u8::from(!passed) })
}
