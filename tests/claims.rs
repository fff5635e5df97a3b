//! Compares README and docs with the program: counts, tables of settings, pasted output, command lines.
//!
//! A count is found by its noun: any number before " known mistakes" is compared. So a count needs no
//! mark, but another wording needs a line here.

// The numbers of a page are compared exactly with the program's.
#![allow(clippy::float_cmp)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use vsepp::data::scenes::{FEATURES, ScenesConfig, generate};
use vsepp::data::{Vocabulary, tokenize_all};
use vsepp::model::{Config, Kind, Preset};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

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

/// The code blocks of a page: what follows the opening fence, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((kind.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    blocks
}

/// The `text` block of a page that contains some words.
fn pasted(page_name: &str, words: &str) -> String {
    let found = blocks(&page(page_name)).into_iter().find(|(kind, text)| kind == "text" && text.contains(words));
    found.unwrap_or_else(|| panic!("{page_name}: no text block has {words:?}")).1
}

/// The cells of a page's table rows, each trimmed; rows of other tables too.
fn rows(page: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let line = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(line.split('|').map(|cell| cell.trim().to_owned()).collect())
    };
    page.lines().filter_map(cells).collect()
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

/// 12345 → `12,345`, as the pages write numbers.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
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
    let manifest: Value = serde_json::from_str(&page("fixtures/golden/manifest.json")).expect("JSON");
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
        wrong.extend(wrong_counts(&[(name.clone(), of_core)], &[(" cases there,", cases)]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // README must have these, so that a new wording cannot disable the test.
    for noun in [" small cases", " known mistakes", " problems, largest error", " awkward sentences"] {
        assert_eq!(counts(&pages[0].1, noun).len(), 1, "README.md: a number before {noun:?}");
    }
    assert!(page("README.md").contains("of ten whole models") && models == 10);

    // The test finds a wrong number.
    let spoiled = [("README.md".to_owned(), pages[0].1.replace(&format!("{cases} small"), "194 small"))];
    assert_eq!(wrong_counts(&spoiled, &nouns).len(), 1);
}

#[test]
fn the_table_of_flags_is_that_of_the_suite() {
    let mut flags: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases() {
        for flag in elements(&case["flags"]) {
            *flags.entry(format!("`{}`", flag.as_str().expect("a flag"))).or_default() += 1;
        }
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
fn the_tables_of_presets_and_settings_are_those_of_the_program() {
    let text = page("docs/training.md");
    let rows = rows(&text);
    let row = |name: &str| {
        let found = rows.iter().find(|row| row[0].split(", ").any(|cell| cell == format!("`{name}`")));
        found.unwrap_or_else(|| panic!("docs/training.md: no row for {name}"))
    };
    let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("docs/training.md: no number: {text}"));
    let yes = |on: bool| if on { "yes" } else { "no" };

    for (preset, name, _) in Preset::ALL {
        let mut config = Config { learning_rate: 0.5, margin: 0.5, ..Config::default() };
        config.apply(preset);
        let row = row(name);
        let loss = if config.max_violation { "MH" } else { "SH" };
        let expected = [loss, &config.measure.to_string(), yes(config.use_abs), yes(!config.no_imgnorm)];
        assert_eq!(row[1..5], expected, "docs/training.md: {name}");
        assert_eq!(number(&row[5]), config.margin, "docs/training.md: margin of {name}");
        let rate = if row[6] == "unchanged" { 0.5 } else { number(&row[6]) };
        assert_eq!(rate, config.learning_rate, "docs/training.md: learning rate of {name}");
    }

    let expected = table_of_settings();
    assert!(text.contains(&expected), "docs/training.md: expected the table\n{expected}");
}

/// The table of `docs/training.md`: one row for each setting.
fn table_of_settings() -> String {
    let mut table = "| flag | original | default | scenes | meaning |\n|---|---|---|---|---|\n".to_owned();
    for setting in Config::settings() {
        let value = |value: &Option<String>| match (value.as_deref(), setting.kind) {
            (Some("true"), Kind::Switch) => "on".to_owned(),
            (Some("false"), Kind::Switch) => "off".to_owned(),
            (value, _) => value.unwrap_or_default().to_owned(),
        };
        let default = match &setting.default {
            None if setting.unset.is_empty() => "none".to_owned(),
            None => setting.unset.to_owned(),
            default => value(default),
        };
        let (flag, help) = (&setting.flag, &setting.help);
        let (flags, is) = match (setting.off, setting.kind) {
            (Some((off, off_help)), _) => (format!("`--{flag}`, `--{off}`"), format!("{help}. {off_help}")),
            (None, Kind::Choice(names)) => {
                let names: Vec<String> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
                (format!("`--{flag}`"), format!("{help}: {}", names.join(", ")))
            }
            _ => (format!("`--{flag}`"), help.clone()),
        };
        let scenes = value(&setting.scenes);
        let cells = [&flags, setting.original, &default, &scenes, &is];
        let row: Vec<String> = cells.iter().map(|c| if c.is_empty() { " ".into() } else { format!(" {c} ") }).collect();
        table.extend(["|", &row.join("|"), "|\n"]);
    }
    table
}

#[test]
fn the_figures_of_the_scenes_are_those_of_the_program() {
    let config = ScenesConfig::default();
    let scenes = generate(&config);
    let captions = &scenes.train.captions;
    let tokens = tokenize_all(captions);
    let vocabulary = Vocabulary::of_tokens(&tokens, Config::scenes().word_threshold);
    let words: Vec<usize> = tokens.iter().map(Vec::len).collect();
    let mean = words.iter().sum::<usize>() as f64 / words.len() as f64;
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    tokens.iter().flatten().for_each(|word| *uses.entry(word).or_default() += 1);
    let rarest = uses.values().copied().min().unwrap_or(0);
    let rows = rows(&page("docs/scenes.md"));
    let cell = |name: &str| {
        let found = rows.iter().find(|row| row[0] == name);
        found.unwrap_or_else(|| panic!("docs/scenes.md: no row {name:?}"))[1].clone()
    };
    let images = [config.train, config.dev, config.test].map(thousands).join(", ");
    assert_eq!(cell("images: train, dev, test"), images);
    assert!(cell("captions").ends_with(&format!("{} to train on", thousands(captions.len()))));
    assert!(cell("image features").starts_with(&format!("F = {FEATURES} ")), "F is {FEATURES}");
    let distinct = vocabulary.len() - Vocabulary::SPECIAL.len();
    assert_eq!(cell("words"), format!("{distinct}; the rarest occurs {rarest} times in the training captions"));
    let longest = words.iter().max().copied().unwrap_or(0);
    let length = format!("{mean:.1} words on average, {longest} at most, without `<start>` and `<end>`");
    assert_eq!(cell("caption length"), length);
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
                let args: Vec<&str> = args.iter().map(String::as_str).chain(["--help"]).collect();
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
