//! The public items of the crate are those listed in `tests/public_items.txt`, one per line, and there are at
//! most [`MOST`].
//!
//! An item is a line of `src` that begins with `pub` and is neither a field nor a `use`. What only this crate uses
//! is `pub(crate)`. A new public item is a promise to every user, so the test asks whether it is intended. A new kind
//! of layer may add its struct, its cache and its plain form. (Encoders added 9 items to 298, pictures 13, and training on pictures 9: with
//! them a program can read, crop and train from pictures of its own. `cli` is hidden from the documentation: it is
//! public for `main`. Checking tensors and embeddings in memory added 9: the Python package needs them.)
//!
//! ```sh
//! UPDATE=1 cargo test --test surface     # writes the list again
//! ```

use std::fs;
use std::path::{Path, PathBuf};

const LIST: &str = "tests/public_items.txt";
const MOST: usize = 359;
const KINDS: [&str; 8] = ["fn", "struct", "enum", "trait", "const", "type", "mod", "static"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder, sorted.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let below = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    paths.into_iter().flat_map(below).filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

/// Kind and name of the item that a line begins, if it is public: `pub const fn new(n: usize)` is `fn new`.
fn item(line: &str) -> Option<String> {
    let mut words = line.trim_start().strip_prefix("pub ")?.split_whitespace().peekable();
    // `pub const fn` is a function, `pub const N: usize` a constant.
    let mut kind = words.next()?;
    while matches!(kind, "const" | "async" | "unsafe")
        && words.peek().is_some_and(|word| ["fn", "async", "unsafe", "trait"].contains(word))
    {
        kind = words.next()?;
    }
    if !KINDS.contains(&kind) {
        return None;
    }
    let name: String = words.next()?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    Some(format!("{kind} {name}"))
}

/// Every public item, as `file: kind name`, in the order of the files.
fn items() -> Vec<String> {
    let src = root().join("src");
    let mut found = Vec::new();
    for path in sources(&src) {
        let file = path.strip_prefix(root()).expect("below the root").display().to_string().replace('\\', "/");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
        found.extend(text.lines().filter_map(item).map(|item| format!("{file}: {item}")));
    }
    found
}

#[test]
fn public_items_are_those_listed() {
    let found = items();
    let list = root().join(LIST);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&list, found.join("\n") + "\n").expect("the list can be written");
    }
    let text = fs::read_to_string(&list).unwrap_or_else(|e| panic!("{LIST}: {e}"));
    let listed: Vec<&str> = text.lines().collect();
    let new: Vec<&String> = found.iter().filter(|item| !listed.contains(&item.as_str())).collect();
    let gone: Vec<&&str> = listed.iter().filter(|item| !found.iter().any(|other| other == *item)).collect();
    let how = "pub(crate) is enough for what only the crate uses; if the change is intended:\n  UPDATE=1 cargo test --test surface";
    assert!(new.is_empty() && gone.is_empty(), "{LIST}: not listed {new:#?}, not found {gone:#?}\n{how}");
    assert_eq!(found, listed, "{LIST}: another order, or an item listed more or less often\n{how}");
}

#[test]
fn there_are_few_public_items() {
    let found = items().len();
    assert!(found <= MOST, "expected at most {MOST} public items, found {found}: what else can be pub(crate)?");
}

#[test]
fn an_item_is_recognised() {
    for (line, expected) in [
        ("    pub const fn new(n: usize) -> Self {", Some("fn new")),
        ("pub const MOST: usize = 1;", Some("const MOST")),
        ("pub async unsafe fn run() {", Some("fn run")),
        ("pub unsafe trait Zeroable {", Some("trait Zeroable")),
        ("pub struct Vse<T> {", Some("struct Vse")),
        ("pub use batch::Batch;", None),
        ("    pub weight: Array2<T>,", None),
        ("pub(crate) fn hidden() {", None),
        ("fn private() {", None),
    ] {
        assert_eq!(item(line).as_deref(), expected, "{line}");
    }
}
