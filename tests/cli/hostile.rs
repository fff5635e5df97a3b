//! Files, names and numbers made to break a reader or a terminal.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use ndarray::array;
use serde_json::{Value, json};

use super::tensors::Tensors;
use super::{as_refs, data, json, ok, refused, text, train, vsepp};

/// A sparse file: it really has the claimed length, but holds only its beginning.
fn sparse(path: &Path, begin: &[u8], length: u64) {
    let mut file = File::create(path).unwrap();
    file.write_all(begin).unwrap();
    file.set_len(length).unwrap();
}

fn npy_header(shape: &str) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00".as_slice(), &118u16.to_le_bytes(), header.as_bytes()].concat()
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Runs a script in a shell, which sets the umask or redirects stdout.
fn shell(script: &str, folder: &Path) -> Output {
    let script = script.replace("vsepp", env!("CARGO_BIN_EXE_vsepp"));
    Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap()
}

#[test]
fn only_regular_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    data(at);
    for (name, kind) in [("zero", "a device"), ("pipe", "a pipe"), ("folder", "a folder")] {
        let path = at.join(name);
        match name {
            "zero" => symlink("/dev/zero", &path).unwrap(),
            "pipe" => pipe(&path),
            _ => fs::create_dir(&path).unwrap(),
        }
        let found = format!("expected a regular file, found {kind}");
        refused(&["eval", "--embeddings", name], at, &[name, &found]);
        // For a folder the message says more.
        refused(&["vocab", "show", name], at, &[name, kind]);
        refused(&["train", "--config", name, "--print-config"], at, &[name, &found]);
        refused(&["golden", "make", "--inputs", name, "--out", "o.safetensors"], at, &[name, &found]);
        refused(&["bench", "--size", "demo", "--captions", name], at, &[name, &found]);
        for file in ["train_ims.npy", "dev_caps.txt"] {
            let file = Path::new("data").join(file);
            let kept = at.join("kept");
            fs::rename(at.join(&file), &kept).unwrap();
            symlink(&path, at.join(&file)).unwrap();
            refused(&["train", "--data", "data", "--run", "r"], at, &[&file.display().to_string(), &found]);
            fs::rename(kept, at.join(&file)).unwrap();
        }
        let suite = at.join(format!("suite-{name}"));
        fs::create_dir(&suite).unwrap();
        symlink(&path, suite.join("manifest.json")).unwrap();
        refused(&["golden", "list", "--suite", &suite.display().to_string()], at, &["manifest.json", &found]);
        // In a backend's folder, such a file fails its case.
        symlink(&path, suite.join("gru-cell-smallest.safetensors")).unwrap();
        let core = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/golden");
        let suite = suite.display().to_string();
        let output = vsepp(&["golden", "check", &suite, "--suite", core, "--case", "gru-cell-smallest"], at);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(&found), "{}", text(&output.stdout));
    }
    assert!(!at.join("r").exists());
}

#[test]
fn sizes_are_compared_with_the_file_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    data(at);
    let images = at.join("data/train_ims.npy");
    // The file has the length that it declares, 197 GB. No machine that runs this test has that much memory.
    let header = npy_header("(48096000, 1024)");
    let length = header.len() as u64 + 48_096_000 * 4096;
    let by_columns = String::from_utf8_lossy(&header[10..]).replace("False", "True ").into_bytes();
    sparse(&images, &[&header[..10], &by_columns].concat(), length);
    let train = ["train", "--data", "data", "--run", "r"];
    refused(&train, at, &["train_ims.npy: ", "not enough memory: it takes 197001216000 bytes"]);
    // Rows are read when they are needed, and the numbers of rows and captions are compared before.
    sparse(&images, &header, length);
    refused(&train, at, &["train_caps.txt: expected a multiple of the 48096000 row(s) of features"]);
    sparse(&images, &header, 1 << 30);
    refused(&train, at, &["train_ims.npy: the file is truncated"]);
    let overflow = npy_header("(4611686018427387904, 8)");
    fs::write(&images, overflow).unwrap();
    refused(&train, at, &["train_ims.npy: ", "overflow computing length from shape"]);
    let tensor =
        |shape: &str, end: u64| format!(r#"{{"images":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#);
    let eval = ["eval", "--embeddings", "a"];
    let header = safetensors(&tensor("[48096000,1024]", 197_001_216_000), b"");
    sparse(&at.join("a"), &header, header.len() as u64 + 197_001_216_000);
    refused(&eval, at, &["a: images: not enough memory: it takes 197001216000 bytes"]);
    for (bytes, problem) in [
        (safetensors(&tensor("[1000000000,1000]", 16), &[0; 16]), "expected 4000000000000 bytes for F32"),
        (safetensors(&tensor("[4611686018427387904,4]", 0), b""), "no array can have the shape"),
        (u64::MAX.to_le_bytes().to_vec(), "expected a header of 18446744073709551615 bytes, found 0"),
        (safetensors(&"[".repeat(1 << 20), b""), "expected an object of tensors"),
        (b"PK".repeat(1000), "not an npz or PyTorch file that can be read"),
    ] {
        fs::write(at.join("a"), bytes).unwrap();
        refused(&eval, at, &["a: ", problem]);
    }
    sparse(&at.join("a"), &100_000_000u64.to_le_bytes(), 100_000_008);
    refused(&eval, at, &["a: ", "expected a header of at most 16777216 bytes, found 100000000"]);
    sparse(&at.join("a"), b"PK\x03\x04", 197_000_000_000);
    refused(&eval, at, &["a: not an npz or PyTorch file that can be read"]);
    sparse(&at.join("a"), b"{", 50_000_000_000);
    refused(&["vocab", "show", "a"], at, &["a: expected at most 67108864 bytes, found 50000000000"]);
    refused(&["train", "--config", "a", "--print-config"], at, &["a: expected at most 65536 bytes"]);
}

#[test]
fn deep_brackets_do_not_overflow_the_stack() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (name, text) in [
        ("lists", "[".repeat(60_000)),
        ("objects", "{\"a\":".repeat(12_000)),
        ("words", "{\"word2idx\":".repeat(5_000)),
        ("toml", format!("a = {}", "[".repeat(60_000))),
        ("tables", format!("a = {}", "{a = ".repeat(12_000))),
        ("dots", format!("{}a = 1", "a.".repeat(30_000))),
    ] {
        fs::write(at.join(name), &text).unwrap();
        refused(&["vocab", "show", name], at, &[name]);
        refused(&["train", "--config", name, "--print-config"], at, &[name]);
        fs::write(at.join("manifest.json"), &text).unwrap();
        refused(&["golden", "list", "--suite", "."], at, &["manifest.json"]);
        let own = safetensors(r#"{"in.x":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}"#, b"x");
        fs::write(at.join("own.safetensors"), own).unwrap();
        let make = ["golden", "make", "--inputs", "own.safetensors", "--out", "o.safetensors", "--config", name];
        refused(&make, at, &[name]);
    }
}

#[test]
fn a_manifest_stays_in_its_folder_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let case = json!({
        "id": "a", "family": "x", "program": "loss", "equations": [], "note": "", "flags": [], "result": "valid",
        "config": {}, "margins": {}
    });
    let try_with = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut case = case.clone();
        change(&mut case);
        let manifest = json!({ "format": 2, "suite": "x", "flags": {}, "kills": {}, "cases": [case] });
        fs::write(at.join("manifest.json"), manifest.to_string()).unwrap();
        refused(&["golden", "show", "a", "--tensor", "x", "--suite", "."], at, words);
    };
    for id in ["../../etc/passwd", "a\u{1b}[2J", "", ".", "c:a", "a\nb"] {
        try_with(&|case| case["id"] = id.into(), &["expected an id that can be a file's name"]);
    }
    let tensor = json!({ "name": "in.x\u{202e}", "dtype": "F32", "shape": [1], "sha256": "" });
    try_with(&|case| case["tensors"] = json!([tensor]), &["in.x\\u{202e}", "expected a name of visible characters"]);
    let mut tensor = tensor.clone();
    tensor["name"] = "in.x".into();
    try_with(&|case| case["tensors"] = json!([tensor, tensor]), &["the tensor in.x occurs twice"]);
}

#[test]
fn names_and_words_are_displayed_and_not_interpreted() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let words =
        ["<pad>", "<start>", "<end>", "<unk>", "a\u{1b}[31mb", "c\nd\te", "f\u{202e}g\u{9b}h\u{7f}\u{2028}", "naïve"];
    let vocabulary = json!({ "format": "vsepp-vocabulary-1", "threshold": 1, "words": words });
    fs::write(at.join("v.json"), vocabulary.to_string()).unwrap();
    let shown = ok(&["vocab", "show", "v.json"], at);
    let lines = "4\ta\\u001b[31mb\n5\tc\\nd\\te\n6\tf\\u202eg\\u009bh\\u007f\\u2028\n7\tnaïve\n";
    assert!(shown.ends_with(lines), "{shown}");
    let shown = ok(&["vocab", "show", "v.json", "--json"], at);
    let obeyed = |c: char| (c.is_control() && c != '\n') || ['\u{202e}', '\u{2028}'].contains(&c);
    assert!(!shown.contains(obeyed), "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["words"], json!(words), "and yet it says the same");
    let convert = ["vocab", "convert", "v.json", "--to", "text", "--out", "v.txt"];
    refused(&convert, at, &["word 5: \"c\\nd\\te\" has a line break"]);
    // Names of files and of tensors, and arguments.
    refused(&["vocab", "show", "a\u{1b}[2J\nerror: b\u{202e}"], at, &["a\\u001b[2J\\nerror: b\\u202e: cannot read"]);
    let mut embeddings = Tensors::default();
    embeddings.add("x\u{1b}[2J\nerror: y", array![1.0f32]);
    embeddings.write(&at.join("e.npz"));
    refused(&["eval", "--embeddings", "e.npz"], at, &["found only: x\\u001b[2J\\nerror: y"]);
    // The argument parser itself removes what begins with ESC.
    refused(&["--a\u{1b}[2Jb\u{202e}"], at, &["unexpected argument '--ab\\u202e'"]);
    refused(&["golden", "list", "--suite", "s\u{1b}c\nx"], at, &["s\\u001bc\\nx"]);
    let odd = OsStr::from_bytes(b"v\xff.json");
    let run = |args: &[&OsStr]| Command::new(env!("CARGO_BIN_EXE_vsepp")).args(args).current_dir(at).output().unwrap();
    let args: Vec<&OsStr> = ["vocab", "build", "--json", "--out"].into_iter().map(OsStr::new).chain([odd]).collect();
    let output = run(&args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["file"], "v\\xff.json");
    let output = run(&args);
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(2), "error: v\\xff.json: already exists; --force overwrites it\n".into())
    );
}

#[test]
fn the_umask_and_existing_modes_are_respected() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (umask, expected) in [("077", 0o600), ("002", 0o664), ("022", 0o644)] {
        let out = format!("v{umask}.json");
        let output = shell(&format!("umask {umask}; vsepp vocab build --out {out}"), at);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(mode(&at.join(&out)), expected, "umask {umask}");
    }
    let path = at.join("v022.json");
    for kept in [0o600, 0o664] {
        fs::set_permissions(&path, Permissions::from_mode(kept)).unwrap();
        ok(&["vocab", "build", "--out", "v022.json", "--force"], at);
        assert_eq!(mode(&path), kept);
    }
}

#[test]
fn nothing_that_exists_is_replaced_without_force() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    data(at);
    ok(&as_refs(&train("r", "1", &[])), at);
    fs::create_dir(at.join("found")).unwrap();
    let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/golden");
    let check = ["golden", "check", "found", "--suite", suite, "--case", "gru-cell-smallest", "--report"];
    let embed = ["embed", "--run", "r", "--out"];
    let build = ["vocab", "build", "--out"];
    let convert = ["vocab", "convert", "r/vocab.json", "--to", "text", "--out"];
    let man = ["man", "--dir"];
    for (command, out, file) in [
        (&check[..], "page.html", "page.html"),
        (&embed, "e.npz", "e.npz"),
        (&build, "v.json", "v.json"),
        (&convert, "v.txt", "v.txt"),
        (&man, "man", "man/vsepp-train.1"),
    ] {
        let path = at.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "mine").unwrap();
        let args = [command, &[out]].concat();
        refused(&args, at, &[file, "already exists; --force overwrites it"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine", "{args:?}");
        // With --force it is replaced; for a link, its target.
        let target = at.join("target");
        fs::rename(&path, &target).unwrap();
        symlink(&target, &path).unwrap();
        let forced = [&args, &["--force"][..]].concat();
        let output = vsepp(&forced, at);
        assert_ne!(output.status.code(), Some(2), "{forced:?}: {}", text(&output.stderr));
        assert!(path.is_symlink() && fs::read(&target).unwrap() != b"mine", "{forced:?}");
        // A dangling link, and anything but a file, is always refused.
        fs::remove_file(&target).unwrap();
        refused(&forced, at, &[file, "it is a link to a file that does not exist"]);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused(&forced, at, &[file, "it exists and is not a regular file"]);
        assert!(!target.exists());
    }
    fs::create_dir(at.join("suite")).unwrap();
    fs::write(at.join("suite/manifest.schema.json"), "mine").unwrap();
    refused(&["golden", "make", "--out", "suite"], at, &["suite/manifest.schema.json", "already exists"]);
    refused(
        &["golden", "check", "found", "--suite", suite, "--report", "no/such/page.html"],
        at,
        &["there is no folder no/such"],
    );
    refused(
        &["golden", "check", "found", "--suite", suite, "--report", "/dev/null"],
        at,
        &["/dev/null", "not a regular file"],
    );
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    if !Path::new("/dev/full").exists() {
        println!("skipped: there is no /dev/full");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    ok(&["vocab", "build", "--out", "v.json"], at);
    for command in ["vocab show v.json", "vocab show v.json --json", "--help", "--version", "man", "completions bash"] {
        let output = shell(&format!("vsepp {command} > /dev/full"), at);
        assert_eq!(output.status.code(), Some(2), "{command}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("cannot write"), "{command}: {}", text(&output.stderr));
    }
    let output = shell("vsepp vocab show v.json | head -n 1", at);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "a reader that has seen enough");
}

#[test]
fn a_folder_without_write_permission_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    if File::create(closed.join("x")).is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    refused(&["vocab", "build", "--out", "closed/v.json"], folder.path(), &["closed/v.json: cannot write", "denied"]);
    assert_eq!(json(&["vocab", "build", "--out", "v.json", "--json"], folder.path())["file"], "v.json");
}
