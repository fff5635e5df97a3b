//! The tokenizer against NLTK: sentence by sentence on awkward sentences, and by digest on 24,760 COCO
//! captions. The captions are not part of this repository; the test runs if they are in
//! `../shared/data/coco-objects`. `fixtures/tokenizer/make_fixture.py` made the expected values.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use vsepp::data::tokenize;

fn fixture(name: &str) -> String {
    let path = root().join("fixtures/tokenizer").join(name);
    read(&path)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a text. `str::lines` is not suitable: it removes a carriage return at the end of a line,
/// and here that belongs to the sentence.
fn lines(text: &str) -> Vec<&str> {
    text.strip_suffix('\n').unwrap_or(text).split('\n').collect()
}

/// The digest of a split in `coco_objects.sha256`: the tokens of a caption joined with blanks, and a line
/// feed after each caption.
fn digest(captions: &str) -> String {
    let mut hash = Sha256::new();
    for caption in lines(captions) {
        hash.update(tokenize(caption).join(" "));
        hash.update("\n");
    }
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes any text");
        hex
    })
}

#[test]
fn awkward_sentences() {
    let sentences = fixture("awkward.txt");
    let expected = fixture("awkward.expected.jsonl");
    let (sentences, expected) = (lines(&sentences), lines(&expected));
    assert!(sentences.len() >= 600, "only {} sentences", sentences.len());
    assert_eq!(sentences.len(), expected.len(), "run make_fixture.py again: not a line for each");

    let mut report = String::new();
    let mut wrong = 0;
    for (i, (sentence, expected)) in sentences.iter().zip(expected).enumerate() {
        let line = i + 1;
        let expected: Vec<String> = serde_json::from_str(expected)
            .unwrap_or_else(|error| panic!("awkward.expected.jsonl, line {line}: {error}"));
        let found = tokenize(sentence);
        if found != expected {
            wrong += 1;
            if wrong <= 20 {
                write!(report, "\nline {line}: {sentence:?}\n  expected {expected:?}\n  found    {found:?}")
                    .expect("a String takes any text");
            }
        }
    }
    assert!(
        wrong == 0,
        "{wrong} of {} sentences of awkward.txt differ from NLTK; the first are{report}",
        sentences.len()
    );
}

#[test]
fn coco_captions() {
    let folder: PathBuf = root().join("../shared/data/coco-objects");
    if !folder.is_dir() {
        // Written to stderr directly, because the test harness hides the output of a passing test.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: 24,760 COCO captions were not compared with NLTK's tokens; they are not part of this repository \
             and there is no ../shared/data/coco-objects"
        );
        return;
    }
    let expected = fixture("coco_objects.sha256");
    for line in lines(&expected) {
        let (expected, split) = line.split_once("  ").expect("digest, two blanks, split");
        let found = digest(&read(&folder.join(format!("{split}_caps.txt"))));
        assert_eq!(found, expected, "the tokens of {split}_caps.txt differ from NLTK's");
    }
}
