//! The table of `docs/02-equations.md` and the comments of `src/` hold the same equations, as text, and
//! every row of the table has a file and a test that exist.
//!
//! A label is `(GRU-1)`, or `(GRU-1′)` for the backward line: two capital letters or more, a hyphen,
//! digits, in parentheses. One letter makes no label: `(B-1)` is a difference, and (P-1) and (T-1) are
//! the tokenizer's own, listed in its module docs.
//!
//! An equation in `src/` is a comment that begins with a label and **two** spaces. It ends at the end of
//! the line or before three spaces, after which a remark may follow:
//!
//! ```text
//! // (GRU-2)  z = σ(a_z + c_z)          update gate
//! ```
//!
//! Each must be an equation of its row. Each equation of a row must be in the row's file, in a `//`
//! comment at a line of code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/02-equations.md";
/// Its labels are its own.
const TOKENIZER: &str = "src/data/tokenizer/";
/// What has the form of a label and is none.
const NO_LABELS: [&str; 2] = ["UTF-8", "SHA-256"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(relative: &str) -> String {
    let path = root().join(relative);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: cannot read: {error}", path.display()))
}

/// The files below a folder whose names end so, as paths relative to the root, with `/`, sorted.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root().join(&folder)).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let entry = entry.expect("an entry of a folder");
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("a file's type").is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

/// The labels of a text, without parentheses, in order, repeated as they are.
fn labels(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, _) in text.match_indices('(') {
        let rest = &text[open + 1..];
        let letters = rest.bytes().take_while(u8::is_ascii_uppercase).count();
        let Some(number) = rest[letters..].strip_prefix('-').filter(|_| letters > 1) else {
            continue;
        };
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let after = &number[digits..];
        let prime = if after.starts_with('′') { '′'.len_utf8() } else { 0 };
        let label = &rest[..letters + 1 + digits + prime];
        if digits > 0 && after[prime..].starts_with(')') && !NO_LABELS.contains(&label) {
            found.push(label.to_owned());
        }
    }
    found
}

/// The comments of a source file that take a whole line, the module docs among them.
fn comments(source: &str) -> String {
    let lines = source.lines().filter(|line| line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// An equation in a source file.
#[derive(Debug, PartialEq)]
struct Equation {
    line: usize,
    label: String,
    text: String,
    /// Whether it is in a `//` comment at a line of code: after it, or in the lines above it.
    at_code: bool,
}

/// One space instead of each run of spaces.
fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The equations of a source file.
fn equations(source: &str) -> Vec<Equation> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(start) = line.find("//") else { continue };
        let comment = &line[start + 2..];
        let plain = !comment.starts_with(['/', '!']);
        let comment = comment.trim_start_matches(['/', '!']).trim_start();
        let Some(label) = labels(comment).into_iter().next() else { continue };
        let Some(rest) = comment.strip_prefix(&format!("({label})")) else { continue };
        // An equation after a colon is one too, in the wrong form: with the colon it differs from its row.
        let colon = rest.starts_with(": ") && rest.contains(" = ");
        let Some(rest) = rest.strip_prefix("  ").or(colon.then_some(rest)) else { continue };
        let rest = rest.trim_start();
        let text = single_spaced(rest.split("   ").next().unwrap_or(rest));
        let next = lines[number + 1..].iter().find(|line| !line.starts_with("// "));
        let above_code = next.is_some_and(|line| !line.is_empty() && !line.starts_with("//") && *line != "}");
        found.push(Equation { line: number + 1, label, text, at_code: plain && (start > 0 || above_code) });
    }
    found
}

/// One row of the table.
#[derive(Debug)]
struct Row {
    line: usize,
    label: String,
    equations: Vec<String>,
    file: String,
    test: String,
}

/// The cells of a line of a table; `\|` is a bar within one.
fn cells(line: &str) -> Option<Vec<String>> {
    let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells = line.replace("\\|", "\0");
    Some(cells.split('|').map(|cell| cell.trim().replace('\0', "|")).collect())
}

/// The code of a cell: `` `a` `` or `` `a`<br>`b` `` and nothing else.
fn codes(cell: &str) -> Option<Vec<String>> {
    let code = |part: &str| {
        let code = part.strip_prefix('`')?.strip_suffix('`')?;
        (!code.is_empty() && !code.contains('`')).then(|| single_spaced(code))
    };
    cell.split("<br>").map(code).collect()
}

/// The rows whose first cell is a label: `| (X-1) | `equation` | `file` | `test` |`.
fn rows(page: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(page.lines()) {
        let Some(cells) = cells(text) else { continue };
        let label = labels(&cells[0]).pop().filter(|label| cells[0] == format!("({label})"));
        let Some(label) = label else { continue };
        let row: Option<Vec<Vec<String>>> = cells[1..].iter().map(|cell| codes(cell)).collect();
        let Some([equations, file, test]) = row.as_deref() else {
            panic!(
                "{PAGE}:{line}: ({label}): expected the cells label, `equation`, `file`, `test`, found {cells:?}; \
                 several equations are separated by <br>, a bar is written \\|"
            );
        };
        rows.push(Row { line, label, equations: equations.clone(), file: file.concat(), test: test.concat() });
    }
    rows
}

/// What differs between the equations of a source file and the rows.
fn differences(file: &str, source: &str, rows: &[Row]) -> Vec<String> {
    let equations = equations(source);
    let mut problems = Vec::new();
    for equation in &equations {
        // A label without a row is reported by `missing`.
        let Some(row) = rows.iter().find(|row| row.label == equation.label) else { continue };
        if !row.equations.contains(&equation.text) {
            problems.push(format!(
                "{file}:{}: ({}): found {:?}; {PAGE}:{} has {:?}",
                equation.line, equation.label, equation.text, row.line, row.equations
            ));
        }
    }
    for row in rows.iter().filter(|row| row.file == file) {
        for text in &row.equations {
            let mut here = equations.iter().filter(|found| found.label == row.label && found.text == *text);
            if !here.any(|found| found.at_code) {
                problems.push(format!(
                    "{PAGE}:{}: ({}): {text:?}: {file} has no line of code with the comment `// ({})  {text}`",
                    row.line, row.label, row.label
                ));
            }
        }
    }
    problems
}

/// The files in which a test may stand: `a::b::tests::name` in `src/a/b.rs` or `src/a/b/mod.rs`,
/// `tests/x.rs::name` in that file.
fn homes(module: &str) -> Vec<String> {
    if Path::new(module).extension().is_some_and(|extension| extension == "rs") {
        return vec![module.to_owned()];
    }
    let module = module.strip_suffix("::tests").unwrap_or(module).replace("::", "/");
    vec![format!("src/{module}.rs"), format!("src/{module}/mod.rs")]
}

/// Whether a source holds a function of this name with `#[test]` above it.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let function = format!("fn {name}(");
    lines.iter().enumerate().filter(|(_, line)| line.starts_with(&function)).any(|(at, _)| {
        lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| *line == "#[test]")
    })
}

/// What is wrong with the labels of some texts, each with its name, against the table.
fn missing(texts: &[(String, Vec<String>)], rows: &[Row]) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, labels) in texts {
        let mut labels = labels.clone();
        labels.sort();
        labels.dedup();
        for label in labels.iter().filter(|label| rows.iter().all(|row| row.label != **label)) {
            problems.push(format!("{file}: ({label}) has no row in the table of {PAGE}"));
        }
    }
    problems
}

/// What is wrong with a row.
fn wrong(row: &Row) -> Option<String> {
    let place = format!("{PAGE}:{}: ({})", row.line, row.label);
    if !root().join(&row.file).is_file() {
        return Some(format!("{place}: there is no file {}", row.file));
    }
    if !labels(&comments(&read(&row.file))).contains(&row.label) {
        return Some(format!("{place}: {} does not hold this label", row.file));
    }
    let Some((module, name)) = row.test.rsplit_once("::") else {
        return Some(format!("{place}: expected a test as path::to::name, found {:?}", row.test));
    };
    let homes: Vec<String> = homes(module).into_iter().filter(|home| root().join(home).is_file()).collect();
    if homes.is_empty() {
        return Some(format!("{place}: test {}: there is no file for the module {module}", row.test));
    }
    (!homes.iter().any(|home| has_test(&read(home), name)))
        .then(|| format!("{place}: {} has no #[test] fn {name}", homes.join(" and ")))
}

fn table() -> Vec<Row> {
    let rows = rows(&read(PAGE));
    assert!(rows.len() >= 30, "{PAGE}: found only {} rows with a label: has the table changed its form?", rows.len());
    rows
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_label_of_the_code_has_a_row() {
    let sources = files("src", ".rs");
    let texts: Vec<(String, Vec<String>)> = sources
        .into_iter()
        .filter(|file| !file.starts_with(TOKENIZER))
        .map(|file| {
            let found = labels(&comments(&read(&file)));
            (file, found)
        })
        .collect();
    let found: usize = texts.iter().map(|(_, labels)| labels.len()).sum();
    assert!(found >= 30, "src: found only {found} labels: has their form changed?");
    report(&missing(&texts, &table()));
}

#[test]
fn every_equation_of_the_page_is_that_of_the_code() {
    let rows = table();
    let problems = files("src", ".rs")
        .into_iter()
        .filter(|file| !file.starts_with(TOKENIZER))
        .flat_map(|file| differences(&file, &read(&file), &rows));
    report(&problems.collect::<Vec<_>>());
}

#[test]
fn every_label_of_the_docs_has_a_row() {
    let texts: Vec<(String, Vec<String>)> = files("docs", ".md")
        .into_iter()
        .map(|file| {
            let found = labels(&read(&file));
            (file, found)
        })
        .collect();
    report(&missing(&texts, &table()));
}

#[test]
fn every_row_has_its_file_and_its_test() {
    report(&table().iter().filter_map(wrong).collect::<Vec<_>>());
}

#[test]
fn no_label_has_two_rows() {
    let mut lines: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for row in table() {
        lines.entry(row.label).or_default().push(row.line);
    }
    let twice = lines.iter().filter(|(_, lines)| lines.len() > 1);
    report(&twice.map(|(label, lines)| format!("{PAGE}: ({label}) is in the lines {lines:?}")).collect::<Vec<_>>());
}

#[test]
fn labels_are_recognised() {
    assert_eq!(labels("(GRU-1) to (GRU-4′), (TXT-1)′ ((MH-12))"), ["GRU-1", "GRU-4′", "TXT-1", "MH-12"]);
    assert!(labels("(UTF-8) (B-1) (P-3) (mh-1) (AB-) (-1) (AB-1 (GRU-1″) f(XY-1").is_empty());
    assert_eq!(comments("//! (MH-1)\nlet x = 1; // (SH-1)\n    /// (LR-1)\n"), "//! (MH-1)\n    /// (LR-1)\n");
}

#[test]
fn what_is_wrong_is_found_and_named() {
    let row = |file: &str, test: &str| Row {
        line: 7,
        label: "MH-1".into(),
        equations: vec!["ℓ = 1".into()],
        file: file.into(),
        test: test.into(),
    };
    let right = "loss::tests::mh_1_loss_1_on_the_worked_example";
    assert_eq!(wrong(&row("src/loss.rs", right)), None);
    let says = |row: &Row, what: &str| {
        let message = wrong(row).expect("a problem");
        assert!(message.starts_with("docs/02-equations.md:7: (MH-1)") && message.contains(what), "{message}");
    };
    says(&row("src/lost.rs", right), "no file src/lost.rs");
    says(&row("src/error.rs", right), "src/error.rs does not hold this label");
    says(&row("src/loss.rs", "loss::tests::mh_9"), "src/loss.rs has no #[test] fn mh_9");
    says(&row("src/loss.rs", "loss::tests::example"), "has no #[test] fn example");
    says(&row("src/loss.rs", "lost::tests::x"), "no file for the module lost");
    says(&row("src/loss.rs", "x"), "expected a test as path::to::name");
    let texts = [("src/x.rs".to_owned(), vec!["MH-1".to_owned(), "MH-2".to_owned(), "MH-2".to_owned()])];
    let found = missing(&texts, &[row("src/loss.rs", right)]);
    assert_eq!(found, ["src/x.rs: (MH-2) has no row in the table of docs/02-equations.md"]);
}

#[test]
fn an_equation_that_differs_on_one_side_is_found() {
    let page = "| (AB-1) | `y = \\|x\\|`<br>`z = y  + 1` | `src/x.rs` | `x::tests::y` |";
    let source = "//! (AB-1)  y = |x|      a remark\n//! (AB-1)  z = y + 1\n// (AB-1): prose\nfn f() {\n    \
                  // (AB-1)  y = |x|\n    // more\n    x.abs(); // (AB-1)  z = y + 1\n}\n";
    let problems = |page: &str, source: &str| differences("src/x.rs", source, &rows(page));
    assert!(problems(page, source).is_empty(), "{:?}", problems(page, source));
    assert!(!problems(page, &source.replace(": prose", ": y = |x|")).is_empty(), "an equation after a colon");
    for (from, to) in [("y + 1\n}", "y − 1\n}"), ("|x|      a", "x      a"), ("    // (AB-1)  y", "    /// (AB-1)  y")]
    {
        let changed = source.replacen(from, to, 1);
        assert_ne!(changed, source);
        assert!(!problems(page, &changed).is_empty(), "src: {from} → {to}");
    }
    for (from, to) in [("+ 1", "+ 2"), ("y = ", "w = "), ("src/x.rs", "src/y.rs")] {
        // In another file nothing is asked of this one but that its equations are those of the row.
        let changed = page.replacen(from, to, 1);
        let elsewhere = differences("src/y.rs", "", &rows(&changed));
        assert!(!problems(&changed, source).is_empty() || !elsewhere.is_empty(), "docs: {from} → {to}");
    }
    assert!(codes("`a` and `b`").is_none() && codes("a").is_none() && codes("`a`<br>b").is_none());
}
