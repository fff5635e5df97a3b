//! Data folders of many kinds: what is read, noted and refused.
//!
//! All folders have the same content in different forms. A reader is right if it gives the figures of the
//! plain folder to the last digit.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayD, Axis, IxDyn, concatenate, s};
use ndarray_npy::write_npy;
use serde_json::Value;

use super::tensors::Tensors;
use super::{ok, refused, text, vsepp};

const SPLITS: [(&str, usize); 3] = [("train", 60), ("dev", 20), ("test", 20)];
const PER_IMAGE: usize = 5;

/// Features of images, no two alike in any split.
fn images(first: usize, count: usize) -> Array2<f32> {
    Array2::from_shape_fn((count, 16), |(row, column)| {
        let n = first + row;
        let shown = column == n % 8 || column == 8 + n / 8 % 8;
        f32::from(u8::from(shown)) + ((n * 37 + column * 11) % 97) as f32 / 1024.0
    })
}

fn captions(first: usize, count: usize) -> Vec<String> {
    let what = ["dog", "cat", "bus", "kite", "boat", "bird", "clock", "train"];
    let wheres = ["road", "sand", "roof", "snow", "grass", "beach", "hill", "lake"];
    let mut lines = Vec::new();
    for n in first..first + count {
        let (a, b) = (what[n % 8], wheres[n / 8 % 8]);
        lines.extend([
            format!("a {a} on the {b}"),
            format!("the {b} has a {a}"),
            format!("there is a {a} , by the {b}"),
            format!("{a} and {b}"),
            format!("A {a} at the {b} ."),
        ]);
    }
    lines
}

/// The names of a split's images.
fn names(split: &str) -> Vec<String> {
    let (first, count) = place(split);
    (first..first + count).map(|n| format!("img_{}.jpg", 1000 + (n * 61) % 199)).collect()
}

fn place(split: &str) -> (usize, usize) {
    let at = SPLITS.iter().position(|(name, _)| *name == split).unwrap();
    (SPLITS[..at].iter().map(|(_, count)| count).sum(), SPLITS[at].1)
}

type Rows = Array2<f32>;

/// A folder with all splits; `change` edits each split before it is written.
fn folder(
    within: &Path,
    name: &str,
    mut change: impl FnMut(&str, Rows, Vec<String>) -> (Rows, Vec<String>),
) -> PathBuf {
    let path = within.join(name);
    std::fs::create_dir_all(&path).unwrap();
    for (split, _) in SPLITS {
        let (first, count) = place(split);
        let (rows, lines) = change(split, images(first, count), captions(first, count));
        write_npy(path.join(format!("{split}_ims.npy")), &rows).unwrap();
        write_lines(&path.join(format!("{split}_caps.txt")), &lines);
    }
    path
}

fn write_lines(path: &Path, lines: &[String]) {
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
}

fn plain(within: &Path, name: &str) -> PathBuf {
    folder(within, name, |_, rows, lines| (rows, lines))
}

/// A folder whose caption lines are changed one by one. `change` also gets the image's number within its
/// split.
fn lines(within: &Path, name: &str, change: impl Fn(&str, usize, usize, &str) -> String) -> PathBuf {
    folder(within, name, |split, rows, lines| {
        let changed = lines.iter().enumerate();
        (rows, changed.map(|(n, line)| change(split, n / PER_IMAGE, n % PER_IMAGE, line)).collect())
    })
}

fn five_times(rows: &Rows) -> Rows {
    Array2::from_shape_fn((rows.nrows() * PER_IMAGE, rows.ncols()), |(row, column)| rows[[row / PER_IMAGE, column]])
}

const SETTINGS: [&str; 10] =
    ["--embed-size", "32", "--word-dim", "16", "--learning-rate", "5e-3", "--num-epochs", "4", "--batch-size", "32"];

/// Trains, expects success, returns the figures of test and stderr.
fn train(within: &Path, data: &Path, run: &str) -> (Value, String) {
    let data = data.to_str().unwrap();
    let output = vsepp(&[&["train", "--data", data, "--run", run, "--json"], &SETTINGS[..]].concat(), within);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{data}: {said}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    (result["test"].clone(), said)
}

fn notes(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.starts_with("note: ")).collect()
}

/// A folder that gives the figures of the plain one, and a note with these words.
type Same = (PathBuf, &'static str);

fn same_captions(at: &Path) -> Vec<Same> {
    vec![
        (lines(at, "marks", |_, _, _, line| format!("<start> {line} <end>")), "marks of another program"),
        (lines(at, "bert", |_, _, _, line| format!("[CLS] {line} [SEP] [PAD]")), "marks of another program"),
        (
            lines(at, "names", |split, image, k, line| format!("{}#{k}\t{line}", names(split)[image])),
            "begins with the name of its image",
        ),
        (lines(at, "columns", |_, image, _, line| format!("{image}\t{line}")), "begins with a name and a tab"),
        (
            lines(
                at,
                "zero-width",
                |_, _, k, line| if k == 2 { format!("\u{feff}{line}\u{200b}") } else { line.into() },
            ),
            "invisible characters",
        ),
        (lines(at, "separator", |_, _, _, line| line.replace("the ", "the\u{2028}")), "separators other than"),
        (lines(at, "windows", |_, _, _, line| format!("{line}\r")), ""),
    ]
}

fn same_rows(at: &Path) -> Vec<Same> {
    let five = |_: &str, rows: Rows, lines| (five_times(&rows), lines);
    // The images come in rounds: all first captions, then all second ones.
    let rounds = |_: &str, rows: Rows, lines: Vec<String>| {
        let order = (0..PER_IMAGE).flat_map(|k| (0..rows.nrows()).map(move |n| n * PER_IMAGE + k));
        let turned = order.map(|at| lines[at].clone()).collect();
        (concatenate![Axis(0), rows, rows, rows, rows, rows], turned)
    };
    // Features computed five times, equal to six digits, with names.
    let nearly = |split: &str, rows: Rows, lines: Vec<String>| {
        let mut five = five_times(&rows);
        for (n, mut row) in five.outer_iter_mut().enumerate() {
            row.mapv_inplace(|x| x * (1.0 + (n % PER_IMAGE) as f32 * f32::EPSILON));
        }
        let named = lines.iter().enumerate().map(|(n, line)| format!("{}\t{line}", names(split)[n / PER_IMAGE]));
        (five, named.collect())
    };
    // The captions of the last image come first, and the ids are the numbers in the names.
    let mixed = folder(at, "ids", |split, rows, lines| {
        let named =
            (0..lines.len()).map(|n| format!("{}#{}\t{}", names(split)[n / PER_IMAGE], n % PER_IMAGE, lines[n]));
        let named: Vec<String> = named.collect();
        (rows, named.chunks(PER_IMAGE).rev().flatten().cloned().collect())
    });
    for (split, _) in SPLITS {
        let ids: Vec<String> = names(split).iter().map(|name| name[4..8].trim_start_matches('0').to_owned()).collect();
        write_lines(&mixed.join(format!("{split}_ids.txt")), &ids);
    }
    vec![
        (folder(at, "five", five), "the 100 rows are 20 images (equal neighbouring rows are one image)"),
        (folder(at, "rounds", rounds), "80 copies are not neighbours, such as rows 0 and 20"),
        (folder(at, "nearly-named", nearly), "test: the 100 rows are 20 images, by their names"),
        (mixed, "test: 100 of the 100 captions go to another row by name than by count"),
    ]
}

fn same_files(at: &Path) -> Vec<Same> {
    let renamed = |name: &str, pairs: &[(&str, &str)]| {
        let path = plain(at, name);
        for (old, new) in pairs {
            let new = path.join(new);
            std::fs::create_dir_all(new.parent().unwrap()).unwrap();
            std::fs::rename(path.join(old), new).unwrap();
        }
        path
    };
    let archive = |name: &str, ending: &str| {
        let path = plain(at, name);
        for (split, _) in SPLITS {
            let (first, count) = place(split);
            std::fs::remove_file(path.join(format!("{split}_ims.npy"))).unwrap();
            let mut features = Tensors::default();
            features.add("whatever", images(first, count));
            features.write(&path.join(format!("{split}_ims.{ending}")));
        }
        path
    };
    let ones = plain(at, "ones");
    for (split, _) in SPLITS {
        let (first, count) = place(split);
        let numbers = images(first, count).into_raw_vec_and_offset().0;
        let array = ArrayD::from_shape_vec(IxDyn(&[count, 16, 1, 1]), numbers).unwrap();
        write_npy(ones.join(format!("{split}_ims.npy")), &array).unwrap();
    }
    let both = plain(at, "dev-and-val");
    std::fs::copy(both.join("test_caps.txt"), both.join("val_caps.txt")).unwrap();
    std::fs::copy(both.join("test_ims.npy"), both.join("val_ims.npy")).unwrap();
    let older: Vec<(String, String)> = [("train", "train"), ("dev", "val"), ("test", "test")]
        .iter()
        .flat_map(|(old, new)| {
            [
                (format!("{old}_caps.txt"), format!("{new}.txt")),
                (format!("{old}_ims.npy"), format!("images/10crop/{new}.npy")),
            ]
        })
        .collect();
    let older: Vec<(&str, &str)> = older.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
    vec![
        (renamed("val", &[("dev_caps.txt", "val_caps.txt"), ("dev_ims.npy", "val_ims.npy")]), "dev: read from val"),
        (both, "dev: dev and val are both there, val is not used"),
        (renamed("older", &older), "test: read from test.txt and images/10crop/test.npy"),
        (archive("npz", "npz"), ""),
        (archive("safetensors", "safetensors"), ""),
        (ones, "shape [20, 16, 1, 1] is read as [20, 16]"),
    ]
}

#[test]
fn the_same_data_in_another_shape_gives_the_same_figures() {
    let at = tempfile::tempdir().unwrap();
    let at = at.path();
    let (expected, said) = train(at, &plain(at, "plain"), "run");
    assert_eq!(notes(&said), Vec::<&str>::new(), "data without faults give no notes");
    assert!(expected["rsum"].as_f64().unwrap() > 300.0, "{expected}");
    for (data, note) in [same_captions(at), same_rows(at), same_files(at)].concat() {
        let run = format!("run-{}", data.file_name().unwrap().to_str().unwrap());
        let (found, said) = train(at, &data, &run);
        assert_eq!(found, expected, "{}: {said}", data.display());
        let notes = notes(&said);
        if note.is_empty() {
            assert!(notes.is_empty(), "{}: {said}", data.display());
        } else {
            let about_test = notes.iter().filter(|line| line.contains(note)).count();
            assert!(about_test > 0, "{}: expected {note:?} in: {said}", data.display());
            let mut once = notes.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), notes.len(), "{}: a note is printed twice: {said}", data.display());
        }
    }
}

#[test]
fn every_command_that_reads_a_split_prints_its_notes_once() {
    let at = tempfile::tempdir().unwrap();
    let at = at.path();
    let (_, said) = train(at, &plain(at, "plain"), "run");
    assert!(notes(&said).is_empty(), "{said}");
    let marked = lines(at, "marked", |_, _, _, line| format!("<s> {line} </s>"));
    let marked = marked.to_str().unwrap();
    for command in [
        &["eval", "--run", "run", "--data", marked][..],
        &["embed", "--run", "run", "--data", marked, "--out", "e.npz"],
        &["search", "--run", "run", "--data", marked, "a dog"],
        &["train", "--data", marked, "--run", "again", "--num-epochs", "1", "--embed-size", "8", "--word-dim", "8"],
    ] {
        let output = vsepp(command, at);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.matches("test_caps.txt:1: marks of another program").count(), 1, "{command:?}: {said}");
    }
    ok(&["vocab", "build", "--data", marked, "--word-threshold", "1", "--out", "v.json"], at);
    let words = ok(&["vocab", "show", "v.json"], at);
    assert!(words.contains("dog") && !words.contains("\t<\n"), "{words}");
}

#[test]
fn copies_that_stay_are_noted_with_numbers() {
    let at = tempfile::tempdir().unwrap();
    let at = at.path();
    let nearly = folder(at, "nearly", |_, rows, lines| {
        let mut five = five_times(&rows);
        for (n, mut row) in five.outer_iter_mut().enumerate() {
            row.mapv_inplace(|x| x * (1.0 + (n % PER_IMAGE) as f32 * f32::EPSILON));
        }
        (five, lines)
    });
    let (_, said) = train(at, &nearly, "a");
    let expected = "note: test: 80 of the 100 images differ from an earlier one by less than 1e-6 of its length, without being \
                    equal (first: rows 0 and 1";
    assert!(said.contains(expected), "{said}");
    // The copies need not be neighbours, and an image may occur twice among others.
    let twice = folder(at, "twice", |split, mut rows, lines| {
        if split == "test" {
            let (copy, near) = (rows.row(3).to_owned(), rows.row(4).mapv(|x| x * (1.0 + 2.0 * f32::EPSILON)));
            rows.row_mut(11).assign(&copy);
            rows.row_mut(17).assign(&near);
        }
        (rows, lines)
    });
    let (_, said) = train(at, &twice, "b");
    assert!(said.contains("note: test: 1 of the 20 images equal an earlier one (first: rows 3 and 11"), "{said}");
    assert!(said.contains("note: test: 1 of the 20 images differ from an earlier one"), "{said}");
    assert!(said.contains("(first: rows 4 and 17"), "{said}");
    assert_eq!(notes(&said).len(), 2, "{said}");
}

#[test]
fn splits_that_share_images_are_noted_with_numbers() {
    let at = tempfile::tempdir().unwrap();
    let at = at.path();
    let shared = folder(at, "shared", |split, mut rows, lines| {
        match split {
            "test" => rows = images(40, 20),
            "dev" => rows.slice_mut(s![..3, ..]).assign(&images(40, 3)),
            _ => {}
        }
        (rows, lines)
    });
    let (_, said) = train(at, &shared, "a");
    for note in [
        "note: dev: 3 of its 20 images are in train too (first: image 0 is image 40 there, both from 0)",
        "note: test: 20 of its 20 images are in train too (first: image 0 is image 40 there",
        "note: test: 3 of its 20 images are in dev too",
    ] {
        assert_eq!(said.matches(note).count(), 1, "expected {note:?} in: {said}");
    }
    // Other features of the same images: the ids show it.
    let ids = plain(at, "ids");
    write_lines(&ids.join("train_ids.txt"), &names("train"));
    write_lines(&ids.join("test_ids.txt"), &names("train")[7..27]);
    let (_, said) = train(at, &ids, "b");
    assert!(said.contains("note: test: 20 of its 20 ids are in train too, with other features"), "{said}");
}

#[test]
fn lines_that_are_not_captions_are_refused_with_their_number() {
    let at = tempfile::tempdir().unwrap();
    let at = at.path();
    let cases: Vec<(&str, PathBuf, &[&str])> = vec![
        ("lists", lines(at, "lists", |_, _, _, line| format!("['{line}', 'x']")), &["train_caps.txt:1", "a list"]),
        (
            "objects",
            lines(at, "objects", |_, _, _, line| format!("{{\"c\": \"{line}\"}}")),
            &["train_caps.txt:1", "an object"],
        ),
        (
            "quotes",
            lines(at, "quotes", |_, _, _, line| format!("\"{line}\"")),
            &["train_caps.txt:1", "as 300 of the 300 are"],
        ),
        (
            "table",
            lines(at, "table", |_, n, _, line| format!("{n}.jpg,{line}")),
            &["train_caps.txt:1", "a comma and a caption"],
        ),
        (
            "control",
            lines(
                at,
                "control",
                |_, n, k, line| if (n, k) == (3, 1) { line.replace(' ', "\u{1b}[") } else { line.into() },
            ),
            &["train_caps.txt:17", "U+001B (ESC)"],
        ),
        (
            "some-marks",
            lines(at, "some-marks", |_, n, _, line| if n == 7 { line.into() } else { format!("<s> {line}") }),
            &["train_caps.txt:36", "295 of the 300", "this one does not"],
        ),
        (
            "unknown",
            lines(at, "unknown", |_, n, _, line| if n == 2 { line.replace("the", "<unk>") } else { line.into() }),
            &["train_caps.txt:11", "the mark \"<unk>\""],
        ),
        (
            "names-of-others",
            lines(at, "names-of-others", |_, n, k, line| format!("{}.jpg\t{line}", (n * 5 + k + 1) / 5)),
            &["train_caps.txt", "name 61 images, and there are 60 rows", "\"1.jpg\""],
        ),
    ];
    for (_, data, words) in cases {
        refused(&["train", "--data", data.to_str().unwrap(), "--run", "run"], at, words);
    }
    // One line more or less, and a header.
    let count = |name: &str, change: &dyn Fn(&mut Vec<String>)| {
        folder(at, name, |_, rows, mut lines| {
            change(&mut lines);
            (rows, lines)
        })
    };
    let more = count("more", &|lines| lines.insert(8, "broken".into()));
    let words: &[&str] =
        &["train_caps.txt", "multiple of the 60 row(s)", "301 = 5 · 60 + 1", "a line break within a caption", "header"];
    refused(&["train", "--data", more.to_str().unwrap(), "--run", "run"], at, words);
    let less = count("less", &|lines| drop(lines.remove(8)));
    refused(&["train", "--data", less.to_str().unwrap(), "--run", "run"], at, &["299 = 5 · 60 − 1", "lost"]);
    let header = count("header", &|lines| {
        for line in lines.iter_mut() {
            *line = format!("a.jpg,{line}");
        }
        lines.insert(0, "image,caption".into());
    });
    let words: &[&str] = &["train_caps.txt:1", "a header, \"image,caption\"", "301 = 5 · 60 + 1"];
    refused(&["train", "--data", header.to_str().unwrap(), "--run", "run"], at, words);
    // An id that no caption has.
    let ids = lines(at, "ids", |split, n, _, line| format!("{}\t{line}", names(split)[n]));
    let mut other = names("train");
    other[9] = "img_7.jpg".into();
    write_lines(&ids.join("train_ids.txt"), &other);
    let words: &[&str] = &["train_caps.txt:46", &names("train")[9], "no row has this id in train_ids.txt"];
    refused(&["train", "--data", ids.to_str().unwrap(), "--run", "run"], at, words);
}

#[test]
fn the_error_for_another_folder_names_its_content() {
    let at = tempfile::tempdir().unwrap();
    let at = at.path();
    let make = |name: &str, files: &[&str]| {
        for file in files {
            let path = at.join(name).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x\n").unwrap();
        }
    };
    let expect = |name: &str, words: &[&str]| refused(&["train", "--data", name, "--run", "run"], at, words);
    make("nothing", &["IMG_1.JPG", "notes.md"]);
    expect("nothing", &["no split train", "{split}_caps.txt", "The folder holds IMG_1.JPG, notes.md"]);
    std::fs::create_dir(at.join("empty")).unwrap();
    expect("empty", &["The folder is empty"]);
    plain(&at.join("above"), "coco_precomp");
    expect("above", &["Did you mean", "above/coco_precomp?"]);
    ok(&["vocab", "build", "--data", "above/coco_precomp/", "--out", "v.json"], at);
    expect("above/coco_precomp/test_caps.txt", &["expected a folder of data, found a file", "above/coco_precomp?"]);
    make("json", &["features.npy"]);
    let write = |file: &str, start: &str| std::fs::write(at.join(file), start).unwrap();
    write("json/dataset_flickr8k.json", "{\"images\":[{\"sentids\":[0],\"sentences\":[{\"tokens\":[");
    expect("json", &["Karpathy", "numpy.load('features.npy')", "open('dataset_flickr8k.json'"]);
    expect("json/dataset_flickr8k.json", &["found a file", "Karpathy"]);
    make("coco", &["features.npy"]);
    write("coco/captions_val.json", "{\"info\": {}, \"images\": [{\"coco_url\": \"x\"}]");
    expect("coco", &["captions_val.json looks like COCO's own annotations", "{split}_ids.txt"]);
    make("table", &["features/a.npy"]);
    write("table/captions.csv", "image,caption,split\r\n");
    expect("table", &["captions.csv looks like a table", "csv.DictReader"]);
    make("lines", &["features.npy"]);
    write("lines/captions.jsonl", "{\"image\": \"a.jpg\", \"split\": \"train\", \"captions\": [\"a dog\"]}\n");
    expect("lines", &["captions.jsonl looks like JSON Lines"]);
    make("flickr", &["Flickr8k.token.txt", "Flickr_8k.trainImages.txt", "features.npz"]);
    expect("flickr", &["Flickr8k.token.txt", "'Flickr_8k.trainImages.txt'", "f['names']"]);
    let no_dev = plain(at, "no-dev");
    std::fs::remove_file(no_dev.join("dev_caps.txt")).unwrap();
    std::fs::remove_file(no_dev.join("dev_ims.npy")).unwrap();
    expect("no-dev", &["no split dev", "The splits that are there: test, train", "--hold-out N"]);
    last_images_become_dev(at);
    for (file, words) in [
        ("train_ims.h5", ["HDF5", "h5py.File('train_ims.h5')"]),
        ("train_ims.pt", ["PyTorch", "torch.load('train_ims.pt'"]),
        ("train_ims.mat", ["MATLAB", "scipy.io.loadmat"]),
    ] {
        let path = plain(at, "other");
        std::fs::rename(path.join("train_ims.npy"), path.join(file)).unwrap();
        expect("other", &[&words[..], &[file]].concat());
        std::fs::remove_dir_all(path).unwrap();
    }
    let regions = plain(at, "regions");
    write_npy(regions.join("train_ims.npy"), &ArrayD::<f32>::ones(IxDyn(&[60, 36, 16]))).unwrap();
    expect("regions", &["train_ims.npy", "shape [60, 36, 16]", "36 vectors per image", "mean(axis=1)"]);
}

/// Without a dev split the last images of train become dev, in training and in later commands.
fn last_images_become_dev(at: &Path) {
    let args = [&["train", "--data", "no-dev", "--run", "held", "--hold-out", "10", "--json"], &SETTINGS[..]].concat();
    let output = vsepp(&args, at);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(notes(&said), ["note: dev: the last 10 of the 60 images of train, which keeps 50"], "{said}");
    assert!(said.contains("train: 250 captions of 50 images; dev: 50 of 10"), "{said}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let dev = super::json(&["eval", "--run", "held", "--split", "dev", "--json"], at);
    assert_eq!(dev["rsum"], result["best"]["dev"]["rsum"]);
    assert_eq!(super::json(&["eval", "--run", "held", "--split", "train", "--json"], at)["images"], 50);
    ok(&["train", "--run", "held", "--resume", "--num-epochs", "5"], at);
    let args = ["train", "--data", "no-dev", "--run", "x", "--hold-out", "60"];
    refused(&args, at, &["hold_out = 60", "1 to 59, of the 60 images of train"]);
    // An existing dev split is used.
    let plain = plain(at, "with-dev");
    let (figures, said) = train(at, &plain, "all");
    assert!(notes(&said).is_empty(), "{said}");
    let args = [&["train", "--data", "with-dev", "--run", "y", "--hold-out", "10", "--json"], &SETTINGS[..]].concat();
    let output = vsepp(&args, at);
    let said = text(&output.stderr);
    assert!(said.contains("note: --hold-out has no effect: the data have a dev split"), "{said}");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["test"], figures);
}

/// The expected result of a case of `shared/cases`.
enum Right {
    /// The figures of `base`.
    Same,
    /// As [`Right::Same`], with a note.
    Noted(&'static str),
    /// Other figures, with a note.
    Note(&'static str),
    /// An error with these words.
    Refused(&'static [&'static str]),
}

#[test]
fn the_shared_cases() {
    use Right::{Note, Noted, Refused, Same};
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    if !shared.is_dir() {
        eprintln!("SKIPPED: {} does not exist", shared.display());
        return;
    }
    let at = tempfile::tempdir().unwrap();
    let at = at.path();
    let path = |case: &str| shared.join(case).to_str().unwrap().to_owned();
    let settings = "--embed-size 32 --word-dim 16 --learning-rate 5e-3 --num-epochs 8 --batch-size 32 --lr-update 6";
    let settings: Vec<&str> = settings.split(' ').collect();
    let run = |case: &str, run: &str| {
        let path = path(case);
        vsepp(&[&["train", "--data", &path, "--run", run, "--json"], &settings[..]].concat(), at)
    };
    let base = run("base", "r");
    let base: Value = serde_json::from_slice(&base.stdout).unwrap();
    assert!((base["test"]["rsum"].as_f64().unwrap() - 424.0).abs() < 0.05, "{base}");
    let cases: [(&str, Right); 29] = [
        ("copies-apart", Noted("320 copies are not neighbours")),
        ("copies-nearly-equal", Note("160 of the 200 images differ from an earlier one by less than 1e-6")),
        ("ids-out-of-step", Noted("captions go to another row by name")),
        ("names-at-the-head", Noted("begins with the name of its image")),
        ("python-lists", Refused(&["train_caps.txt:1", "a list"])),
        ("start-end-marks", Noted("marks of another program")),
        ("control-bytes", Refused(&["train_caps.txt:4", "U+0000 (NUL)"])),
        ("test-is-train", Note("test: 40 of its 40 images are in train too")),
        ("val-for-dev", Noted("dev: read from val")),
        ("no-dev", Refused(&["no split dev", "test, train"])),
        ("nothing-of-the-kind", Refused(&["IMG_0001.JPG, notes.md"])),
        ("folder-above", Refused(&["Did you mean", "folder-above/coco_precomp?"])),
        ("folder-above/coco_precomp", Same),
        ("order-embedding-layout", Noted("dev: read from val")),
        ("karpathy-json", Refused(&["dataset_flickr8k.json", "json.load"])),
        ("karpathy-json/dataset_flickr8k.json", Refused(&["found a file", "json.load"])),
        ("csv-and-files", Refused(&["captions.csv", "csv.DictReader"])),
        ("token-file", Refused(&["Flickr8k.token.txt"])),
        ("json-lines", Refused(&["captions.jsonl"])),
        ("features-npz", Same),
        ("features-safetensors", Same),
        ("features-pt", Refused(&["test_ims.pt", "torch.load"])),
        ("features-hdf5", Refused(&["test_ims.h5", "h5py"])),
        ("regions-36", Refused(&["[40, 36, 16]", "mean(axis=1)"])),
        ("trailing-ones", Noted("[40, 16, 1, 1] is read as [40, 16]")),
        ("line-break-once", Refused(&["401 = 5 · 80 + 1", "line break", "header"])),
        ("header-line", Refused(&["test_caps.txt:1", "image,caption", "201 = 5 · 40 + 1"])),
        ("carriage-return-only", Refused(&["lines end with CR alone"])),
        ("utf-16", Refused(&["this is UTF-16", "iconv"])),
    ];
    for (case, right) in cases {
        let three = ["train_caps.txt", "train.txt"].iter().any(|file| shared.join(case).join(file).exists());
        let known = ["test_caps.txt", "coco_precomp"].iter().any(|file| shared.join(case).join(file).exists());
        let output = if three || !known {
            run(case, &format!("s-{}", case.replace('/', "-")))
        } else {
            vsepp(&["eval", "--run", "r", "--data", &path(case), "--json"], at)
        };
        let said = text(&output.stderr);
        let figures = || -> Value {
            assert_eq!(output.status.code(), Some(0), "{case}: {said}");
            let found: Value = serde_json::from_slice(&output.stdout).unwrap();
            if found["test"].is_object() { found["test"].clone() } else { found }
        };
        let mut missing = String::new();
        match right {
            Same => assert_eq!(figures(), base["test"], "{case}: {said}"),
            Noted(note) => {
                assert_eq!(figures(), base["test"], "{case}: {said}");
                assert!(notes(&said).iter().any(|line| line.contains(note)), "{case}: expected {note:?} in: {said}");
            }
            Note(note) => {
                assert_ne!(figures(), base["test"], "{case}");
                assert!(notes(&said).iter().any(|line| line.contains(note)), "{case}: expected {note:?} in: {said}");
            }
            Refused(words) => {
                assert_eq!(output.status.code(), Some(2), "{case}: {said}");
                for word in words.iter().filter(|word| !said.contains(**word)) {
                    let _ = write!(missing, "{word:?} ");
                }
                assert!(missing.is_empty(), "{case}: expected {missing}in: {said}");
            }
        }
    }
}
