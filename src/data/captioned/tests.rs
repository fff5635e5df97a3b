use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::data::pictures::encode;
use crate::data::{Crops, Picture, PictureFiles, Source, Split};
use crate::files::npy;
use crate::model::Images;

/// A folder of captions and pictures.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    /// A picture of 2 × 2 pixels of one colour.
    fn picture(&self, name: &str, red: u8) {
        let rgb = [red, 0, 0].repeat(4);
        self.write(&format!("images/{name}"), encode(&Picture { width: 2, height: 2, rgb }));
    }

    fn list(&self, part: &str, ids: &[i64]) {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let shape = format!("({},)", ids.len());
        self.write(&format!("annotations/coco_{part}_ids.npy"), npy("<i8", false, &shape, &bytes));
    }

    fn source(&self, captions: &str, restval: bool) -> Source {
        let crops = Crops { resize: 2, crop: 2, random: None, upright: false };
        Source::Pictures { captions: self.path(captions), images: self.path("images"), restval, crops }
    }

    /// The message for a split, with names in place of paths.
    fn problem(&self, captions: &str, restval: bool, split: &str) -> String {
        let error = self.source(captions, restval).splits([split]).unwrap_err().to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn sentences(texts: &[&str]) -> Value {
    texts.iter().map(|raw| json!({"raw": raw, "tokens": ["not", "read"], "sentid": 1})).collect()
}

/// Five pictures, with one to three captions each, in both formats.
fn five_pictures() -> Folder {
    let folder = Folder::new();
    let of_train = [("a.png", 1, vec!["a dog", "the  dog\n"]), ("b.png", 2, vec!["a cat"])];
    let of_val = [
        ("c.png", 3, vec!["a cow", "two cows", "cows"]),
        ("d.png", 4, vec!["a pig", "pigs"]),
        ("e.png", 5, vec!["a hen"]),
    ];
    let mut karpathy = Vec::new();
    let splits = ["train", "train", "restval", "val", "test"];
    for (home, pictures) in [("train2014", &of_train[..]), ("val2014", &of_val[..])] {
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for (name, id, captions) in pictures {
            folder.picture(&format!("{home}/{name}"), *id);
            images.push(json!({"id": id, "file_name": name, "licence": 1}));
            for (k, caption) in captions.iter().enumerate() {
                annotations.push(json!({"image_id": id, "id": 10 * usize::from(*id) + k, "caption": caption}));
            }
            let split = splits[usize::from(*id) - 1];
            let image = json!({"filename": name, "filepath": home, "split": split, "sentences": sentences(captions), "imgid": id});
            karpathy.push(image);
        }
        // In no order: the lists give one.
        annotations.reverse();
        let file = json!({"info": {}, "annotations": annotations, "images": images});
        folder.write(&format!("annotations/captions_{home}.json"), file.to_string());
    }
    // Restval between the pictures of train: it comes after them.
    karpathy.swap(1, 2);
    folder.write("dataset.json", json!({"dataset": "coco", "images": karpathy}).to_string());
    folder.list("train", &[10, 11, 20]);
    folder.list("restval", &[30, 31, 32]);
    folder.list("dev", &[40, 41]);
    folder.list("test", &[50]);
    folder
}

fn ids(split: &Split) -> Vec<&str> {
    split.ids.as_ref().unwrap().iter().map(String::as_str).collect()
}

/// The red of each picture, as a number of 8 bits.
fn reds(split: &Split) -> Vec<u8> {
    let mut images = Images::default();
    let all: Vec<usize> = (0..split.images().len()).collect();
    split.images().fill(&all, None, &mut images).unwrap();
    let first = images.numbers().unwrap().chunks(12).map(|image| image[0]);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    first.map(|red| ((red * 0.229 + 0.485) * 255.0).round() as u8).collect()
}

fn check_five(source: impl Fn(bool) -> Source) {
    let [train, dev, test, restval] = source(false).splits(["train", "dev", "test", "restval"]).unwrap();
    for (split, its_ids, its_reds) in [
        (&train, &["a.png", "b.png"][..], &[1, 2][..]),
        (&dev, &["d.png"], &[4]),
        (&test, &["e.png"], &[5]),
        (&restval, &["c.png"], &[3]),
    ] {
        assert_eq!((ids(split), reds(split)), (its_ids.to_vec(), its_reds.to_vec()), "{}", split.name);
        assert!(split.notes.is_empty(), "{:?}", split.notes);
        assert_eq!(split.images().shape(), [3, 2, 2]);
        assert!(split.img_dim().is_err());
    }
    assert_eq!(train.captions(), ["a dog", "the dog", "a cat"], "white space is one blank");
    assert_eq!((train.starts(), &train.image_of), (&[0, 2, 3][..], &vec![0, 0, 1]));
    assert_eq!(dev.captions()[dev.captions_of(0)], ["a pig", "pigs"]);

    let [more] = source(true).splits(["train"]).unwrap();
    assert_eq!((ids(&more), reds(&more)), (vec!["a.png", "b.png", "c.png"], vec![1, 2, 3]));
    assert_eq!((more.captions().len(), more.captions_of(2)), (6, 3..6));
    let [val] = source(true).splits(["val"]).unwrap();
    assert_eq!((val.name.as_str(), ids(&val)), ("val", vec!["d.png"]));
    let held = more.hold_out("dev", 1).unwrap();
    assert_eq!(
        (ids(&held.0), ids(&held.1), held.1.captions()),
        (vec!["a.png", "b.png"], vec!["c.png"], &restval.captions[..])
    );
}

#[test]
fn both_formats_give_the_same_splits() {
    let folder = five_pictures();
    check_five(|restval| folder.source("dataset.json", restval));
    check_five(|restval| folder.source("", restval));
    check_five(|restval| folder.source("annotations", restval));
}

#[test]
fn a_split_is_there_if_its_pictures_or_its_files_are() {
    let folder = five_pictures();
    let has = |captions: &str| {
        let names = ["train", "dev", "val", "test", "restval", "other"];
        names.map(|name| folder.source(captions, false).has(name))
    };
    let all = [true, true, true, true, true, false];
    assert_eq!((has("dataset.json"), has("")), (all, all));
    folder.write("flickr.json", json!({"images": [{"split": "train"}, {"split": "test"}]}).to_string());
    assert_eq!(has("flickr.json"), [true, false, false, true, false, false]);
    fs::remove_file(folder.path("annotations/coco_test_ids.npy")).unwrap();
    assert_eq!(has(""), [true, true, true, false, true, false]);
    assert_eq!((has("no.json"), has("images")), ([false; 6], [false; 6]));
}

#[test]
fn without_lists_coco_has_its_own_two_parts() {
    let folder = five_pictures();
    for part in ["train", "restval", "dev", "test"] {
        fs::remove_file(folder.path(&format!("annotations/coco_{part}_ids.npy"))).unwrap();
    }
    let source = folder.source("", false);
    assert_eq!(["train", "dev", "test", "restval"].map(|name| source.has(name)), [true, true, false, false]);
    let [train, dev] = source.splits(["train", "dev"]).unwrap();
    assert_eq!((ids(&train), ids(&dev)), (vec!["a.png", "b.png"], vec!["c.png", "d.png", "e.png"]));
    assert_eq!(dev.captions(), ["cows", "two cows", "a cow", "pigs", "a pig", "a hen"], "in the order of the file");
    let notes = [&train.notes[..], &dev.notes].concat();
    assert!(
        notes.contains(&"dev: all of captions_val2014.json, because there is no coco_dev_ids.npy".into()),
        "{notes:?}"
    );
    let problem = folder.problem("", false, "test");
    assert_eq!(problem, "annotations: no split test: expected coco_test_ids.npy, its list of annotation ids");
    assert!(folder.problem("", true, "train").contains("no split restval: expected coco_restval_ids.npy"));
}

#[test]
fn nothing_is_decoded_before_it_is_needed() {
    let folder = five_pictures();
    for name in ["train2014/a.png", "train2014/b.png", "val2014/d.png"] {
        folder.write(&format!("images/{name}"), "no picture");
    }
    for captions in ["dataset.json", ""] {
        let [train, dev] = folder.source(captions, false).splits(["train", "dev"]).unwrap();
        assert!(train.images().fill(&[0], None, &mut Images::default()).is_err());
        assert_eq!(dev.shared_with(&train).unwrap(), None);
    }
    let pictures = PictureFiles::open(&folder.path("images"), Crops::default()).unwrap();
    let captions = vec!["a dog".to_owned(); 5];
    let split = Split::from_store("train", std::sync::Arc::new(pictures), captions).unwrap();
    assert_eq!(split.images().len(), 5, "as many pictures as captions: they are not compared");
}

#[test]
fn what_a_file_of_karpathy_lacks_is_said_with_its_place() {
    let folder = Folder::new();
    folder.picture("a.png", 1);
    let good = |name: &str| json!({"filename": name, "split": "train", "sentences": sentences(&["a dog", "dogs"])});
    let with = |key: &str, value: Value| {
        let mut image = good("a.png");
        image[key] = value;
        json!({"images": [good("b.png"), image]}).to_string()
    };
    let without = |key: &str| {
        let mut image = good("a.png");
        image.as_object_mut().unwrap().remove(key);
        json!({"images": [good("b.png"), image]}).to_string()
    };
    let whole = json!({"images": [good("b.png"), good("a.png")]}).to_string();
    let one = |raw: Value| with("sentences", json!([{"raw": "a dog"}, {"raw": raw}]));
    for (text, problem) in [
        (whole[..whole.len() - 9].to_owned(), "images[1]: sentences[1]: EOF while parsing"),
        (whole[..60].to_owned(), "images[0]: "),
        (whole.clone() + "]", "trailing characters"),
        (String::new(), "EOF while parsing a value"),
        ("{}".into(), "missing field `images`"),
        ("[]".into(), "invalid length 0, expected an object with images"),
        ("5".into(), "invalid type: integer `5`, expected an object with images"),
        (
            "{\"images\": [5]}".into(),
            "images[0]: invalid type: integer `5`, expected an image, with filename, split and",
        ),
        ("{\"images\": {}}".into(), "invalid type: map, expected a list of images"),
        ("[".repeat(100_000), "images[0]: filename: invalid type: sequence, expected a string"),
        (format!("{{\"x\": {}", "[".repeat(100_000)), "EOF while parsing a list"),
        (without("filename"), "images[1]: missing field `filename`"),
        (without("split"), "images[1]: missing field `split`"),
        (without("sentences"), "images[1]: missing field `sentences`"),
        (
            with("split", "training".into()),
            "images[1]: split: expected train, restval, val or test, found \"training\"",
        ),
        (with("split", 1.into()), "images[1]: split: invalid type: integer `1`, expected a string"),
        (with("filename", Value::Null), "images[1]: filename: invalid type: null, expected a string"),
        (with("filename", "b.png".into()), "images[1]: filename: \"b.png\" is that of images[0] too"),
        (
            with("filename", "/b.png".into()),
            "images[1]: filename: expected a path below the folder of images, found \"/b.png\"",
        ),
        (with("filename", "../b.png".into()), "images[1]: filename: expected a path below the folder of images"),
        (with("filename", "".into()), "images[1]: filename: expected a path below the folder of images"),
        (with("filename", "b\n.png".into()), "found \"b\\n.png\""),
        (
            with("filepath", "..".into()),
            "images[1]: filepath: expected a path below the folder of images, found \"..\"",
        ),
        (with("sentences", json!([])), "images[1]: sentences: expected a caption, found none"),
        (with("sentences", json!("a dog")), "images[1]: invalid type: string \"a dog\", expected a list of sentences"),
        (with("sentences", json!([{"tokens": ["a"]}])), "images[1]: sentences[0]: missing field `raw`"),
        (one(5.into()), "images[1]: sentences[1]: raw: invalid type: integer `5`, expected a string"),
        (one(Value::Null), "images[1]: sentences[1]: raw: invalid type: null, expected a string"),
        (one(" \n".into()), "images[1]: sentences[1]: raw: expected a caption, found \" \\n\""),
        (one("a\u{0}b".into()), "images[1]: sentences[1]: raw: found the control character U+0000 (NUL) at column 2"),
    ] {
        folder.write("x.json", &text);
        let found = folder.problem("x.json", false, "train");
        assert!(found.starts_with("x.json: ") && found.contains(problem), "{problem}: {found}");
    }
    folder.write("x.json", whole.as_bytes().iter().map(|&x| if x == b'd' { 0xff } else { x }).collect::<Vec<_>>());
    assert!(folder.problem("x.json", false, "train").contains("images[0]: "), "not UTF-8");
    folder.write("x.json", whole);
    let found = folder.problem("x.json", false, "dev");
    assert_eq!(found, "x.json: no pictures of the split dev; those that are there: train");
    assert!(folder.problem("x.json", true, "train").contains("no pictures of the split restval"));
    let found = folder.problem("x.json", false, "other");
    assert_eq!(found, "split = other: expected train, dev, test or restval of pictures with captions");
    assert!(folder.problem("no.json", false, "train").contains("no.json: cannot read"));
}

#[test]
fn what_is_wrong_in_annotations_and_lists_is_said_with_its_place() {
    let folder = five_pictures();
    let file = "annotations/captions_train2014.json";
    let good: Value = serde_json::from_slice(&fs::read(folder.path(file)).unwrap()).unwrap();
    let with = |list: &str, at: usize, key: &str, value: Value| {
        let mut changed = good.clone();
        changed[list][at][key] = value;
        changed.to_string()
    };
    for (text, problem) in [
        ("{\"images\": []}".into(), "missing field `annotations`"),
        (with("images", 1, "id", "x".into()), "images[1]: id: invalid type: string \"x\", expected i64"),
        (with("images", 1, "id", 1.into()), "images[1]: id: 1 is that of images[0] too"),
        (with("images", 1, "file_name", "a.png".into()), "images[1]: file_name: \"a.png\" is that of images[0] too"),
        (with("images", 1, "file_name", "../a.png".into()), "images[1]: file_name: expected a path below"),
        (
            with("annotations", 2, "image_id", 9.into()),
            "annotations[2]: image_id: expected the id of an image, found 9",
        ),
        (with("annotations", 2, "id", 20.into()), "annotations[2]: id: 20 is that of annotations[0] too"),
        (with("annotations", 2, "caption", 7.into()), "annotations[2]: caption: invalid type: integer `7`"),
        (with("annotations", 2, "caption", "".into()), "annotations[2]: caption: expected a caption, found \"\""),
    ] {
        folder.write(file, &text);
        let found = folder.problem("", false, "train");
        assert!(found.starts_with(file) && found.contains(problem), "{problem}: {found}");
    }
    folder.write(file, good.to_string());
    for (list, problem) in [
        (&[10, 99][..], "ids[1]: expected the id of an annotation of captions_train2014.json, found 99"),
        (&[10, 30], "ids[1]: expected the id of an annotation of captions_train2014.json, found 30"),
        (&[10, 20, 10], "ids[2]: id: 10 is that of ids[0] too"),
        (&[], "expected annotation ids, found none"),
    ] {
        folder.list("train", list);
        let found = folder.problem("", false, "train");
        assert_eq!(found, format!("annotations/coco_train_ids.npy: {problem}"));
    }
    folder.write("annotations/coco_train_ids.npy", "no array");
    assert!(folder.problem("", false, "train").contains("not a .npy file that can be read"));
    fs::remove_file(folder.path("annotations/coco_train_ids.npy")).unwrap();
    assert!(folder.problem("", false, "train").starts_with("annotations/coco_train_ids.npy: cannot read"));
    let found = folder.problem("images", false, "train");
    assert_eq!(
        found,
        "images: expected captions_train2014.json and captions_val2014.json, here or in annotations/, found neither"
    );
    // Without lists, an image without captions is an error; with them, the lists choose.
    let mut less = good;
    less["annotations"].as_array_mut().unwrap().remove(0);
    folder.write(file, less.to_string());
    folder.list("train", &[10]);
    assert!(folder.source("", false).splits(["train"]).is_ok());
    for part in ["train", "restval", "dev", "test"] {
        fs::remove_file(folder.path(&format!("annotations/coco_{part}_ids.npy"))).unwrap();
    }
    let found = folder.problem("", false, "train");
    assert_eq!(found, format!("{file}: images[1] (\"b.png\"): expected a caption, found none"));
}

#[test]
fn lists_may_name_a_picture_twice() {
    let folder = five_pictures();
    folder.list("train", &[11, 20, 10]);
    let [train] = folder.source("", false).splits(["train"]).unwrap();
    assert_eq!(
        (ids(&train), train.captions()),
        (vec!["a.png", "b.png"], &["the dog", "a dog", "a cat"].map(String::from)[..])
    );
    let note = "train: 1 ids do not follow those of the same image (first: ids[2], \"a.png\"); captions of one image are \
                brought together";
    assert_eq!(train.notes, [note]);
    folder.list("test", &[50, 41]);
    let [dev, test] = folder.source("", false).splits(["dev", "test"]).unwrap();
    assert!(dev.notes.is_empty());
    assert_eq!(test.notes, ["test: 1 of its 2 pictures are in dev too (first: \"d.png\")"]);
}

#[test]
fn a_missing_picture_is_named_with_the_places() {
    let folder = five_pictures();
    fs::rename(folder.path("images/train2014/a.png"), folder.path("images/a.png")).unwrap();
    assert!(["dataset.json", ""].iter().all(|captions| folder.source(captions, false).splits(["train"]).is_ok()));
    fs::remove_file(folder.path("images/a.png")).unwrap();
    fs::create_dir(folder.path("images/a.png")).unwrap();
    let begin = "images: 1 of the 2 pictures of train are missing. The first is \"a.png\"; looked for";
    let found = folder.problem("dataset.json", false, "train");
    assert_eq!(found, format!("{begin} train2014/a.png, a.png, val2014/a.png"));
    assert_eq!(folder.problem("", false, "train"), format!("{begin} a.png, train2014/a.png, val2014/a.png"));
    assert!(folder.source("", false).splits(["dev"]).is_ok(), "pictures of other splits are not looked for");
    fs::remove_dir_all(folder.path("images")).unwrap();
    assert_eq!(folder.problem("", false, "train"), "images: expected a folder of images, found none");
}

/// The 100 pictures of COCO with their 500 captions, which are not part of this repository.
#[test]
fn pictures_of_coco_are_the_same_in_both_formats() {
    let coco = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pictures/coco");
    if !coco.is_dir() {
        eprintln!("skipped: ../shared/data/pictures/coco does not exist");
        return;
    }
    let source = |captions: &str, restval| Source::Pictures {
        captions: coco.join(captions),
        images: coco.join("images"),
        restval,
        crops: Crops::default(),
    };
    let names = ["train", "restval", "dev", "test"];
    let karpathy = source("dataset_coco.json", false).splits(names).unwrap();
    let lists = source("", false).splits(names).unwrap();
    for ((a, b), n) in karpathy.iter().zip(&lists).zip([31, 29, 20, 20]) {
        assert_eq!((a.images().len(), a.captions().len()), (n, 5 * n), "{}", a.name);
        assert_eq!((&a.ids, &a.captions, &a.image_of), (&b.ids, &b.captions, &b.image_of), "{}", a.name);
        assert_eq!((&a.notes, &b.notes), (&vec![], &vec![]));
        assert_eq!(a.images().fingerprint(&[0, n - 1]).unwrap(), b.images().fingerprint(&[0, n - 1]).unwrap());
    }
    assert_eq!(karpathy[0].captions()[0], "Two men wearing aprons working in a commercial-style kitchen.");
    assert_eq!(ids(&karpathy[0])[0], "COCO_train2014_000000005802.jpg");
    for captions in ["dataset_coco.json", "annotations"] {
        let [train] = source(captions, true).splits(["train"]).unwrap();
        let both = [&karpathy[0].captions[..], &karpathy[1].captions].concat();
        assert_eq!((train.images().len(), train.captions()), (60, &both[..]), "{captions}");
        let mut images = Images::default();
        train.images().fill(&[59], None, &mut images).unwrap();
        assert_eq!(images.shape(), [1, 3, 224, 224]);
    }
}
