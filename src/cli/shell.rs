//! `vsepp completions` and `vsepp man`

use std::path::PathBuf;

use crate::escape;
use crate::files::write_atomically;
use anyhow::{Context, Result};
use clap::CommandFactory;
use serde_json::json;

use super::load::check_free;
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
    /// Overwrite existing pages
    #[arg(long, requires = "dir")]
    force: bool,
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
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let pages = pages(&command)?;
        let pages: Vec<(PathBuf, Vec<u8>)> = pages.into_iter().map(|(name, page)| (dir.join(name), page)).collect();
        std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot make the folder", escape::path(dir)))?;
        // Check all files before the first is written.
        for (path, _) in &pages {
            check_free(path, args.force)?;
        }
        for (path, page) in &pages {
            write_atomically(path, page)?;
        }
        let text = format!("manual pages in {}\n", escape::path(dir));
        return Ok(Output::done(text, json!({ "folder": escape::json_path(dir) })));
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    let page = String::from_utf8_lossy(&page).into_owned();
    let json = json!({ "page": page });
    Ok(Output::done(page, json))
}

/// Names and pages of a command and of all its subcommands.
fn pages(command: &clap::Command) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        all.extend(pages(command)?);
    }
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    all.push((man.get_filename(), page));
    Ok(all)
}
