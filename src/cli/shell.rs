//! `vsepp completions` and `vsepp man`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use serde_json::json;

use super::{Cli, Output};

/// Prints completions for a shell.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  vsepp completions bash > ~/.local/share/bash-completion/completions/vsepp")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

/// Prints the manual page of the program, or writes one for every command.
#[derive(clap::Args, Debug)]
pub(crate) struct ManArgs {
    /// Write vsepp.1, vsepp-train.1, … into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Output {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vsepp", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let json = json!({ "shell": args.shell.to_string(), "script": script });
    Output::done(script, json)
}

pub(crate) fn man(args: &ManArgs) -> Result<Output> {
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot make the folder", dir.display()))?;
        clap_mangen::generate_to(Cli::command(), dir).with_context(|| format!("{}: cannot write", dir.display()))?;
        return Ok(Output::done(format!("manual pages in {}\n", dir.display()), json!({ "folder": dir })));
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    let page = String::from_utf8_lossy(&page).into_owned();
    let json = json!({ "page": page });
    Ok(Output::done(page, json))
}
