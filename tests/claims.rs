//! Compares README and docs with the program: counts, tables of settings, pasted output, command lines.
//!
//! A count is found by its noun: any number before " known mistakes" is compared. So a count needs no
//! mark, but another wording needs a line here.

mod pages;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use pages::{blocks, page, pasted, root, rows, thousands};
use serde_json::Value;

/// README, CONTRIBUTING and all pages of docs, by name.
fn pages() -> Vec<(String, String)> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let docs = docs.map(|path| format!("docs/{}", path.file_name().expect("a name").to_string_lossy()));
    let mut names: Vec<String> = ["README.md", "CONTRIBUTING.md"].map(String::from).into_iter().chain(docs).collect();
    names[2..].sort();
    assert!(names.len() > 10, "only {} pages", names.len());
    names.into_iter().map(|name| (name.clone(), page(&name))).collect()
}

/// Runs the program in a folder.
fn vsepp(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vsepp")).args(args).current_dir(folder).output().expect("the program runs")
}

/// The numbers directly before a noun, each with its line: "1,763" before " awkward sentences".
fn counts(text: &str, noun: &str) -> Vec<(usize, String)> {
    let number = |before: &str| -> String {
        let digits = before.bytes().rev().take_while(|b| b.is_ascii_digit() || *b == b',').count();
        before[before.len() - digits..].trim_start_matches(',').to_owned()
    };
    let found = text.match_indices(noun).map(|(at, _)| (text[..at].matches('\n').count() + 1, number(&text[..at])));
    found.filter(|(_, number)| !number.is_empty()).collect()
}

/// The wrong numbers before the nouns on the pages.
fn wrong_counts(pages: &[(String, String)], nouns: &[(&str, usize)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (noun, right) in nouns {
        let right = thousands(*right);
        for (name, text) in pages {
            for (line, found) in counts(text, noun) {
                if found != right {
                    wrong.push(format!("{name}:{line}: \"{found}{noun}\": the program has {right}"));
                }
            }
        }
    }
    wrong
}

/// What the program prints with --json, run in the root.
fn json(args: &[&str]) -> Value {
    let output = vsepp(&[args, &["--json"]].concat(), root());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The elements of a JSON array.
fn elements(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

/// The cases of the suite.
fn cases() -> Vec<Value> {
    cases_of("fixtures/golden")
}

fn cases_of(suite: &str) -> Vec<Value> {
    let manifest: Value = serde_json::from_str(&page(&format!("{suite}/manifest.json"))).expect("JSON");
    elements(&manifest["cases"]).to_vec()
}

#[test]
fn counts_are_those_of_the_program() {
    let cases = cases().len();
    let mistakes = elements(&json(&["golden", "list", "--mistakes"])).len();
    let gradcheck = json(&["gradcheck"]);
    let problems = elements(&gradcheck["problems"]);
    let models = problems.iter().filter(|problem| problem["problem"].as_str().expect("a name").starts_with("model, "));
    let (problems, models) = (problems.len(), models.count());
    let sentences = page("fixtures/tokenizer/awkward.txt").lines().count();
    let nouns = [
        (" small cases", cases),
        (" known mistakes", mistakes),
        (" planted mistakes", mistakes),
        (" mistakes in it", mistakes),
        (" mistakes is off", mistakes),
        (" were tried", mistakes),
        (" problems, largest error", problems),
        (" awkward sentences", sentences),
    ];
    let pages = pages();
    let mut wrong = wrong_counts(&pages, &nouns);
    for (name, text) in &pages {
        // Output of a check of the whole suite. Checks of other suites have other numbers.
        let of_core = text.lines().filter(|line| line.starts_with("suite core, ")).collect::<Vec<_>>().join("\n");
        wrong.extend(wrong_counts(&[(name.clone(), of_core)], &[(" cases found,", cases)]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // README must have these, so that a new wording cannot disable the test.
    for noun in [" small cases", " known mistakes", " problems, largest error", " awkward sentences"] {
        assert_eq!(counts(&pages[0].1, noun).len(), 1, "README.md: a number before {noun:?}");
    }
    assert!(page("README.md").contains("of fourteen whole models") && models == 14);

    // The test finds a wrong number.
    let spoiled = [("README.md".to_owned(), pages[0].1.replace(&format!("{cases} small"), "194 small"))];
    assert_eq!(wrong_counts(&spoiled, &nouns).len(), 1);
}

#[test]
fn the_table_of_flags_is_that_of_the_suite() {
    let counted = |cases: Vec<Value>| {
        let mut flags: BTreeMap<String, usize> = BTreeMap::new();
        for case in cases {
            for flag in elements(&case["flags"]) {
                *flags.entry(format!("`{}`", flag.as_str().expect("a flag"))).or_default() += 1;
            }
        }
        flags
    };
    let mut flags = counted(cases());
    // The table of the core suite comes first; the flags that only the suite of pictures has are in one of their own.
    for (flag, cases) in counted(cases_of("fixtures/golden-pictures")) {
        flags.entry(flag).or_insert(cases);
    }
    let rows = rows(&page("docs/golden.md"));
    for (flag, cases) in &flags {
        let row =
            rows.iter().find(|row| row[0] == *flag).unwrap_or_else(|| panic!("docs/golden.md: no row for {flag}"));
        assert_eq!(row[1], cases.to_string(), "docs/golden.md: cases with the flag {flag}");
    }
}

#[test]
fn the_figures_of_the_gradient_checks_are_those_of_the_program() {
    let gradcheck = json(&["gradcheck"]);
    let problems = elements(&gradcheck["problems"]);
    let number = |value: &Value| value.as_f64().expect("a number");
    let errors = problems.iter().flat_map(|problem| elements(&problem["blocks"])).map(|block| number(&block["error"]));
    let worst = errors.fold(0.0, f64::max);
    let ends = |problem: &Value| ["slope_min", "slope_max"].map(|end| problem["taylor"][end].as_f64());
    let slope = problems.iter().flat_map(ends).flatten().map(|slope| (slope - 2.0).abs()).fold(0.0, f64::max);
    let claim = format!("| gradients | {} problems, largest error {worst:.1e}, slopes 2.00 ± 0.01 |", problems.len());
    assert!(page("README.md").contains(&claim), "README.md: expected {claim}");
    assert!(slope <= 0.01, "a slope is off by {slope}");
}

#[test]
fn the_readmes_training_is_what_the_program_prints() {
    if cfg!(debug_assertions) {
        println!("skipped: the training is slow without --release");
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("fma") {
        println!("skipped: this processor has no fused multiply-add, so the numbers have other bits");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = vsepp(&["train"], folder.path());
    let found = String::from_utf8(output.stdout).expect("UTF-8");
    let expected = pasted("README.md", "best epoch");
    assert!(found.starts_with(&expected), "README.md has\n{expected}\nand `vsepp train` prints\n{found}");
    // The table in docs/training.md has the same sum.
    let rsum = found.lines().find_map(|line| line.trim().strip_prefix("rsum ")).expect("a line with rsum");
    assert!(page("docs/training.md").contains(&format!("**{rsum}**")), "docs/training.md: seed 0 of MH has {rsum}");
}

#[test]
fn every_command_line_has_flags_that_exist() {
    // With --help at its end a command is parsed and not run.
    let folder = tempfile::tempdir().expect("a folder");
    let mut tried = 0;
    for (name, text) in pages() {
        for (_, block) in blocks(&text).into_iter().filter(|(kind, _)| kind == "sh") {
            for line in block.lines() {
                let Some(args) = command(line) else { continue };
                // What comes after `--` is another program's.
                let own = args.iter().map(String::as_str).take_while(|arg| *arg != "--");
                let args: Vec<&str> = own.chain(["--help"]).collect();
                let output = vsepp(&args, folder.path());
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{name}: {line}\n{said}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 30, "only {tried} command lines found");
    let wrong = vsepp(&["train", "--margn", "0.1", "--help"], folder.path());
    assert_eq!(wrong.status.code(), Some(2), "a wrong flag before --help is refused");
}

/// The arguments of a line `vsepp …  # remark`, or of `cargo run --release -- …`.
fn command(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    let rest = line.strip_prefix("vsepp ").or_else(|| line.strip_prefix("cargo run --release -- "))?;
    let rest = rest.split(" #").next()?;
    let mut args: Vec<String> = vec![String::new()];
    let mut quoted = false;
    for c in rest.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => args.push(String::new()),
            c => args.last_mut()?.push(c),
        }
    }
    args.retain(|arg| !arg.is_empty());
    Some(args)
}

#[test]
fn numbers_and_commands_are_read() {
    assert_eq!(counts("a\nthe 1,763 awkward, all awkward", " awkward"), [(2, "1,763".to_owned())]);
    assert_eq!(command("vsepp search --run r \"two dogs\"  # find").unwrap(), ["search", "--run", "r", "two dogs"]);
    assert!(command("cargo test").is_none());
}
