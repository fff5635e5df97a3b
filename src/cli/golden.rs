//! `vsepp golden`

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::escape;
use crate::files::write_atomically;
use crate::golden::cases::{self, Case};
use crate::golden::check::{CheckOptions, check_against, check_file};
use crate::golden::custom;
use crate::golden::make::{self, MakeOptions};
use crate::golden::pictures::layout::PictureLayout;
use crate::golden::suite::{Format, Suite};
use crate::golden::tolerance::Profile;
use crate::interop::Layout;
use crate::report::{golden_case, golden_list, golden_mistakes, golden_report, golden_tensor, tensor_of, thousands};
use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;

use super::load::check_free;
use super::profile::ProfileName;
use super::{Output, note};

/// Check a backend against golden values, and find where it goes wrong
#[derive(clap::Args, Debug)]
#[command(after_help = "A backend reads in.* and param.* of every case, computes, and writes OUT/<case>.safetensors\n\
                  or .npz. Its tensors have the names of the expected ones; it may leave some out.\n\
                  Start with docs/validate-a-backend.md.\n\n\
                  Examples:\n  \
                  vsepp golden list\n  \
                  vsepp golden show model-vsepp\n  \
                  vsepp golden check OUT --profile f32 --report report.html\n  \
                  vsepp golden check OUT --suite fixtures/golden-pictures --layout nhwc-hwio\n  \
                  vsepp golden fuzz --seeds 1000 --out smallest -- python mine.py\n  \
                  vsepp golden make --inputs mine.safetensors --config model.toml --out expected.safetensors\n  \
                  vsepp golden check mine-out.safetensors --expected expected.safetensors")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// The cases of a suite, or the mistakes that the diagnosis knows
    List {
        /// Folder of the suite
        #[arg(long, value_name = "DIR", default_value = "fixtures/golden")]
        suite: PathBuf,
        /// The known mistakes instead, with what they are and how to fix them
        #[arg(long)]
        mistakes: bool,
    },
    /// A case: settings, flags, tensors, tolerances; or the numbers of one tensor
    Show {
        /// The case
        case: String,
        /// Print this tensor's numbers
        #[arg(long, value_name = "NAME")]
        tensor: Option<String>,
        /// Folder of the suite
        #[arg(long, value_name = "DIR", default_value = "fixtures/golden")]
        suite: PathBuf,
    },
    /// Write a suite, or the expected values of your own parameters and batch
    Make(MakeArgs),
    /// Compare a backend's output with the expected values; exit code 1 if it differs
    Check(CheckArgs),
    /// Try random cases on a backend, and find the smallest on which it is wrong
    Fuzz(super::fuzz::Args),
}

#[derive(clap::Args, Debug)]
struct MakeArgs {
    /// Folder of the suite to write; with --inputs, the file (.safetensors)
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Which suite
    #[arg(long, value_enum, default_value = "core", conflicts_with = "inputs")]
    suite: SuiteName,
    /// Only these cases
    #[arg(long, value_name = "ID", conflicts_with = "inputs")]
    case: Vec<String>,
    /// Your own model and batch: param.*, in.images [B, F], in.captions [B, T], in.lengths [B]
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Its settings in TOML: the train flags in snake case, and `steps` [default: vse++, one step]
    #[arg(long, value_name = "FILE", requires = "inputs")]
    config: Option<PathBuf>,
    /// Format of the suite's files
    #[arg(long, value_enum, default_value = "safetensors", conflicts_with = "inputs")]
    format: FormatName,
    /// Add the GRU's weights in this library's layout, as `layout.NAME.l{k}.*`: cudnn, onnx, webnn-rzn,
    /// webnn-zrn, keras, flax, mlx, burn or onednn. For the suite pictures: pictures and kernels with their axes in
    /// this order, as `layout.NAME.*`: nhwc-hwio, nhwc-ohwi or nhwc-oihw
    #[arg(long, value_name = "NAME")]
    layout: Vec<String>,
    /// Measure the tolerances of these profiles only [default: all; for large cases f64 and f32]
    #[arg(long, value_enum, value_name = "PROFILE")]
    profile: Vec<ProfileName>,
    /// Leave out the GRU's values at every step [default for the paper suite]
    #[arg(long, conflicts_with = "steps")]
    no_steps: bool,
    /// Write the GRU's values at every step of the paper suite too (a gigabyte per case)
    #[arg(long)]
    steps: bool,
    /// Overwrite existing files: the file, or the files of a suite in the folder (others stay)
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args, Debug)]
struct CheckArgs {
    /// The backend's output: a folder of <case>.safetensors or .npz, or one file with --expected
    found: PathBuf,
    /// Folder of the suite
    #[arg(long, value_name = "DIR", default_value = "fixtures/golden", conflicts_with = "expected")]
    suite: PathBuf,
    /// The file that `golden make --inputs` wrote, instead of a suite
    #[arg(long, value_name = "FILE", conflicts_with = "case")]
    expected: Option<PathBuf>,
    /// The precision in which the backend computes
    #[arg(long, value_enum, default_value = "f32")]
    profile: ProfileName,
    /// Only these cases
    #[arg(long, value_name = "ID")]
    case: Vec<String>,
    /// Treat missing tensors and cases as failures; out.unsupported = [1] excuses the backend from an input
    /// that must be refused and that it cannot take
    #[arg(long)]
    complete: bool,
    /// The order of the axes of the backend's pictures and kernels: nhwc-hwio, nhwc-ohwi or nhwc-oihw [default: as
    /// in the suite, nchw-oihw]
    #[arg(long, value_name = "NAME", conflicts_with = "expected")]
    layout: Option<PictureLayout>,
    /// Try every known mistake on large cases too, which takes a long time
    #[arg(long)]
    diagnose: bool,
    /// Also write an HTML report
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Overwrite an existing report
    #[arg(long, requires = "report")]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum SuiteName {
    /// The suite of `fixtures/golden`: small cases that show every known mistake
    Core,
    /// Whole models of the paper's size: V 11,755, E 300, H 1024, F 4096, B 128; minutes for each
    Paper,
    /// The suite of `fixtures/golden-pictures`: the layers of image encoders, and small encoders
    Pictures,
    /// One program at a time at the paper's size, in seconds
    Wide,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    /// One safetensors file per case
    Safetensors,
    /// One npz file per case
    Npz,
}

pub(crate) fn run(args: Args) -> Result<Output> {
    match args.action {
        Action::List { mistakes: true, .. } => {
            let all = crate::golden::mistakes::ALL;
            let json = all.iter().map(|d| json!({ "id": d.id, "says": d.says, "fix": d.fix })).collect();
            Ok(Output::done(golden_mistakes(), json))
        }
        Action::List { suite, .. } => {
            let suite = open(&suite)?;
            Ok(Output::done(golden_list(&suite.manifest), serde_json::to_value(&suite.manifest)?))
        }
        Action::Show { case, tensor, suite } => show(&open(&suite)?, &case, tensor.as_deref()),
        Action::Make(args) => make(args),
        Action::Check(args) => check(args),
        Action::Fuzz(args) => super::fuzz::run(args),
    }
}

fn open(folder: &Path) -> Result<Suite> {
    let hint = || format!("{}: expected a suite; `vsepp golden make --out DIR` writes one", escape::path(folder));
    Suite::open(folder).with_context(hint)
}

fn show(suite: &Suite, id: &str, tensor: Option<&str>) -> Result<Output> {
    let entry = suite.manifest.cases.iter().find(|case| case.id == id);
    let entry = entry.with_context(|| format!("there is no case {id}; `vsepp golden list` shows all"))?;
    let Some(name) = tensor else {
        return Ok(Output::done(golden_case(entry, &suite.manifest), serde_json::to_value(entry)?));
    };
    let case = suite.load(entry)?;
    let values = tensor_of(&case, name)
        .with_context(|| format!("case {id} has no tensor {name}; `vsepp golden show {id}` shows all"))?;
    // JSON has no NaN; it becomes null.
    let numbers: Vec<Option<f64>> = values.iter().map(|&x| Some(x).filter(|x| x.is_finite())).collect();
    let json = json!({ "case": id, "tensor": name, "shape": values.shape(), "values": numbers });
    Ok(Output::done(golden_tensor(name, values), json))
}

/// A bar that counts cases.
fn counting(cases: usize, what: &'static str) -> ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}");
    let bar = ProgressBar::new(cases as u64).with_message(what);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

fn make(args: MakeArgs) -> Result<Output> {
    let mut profiles: Vec<Profile> = args.profile.iter().map(|&name| name.into()).collect();
    profiles.sort_unstable();
    profiles.dedup();
    if let Some(inputs) = &args.inputs {
        return make_own(&args, inputs, &profiles);
    }
    let [paper, wide] = [SuiteName::Paper, SuiteName::Wide].map(|name| name == args.suite);
    let name = match args.suite {
        SuiteName::Core => "core",
        SuiteName::Paper => "paper",
        SuiteName::Pictures => "pictures",
        SuiteName::Wide => "wide",
    };
    if profiles.is_empty() {
        profiles = if paper || wide { vec![Profile::F64, Profile::F32] } else { Profile::ALL.to_vec() };
    }
    check_folder_free(&args.out, &[], args.force)?;
    let mut all = match args.suite {
        SuiteName::Core => cases::core()?,
        SuiteName::Paper => cases::paper(),
        SuiteName::Pictures => cases::of_pictures()?,
        SuiteName::Wide => cases::wide(),
    };
    let (mut layouts, mut of_pictures): (Vec<Layout>, Vec<PictureLayout>) = (Vec::new(), Vec::new());
    for layout in &args.layout {
        if matches!(args.suite, SuiteName::Pictures) {
            of_pictures.push(layout.parse()?);
        } else {
            layouts.push(layout.parse()?);
        }
    }
    if let Some(unknown) = args.case.iter().find(|id| all.iter().all(|case| case.id != **id)) {
        anyhow::bail!("there is no case {unknown} in this suite");
    }
    all.retain(|case| args.case.is_empty() || args.case.contains(&case.id));
    let format = if matches!(args.format, FormatName::Npz) { Format::Npz } else { Format::Safetensors };
    let files: Vec<String> = all.iter().map(|case| format!("{}.{}", case.id, format.extension())).collect();
    check_folder_free(&args.out, &files, args.force)?;
    let options = MakeOptions {
        profiles: &profiles,
        layouts: &layouts,
        of_pictures: &of_pictures,
        steps: if paper { args.steps } else { !args.no_steps },
        kills: matches!(args.suite, SuiteName::Core | SuiteName::Pictures),
        single: true,
        wide,
    };
    let bar = counting(all.len(), "computing");
    let manifest = make::write(&args.out, name, &all, format, options, |_| bar.inc(1))?;
    bar.finish_and_clear();
    let tensors: usize = manifest.cases.iter().map(|case| case.tensors.len()).sum();
    let text = format!(
        "{}: suite {name}, {} cases, {} tensors\n",
        escape::path(&args.out),
        manifest.cases.len(),
        thousands(tensors)
    );
    let json = json!({ "out": escape::json_path(&args.out), "suite": name, "cases": manifest.cases.len(), "tensors": tensors });
    Ok(Output::done(text, json))
}

/// # Errors
///
/// If the manifest or one of these files exists, without `force`.
fn check_folder_free(folder: &Path, files: &[String], force: bool) -> Result<()> {
    if !folder.exists() && !folder.is_symlink() {
        return Ok(());
    }
    anyhow::ensure!(folder.is_dir(), "{}: expected a folder, or nothing yet", escape::path(folder));
    let manifest = ["manifest.json", "manifest.schema.json"];
    manifest
        .into_iter()
        .chain(files.iter().map(String::as_str))
        .try_for_each(|file| check_free(&folder.join(file), force))
}

/// The expected values of the user's own parameters and batch.
fn make_own(args: &MakeArgs, inputs: &Path, profiles: &[Profile]) -> Result<Output> {
    let extension = args.out.extension().and_then(|e| e.to_str()).unwrap_or_default();
    anyhow::ensure!(
        extension == "safetensors",
        "--out {}: expected a name that ends in .safetensors (it holds the tolerances too)",
        escape::path(&args.out)
    );
    check_free(&args.out, args.force)?;
    let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    anyhow::ensure!(!same(inputs, &args.out), "--out {}: expected another file than --inputs", escape::path(&args.out));
    let case: Case = custom::read(inputs, args.config.as_deref())?;
    let not_single = case.inputs.iter().find(|(_, tensor)| !is_single(tensor));
    if let Some((name, _)) = not_single {
        note(&format!("{name}: some numbers are not exact in f32, so an f32 backend starts from rounded numbers"));
    }
    for blind in blind_spots(&case) {
        note(blind);
    }
    let large = case.inputs.values().map(ndarray::ArrayD::len).sum::<usize>() > 1 << 19;
    let profiles = match profiles {
        [] if large => &[Profile::F64, Profile::F32],
        [] => &Profile::ALL[..],
        given => given,
    };
    let layouts: Vec<Layout> = args.layout.iter().map(|layout| layout.parse()).collect::<Result<_, _>>()?;
    let bar = super::busy("computing, and measuring tolerances".into());
    let options = MakeOptions {
        profiles,
        layouts: &layouts,
        of_pictures: &[],
        steps: !args.no_steps,
        kills: false,
        single: not_single.is_none(),
        wide: false,
    };
    let written = case.make(options).with_context(|| escape::path(inputs))?;
    make::write_file(&args.out, &written.tensors, &written.entry, Format::Safetensors)?;
    bar.finish_and_clear();
    let expected = written.entry.tensors.iter().filter(|t| !t.is_input()).count();
    let kink = written.entry.margins.kink();
    let mut text = format!("{}: {expected} expected tensors\n", escape::path(&args.out));
    if kink < 1e-5 {
        let what = if kink == 0.0 {
            "two hardest negatives tie, or a hinge is exactly 0".into()
        } else {
            format!("a hinge is {kink:.0e} from its kink")
        };
        let _ =
            writeln!(text, "{what}: gradients on either side are accepted if the precision cannot distinguish them");
    }
    let json = json!({ "out": escape::json_path(&args.out), "tensors": expected, "margins": written.entry.margins });
    Ok(Output::done(text, json))
}

/// Mistakes that the captions of a batch cannot show.
fn blind_spots(case: &Case) -> Vec<&'static str> {
    let lengths: Vec<f64> = case.inputs.get("in.lengths").map(|x| x.iter().copied().collect()).unwrap_or_default();
    let mut spots = Vec::new();
    if lengths.windows(2).all(|pair| pair[0].total_cmp(&pair[1]).is_eq()) {
        spots.push("all captions have the same length: mistakes with padding cannot show in this batch");
    } else if lengths.windows(2).all(|pair| pair[0] >= pair[1]) {
        spots.push(
            "the captions are sorted by length: if the row order is not restored, that cannot show in this batch",
        );
    }
    spots
}

/// Whether every number is an `f32` (or not finite).
#[allow(clippy::cast_possible_truncation)] // that is the question
fn is_single(tensor: &ndarray::ArrayD<f64>) -> bool {
    tensor.iter().all(|&x| !x.is_finite() || f64::from(x as f32).to_bits() == x.to_bits())
}

fn check(args: CheckArgs) -> Result<Output> {
    let options = CheckOptions { cases: args.case, complete: args.complete, diagnose_large: args.diagnose };
    let profile = args.profile.into();
    if let Some(path) = &args.report {
        check_free(path, args.force)?;
    }
    let report = if let Some(expected) = &args.expected {
        check_file(expected, &args.found, profile, &options)?
    } else {
        let suite = open(&args.suite)?;
        let bar = counting(suite.manifest.cases.len(), "checking");
        let report = check_against(&suite, &args.found, profile, &options, args.layout, |_| bar.inc(1))?;
        bar.finish_and_clear();
        report
    };
    if let Some(path) = &args.report {
        write_atomically(path, crate::report::golden_page(&report).as_bytes())?;
        note(&format!("the report is in {}", escape::path(path)));
    }
    Ok(Output { text: golden_report(&report), json: serde_json::to_value(&report)?, exit: u8::from(!report.passed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_of_a_suite_is_overwritten_without_force() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a.safetensors".to_owned()];
        let check = |force| check_folder_free(folder.path(), &files, force).map_err(|e| e.to_string());
        std::fs::write(folder.path().join("b.safetensors"), "mine").unwrap();
        assert_eq!(check(false), Ok(()), "what is not touched is in nobody's way");
        for file in ["a.safetensors", "manifest.schema.json", "manifest.json"] {
            let path = folder.path().join(file);
            std::fs::write(&path, "mine").unwrap();
            assert!(check(false).unwrap_err().ends_with(&format!("{file}: already exists; --force overwrites it")));
            assert_eq!(check(true), Ok(()));
            std::fs::remove_file(path).unwrap();
        }
        assert!(check_folder_free(&folder.path().join("b.safetensors"), &files, true).is_err());
    }
}
