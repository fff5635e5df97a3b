//! Runs every command once, and checks what each refuses.

use std::path::Path;
use std::process::{Command, Stdio};

use ndarray::{Array2, array};
use ndarray_npy::write_npy;
use serde_json::Value;
use vsepp::train::Checkpoint;

use super::tensors::Tensors;
use super::{as_refs, data, json, ok, refused, stoppable, text, train, vsepp};

#[test]
fn from_data_to_recall_and_search() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let result = json(&as_refs(&train("run", "4", &["--json"])), folder);
    assert_eq!(result["test"]["images"], 12);
    let evaluation = json(&["eval", "--run", "run", "--json"], folder);
    assert_eq!(evaluation, result["test"]);
    for key in ["r1", "r5", "r10", "medr", "meanr"] {
        assert!(evaluation["image_to_text"][key].is_number() && evaluation["text_to_image"][key].is_number(), "{key}");
    }
    assert!(evaluation["rsum"].as_f64().unwrap() > 0.0);

    for file in ["e.safetensors", "e.npz"] {
        ok(&["embed", "--run", "run", "--out", file], folder);
        assert_eq!(json(&["eval", "--embeddings", file, "--json"], folder), evaluation, "{file}");
        refused(&["embed", "--run", "run", "--out", file], folder, &["already exists", "--force"]);
    }
    let folds = json(&["eval", "--run", "run", "--folds", "3", "--json"], folder);
    assert_eq!(folds["folds"], 3);

    let found = json(&["search", "--run", "run", "a red thing", "--top", "2", "--json"], folder);
    assert_eq!(found["results"].as_array().unwrap().len(), 2);
    assert_eq!(found["results"][0]["captions"].as_array().unwrap().len(), 3);
    let found = json(&["search", "--run", "run", "--image", "3", "--json"], folder);
    assert_eq!(found["results"][0]["rank"], 1);
    assert!(ok(&["search", "--run", "run", "--image", "3"], folder).contains("captions for image 3 of test"));
}

#[test]
fn a_training_reports_its_waiting_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let output = vsepp(&as_refs(&train("run", "2", &[])), folder);
    let reply = text(&output.stderr);
    assert!(reply.contains("36 pairs per epoch in 5 batches of 8; ready after "), "{reply}");
    assert_eq!(reply.lines().filter(|line| line.contains(" pairs/s, waited ")).count(), 1, "{reply}");
    let epochs: Vec<&str> = reply.lines().filter(|line| line.starts_with("epoch ")).collect();
    assert!(epochs.len() == 2 && epochs.iter().all(|line| line.chars().count() <= 80), "{reply}");
    let metrics = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let shares: Vec<f64> = lines.filter_map(|line| line["waiting"].as_f64()).collect();
    assert!(shares.len() == 2 && shares.iter().all(|share| (0.0..1.0).contains(share)), "{shares:?}");
}

#[test]
fn runs_are_kept_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let args = train("run", "4", &[]);
    ok(&as_refs(&args), folder);
    refused(&as_refs(&args), folder, &["run: the folder already has a run"]);
    ok(&as_refs(&train("run", "4", &["--force"])), folder);
    // A failed run does not remove an earlier one.
    let before = std::fs::read(folder.join("run/best.safetensors")).unwrap();
    let mut diverging = train("run", "4", &["--force"]);
    let rate = diverging.iter().position(|a| a == "1e-2").unwrap();
    diverging[rate] = "1e300".into();
    refused(&as_refs(&diverging), folder, &["step ", "learning_rate = 1e300", "diverged"]);
    assert_eq!(std::fs::read(folder.join("run/best.safetensors")).unwrap(), before);
    refused(&["train", "--run", "run", "--resume", "--num-epochs", "3"], folder, &["num_epochs = 3", "at least the 4"]);
    refused(&["eval", "--run", "run", "--normalize"], folder, &["--normalize"]);
    refused(&as_refs(&train("none", "4", &["--word-threshold", "1000"])), folder, &["word_threshold = 1000"]);
    refused(&["train", "--run", "run", "--resume", "--margin", "0.3"], folder, &["margin = 0.3", "expected 0.2"]);
    // The number of epochs may be raised: four and then two are six.
    ok(&["train", "--run", "run", "--resume", "--num-epochs", "6"], folder);
    ok(&as_refs(&train("six", "6", &[])), folder);
    // The run remembers them: it can be resumed from any folder without repeating the flags.
    ok(&["train", "--run", "run", "--resume", "--data", "data", "--num-epochs", "8"], folder);
    let config: toml::Table = std::fs::read_to_string(folder.join("run/config.toml")).unwrap().parse().unwrap();
    assert_eq!(config["num_epochs"].as_integer(), Some(8));
    assert!(Path::new(config["data"].as_str().unwrap()).is_absolute());
    ok(&["train", "--run", "six", "--resume", "--num-epochs", "8"], folder);
    let parameters = |run: &str| Checkpoint::read(&folder.join(run).join("last.safetensors")).unwrap().1;
    assert_eq!(parameters("run"), parameters("six"));
}

#[test]
fn ctrl_c_saves_and_resuming_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let long = |run: &str| train(run, "300", &["--log-step", "1"]);
    ok(&as_refs(&long("straight")), folder);

    let mut child = stoppable()
        .args(long("stopped"))
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The first epoch's end writes the first checkpoint.
    while !folder.join("stopped/last.safetensors").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "stopped, and before the end");
    let (checkpoint, ..) = Checkpoint::read(&folder.join("stopped/last.safetensors")).unwrap();
    assert!(checkpoint.progress.epoch < 300);
    ok(&["train", "--run", "stopped", "--resume", "--threads", "1"], folder);

    let read = |run: &str| Checkpoint::read(&folder.join(run).join("last.safetensors")).unwrap();
    let ((a, parameters, adam), (b, parameters_b, adam_b)) = (read("straight"), read("stopped"));
    assert_eq!((parameters, adam), (parameters_b, adam_b));
    assert_eq!((a.progress.step, a.progress.best), (b.progress.step, b.progress.best));
    // The figures agree too, except for the times.
    let metrics = |run: &str| -> Vec<Value> {
        let lines = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        let strip = |line: &str| {
            let mut value: Value = serde_json::from_str(line).unwrap();
            for time in ["time", "seconds", "pairs_per_second", "waiting"] {
                value.as_object_mut().unwrap().remove(time);
            }
            value
        };
        lines.lines().map(strip).collect()
    };
    assert_eq!(metrics("straight"), metrics("stopped"));
}

#[test]
fn bad_data_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = data(folder);
    let good = |name: &str| std::fs::read(data.join(name)).unwrap();
    let (captions, images) = (good("train_caps.txt"), good("train_ims.npy"));
    let args = train("run", "4", &[]);
    let expect = |name: &str, content: Option<&[u8]>, words: &[&str]| {
        match content {
            Some(content) => std::fs::write(data.join(name), content).unwrap(),
            None => std::fs::remove_file(data.join(name)).unwrap(),
        }
        refused(&as_refs(&args), folder, words);
        assert!(!folder.join("run").exists(), "{words:?}: nothing remains");
        std::fs::write(data.join("train_caps.txt"), &captions).unwrap();
        std::fs::write(data.join("train_ims.npy"), &images).unwrap();
    };
    let with_line = |line: &[u8]| [&captions[..], line].concat();
    expect("train_caps.txt", None, &["train_caps.txt: cannot read"]);
    expect("train_ims.npy", None, &["train_ims.npy: cannot read"]);
    expect("train_caps.txt", Some(b""), &["train_caps.txt", "empty file"]);
    expect(
        "train_caps.txt",
        Some(&with_line(b"one more\n")),
        &["train_caps.txt", "multiple of the 12 row(s)", "found 37"],
    );
    expect("train_caps.txt", Some(&with_line(b"\nx\n")), &["train_caps.txt:37", "empty line"]);
    expect("train_caps.txt", Some(&with_line(b"caf\xe9\n")), &["train_caps.txt:37", "UTF-8", "0xe9"]);
    expect("train_caps.txt", Some(&with_line(b"b'a man'\n")), &["train_caps.txt:37", "bytes literal"]);
    expect("train_ims.npy", Some(&images[..images.len() - 3]), &["train_ims.npy", "truncated"]);
    expect("train_ims.npy", Some(b"not numpy"), &["train_ims.npy", "not a .npy file"]);
    let npy = |matrix: &dyn Fn(&Path)| {
        let path = folder.join("x.npy");
        matrix(&path);
        std::fs::read(path).unwrap()
    };
    let mut nan = Array2::<f32>::ones((12, 6));
    nan[[7, 2]] = f32::NAN;
    expect("train_ims.npy", Some(&npy(&|p| write_npy(p, &nan).unwrap())), &["train_ims.npy", "NaN in row 7, column 2"]);
    expect("train_ims.npy", Some(&npy(&|p| write_npy(p, &array![1.0f32]).unwrap())), &["expected a matrix"]);
    expect("train_ims.npy", Some(&npy(&|p| write_npy(p, &Array2::<i64>::ones((12, 6))).unwrap())), &["found <i8"]);
    expect("train_ims.npy", Some(&npy(&|p| write_npy(p, &Array2::<f32>::ones((12, 5))).unwrap())), &["dev", "F = 5"]);
    let zero = Array2::<f32>::zeros((12, 6));
    expect(
        "train_ims.npy",
        Some(&npy(&|p| write_npy(p, &zero).unwrap())),
        &["train: image", "caption", "image embedding is zero"],
    );
    expect(
        "train_ims.npy",
        Some(&npy(&|p| write_npy(p, &Array2::<f32>::zeros((12, 0))).unwrap())),
        &["at least one feature", "[12, 0]"],
    );
    expect(
        "train_ims.npy",
        Some(&npy(&|p| write_npy(p, &Array2::<f64>::from_elem((12, 6), 1e300)).unwrap())),
        &["beyond the range of f32"],
    );
    refused(&["train", "--data", "nowhere", "--run", "run"], folder, &["nowhere"]);
}

#[test]
fn settings_out_of_range_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let cases: [(&[&str], &[&str]); 14] = [
        (&["--margin", "-0.1"], &["margin = -0.1", "≥ 0"]),
        (&["--margin", "nan"], &["margin = NaN"]),
        (&["--learning-rate", "0"], &["learning_rate = 0", "> 0"]),
        (&["--grad-clip", "-1"], &["grad_clip = -1"]),
        (&["--embed-size", "0"], &["embed_size = 0", "1 to"]),
        (&["--embed-size", "many"], &["many"]),
        (&["--embed-size", "1048576"], &["D = 1048576", "parameters; expected"]),
        (&["--margin", "1e300"], &["margin", "1e6"]),
        (&["--hidden-size", "7"], &["hidden_size = 7", "caption_projection"]),
        (&["--img-dim", "99"], &["img_dim = 99", "F = 6"]),
        (&["--measure", "dot"], &["dot", "cosine"]),
        (&["--preset", "vse"], &["vse++"]),
        (&["--threads", "0"], &["--threads"]),
        (&["--max-violation", "--sum-violation"], &["cannot be used with"]),
    ];
    for (flags, words) in cases {
        let mut args = vec!["train", "--data", "data", "--run", "run"];
        args.extend(flags);
        refused(&args, folder, words);
        assert!(!folder.join("run").exists(), "{words:?}: nothing remains");
    }
    std::fs::write(folder.join("c.toml"), "margin = 0.1\nmargn = 2\n").unwrap();
    refused(&["train", "--config", "c.toml"], folder, &["c.toml", "line 2", "margn"]);
}

#[test]
fn bad_checkpoints_vocabularies_and_embeddings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    ok(&as_refs(&train("run", "4", &[])), folder);
    refused(&["eval", "--run", "no-run"], folder, &["no-run", "folder of a run"]);
    refused(
        &["eval", "--run", "run", "--split", "later"],
        folder,
        &["no split later", "later_caps.txt", "dev, test, train"],
    );
    refused(&["eval", "--run", "run", "--folds", "5"], folder, &["folds = 5", "12 images"]);
    refused(&["search", "--run", "run", "--image", "12"], folder, &["--image 12", "below 12"]);
    refused(&["search", "--run", "run", "zebra xylophone"], folder, &["zebra, xylophone"]);
    refused(&["search", "--run", "run", " "], folder, &["empty"]);

    let best = folder.join("run/best.safetensors");
    let bytes = std::fs::read(&best).unwrap();
    std::fs::write(&best, &bytes[..bytes.len() / 2]).unwrap();
    refused(&["eval", "--run", "run"], folder, &["best.safetensors", "truncated"]);
    let mut foreign = Tensors::default();
    foreign.add("weight", array![[1.0f32]]);
    foreign.write(&best);
    refused(&["eval", "--run", "run"], folder, &["best.safetensors", "not a checkpoint of this program"]);
    std::fs::write(&best, &bytes).unwrap();

    ok(&["vocab", "build", "--data", "data", "--word-threshold", "1", "--out", "other.json"], folder);
    let vocabulary = folder.join("run/vocab.json");
    std::fs::copy(folder.join("other.json"), &vocabulary).unwrap();
    let words: Vec<String> = std::fs::read_to_string(&vocabulary).unwrap().lines().map(str::to_owned).collect();
    std::fs::write(&vocabulary, words.join("\n").replace("\"red\"", "\"pink\"")).unwrap();
    refused(&["eval", "--run", "run"], folder, &["vocab.json", "does not fit the checkpoint"]);

    let mut embeddings = Tensors::default();
    embeddings.add("images", array![[1.0f32, 0.0], [0.0, 1.0]]);
    let file = folder.join("e.safetensors");
    embeddings.write(&file);
    refused(&["eval", "--embeddings", "e.safetensors"], folder, &["expected a tensor captions", "images"]);
    embeddings.add("captions", Array2::<f32>::ones((3, 2)));
    embeddings.write(&file);
    refused(&["eval", "--embeddings", "e.safetensors"], folder, &["multiple of the 2 images, found 3"]);
    embeddings.add("captions", Array2::<f32>::ones((4, 3)));
    embeddings.write(&file);
    refused(&["eval", "--embeddings", "e.safetensors"], folder, &["captions", "[M, D = 2]", "[4, 3]"]);
    embeddings.add("captions", Array2::<f32>::from_elem((4, 2), f32::INFINITY));
    embeddings.write(&file);
    refused(&["eval", "--embeddings", "e.safetensors"], folder, &["captions: inf in row 0, column 0"]);
    embeddings.add("captions", Array2::<f32>::zeros((4, 2)));
    embeddings.write(&file);
    refused(
        &["eval", "--embeddings", "e.safetensors", "--normalize"],
        folder,
        &["caption embedding: row 0 has norm 0"],
    );
}

#[test]
fn presets_flags_and_files_make_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let settings = |more: &[&str]| -> toml::Table {
        let mut args = vec!["train", "--print-config"];
        args.extend(more);
        ok(&args, folder).parse().unwrap()
    };
    assert_eq!(settings(&["--preset", "vse0"])["no_imgnorm"].as_bool(), Some(true));
    assert_eq!(settings(&["--preset", "vse0"])["max_violation"].as_bool(), Some(false));
    assert_eq!(settings(&["--preset", "order++"])["measure"].as_str(), Some("order"));
    assert_eq!(settings(&["--preset", "vse0", "--no-imgnorm=false"])["no_imgnorm"].as_bool(), Some(false));
    std::fs::write(folder.join("c.toml"), "seed = 9\nmargin = 0.3\n").unwrap();
    let both = settings(&["--config", "c.toml", "--margin", "0.4"]);
    assert_eq!((both["seed"].as_integer(), both["margin"].as_float()), (Some(9), Some(0.4)));
}

#[test]
fn vocabularies_are_built_shown_and_converted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    ok(&["vocab", "build", "--data", "data", "--out", "v.json"], folder);
    refused(&["vocab", "build", "--data", "data", "--out", "v.json"], folder, &["already exists"]);
    let words = ok(&["vocab", "show", "v.json"], folder);
    assert!(words.starts_with("0\t<pad>\n1\t<start>\n2\t<end>\n3\t<unk>\n4\ta\n"), "{words}");
    assert_eq!(json(&["vocab", "show", "v.json", "a", "zebra", "--json"], folder)["a"], 4);
    ok(&["vocab", "convert", "v.json", "--to", "original", "--out", "o.json"], folder);
    let original: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("o.json")).unwrap()).unwrap();
    assert_eq!((&original["word2idx"]["a"], &original["idx2word"]["4"]), (&Value::from(4), &Value::from("a")));
    ok(&["vocab", "convert", "o.json", "--to", "text", "--out", "v.txt"], folder);
    assert_eq!(std::fs::read_to_string(folder.join("v.txt")).unwrap().lines().count(), words.lines().count());
    // A training can use a vocabulary from elsewhere.
    ok(&as_refs(&train("run", "4", &["--vocab-path", "o.json"])), folder);
}

#[test]
fn completions_and_manual_pages() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(ok(&["completions", shell], folder).contains("vsepp"), "{shell}");
    }
    assert!(ok(&["man"], folder).contains(".TH vsepp 1"));
    ok(&["man", "--dir", "man"], folder);
    assert!(folder.join("man/vsepp-train.1").exists());
}

#[test]
fn gradcheck_passes_and_has_json() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&["gradcheck", "--json"], folder.path());
    assert_eq!(report["passed"], true);
    assert!(report["problems"].as_array().unwrap().len() >= 20);
}

#[test]
fn bench_measures_and_refuses_bad_settings() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let small = ["bench", "--size", "demo", "--steps", "1", "--encode", "9", "--evaluate", "3", "--threads", "2"];
    let report = json(&[&small[..], &["--json"]].concat(), folder);
    let size = &report["sizes"][0];
    assert_eq!((&size["size"], &size["counts"]["pairs"]), (&Value::from("demo"), &Value::from(128)));
    assert!(size["counts"]["states"].as_u64().unwrap() < size["counts"]["tokens"].as_u64().unwrap());
    let measured = &size["measured"][0];
    assert_eq!((&measured["threads"], &measured["evaluation"]["captions"]), (&Value::from(2), &Value::from(15)));
    assert!(report["peaks"][0]["linalg"].as_f64().unwrap() > 0.0);
    for part in ["step", "forward", "backward"] {
        assert!(measured[part]["share"].as_f64().unwrap() > 0.0, "{part}");
    }
    assert_eq!(measured["products"].as_array().unwrap().len(), 11);

    std::fs::write(folder.join("few.txt"), "a dog\n".repeat(127)).unwrap();
    refused(&["bench", "--captions", "few.txt"], folder, &["few.txt: expected at least 128 captions", "found 127"]);
    refused(&["bench", "--captions", "none.txt"], folder, &["none.txt: cannot read"]);
    refused(&["bench", "--steps", "0"], folder, &["steps = 0", "expected 1 to"]);
    refused(&["bench", "--size", "large"], folder, &["large", "demo, coco, paper"]);
    refused(&["bench", "--threads", "0"], folder, &["--threads", "1 to 1024"]);
}
