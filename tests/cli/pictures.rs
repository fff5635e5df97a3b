//! `features`, and training, evaluation and search from pictures.

use std::fmt::Write;
use std::path::Path;

use ndarray::{Array2, Axis};
use ndarray_npy::read_npy;
use serde_json::{Value, json};
use vsepp::model::{Encoder, Network};
use vsepp::nn::Module;

use super::tensors::Tensors;
use super::{WORDS, json as run_json, ok, refused, text, vsepp};

const NETWORK: &str = "resnet20,planes=4-6-8";

/// A picture of 24 × 20 pixels, coloured left and right.
fn picture(path: &Path, left: usize, right: usize) {
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), 24, 20);
    encoder.set_color(png::ColorType::Rgb);
    let colours = [[250, 20, 20], [20, 250, 20], [20, 20, 250], [250, 250, 20], [20, 250, 250], [250, 20, 250]];
    let pixel = |k: usize| colours[if k % 24 < 12 { left } else { right }];
    let pixels: Vec<u8> = (0..480).flat_map(pixel).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

/// Pictures in a folder, their captions in Karpathy's JSON, and weights of a small network.
fn world(folder: &Path) {
    std::fs::create_dir(folder.join("pictures")).unwrap();
    let mut images = Vec::new();
    for k in 0..24 {
        let (left, right) = (k % 6, (k * 5 + k / 6) % 6);
        let name = format!("{k:02}.png");
        picture(&folder.join("pictures").join(&name), left, right);
        let split = ["train", "train", "restval", "val", "test", "train"][k / 4];
        let sentences: Vec<Value> = [format!("{} and {}", WORDS[left], WORDS[right]), format!("a {} one", WORDS[left])]
            .map(|raw| json!({ "raw": raw, "tokens": raw.split(' ').collect::<Vec<_>>() }))
            .into();
        images.push(json!({ "filename": name, "split": split, "sentences": sentences }));
    }
    std::fs::write(folder.join("captions.json"), json!({ "images": images, "dataset": "own" }).to_string()).unwrap();
    let mut encoder = Encoder::<f32>::zeros(NETWORK.parse::<Network>().unwrap());
    encoder.init(5);
    let mut tensors = Tensors::default();
    for (name, numbers) in encoder.tensors() {
        tensors.add(&name, numbers);
    }
    tensors.write(&folder.join("weights.safetensors"));
}

fn features<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["features", "--images", "pictures", "--encoder", NETWORK, "--weights", "weights.safetensors"];
    [&args[..], &["--resize", "20", "--crop-size", "16", "--out", out], more].concat()
}

fn rows(path: &Path) -> Array2<f32> {
    read_npy(path).unwrap()
}

#[test]
fn features_are_rows_of_norm_1_in_the_order_of_the_names() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    world(folder);
    let said = ok(&features("train_ims.npy", &[]), folder);
    assert!(
        said.starts_with("train_ims.npy: [24, 8], rows of norm 1\ntrain_ids.txt: the name of each row\n"),
        "{said}"
    );
    let names: String = (0..24).fold(String::new(), |mut names, k| {
        let _ = writeln!(names, "{k:02}.png");
        names
    });
    assert_eq!(std::fs::read_to_string(folder.join("train_ids.txt")).unwrap(), names);
    let one = rows(&folder.join("train_ims.npy"));
    assert!(one.map_axis(Axis(1), |row| row.dot(&row).sqrt()).iter().all(|norm| (norm - 1.0).abs() < 1e-6));

    // Any batch gives the same bytes; a list keeps its order.
    for batch in ["1", "7"] {
        ok(&features("other.npy", &["--batch-size", batch, "--force"]), folder);
        assert_eq!(rows(&folder.join("other.npy")), one, "{batch}");
    }
    std::fs::write(folder.join("list.txt"), "pictures/07.png\npictures/03.png\n").unwrap();
    let mut of_list = features("listed.npy", &["--json"]);
    of_list[2] = "list.txt";
    let said: Value = run_json(&of_list, folder);
    assert_eq!((&said["shape"], &said["names"]), (&json!([2, 8]), &json!("listed_ids.txt")));
    assert_eq!(rows(&folder.join("listed.npy")), one.select(Axis(0), &[7, 3]));

    // Ten crops: a picture that is the same everywhere gives the same crop ten times.
    picture(&folder.join("pictures/99.png"), 2, 2);
    ok(&features("one.npy", &[]), folder);
    ok(&features("ten.npy", &["--crops", "10"]), folder);
    let (one, ten) = (rows(&folder.join("one.npy")), rows(&folder.join("ten.npy")));
    // The mean of ten equal numbers is rounded ten times, by a part in 2²⁴.
    let near = |a: &Array2<f32>, b: &Array2<f32>, row| (&a.row(row) - &b.row(row)).iter().all(|x| x.abs() < 1e-6);
    assert!(near(&one, &ten, 24), "{} {}", one.row(24), ten.row(24));
    assert_ne!(one.row(0), ten.row(0));
}

#[test]
fn features_go_on_where_they_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    world(folder);
    ok(&features("whole.npy", &[]), folder);
    let late = folder.join("pictures/21.png");
    let good = std::fs::read(&late).unwrap();
    std::fs::write(&late, &good[..good.len() - 9]).unwrap();
    let args = features("x.npy", &["--batch-size", "4"]);
    refused(&args, folder, &["pictures/21.png", "PNG"]);
    assert!(!folder.join("x.npy").exists() && folder.join("x.npy.part").exists());

    // Other settings do not go on with these rows.
    refused(&features("x.npy", &["--crops", "10"]), folder, &["x.npy.part", "features of other crops", "--force"]);
    let mut turned = args.clone();
    turned[4] = "resnet20,planes=2-4-6";
    refused(&turned, folder, &["weights.safetensors", "conv1.weight: expected shape [2, 3, 3, 3]"]);

    // A part of a row at the end, as after a failure of the machine.
    let part = std::fs::read(folder.join("x.npy.part")).unwrap();
    std::fs::write(folder.join("x.npy.part"), &part[..part.len() - 5]).unwrap();
    std::fs::write(&late, &good).unwrap();
    let output = vsepp(&args, folder);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("19 of 24 pictures are there already"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("19 were there"));
    assert_eq!(std::fs::read(folder.join("x.npy")).unwrap(), std::fs::read(folder.join("whole.npy")).unwrap());
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".part")), "{left:?}");
    refused(&args, folder, &["x.npy: already exists; --force overwrites it"]);
}

fn train<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let data = ["train", "--data", "captions.json", "--images", "pictures", "--run", run, "--encoder", NETWORK];
    let sizes = ["--weights", "weights.safetensors", "--crop-size", "16", "--resize", "20", "--embed-size", "16"];
    let rest = ["--word-dim", "8", "--batch-size", "8", "--learning-rate", "1e-2", "--word-threshold", "1"];
    [&data[..], &sizes, &rest, more].concat()
}

#[test]
fn two_stages_from_pictures_to_search() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    world(folder);
    ok(&train("one", &["--num-epochs", "6", "--view", "centre"]), folder);
    let one = run_json(&["eval", "--run", "one", "--split", "train", "--json"], folder);

    // The same features from `features`.
    let args = ["features", "--images", "list.txt", "--encoder", NETWORK, "--weights", "weights.safetensors"];
    std::fs::create_dir(folder.join("data")).unwrap();
    for (split, places) in [("dev", &[12, 13, 14, 15][..]), ("train", &[0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23])] {
        let list: Vec<String> = places.iter().map(|k| format!("pictures/{k:02}.png")).collect();
        std::fs::write(folder.join("list.txt"), list.join("\n")).unwrap();
        let out = format!("data/{split}_ims.npy");
        ok(&[&args[..], &["--resize", "20", "--crop-size", "16", "--out", &out]].concat(), folder);
        std::fs::remove_file(folder.join(format!("data/{split}_ids.txt"))).unwrap();
        let captions: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("captions.json")).unwrap()).unwrap();
        let lines = places.iter().flat_map(|&k: &usize| {
            let sentences = captions["images"][k]["sentences"].as_array().unwrap().clone();
            sentences.into_iter().map(|sentence| sentence["raw"].as_str().unwrap().to_owned())
        });
        std::fs::write(folder.join(format!("data/{split}_caps.txt")), lines.collect::<Vec<_>>().join("\n")).unwrap();
    }
    let same = ["train", "--data", "data", "--run", "features", "--embed-size", "16", "--word-dim", "8"];
    let rest = ["--batch-size", "8", "--learning-rate", "1e-2", "--word-threshold", "1", "--num-epochs", "6"];
    ok(&[&same[..], &rest].concat(), folder);
    let features = run_json(&["eval", "--run", "features", "--split", "train", "--json"], folder);
    assert_eq!(features["rsum"], one["rsum"], "training on features is training with a frozen encoder");

    // Ten crops at the test: the features of `features --crops 10`.
    std::fs::create_dir(folder.join("ten")).unwrap();
    let ten = ["--resize", "20", "--crop-size", "16", "--crops", "10", "--out", "ten/train_ims.npy"];
    ok(&[&args[..], &ten].concat(), folder);
    std::fs::remove_file(folder.join("ten/train_ids.txt")).unwrap();
    std::fs::copy(folder.join("data/train_caps.txt"), folder.join("ten/train_caps.txt")).unwrap();
    let eval = |more: &[&str]| run_json(&[&["eval", "--split", "train", "--json"], more].concat(), folder);
    assert_eq!(eval(&["--run", "one", "--crops", "10"]), eval(&["--run", "features", "--data", "ten"]));
    assert_ne!(eval(&["--run", "one", "--crops", "10"]), one);

    // The second stage: the settings, the vocabulary and the numbers of the first.
    ok(
        &["train", "--init", "one", "--run", "two", "--finetune", "--view", "random", "--learning-rate", "1e-3"],
        folder,
    );
    let config = std::fs::read_to_string(folder.join("two/config.toml")).unwrap();
    assert!(config.contains("finetune = true") && config.contains("embed_size = 16"), "{config}");
    let two = run_json(&["eval", "--run", "two", "--split", "train", "--json"], folder);
    assert_ne!(two["rsum"], one["rsum"]);

    let file = ["search", "--run", "two", "--split", "train", "--image", "pictures/03.png", "--json"];
    let row = ["search", "--run", "two", "--split", "train", "--image", "3", "--json"];
    let (file, row) = (run_json(&file, folder), run_json(&row, folder));
    for (file, row) in file["results"].as_array().unwrap().iter().zip(row["results"].as_array().unwrap()) {
        assert_eq!((&file["caption"], &file["score"]), (&row["caption"], &row["score"]));
    }
    ok(&["embed", "--run", "two", "--out", "e.safetensors"], folder);
    assert_eq!(
        run_json(&["eval", "--embeddings", "e.safetensors", "--json"], folder),
        run_json(&["eval", "--run", "two", "--json"], folder)
    );
    // A run has its weights: it goes on without the files that it was begun with.
    std::fs::remove_file(folder.join("weights.safetensors")).unwrap();
    std::fs::rename(folder.join("one"), folder.join("moved")).unwrap();
    ok(&["train", "--run", "two", "--resume", "--num-epochs", "7"], folder);
    ok(&["train", "--run", "moved", "--resume", "--num-epochs", "7"], folder);
    refused(&["search", "--run", "features", "--split", "dev", "--image", "x.png"], folder, &["has no image encoder"]);
    refused(&["eval", "--run", "features", "--split", "dev", "--crops", "10"], folder, &["has no image encoder"]);
    refused(&["search", "--run", "two", "--image", "x.png"], folder, &["x.png: cannot read"]);
}

#[test]
fn a_checkpoint_of_the_original_with_an_encoder_takes_the_rest_from_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    world(folder);
    ok(&train("run", &["--num-epochs", "1"]), folder);
    let best = Tensors::read(&folder.join("run/best.safetensors"));
    let mut checkpoint = Tensors::default();
    let sides = [("img_enc.cnn.", "model.0.cnn.module."), ("img_enc.", "model.0."), ("txt_enc.", "model.1.")];
    for name in best.names() {
        let (own, original) = sides.iter().find(|(own, _)| name.starts_with(own)).unwrap();
        checkpoint.add(&name.replacen(own, original, 1), best.get(name));
    }
    std::fs::write(folder.join("model_best.pth.tar"), checkpoint.to_pytorch()).unwrap();
    let embed = |which: &str, out: &str| {
        ok(&["embed", "--run", "run", "--checkpoint", which, "--out", out], folder);
        Tensors::read(&folder.join(out)).matrix("images")
    };
    assert_eq!(embed("model_best.pth.tar", "original.safetensors"), embed("best", "own.safetensors"));

    checkpoint.remove("model.0.cnn.module.conv1.weight");
    std::fs::write(folder.join("model_best.pth.tar"), checkpoint.to_pytorch()).unwrap();
    let eval = ["eval", "--run", "run", "--checkpoint", "model_best.pth.tar"];
    refused(&eval, folder, &["model_best.pth.tar: expected a tensor img_enc.cnn.conv1.weight"]);
}

#[test]
fn restval_is_a_part_of_train_by_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    world(folder);
    let counts = |run: &str, more: &[&str]| {
        let output = vsepp(&train(run, &[&["--num-epochs", "1"], more].concat()), folder);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    assert!(counts("a", &[]).contains("train: 24 captions of 12 images; dev: 8 of 4;"));
    assert!(counts("b", &["--restval"]).contains("train: 32 captions of 16 images; dev: 8 of 4;"));
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    world(folder);
    let base = ["train", "--data", "captions.json"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    refused(&with(&["--images", "pictures"]), folder, &["encoder = none: expected a value, since images has one"]);
    refused(
        &with(&["--encoder", "vgg19"]),
        folder,
        &["images = none: expected a value, since encoder and data have one"],
    );
    refused(&with(&["--finetune"]), folder, &["finetune", "expected an encoder"]);
    refused(&with(&["--labels"]), folder, &["labels = true: expected an encoder and no data"]);
    refused(&["train", "--labels"], folder, &["labels = true: expected an encoder and no data"]);
    refused(&with(&["--pixels"]), folder, &["--pixels", "cannot be used with"]);
    refused(&with(&["--encoder", "vgg20"]), folder, &["vgg20", "expected vgg19, resnet18"]);
    let none = with(&["--images", "pictures", "--encoder", NETWORK, "--crop-size", "0"]);
    refused(&none, folder, &["crop_size = 0: expected 1 to 4096"]);
    let mut none = train("x", &[]);
    none[4] = "nowhere";
    refused(&none, folder, &["nowhere"]);
    refused(&["train", "--init", "nowhere"], folder, &["nowhere"]);
    std::fs::remove_file(folder.join("pictures/13.png")).unwrap();
    refused(&train("x", &[]), folder, &["13.png"]);
    assert!(!folder.join("x/config.toml").exists());
}
