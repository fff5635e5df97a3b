//! The order of the modules. The table of `CONTRIBUTING.md`, "Where things are", lists the modules of
//! `src/lib.rs`, and a module uses only those that come before it: those of the rows above, and of its own row
//! those to the left. Within a folder of `src/` the files use each other in no circle.
//!
//! What a file uses is read from its text: every path that begins with `crate::`, `super::` or `self::`, and
//! every `use`. Names that a module re-exports count as those of the file that has them. Tests may use what
//! they like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "CONTRIBUTING.md";
/// Only these print, and only these use the crates of the command line.
const SHOWN: [&str; 2] = ["report", "cli"];
const OF_THE_COMMAND_LINE: [&str; 6] = ["anyhow", "clap", "clap_complete", "clap_mangen", "indicatif", "signal_hook"];
const PRINTING: [&str; 7] = ["print!", "println!", "eprint!", "eprintln!", "dbg!", "stdout", "stderr"];
/// The specification is read first, so it uses nothing else that is to be read.
const OF_SPEC: [&str; 3] = ["spec", "real", "error"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A module's path: `["train", "events"]`; the crate itself is `[]`.
type Module = Vec<String>;

/// A source file: its module, its name, and its text without comments, strings and tests.
struct File {
    module: Module,
    name: String,
    code: String,
}

/// One path in a file.
#[derive(Debug)]
struct Use {
    line: usize,
    /// What it names: a module, or an item of one.
    path: Module,
    /// Whether it is a `pub use`, which gives the file's users the name.
    exported: bool,
}

/// Blanks comments, strings and characters; line breaks stay.
fn without_text(source: &str) -> String {
    let c: Vec<char> = source.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    let at_is = |at: usize, text: &str| text.chars().enumerate().all(|(n, x)| c.get(at + n) == Some(&x));
    while at < c.len() {
        let end = if at_is(at, "//") {
            (at..c.len()).find(|&n| c[n] == '\n').unwrap_or(c.len())
        } else if at_is(at, "/*") {
            (at + 2..c.len()).find(|&n| at_is(n, "*/")).map_or(c.len(), |n| n + 2)
        } else if c[at] == 'r' && (at_is(at + 1, "\"") || at_is(at + 1, "#")) && (at == 0 || !is_name(c[at - 1])) {
            let hashes = (at + 1..c.len()).take_while(|&n| c[n] == '#').count();
            let close = format!("\"{}", "#".repeat(hashes));
            let open = at + 1 + hashes;
            if at_is(open, "\"") {
                (open + 1..c.len()).find(|&n| at_is(n, &close)).map_or(c.len(), |n| n + close.len())
            } else {
                at
            }
        } else if c[at] == '"' {
            let mut n = at + 1;
            while n < c.len() && c[n] != '"' {
                n += if c[n] == '\\' { 2 } else { 1 };
            }
            n + 1
        } else if at_is(at, "'\\") {
            (at + 3..c.len()).find(|&n| c[n] == '\'').map_or(c.len(), |n| n + 1)
        } else if c[at] == '\'' && c.get(at + 2) == Some(&'\'') {
            at + 3
        } else {
            at
        };
        if end == at {
            out.push(c[at]);
            at += 1;
        } else {
            let skipped = &c[at..end.min(c.len())];
            out.push(' ');
            out.extend(skipped.iter().filter(|x| **x == '\n'));
            at = end;
        }
    }
    out
}

/// Blanks the items below `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (before, item) = rest.split_at(at);
        let mut depth = 0;
        let ends = |&(_, x): &(usize, char)| {
            depth += i32::from(x == '{') - i32::from(x == '}');
            depth == 0 && matches!(x, '}' | ';')
        };
        let end = item.char_indices().find(ends).map_or(item.len(), |(n, x)| n + x.len_utf8());
        out += before;
        out.extend(item[..end].chars().filter(|x| *x == '\n'));
        rest = &item[end..];
    }
    out + rest
}

fn is_name(x: char) -> bool {
    x.is_alphanumeric() || x == '_'
}

/// The words and the marks of some code, each with its line; `::` is one mark.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    let mut after_space = true;
    for (line, text) in (1..).zip(code.lines()) {
        for x in text.chars() {
            let joins = !after_space
                && tokens.last().is_some_and(|(_, last)| {
                    last.chars().all(|y| is_name(x) && is_name(y)) || (x == ':' && last == ":")
                });
            match tokens.last_mut().filter(|_| joins) {
                Some((_, last)) => last.push(x),
                None if !x.is_whitespace() => tokens.push((line, x.to_string())),
                None => {}
            }
            after_space = x.is_whitespace();
        }
        after_space = true;
    }
    tokens
}

/// The paths of a tree `a::{b, c::d}` that begins at a token, and the token after it.
fn tree(tokens: &[(usize, String)], mut at: usize, before: &[String]) -> (Vec<Module>, usize) {
    let word = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
    let mut path = before.to_vec();
    loop {
        match word(at) {
            "{" => {
                let mut all = Vec::new();
                at += 1;
                while !["}", ""].contains(&word(at)) {
                    let (paths, next) = tree(tokens, at, &path);
                    all.extend(paths);
                    at = next + usize::from(word(next) == ",");
                    if next == at && word(at) != "}" {
                        // Not a tree after all.
                        return (all, at + 1);
                    }
                }
                return (all, at + 1);
            }
            "*" => {
                path.push("*".into());
                return (vec![path], at + 1);
            }
            name if name.chars().all(is_name) && !name.is_empty() => path.push(name.into()),
            _ => return (vec![path], at),
        }
        at += 1;
        if word(at) == "as" {
            return (vec![path], at + 2);
        }
        if word(at) != "::" {
            return (vec![path], at);
        }
        at += 1;
    }
}

/// What a file uses, by full paths. `children` are the modules that it declares.
fn uses(code: &str, module: &[String], children: &BTreeSet<String>) -> Vec<Use> {
    let tokens = tokens(code);
    let word = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let in_use = at > 0 && word(at - 1) == "use";
        let begins = word(at + 1) == "::" && (at == 0 || word(at - 1) != "::");
        let named = ["crate", "super", "self"].contains(&word(at)) && begins;
        let child = in_use && children.contains(word(at));
        if !named && !child {
            at += 1;
            continue;
        }
        let exported = in_use && at > 1 && (word(at - 2) == "pub" || word(at - 2) == ")");
        let line = tokens[at].0;
        let (paths, next) = tree(&tokens, at, &[]);
        for path in paths {
            let mut base: Module = module.to_vec();
            let mut rest = &path[..];
            while let Some(first) = rest.first() {
                match first.as_str() {
                    "crate" => base.clear(),
                    "super" => {
                        base.pop();
                    }
                    "self" => {}
                    _ => break,
                }
                rest = &rest[1..];
            }
            base.extend(rest.iter().cloned());
            found.push(Use { line, path: base, exported });
        }
        at = next.max(at + 1);
    }
    found
}

/// All source files; `src/bin` and `src/main.rs` are other crates.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("src").map(|entry| entry.expect("an entry")) {
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("a type").is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.to_string_lossy().replace('\\', "/");
                let inner = name.trim_start_matches("src/").trim_end_matches(".rs");
                if ["main"].contains(&inner) {
                    continue;
                }
                let mut module: Module = inner.split('/').map(String::from).collect();
                if ["mod", "lib"].contains(&module.last().expect("a name").as_str()) {
                    module.pop();
                }
                let source = fs::read_to_string(root().join(&path)).expect("a source file");
                found.push(File { module, name, code: without_tests(&without_text(&source)) });
            }
        }
    }
    // Files of tests alone: `#[cfg(test)] mod tests;`, and what is in its folder.
    found.retain(|file| file.module.iter().all(|part| part != "tests"));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() > 100, "src: only {} files", found.len());
    found
}

/// The files, and which uses which.
struct Sources {
    files: Vec<File>,
    uses: Vec<Vec<Use>>,
}

impl Sources {
    fn new(files: Vec<File>) -> Self {
        let children = |module: &[String]| -> BTreeSet<String> {
            let below = files.iter().filter(|file| file.module.len() == module.len() + 1);
            below.filter(|file| file.module.starts_with(module)).map(|file| file.module[module.len()].clone()).collect()
        };
        let uses = files.iter().map(|file| uses(&file.code, &file.module, &children(&file.module))).collect();
        Self { files, uses }
    }

    /// The file that a path leads to, by way of what is re-exported.
    fn find(&self, path: &[String], depth: usize) -> Option<usize> {
        let of = |module: &[String]| self.files.iter().position(|file| file.module == module);
        let (len, file) = (0..=path.len()).rev().find_map(|len| Some((len, of(&path[..len])?)))?;
        let Some(name) = path.get(len).filter(|_| depth < 8) else { return Some(file) };
        let gives = |given: &&Use| given.exported && given.path.last() == Some(name);
        match self.uses[file].iter().find(gives) {
            Some(given) => {
                let mut further = given.path.clone();
                further.extend_from_slice(&path[len + 1..]);
                self.find(&further, depth + 1)
            }
            None => Some(file),
        }
    }

    /// All pairs of a file and another that it uses, with the line.
    fn pairs(&self) -> Vec<(usize, usize, usize)> {
        let of = |from: usize| {
            let pairs =
                self.uses[from].iter().filter_map(move |found| Some((from, found.line, self.find(&found.path, 0)?)));
            pairs.filter(|(from, _, to)| from != to).collect::<Vec<_>>()
        };
        (0..self.files.len()).flat_map(of).collect()
    }
}

/// Where a module uses one that comes after it.
fn upward(sources: &Sources, order: &[String]) -> Vec<String> {
    let place = |module: &str| order.iter().position(|name| name == module);
    let mut problems = Vec::new();
    for (from, line, to) in sources.pairs() {
        let (from, to) = (&sources.files[from], &sources.files[to]);
        let (Some(user), Some(used)) = (from.module.first(), to.module.first()) else { continue };
        if place(used) > place(user) {
            problems.push(format!(
                "{}:{line}: `{user}` uses `{}`, and `{used}` comes after `{user}` in the table of {PAGE}",
                from.name,
                to.module.join("::"),
            ));
        }
    }
    problems.dedup();
    problems
}

/// Circles between the files and folders of each folder. Its `mod.rs` is the folder itself, and counts for nothing.
fn circles(sources: &Sources) -> Vec<String> {
    // For each folder: who of it uses whom, and where.
    type Edges = BTreeMap<String, BTreeMap<String, String>>;
    let mut folders: BTreeMap<Module, Edges> = BTreeMap::new();
    for (from, line, to) in sources.pairs() {
        let (from, to) = (&sources.files[from], &sources.files[to]);
        let common = from.module.iter().zip(&to.module).take_while(|(a, b)| a == b).count();
        let (Some(user), Some(used)) = (from.module.get(common), to.module.get(common)) else { continue };
        if common == 0 {
            continue;
        }
        let (user, used) = (user.clone(), used.clone());
        let edges = folders.entry(from.module[..common].to_vec()).or_default();
        edges.entry(user).or_default().entry(used).or_insert(format!("{}:{line}", from.name));
    }
    let mut problems = Vec::new();
    for (folder, edges) in &folders {
        // What nothing leads back to is in no circle; the rest is.
        let mut left: BTreeSet<&String> = edges.keys().collect();
        loop {
            let is_used = |one: &String| left.iter().any(|user| edges[*user].contains_key(one));
            let uses = |one: &String| edges[one].keys().any(|used| left.contains(used));
            let next: BTreeSet<&String> = left.iter().copied().filter(|one| is_used(one) && uses(one)).collect();
            if next.len() == left.len() {
                break;
            }
            left = next;
        }
        for user in &left {
            for (used, place) in edges[*user].iter().filter(|(used, _)| left.contains(used)) {
                problems.push(format!("{place}: in `{}` there is a circle: `{user}` uses `{used}`", folder.join("::")));
            }
        }
    }
    problems
}

/// The modules of the table of the page, in order.
fn order(page: &str) -> Vec<String> {
    let (_, section) = page.split_once("## Where things are").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let first_cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    first_cells.flat_map(|cell| cell.split(',').map(|name| name.trim().trim_matches('`').to_owned())).collect()
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn the_table_has_every_module_once() {
    let order = order(&fs::read_to_string(root().join(PAGE)).expect(PAGE));
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let declared = library.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        // `pages` belongs to the tests.
        line.strip_prefix("mod ")?.strip_suffix(';').filter(|module| *module != "pages")
    });
    let (mut declared, mut listed): (Vec<&str>, Vec<&str>) =
        (declared.collect(), order.iter().map(String::as_str).collect());
    declared.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, declared, "left: the table of {PAGE}; right: the modules of src/lib.rs");
}

#[test]
fn modules_use_only_those_before_them() {
    let order = order(&fs::read_to_string(root().join(PAGE)).expect(PAGE));
    report(&upward(&Sources::new(files()), &order));
}

#[test]
fn files_of_a_folder_use_each_other_in_no_circle() {
    report(&circles(&Sources::new(files())));
}

#[test]
fn the_specification_uses_numbers_and_errors_alone() {
    let sources = Sources::new(files());
    let pairs = sources.pairs();
    let of_spec = pairs.iter().filter(|(from, ..)| sources.files[*from].module.first().is_some_and(|m| m == "spec"));
    let wrong = of_spec.filter_map(|(from, line, to)| {
        let used = sources.files[*to].module.first()?;
        let name = &sources.files[*from].name;
        (!OF_SPEC.contains(&used.as_str())).then(|| format!("{name}:{line}: `spec` uses `{used}`"))
    });
    report(&wrong.collect::<Vec<_>>());
}

#[test]
fn only_report_and_the_command_line_print() {
    report(&words_of_the_command_line(&files()));
}

/// Where others print, or use the crates of the command line.
fn words_of_the_command_line(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| !file.module.first().is_some_and(|m| SHOWN.contains(&m.as_str()))) {
        let tokens = tokens(&file.code);
        for (at, (line, token)) in tokens.iter().enumerate() {
            let next = tokens.get(at + 1).map_or("", |(_, next)| next);
            let called = format!("{token}{}", if next == "!" { "!" } else { "" });
            if PRINTING.contains(&called.as_str()) {
                problems.push(format!("{}:{line}: `{called}`: only `report` and `cli` print", file.name));
            } else if OF_THE_COMMAND_LINE.contains(&token.as_str()) && next == "::" {
                problems.push(format!("{}:{line}: only `report` and `cli` use `{token}`", file.name));
            }
        }
    }
    problems
}

#[test]
fn what_is_wrong_is_found_and_named() {
    let file = |name: &str, source: &str| {
        let module = name.trim_end_matches("/mod").split('/').map(String::from).collect();
        File { module, name: format!("src/{name}.rs"), code: without_tests(&without_text(source)) }
    };
    let sources = |texts: &[(&str, &str)]| Sources::new(texts.iter().map(|(name, text)| file(name, text)).collect());
    let order = ["low".to_owned(), "high".to_owned()];
    // A use, a path in a function, a group, and a name that another file re-exports.
    for text in [
        "\nuse crate::high::Thing;",
        "fn f() {\n    crate::high::deep::g()\n}",
        "\nuse crate::{low::x, high::{self, Thing}};",
        "\nuse super::high;",
    ] {
        let problems = upward(&sources(&[("low", text), ("high/mod", "pub mod deep;"), ("high/deep", "")]), &order);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(problems[0].starts_with("src/low.rs:2: `low` uses `high"), "{}", problems[0]);
    }
    // Comments, strings and tests say what they like.
    for text in [
        "// crate::high::x",
        "const A: &str = \"crate::high::x\";",
        "#[cfg(test)]\nmod tests {\n    use crate::high::x;\n    const B: char = '}';\n}",
        "const C: &str = r#\"crate::high::x \" \"#;",
    ] {
        assert!(upward(&sources(&[("low", text), ("high", "")]), &order).is_empty(), "{text}");
    }
    let circle = [
        ("a/mod", "mod x;\nmod y;\nmod z;\npub use x::One;\npub use y::Two;\n"),
        ("a/x", "use super::Two;"),
        ("a/y", "fn f() {\n    crate::a::One\n}"),
        ("a/z", "use super::{One, Two};"),
    ];
    let found = circles(&sources(&circle));
    assert_eq!(
        found,
        [
            "src/a/x.rs:1: in `a` there is a circle: `x` uses `y`",
            "src/a/y.rs:2: in `a` there is a circle: `y` uses `x`"
        ]
    );
    assert!(circles(&sources(&[circle[0], circle[1], ("a/y", ""), circle[3]])).is_empty());
    let printed = words_of_the_command_line(&[file("low", "fn f() {\n    println!(\"x\");\n    clap::f()\n}")]);
    assert_eq!(printed.len(), 2, "{printed:?}");
    assert!(printed[0].starts_with("src/low.rs:2: `println!`") && printed[1].starts_with("src/low.rs:3: "));
    assert!(words_of_the_command_line(&[file("cli/x", "use clap::Args;\n")]).is_empty());
}
