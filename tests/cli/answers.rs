//! The results and notes of evaluation, embedding and search, and the answers to command lines of the
//! original.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::{Array1, Array2, Axis, arr1};
use ndarray_npy::{ReadNpyExt, write_npy};

use super::tensors::Tensors;
use super::{data, json, ok, refused, text, train, vsepp};

/// Runs, expects success, returns stderr.
fn said(args: &[&str], folder: &Path) -> String {
    let output = vsepp(args, folder);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

fn notes(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.starts_with("note:")).collect()
}

const CHANCE: &str = "recall is at chance";

const COLOURS: [&str; 8] = ["red", "green", "blue", "white", "black", "brown", "pink", "grey"];
const THINGS: [&str; 5] = ["dog", "cat", "boat", "kite", "clock"];

/// 0..n in an order without a pattern (sorted by the hash of splitmix64); another `seed` gives another order.
fn shuffled(n: usize, seed: usize) -> Vec<usize> {
    let hash = |i: usize| {
        let x = ((seed * 1000 + i + 1) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| hash(i));
    order
}

/// Forty images, each with a colour and a thing, encoded as ones among zeros. The captions describe the
/// image itself or the one before it.
fn pictures(data: &Path, splits: &[&str], late: usize, captions_of: impl Fn(usize) -> usize) {
    std::fs::create_dir_all(data).unwrap();
    for split in splits {
        let order = shuffled(40, split.len());
        let (mut rows, mut captions) = (Vec::new(), String::new());
        for (place, &image) in order.iter().enumerate() {
            let reply = order[(place + 40 - late) % 40];
            for take in 0..captions_of(place) {
                rows.push(image);
                let form = ["a {c} {t}", "the {t} is {c}", "one {c} {t} ."][take % 3];
                captions += &form.replace("{c}", COLOURS[reply % 8]).replace("{t}", THINGS[reply / 8]);
                captions.push('\n');
            }
        }
        let features = Array2::from_shape_fn((rows.len(), 13), |(row, column)| {
            let image = rows[row];
            f32::from(u8::from(column == image % 8 || column == 8 + image / 8))
        });
        write_npy(data.join(format!("{split}_ims.npy")), &features).unwrap();
        std::fs::write(data.join(format!("{split}_caps.txt")), captions).unwrap();
    }
}

fn train_pictures(run: &str, more: &[&str], folder: &Path) -> String {
    let args = ["train", "--data", "pictures", "--run", run, "--embed-size", "16", "--word-dim", "8"];
    let sizes = ["--batch-size", "20", "--learning-rate", "1e-2"];
    said(&[&args[..], &sizes[..], more].concat(), folder)
}

#[test]
fn a_file_of_embeddings_evaluates_to_the_bit_as_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // One to four captions per image, and one row per caption.
    pictures(&folder.join("pictures"), &["train", "dev", "test"], 0, |place| 1 + place % 4);
    train_pictures("cosine", &["--num-epochs", "2"], folder);
    train_pictures("order", &["--num-epochs", "2", "--preset", "order++"], folder);
    train_pictures("squared", &["--num-epochs", "2", "--measure", "order-squared", "--no-imgnorm"], folder);
    for run in ["cosine", "order", "squared"] {
        let expected = json(&["eval", "--run", run, "--json"], folder);
        assert_eq!((&expected["images"], &expected["captions"]), (&40.into(), &100.into()));
        for file in ["e.npz", "e.safetensors"] {
            said(&["embed", "--run", run, "--out", file, "--force"], folder);
            let output = vsepp(&["eval", "--embeddings", file, "--json"], folder);
            let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(found, expected, "{run} {file}");
            assert!(notes(&text(&output.stderr)).iter().all(|note| note.contains(CHANCE)), "{}", text(&output.stderr));
            let five = json(&["eval", "--run", run, "--folds", "5", "--json"], folder);
            assert_eq!(json(&["eval", "--embeddings", file, "--folds", "5", "--json"], folder), five);
        }
    }
    let mut npz = zip::ZipArchive::new(std::fs::File::open(folder.join("e.npz")).unwrap()).unwrap();
    let about = Array1::<u8>::read_npy(npz.by_name("vsepp.npy").unwrap()).unwrap();
    let about: serde_json::Value = serde_json::from_slice(&about.to_vec()).unwrap();
    assert_eq!((&about["measure"], &about["split"]), (&"order-squared".into(), &"test".into()));
    // A measure other than the file's is used, with a note.
    let message = said(&["eval", "--embeddings", "e.npz", "--measure", "cosine"], folder);
    assert!(message.contains("compared by order-squared; --measure cosine is used"), "{message}");
}

/// A file of vectors that match exactly: one unit vector for each image, and the same vector for each of
/// its captions.
struct Vectors {
    images: Array2<f32>,
    captions: Array2<f32>,
}

impl Vectors {
    fn new(image_of: &[i64]) -> Self {
        let images = Array2::eye(usize::try_from(*image_of.iter().max().unwrap()).unwrap() + 1);
        let rows: Vec<usize> = image_of.iter().map(|&image| usize::try_from(image).unwrap()).collect();
        Self { captions: images.select(Axis(0), &rows), images }
    }

    fn tensors(&self, names: [&str; 2]) -> Tensors {
        let mut tensors = Tensors::default();
        tensors.add(names[0], self.images.clone());
        tensors.add(names[1], self.captions.clone());
        tensors
    }

    fn write(&self, path: &Path, map: Option<&[i64]>) {
        let mut tensors = self.tensors(["images", "captions"]);
        if let Some(map) = map {
            tensors.add("image_ids", arr1(map));
        }
        tensors.write(path);
    }
}

#[test]
fn the_map_of_a_file_is_used_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, file) = (folder.path(), folder.path().join("e.npz"));
    let eval = ["eval", "--embeddings", "e.npz", "--json"];
    let right = [2, 0, 1, 0, 3, 2, 2, 0];
    let vectors = Vectors::new(&right);
    vectors.write(&file, Some(&right));
    let found = json(&eval, folder);
    assert_eq!((&found["rsum"], &found["images"], &found["captions"]), (&600.0.into(), &4.into(), &8.into()));
    // Without it, equal numbers of captions are assumed, and the result is wrong.
    vectors.write(&file, None);
    assert_ne!(json(&eval, folder)["rsum"], 600.0);
    let cases: [(&[i64], &str); 6] = [
        (
            &[2, 0, 1, 0, 4, 2, 2, 0],
            "image_ids: caption 4: expected the row of an image, 0 to 3, found 4; the numbers run from 0 to 4",
        ),
        (&[3, 1, 2, 1, 4, 3, 3, 1], "caption 4: expected the row of an image, 0 to 3, found 4; they run from 1"),
        (&[2, 0, 1, 0, -1, 2, 2, 0], "caption 4: expected the row of an image, 0 to 3, found -1"),
        (&[2, 0, 2, 0, 2, 2, 2, 0], "for each of the 4 images, found none for 2 of them, the first in row 1"),
        (&[2, 0, 1, 0, 3, 2, 2], "image_ids: expected [M = 8], the image of each caption, found [7]"),
        (
            &[391_895, 522_418, 184_613, 522_418, 318_219, 391_895, 391_895, 522_418],
            "the numbers run from 184613 to 522418",
        ),
    ];
    for (map, words) in cases {
        vectors.write(&file, Some(map));
        refused(&eval, folder, &["e.npz: ", words]);
    }
    let mut tensors = vectors.tensors(["images", "captions"]);
    tensors.add("image_ids", arr1(&[2.0f64, 0.0, 1.0, 0.5, 3.0, 2.0, 2.0, 0.0]));
    tensors.write(&file);
    refused(&eval, folder, &["image_ids: caption 3: expected a whole number, found 0.5"]);
    // A map with another name gives a note, and is used when it is named.
    let mut tensors = vectors.tensors(["images", "captions"]);
    tensors.add("cap2img", arr1(&right));
    tensors.write(&file);
    let message = said(&eval, folder);
    assert!(
        message.contains("cap2img [8] may be the image of each caption")
            && message.contains("--names images,captions,cap2img"),
        "{message}"
    );
    assert_eq!(json(&[&eval[..], &["--names", "images,captions,cap2img"]].concat(), folder)["rsum"], 600.0);
}

#[test]
fn images_that_a_file_holds_five_times_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, file) = (folder.path(), folder.path().join("e.npz"));
    let eval = ["eval", "--embeddings", "e.npz", "--json"];
    let image_of: Vec<i64> = (0..60).map(|caption| caption / 5).collect();
    let mut vectors = Vectors::new(&image_of);
    vectors.images = vectors.captions.clone();
    // No map, a map of rows, a map of images.
    let rows: Vec<i64> = (0..60).collect();
    for map in [None, Some(&rows[..]), Some(&image_of[..])] {
        vectors.write(&file, map);
        let message = said(&eval, folder);
        assert!(
            notes(&message).len() == 1 && message.contains("the 60 rows of images are 12 images")
                || message.contains("the 60 rows are 12 images"),
            "{message}"
        );
        let found = json(&eval, folder);
        assert_eq!((&found["images"], &found["rsum"]), (&12.into(), &600.0.into()), "{map:?}");
    }
    // Equal rows that are not neighbours, because all images repeat in rounds; and rows that are nearly equal.
    let rounds: Vec<usize> = (0..60).map(|row| row % 12 * 5).collect();
    let apart = Vectors {
        images: vectors.images.select(Axis(0), &rounds),
        captions: vectors.captions.select(Axis(0), &rounds),
    };
    apart.write(&file, None);
    let message = said(&eval, folder);
    assert!(message.contains("the 60 rows are 12 images") && message.contains("such as rows 0 and 12"), "{message}");
    assert_eq!(notes(&message).len(), 1, "{message}");
    let found = json(&eval, folder);
    assert_eq!((&found["images"], &found["rsum"]), (&12.into(), &600.0.into()));
    // One copy among many images is no pattern: it stays an image.
    let once: Vec<usize> = (0..12).map(|row| row % 11 * 5).collect();
    let one =
        Vectors { images: vectors.images.select(Axis(0), &once), captions: vectors.captions.select(Axis(0), &once) };
    one.write(&file, None);
    let message = said(&eval, folder);
    assert!(message.contains("1 row(s) equal an earlier row, the first of them row 11 (equal to row 0)"), "{message}");
    let mut nearly = vectors.images.clone();
    nearly.outer_iter_mut().enumerate().for_each(|(row, mut x)| x[(row + 7) % 12] += row as f32 * 1e-8);
    Vectors { images: nearly, ..vectors }.write(&file, None);
    let message = said(&eval, folder);
    assert!(message.contains("of their length from an earlier row"), "{message}");
}

#[test]
fn other_names_and_other_files_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let vectors = Vectors::new(&[0, 0, 1, 1, 2, 2]);
    vectors.tensors(["img_embs", "cap_embs"]).write(&folder.join("e.npz"));
    refused(
        &["eval", "--embeddings", "e.npz"],
        folder,
        &["cap_embs [6, 3], img_embs [3, 3]; perhaps --names img_embs,cap_embs"],
    );
    assert_eq!(
        json(&["eval", "--embeddings", "e.npz", "--names", "img_embs,cap_embs", "--json"], folder)["rsum"],
        600.0
    );
    for wrong in ["img_embs", "a,a", "a,b,c,d"] {
        refused(
            &["eval", "--embeddings", "e.npz", "--names", wrong],
            folder,
            &["--names: expected two or three", wrong],
        );
    }
    refused(
        &["eval", "--embeddings", "e.npz", "--names", "img_embs,none"],
        folder,
        &["expected a tensor none, found only: cap_embs [6, 3], img_embs [3, 3]"],
    );
    vectors.tensors(["captions", "images"]).write(&folder.join("e.npz"));
    refused(
        &["eval", "--embeddings", "e.npz"],
        folder,
        &["multiple of the 6 images, found 3", "--names captions,images"],
    );
    assert_eq!(json(&["eval", "--embeddings", "e.npz", "--names", "captions,images", "--json"], folder)["rsum"], 600.0);
    vectors.tensors(["a", "b"]).write(&folder.join("e.safetensors"));
    refused(&["eval", "--embeddings", "e.safetensors"], folder, &["--names IMAGES,CAPTIONS gives their names"]);
    // Metadata that another program wrote.
    let with = |about: &str| {
        let bytes = vectors.tensors(["images", "captions"]).to_safetensors(Some(about));
        std::fs::write(folder.join("m.safetensors"), bytes).unwrap();
    };
    let eval = ["eval", "--embeddings", "m.safetensors", "--json"];
    with(r#"{"measure": "order", "ids": ["x", "y", "z"]}"#);
    assert_eq!(json(&eval, folder)["rsum"], 600.0);
    let message = said(&["eval", "--embeddings", "m.safetensors", "--measure", "cosine"], folder);
    assert!(message.contains("compared by order; --measure cosine is used"), "{message}");
    let wrong = [
        (r#"{"measure": "l2"}"#, "l2"),
        (r#"{"ids": ["x"]}"#, "a name for each of 3 images, found 1"),
        (r#"{"format": "vsepp-checkpoint-1"}"#, "expected vsepp-embeddings-1"),
    ];
    for (about, words) in wrong {
        with(about);
        refused(&eval, folder, &["m.safetensors: ", words]);
    }
    // Files of other kinds.
    let files: [(&str, &[u8], &str); 6] = [
        ("scores.npy", b"\x93NUMPY\x01\x00", "a .npy file (one NumPy array): expected two arrays in one file"),
        ("e.pkl", b"\x80\x04\x95", "a Python pickle"),
        ("e.pt", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "not a PyTorch file that can be read: byte 15"),
        ("e.h5", b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
        ("e.json", b"{\"images\": [[1, 2]]}", "text, perhaps JSON"),
        ("empty.npz", b"", "an empty file"),
    ];
    for (name, bytes, words) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
        refused(&["eval", "--embeddings", name], folder, &[name, words]);
    }
}

#[test]
fn chance_level_gives_a_note_and_a_good_result_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (all, data) = (["train", "dev", "test"], folder.join("pictures"));
    pictures(&data, &all, 1, |_| 3);
    let message = train_pictures("late", &["--num-epochs", "4"], folder);
    let reply: Vec<&str> = notes(&message).into_iter().filter(|note| note.contains(CHANCE)).collect();
    assert_eq!(reply.len(), 1, "{message}");
    assert!(
        reply[0].contains("dev: rsum") && reply[0].contains("test: rsum") && reply[0].contains("by chance 77."),
        "{message}"
    );
    let message = said(&["eval", "--run", "late"], folder);
    assert_eq!(message.matches(CHANCE).count(), 1, "{message}");
    assert!(said(&["eval", "--run", "late", "--folds", "2"], folder).contains("by chance 1"), "twenty images a fold");
    let chance = &json(&["eval", "--run", "late", "--json"], folder)["chance"];
    assert!((chance["rsum"].as_f64().unwrap() - 77.7).abs() < 0.2, "{chance}");

    pictures(&data, &all, 0, |_| 3);
    let message = train_pictures("healthy", &["--num-epochs", "6"], folder);
    assert!(!message.contains(CHANCE), "{message}");
    assert!(!said(&["eval", "--run", "healthy"], folder).contains(CHANCE));

    // Vectors in another order. Five images are too few to decide.
    for (images, fires) in [(40, true), (5, false)] {
        let image_of: Vec<i64> = (0..5 * images).map(|caption| caption / 5).collect();
        let mut vectors = Vectors::new(&image_of);
        vectors.write(&folder.join("e.npz"), None);
        assert!(!said(&["eval", "--embeddings", "e.npz"], folder).contains(CHANCE));
        let order = shuffled(vectors.images.nrows(), 1);
        vectors.images = vectors.images.select(Axis(0), &order);
        vectors.write(&folder.join("e.npz"), None);
        assert_eq!(said(&["eval", "--embeddings", "e.npz"], folder).contains(CHANCE), fires, "{images}");
    }
}

/// The rows of a table of a page, below a heading: the code of the first cell, and the second cell.
fn rows(page: &str, heading: &str) -> Vec<(String, String)> {
    let part = page.split("\n## ").find(|part| part.starts_with(heading)).unwrap_or_else(|| panic!("no {heading}"));
    let rows = part.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let (left, right) = line.trim_matches('|').split_once(" | ").unwrap();
        (left.trim().trim_matches('`').to_owned(), right.trim().to_owned())
    });
    rows.collect()
}

fn codes(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The flags of its README and of `train.py`.
const ORIGINAL: &str = "--data_path --data_name --vocab_path --margin --num_epochs --batch_size --word_dim --embed_size \
                        --grad_clip --crop_size --num_layers --learning_rate --lr_update --workers --log_step --val_step \
                        --logger_name --resume --max_violation --img_dim --finetune --cnn_type --use_restval --measure \
                        --use_abs --no_imgnorm --reset_train";

#[test]
fn every_flag_of_the_original_is_answered_as_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-the-original.md");
    let page = std::fs::read_to_string(page).unwrap();
    std::fs::write(folder.join("FILE"), "{}").unwrap();
    let mut seen = BTreeSet::new();
    let table = rows(&page, "Flags of `train.py`");
    assert_eq!(table.len(), 26);
    for (typed, here) in table.iter().chain(&rows(&page, "The four models")) {
        let words: Vec<&str> = typed.split(' ').collect();
        seen.extend(words.iter().filter(|word| word.starts_with("--")).map(|word| (*word).to_owned()));
        let args = [&["train"], &words[..], &["--print-config"]].concat();
        if here.starts_with("the same") || here.starts_with("the file") {
            let output = vsepp(&args, folder);
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{typed}: {message}");
            codes(here).for_each(|code| assert!(message.contains(code), "{typed}: expected {code} in: {message}"));
            assert_eq!(message.is_empty(), codes(here).next().is_none(), "{typed}: {message}");
            let settings: toml::Table = text(&output.stdout).parse().unwrap();
            let found = &settings[&words[0][2..]];
            let same = match words.get(1) {
                None => found.as_bool() == Some(true),
                Some(value) => match found {
                    toml::Value::String(text) => text.ends_with(value),
                    toml::Value::Float(x) => value.parse() == Ok(*x),
                    other => other.to_string() == *value,
                },
            };
            assert!(same, "{typed}: {found}");
            // With hyphens, the same.
            let flag = words[0].replace('_', "-");
            let hyphens = [&["train", &flag], &words[1..], &["--print-config"]].concat();
            assert_eq!(ok(&hyphens, folder), text(&output.stdout), "{typed}");
        } else {
            let reply: Vec<&str> = codes(here).chain(here.starts_with("leave").then_some("leave it out")).collect();
            assert!(!reply.is_empty(), "{typed}: nothing to compare");
            refused(&args[..args.len() - 1], folder, &reply);
        }
    }
    let expected: BTreeSet<String> = ORIGINAL.split_whitespace().map(str::to_owned).collect();
    assert_eq!(seen, expected);
}

#[test]
fn evaluation_and_vocabulary_of_the_original_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    refused(
        &["evalrank", "model_best.pth.tar"],
        folder,
        &["vsepp eval --run RUN --data DIR --split test", "--folds 5"],
    );
    refused(&["eval", "--run", "r", "--fold5"], folder, &["--fold5: --folds 5", "vsepp eval --run r --folds 5"]);
    let eval = ["eval", "--run", "r", "--data_path", "my data", "--data_name", "f8k_precomp", "--split", "dev"];
    refused(&eval, folder, &["vsepp eval --run r --split dev --data 'my data/f8k_precomp'"]);
    let build = ["vocab", "build", "--data_path", "D", "--data_name", "f8k_precomp", "--out", "v.json"];
    refused(&build, folder, &["vsepp vocab build --out v.json --data D/f8k_precomp"]);
    refused(&["train", "--data_name", "f8k_precomp"], folder, &["--data DIR/f8k_precomp"]);
    refused(&["train", "--data_path=D"], folder, &["--data D/precomp"]);
}

#[test]
fn every_suggestion_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let cases: [(&[&str], &str, &[&str]); 13] = [
        (&["train", "--lr", "1e-3"], "--learning-rate 1e-3", &["lr-update"]),
        (&["train", "--lr_rate=1e-3"], "--learning-rate 1e-3", &["lr-update"]),
        (&["train", "--lr"], "--learning-rate", &["lr-update"]),
        (&["train", "--name", "x"], "--run x", &["num-layers"]),
        (&["train", "--epochs", "3"], "--num-epochs 3", &["tip"]),
        (&["train", "--workers", "10"], "leave it out", &["word-threshold"]),
        (&["train", "--reset_train"], "--statistics train", &["preset"]),
        (&["train", "--logger"], "unexpected argument '--logger'", &["tip"]),
        (&["train", "--dropout", "0.1"], "unexpected argument '--dropout'", &["tip"]),
        (&["train", "--log-dir", "x"], "unexpected argument '--log-dir'", &["tip", "img-dim"]),
        (&["train", "--learnin-rate", "1"], "tip: a similar argument exists: '--learning-rate'", &[]),
        (&["train", "--num_epoch", "1"], "tip: a similar argument exists: '--num-epochs'", &[]),
        (&["test"], "unrecognized subcommand 'test'", &["tip"]),
    ];
    for (args, reply, not) in cases {
        refused(args, folder, &[reply]);
        let message = text(&vsepp(args, folder).stderr);
        for word in not {
            assert!(!message.contains(word), "{args:?}: {word:?} in: {message}");
        }
    }
    // Values are not flags and keep their underscores.
    let settings: toml::Table =
        ok(&["train", "--print-config", "--num_epochs=3", "--vocab_path", "."], folder).parse().unwrap();
    assert_eq!(settings["num_epochs"].as_integer(), Some(3));
    refused(&["search", "--run", "no_run", "a_b"], folder, &["no_run: expected the folder of a run"]);
}

#[test]
fn a_note_names_the_loss_where_the_originals_differs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let reply = |more: &[&str]| said(&[&["train", "--print-config"], more].concat(), folder);
    assert!(
        reply(&["--no_imgnorm"]).contains("--preset vse0") && reply(&["--no-imgnorm"]).contains("SH is the default")
    );
    assert!(reply(&["--measure", "order", "--use_abs"]).contains("--preset order0"));
    std::fs::write(folder.join("c.toml"), "max_violation = true\n").unwrap();
    let quiet: [&[&str]; 7] = [
        &["--no-imgnorm", "--max-violation"],
        &["--no-imgnorm", "--sum-violation"],
        &["--no-imgnorm", "--preset", "vse++"],
        &["--no-imgnorm", "--config", "c.toml"],
        &["--no-imgnorm=false"],
        &["--measure", "order"],
        &[],
    ];
    for more in quiet {
        assert_eq!(reply(more), "", "{more:?}");
    }
}

/// Types every command that a text suggests, and expects success.
fn type_all(suggested: &str, folder: &Path) -> usize {
    let commands: Vec<&str> = suggested.lines().filter_map(|line| line.strip_prefix("  vsepp ")).collect();
    for command in &commands {
        let line = format!("'{}' {command}", env!("CARGO_BIN_EXE_vsepp"));
        let output = Command::new("sh").args(["-c", &line]).current_dir(folder).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command}: {}", text(&output.stderr));
    }
    commands.len()
}

#[test]
fn suggested_commands_work_when_typed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let args = |run: &'static str| train(run, "2", &[]);
    let refs = |args: &[String]| args.iter().map(String::as_str).collect::<Vec<_>>().join("\0");
    let run = |name: &'static str| ok(&refs(&args(name)).split('\0').collect::<Vec<_>>(), folder);
    assert_eq!(type_all(&run("my run's"), folder), 2);
    for file in ["test_ims.npy", "test_caps.txt"] {
        std::fs::remove_file(folder.join("data").join(file)).unwrap();
    }
    let suggested = run("no-test");
    assert!(suggested.contains("eval --run no-test --split dev"), "{suggested}");
    assert_eq!(type_all(&suggested, folder), 2);
    refused(&["eval", "--run", "no-test"], folder, &["--split dev selects an existing one"]);
    refused(&["search", "--run", "no-test", "a red thing"], folder, &["--split dev"]);
    refused(&["embed", "--run", "no-test", "--out", "e.npz"], folder, &["--split dev"]);
    refused(&["eval", "--run", "no-test/best.safetensors"], folder, &["found a file in one; the folder is no-test"]);
    refused(&["eval", "--run", "data/dev_caps.txt"], folder, &["expected the folder of a run, found a file"]);
    refused(&["train", "--resume", "--run", "no-test/last.safetensors"], folder, &["the folder is no-test"]);
    let resume = ["train", "--resume", "no-test/last.safetensors"];
    refused(&resume, folder, &["--run no-test --resume"]);
    assert_eq!(type_all(&text(&vsepp(&resume, folder).stderr), folder), 1);
    refused(&["train", "--resume=x.pth.tar"], folder, &["--run RUN --resume", "Adam's moments"]);
}

#[test]
fn a_search_names_its_unknown_words() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    said(&train("run", "2", &[]).iter().map(String::as_str).collect::<Vec<_>>(), folder);
    let found = json(&["search", "--run", "run", "--json", "a crimson and red zebra"], folder);
    assert_eq!(found["query"]["unknown"], serde_json::json!(["crimson", "zebra"]));
    let found = json(&["search", "--run", "run", "--json", "a red thing"], folder);
    assert_eq!(found["query"]["unknown"], serde_json::json!([]));
    refused(&["search", "--run", "run", "--json", "crimson zebra"], folder, &["none of these words: crimson, zebra"]);
}

#[test]
fn parameters_of_other_programs_take_the_rest_from_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    said(&train("run", "2", &[]).iter().map(String::as_str).collect::<Vec<_>>(), folder);
    let best = Tensors::read(&folder.join("run/best.safetensors"));
    let bare = |change: &dyn Fn(&mut Tensors)| {
        let mut bare = best.clone();
        change(&mut bare);
        bare.write(&folder.join("bare.safetensors"));
    };
    let eval = ["eval", "--run", "run", "--checkpoint", "bare.safetensors", "--json"];
    bare(&|_| ());
    assert_eq!(json(&eval, folder), json(&["eval", "--run", "run", "--json"], folder));
    assert!(said(&eval, folder).contains("measure, norms and vocabulary are those of the run run"));
    bare(&|tensors| tensors.add("txt_enc.proj.weight", arr1(&[1.0f32])));
    refused(&eval, folder, &["bare.safetensors: txt_enc.proj.weight: the architecture has no such tensor"]);
    bare(&|tensors| tensors.remove("txt_enc.embed.weight"));
    refused(&eval, folder, &["bare.safetensors", "expected a tensor txt_enc.embed.weight"]);
    // PyTorch's files: one that is not the original's, one that is not read, and one that asks for a program.
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/weights").join(name);
    let eval = ["eval", "--run", "run", "--checkpoint", "model best.pth.tar"];
    let refused_with = |words: &[&str]| refused(&eval, folder, words);
    std::fs::copy(fixture("zip.pth"), folder.join(eval[4])).unwrap();
    refused_with(&["model best.pth.tar: expected `model`", "a checkpoint of the original"]);
    std::fs::copy(fixture("python_2.pth.tar"), folder.join(eval[4])).unwrap();
    refused_with(&["model best.pth.tar: model.0.fc.weight: expected shape [", "], found [3, 4]"]);
    let advice = ["torch.load(\"model best.pth.tar\"", "--run run --checkpoint"];
    std::fs::copy(fixture("refused.legacy.pth"), folder.join(eval[4])).unwrap();
    refused_with(&["asks for posix.system", "Nothing in the file was executed", advice[0], advice[1]]);
    std::fs::write(folder.join(eval[4]), b"\x80\x02}q\0.").unwrap();
    refused_with(&["a Python pickle that torch.save did not write", advice[0], advice[1]]);
}

/// Small realistic inputs, which are not part of this repository.
fn cases() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} does not exist", folder.display());
    None
}

#[test]
fn the_shared_cases_have_the_right_answers() {
    let Some(cases) = cases() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = |name: &str| cases.join(name).to_str().unwrap().to_owned();
    let rsum = |args: &[&str]| format!("{:.1}", json(&[args, &["--json"]].concat(), folder)["rsum"].as_f64().unwrap());
    let eval = |name: &str| rsum(&["eval", "--embeddings", &path(&format!("embeddings/{name}"))]);
    assert_eq!(
        (eval("with-map.npz"), eval("five-times.npz"), eval("shuffled-rows.npz")),
        ("415.3".into(), "424.0".into(), "70.5".into())
    );
    assert!(said(&["eval", "--embeddings", &path("embeddings/shuffled-rows.npz")], folder).contains("by chance 77.3"));
    let other = path("embeddings/other-names.npz");
    refused(&["eval", "--embeddings", &other], folder, &["--names img_embs,cap_embs"]);
    assert_eq!(rsum(&["eval", "--embeddings", &other, "--names", "img_embs,cap_embs"]), "424.0");
    refused(&["eval", "--embeddings", &path("embeddings/scores.npy")], folder, &["a .npy file"]);
    for name in ["flat.json", "idx2word.json"] {
        assert_eq!(ok(&["vocab", "show", &path(&format!("vocabularies/{name}")), "dog"], folder), "dog\t6\n");
    }
    for name in ["f8k_precomp_vocab.pkl", "python3-protocol4.pkl", "runs-code.pkl"] {
        refused(
            &["vocab", "show", &path(&format!("vocabularies/{name}"))],
            folder,
            &["a Python pickle", "pickle.load"],
        );
    }
    assert!(!folder.join("EXECUTED").exists());
    let settings = [
        "--embed-size",
        "32",
        "--word-dim",
        "16",
        "--learning-rate",
        "5e-3",
        "--num-epochs",
        "8",
        "--batch-size",
        "32",
        "--lr-update",
        "6",
    ];
    let base = path("base");
    said(&[&["train", "--data", &base, "--run", "r"], &settings[..]].concat(), folder);
    assert_eq!(rsum(&["eval", "--run", "r", "--checkpoint", &path("checkpoints/bare.safetensors")]), "424.0");
    for name in ["pytorch-2.pth.tar", "pytorch-0.3-python2.pth.tar"] {
        let file = path(&format!("checkpoints/{name}"));
        assert_eq!(rsum(&["eval", "--run", "r", "--checkpoint", &file]), "424.0", "{name}");
    }
    let late = path("one-image-late");
    assert!(said(&[&["train", "--data", &late, "--run", "late"], &settings[..]].concat(), folder).contains(CHANCE));
}
