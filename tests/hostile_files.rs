//! Readers survive any input. Valid files are corrupted in thousands of ways; each result is an error or
//! valid content. Nothing panics, and a reader takes at most the file's size plus 16 MiB of memory.

// A counting allocator is an unsafe trait; the crate itself has no unsafe code.
#![allow(unsafe_code)]

mod tensors;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array2, array};
use serde_json::{Value, json};
use tensors::{Numbers, Tensors};
use vsepp::data::{ImageStore, RowFile, Split, Vocabulary};
use vsepp::golden::{CheckOptions, Profile, check_folder};
use vsepp::model::{Config, Images};
use zip::CompressionMethod;

/// The system's allocator, which counts the allocated bytes.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call goes unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests run one at a time, because they share the count.
static ALONE: Mutex<()> = Mutex::new(());

const ALLOWED: usize = 16 << 20;

/// A fixed sequence of pseudo-random numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Corrupts a file in one to three ways: it changes bits, lengths or digits, or cuts, doubles or exchanges
/// pieces.
fn spoil(right: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = right.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        let end = (at + 1 + dice.below(24)).min(bytes.len());
        match dice.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 if !bytes.is_empty() => bytes[at] = dice.of(&[0, 0xff, b'[', b'{', b'"', b'-', b'9', b'\n', b',']),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = dice.below(bytes.len());
                bytes.splice(to..to, piece.repeat(1 + dice.below(40)));
            }
            5 | 6 => {
                let wide = dice.of(&[2, 4, 8]);
                let number =
                    dice.of(&[0, 1, 2, 0x7f, 0xffff, 1 << 31, u64::from(u32::MAX), 1 << 40, 1 << 63, u64::MAX]);
                for (to, from) in bytes.iter_mut().skip(at).take(wide).zip(number.to_le_bytes()) {
                    *to = from;
                }
            }
            // The next number in decimal digits.
            _ => {
                let digit = |byte: &u8| byte.is_ascii_digit();
                let Some(start) = bytes[at..].iter().position(digit).map(|n| at + n) else { continue };
                let end = bytes[start..].iter().position(|byte| !digit(byte)).map_or(bytes.len(), |n| start + n);
                let number = dice.of(&[
                    "0",
                    "-1",
                    "1e400",
                    "4096",
                    "4294967296",
                    "18446744073709551615",
                    "99999999999999999999999",
                    "0.5",
                    "null",
                ]);
                bytes.splice(start..end, number.bytes());
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Corrupts a file and reads it, `times` times. Returns how often it was refused.
fn try_all(name: &str, path: &Path, right: &[u8], times: usize, read: impl Fn(&Path) -> bool) -> usize {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    std::fs::write(path, right).unwrap();
    assert!(read(path), "{name}: the unchanged file is valid");
    let mut refused = 0;
    for n in 0..times {
        let bytes = spoil(right, &mut dice);
        std::fs::write(path, &bytes).unwrap();
        let before = HELD.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        refused += usize::from(!read(path));
        let taken = MOST.load(Ordering::Relaxed).saturating_sub(before);
        assert!(taken <= bytes.len() + ALLOWED, "{name} {n}: {taken} bytes taken for a file of {}", bytes.len());
    }
    refused
}

/// A file of tensors in every format.
fn formats(tensors: &Tensors) -> [(&'static str, Vec<u8>); 3] {
    [
        ("safetensors", tensors.to_safetensors(Some("{\"x\":[1]}"))),
        ("npz", tensors.to_npz(CompressionMethod::Stored)),
        ("deflated npz", tensors.to_npz(CompressionMethod::Deflated)),
    ]
}

/// A suite of small cases of the golden suite, in a folder, without the cases' files. Returns its manifest.
fn small_suite(folder: &Path, cases: &[&str]) -> Value {
    let manifest = std::fs::read(golden().join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["cases"].as_array_mut().unwrap().retain(|case| cases.iter().any(|id| case["id"] == *id));
    manifest["kills"] = json!({});
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    manifest
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden")
}

/// A case of a golden suite: its tensors have several types, and all are read.
#[test]
fn spoiled_files_of_tensors() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let (suite, found) = (folder.path().join("suite"), folder.path().join("found"));
    std::fs::create_dir(&suite).and_then(|()| std::fs::create_dir(&found)).unwrap();
    let file = "model-vsepp-one-pair.safetensors";
    small_suite(&suite, &["model-vsepp-one-pair"]);
    std::fs::copy(golden().join(file), found.join(file)).unwrap();
    let tensors = Tensors::read(&golden().join(file));
    let pytorch = [("PyTorch", tensors.to_pytorch()), ("old PyTorch", tensors.to_old_pytorch())];
    for (name, right) in formats(&tensors).into_iter().chain(pytorch) {
        let refused = try_all(name, &suite.join(file), &right, 4000, |_| {
            check_folder(&suite, &found, Profile::F64, &CheckOptions::default()).is_ok_and(|report| report.passed)
        });
        assert!((1000..4000).contains(&refused), "{name}: {refused} of 4000 were refused");
    }
}

/// Whether all images can be read. Their numbers must be finite then.
fn all_are_read(store: &dyn ImageStore) -> bool {
    let (rows, mut images) = ((0..store.len()).collect::<Vec<_>>(), Images::default());
    let is_ok = store.fill(&rows, None, &mut images).is_ok();
    assert!(!is_ok || images.features().unwrap().iter().all(|x| x.is_finite()));
    is_ok
}

/// A matrix of numbers that are read as `f32`: the features of a split.
#[test]
fn spoiled_features() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("train_caps.txt"), "a dog\na cat\ntwo dogs\n").unwrap();
    let matrix = array![[1.0f32, 0.5], [0.25, -3.0], [7.0, 2.0]];
    for features in [Numbers::from(matrix.mapv(f64::from)), matrix.into()] {
        let mut tensors = Tensors::default();
        tensors.add("images", features);
        for (name, right) in formats(&tensors) {
            let ending = if name == "safetensors" { name } else { "npz" };
            let path = folder.path().join(format!("train_ims.{ending}"));
            let refused = try_all(name, &path, &right, 2000, |_| {
                Split::read(folder.path(), "train").is_ok_and(|split| all_are_read(split.images()))
            });
            assert!((500..2000).contains(&refused), "{name}: {refused} of 2000 were refused");
            std::fs::remove_file(path).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut npy = Vec::new();
    let matrix = Array2::from_shape_fn((5, 3), |(i, j)| i as f32 - j as f32);
    ndarray_npy::WriteNpyExt::write_npy(&matrix, &mut npy).unwrap();
    let refused = try_all("npy", &path, &npy, 4000, |path| RowFile::open(path).is_ok_and(|file| all_are_read(&file)));
    assert!((1000..4000).contains(&refused), "npy: {refused} of 4000 were refused");
}

#[test]
fn spoiled_texts() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let captions = "A red dog runs.\nTwo cats, 3 hats\r\nna\u{ef}ve caf\u{e9}\na b c\n";
    let mut images = Vec::new();
    ndarray_npy::WriteNpyExt::write_npy(&array![[1.0f32, 2.0], [3.0, 4.0]], &mut images).unwrap();
    std::fs::write(path("train_ims.npy"), images).unwrap();
    try_all("captions", &path("train_caps.txt"), captions.as_bytes(), 2000, |_| {
        Split::read(folder.path(), "train")
            .is_ok_and(|split| split.captions().len().is_multiple_of(split.images().len()))
    });
    // A file that is not text is not read to its end.
    std::fs::File::create(path("train_caps.txt")).and_then(|file| file.set_len(1 << 30)).unwrap();
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let problem = Split::read(folder.path(), "train").unwrap_err().to_string();
    assert!(problem.contains("train_caps.txt:1: found the control character U+0000"), "{problem}");
    assert!(MOST.load(Ordering::Relaxed) - before < ALLOWED);
    let vocabulary = Vocabulary::build(&captions.lines().map(str::to_owned).collect::<Vec<_>>(), 1);
    let ids: serde_json::Map<String, Value> =
        vocabulary.words().iter().enumerate().map(|(id, word)| (word.clone(), json!(id))).collect();
    let words: serde_json::Map<String, Value> = ids.iter().map(|(word, id)| (id.to_string(), json!(word))).collect();
    let original = json!({ "word2idx": ids, "idx2word": words, "idx": ids.len() }).to_string();
    vocabulary.write(&path("vocab.json")).unwrap();
    let own = std::fs::read_to_string(path("vocab.json")).unwrap();
    for (name, right) in [("vocabulary", own), ("the original's", original)] {
        let refused = try_all(name, &path("vocab.json"), right.as_bytes(), 2000, |path| {
            Vocabulary::read(path).is_ok_and(|read| read.words().iter().all(|word| read.id(word).is_some()))
        });
        assert!((500..2000).contains(&refused), "{name}: {refused} of 2000 were refused");
    }
    let settings = toml::to_string(&Config::default()).unwrap();
    try_all("settings", &path("config.toml"), settings.as_bytes(), 2000, |path| {
        let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap();
        toml::from_str::<Config>(&text).is_ok_and(|config| config.check().is_ok())
    });
    try_all("settings, by the program", &path("config.toml"), settings.as_bytes(), 300, |path| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_vsepp"));
        let output = program.args(["train", "--print-config", "--config"]).arg(path).output().unwrap();
        succeeded(&output)
    });
}

/// Whether the program reports on a suite, in text and as a page; if not, it must say why.
fn shown(suite: &Path) -> bool {
    let page = suite.join("page.html");
    let _ = std::fs::remove_file(&page);
    let mut program = Command::new(env!("CARGO_BIN_EXE_vsepp"));
    program.args(["golden", "check", "--profile", "f64", "--suite"]).args([suite, suite]).arg("--report").arg(&page);
    let output = program.output().unwrap();
    let is_shown = succeeded(&output);
    assert_eq!(is_shown, std::fs::metadata(&page).is_ok_and(|page| page.len() > 0));
    is_shown
}

/// Whether the program has a result, good or bad; if not, it must say why.
fn succeeded(output: &Output) -> bool {
    match output.status.code() {
        Some(0 | 1) => {
            assert!(!output.stdout.is_empty());
            true
        }
        code => {
            assert_eq!(code, Some(2), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stderr.starts_with(b"error: "), "{}", String::from_utf8_lossy(&output.stderr));
            false
        }
    }
}

#[test]
fn spoiled_manifests() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let few = ["gru-cell-smallest", "gru-cell-saturated", "gru-cell-input-square-h2", "reset-h2-agree"];
    let mut manifest = small_suite(folder.path(), &few);
    for id in few {
        let name = format!("{id}.safetensors");
        std::fs::copy(golden().join(&name), folder.path().join(name)).unwrap();
    }
    manifest["kills"] = json!({ "x": [0, 2] });
    let manifest = serde_json::to_string_pretty(&manifest).unwrap();
    let path = folder.path().join("manifest.json");
    let refused = try_all("manifest", &path, manifest.as_bytes(), 200, |_| {
        let checked = check_folder(folder.path(), folder.path(), Profile::F64, &CheckOptions::default());
        let can_be_checked = checked.is_ok();
        // Any result can be shown.
        assert_eq!(shown(folder.path()), can_be_checked);
        can_be_checked
    });
    assert!((50..200).contains(&refused), "{refused} of 200 were refused");
}

/// The source files in a folder and its subfolders.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// `files` checks kind, size and memory when it opens a file. No other module may open files for reading.
#[test]
fn only_the_module_files_opens_files() {
    let src = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for path in sources(&src) {
        let name = path.strip_prefix(&src).unwrap().display().to_string().replace('\\', "/");
        if name.starts_with("files/")
            || name.ends_with("/tests.rs")
            || name.contains("/tests/")
            || path.extension().is_none_or(|end| end != "rs")
        {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let program = source.split("#[cfg(test)]").next().unwrap();
        let opens = |line: &str| ["fs::read(", "read_to_string(", "File::open("].iter().any(|call| line.contains(call));
        // The system's own files are trusted.
        let lines = program.lines().enumerate().filter(|(_, line)| opens(line) && !line.contains("\"/proc/"));
        found.extend(lines.map(|(n, line)| format!("src/{name}:{}: {}", n + 1, line.trim())));
    }
    assert!(found.is_empty(), "expected files::{{open_regular, read_bytes, read_text}}:\n{}", found.join("\n"));
}
