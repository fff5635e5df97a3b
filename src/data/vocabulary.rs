//! The vocabulary: the words that have an id.
//!
//! Ids 0 to 3 are `<pad>`, `<start>`, `<end>`, `<unk>`. Then come the words that occur at least
//! `threshold` times in the **training** captions, in the order of their first occurrence. (The
//! original's script counts train and dev for precomputed features. Its published vocabulary files
//! count all splits, so the test split leaks into the model.) A caption becomes
//! `<start> w1 … wn <end>`; a word without an id becomes `<unk>`.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::plausible;
use super::tokenizer::tokenize;
use crate::error::{Error, Result};
use crate::escape;
use crate::files::{Kind, write_atomically};
use crate::random::fnv1a;

/// Words and their ids.
///
/// ```
/// use vsepp::data::Vocabulary;
///
/// let captions = ["A dog runs.", "A dog sleeps.", "A cat."].map(String::from);
/// let vocabulary = Vocabulary::build(&captions, 2); // words that occur twice
/// assert_eq!(vocabulary.words()[4..], ["a", "dog", "."]);
///
/// let (ids, unknown) = vocabulary.encode("A cat runs");
/// assert_eq!(ids, [Vocabulary::START, 4, Vocabulary::UNKNOWN, Vocabulary::UNKNOWN, Vocabulary::END]);
/// assert_eq!(unknown, ["cat", "runs"]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    threshold: usize,
}

/// The file `vocab.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    threshold: usize,
    words: Vec<String>,
}

/// Captions as ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Encoded {
    /// `<start>` … `<end>` of each caption.
    pub captions: Vec<Vec<u32>>,
    /// The number of words, without `<start>` and `<end>`.
    pub words: usize,
    /// The number of words that became `<unk>`.
    pub unknown: usize,
}

impl Vocabulary {
    /// The id before the first word.
    pub const START: u32 = 1;
    /// The id after the last word.
    pub const END: u32 = 2;
    /// The id of every word that has no id of its own.
    pub const UNKNOWN: u32 = 3;
    /// The words of ids 0 to 3.
    pub(crate) const SPECIAL: [&str; 4] = plausible::SPECIAL;
    const FORMAT: &str = "vsepp-vocabulary-1";

    /// Counts the words of the training captions and keeps those that occur at least `threshold` times.
    #[must_use]
    pub fn build(captions: &[String], threshold: usize) -> Self {
        Self::of_tokens(&tokenize_all(captions), threshold)
    }

    /// The same from the output of [`tokenize_all`], so that captions are tokenised only once if they are
    /// encoded too.
    #[must_use]
    pub(crate) fn of_tokens(tokens: &[Vec<String>], threshold: usize) -> Self {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut order = Vec::new();
        for word in tokens.iter().flatten() {
            let count = counts.entry(word).or_insert(0);
            if *count == 0 {
                order.push(word.as_str());
            }
            *count += 1;
        }
        let frequent = order.into_iter().filter(|word| counts[word] >= threshold);
        // A caption may contain the text of a special word, which has an id already.
        let frequent = frequent.filter(|word| !Self::SPECIAL.contains(word));
        Self::new(Self::SPECIAL.into_iter().chain(frequent).map(str::to_owned).collect(), threshold)
    }

    fn new(words: Vec<String>, threshold: usize) -> Self {
        let ids = (0..).zip(&words).map(|(id, word)| (word.clone(), id)).collect();
        Self { words, ids, threshold }
    }

    /// V, including the special words, so that it is never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// The words in the order of their ids.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// A word's id, if it has one.
    #[must_use]
    pub fn id(&self, word: &str) -> Option<u32> {
        self.ids.get(word).copied()
    }

    /// A hash that identifies the vocabulary. Checkpoints store it.
    #[must_use]
    pub(crate) fn fingerprint(&self) -> String {
        format!("{:016x}", fnv1a(self.words.join("\n").as_bytes()))
    }

    /// A caption's ids, `<start>` … `<end>`, and its words that have no id.
    #[must_use]
    pub fn encode(&self, caption: &str) -> (Vec<u32>, Vec<String>) {
        let words = tokenize(caption);
        let ids = self.enclose(&words);
        let unknown = words.into_iter().filter(|word| self.id(word).is_none()).collect();
        (ids, unknown)
    }

    /// All captions of a split, in parallel.
    #[must_use]
    pub(crate) fn encode_all(&self, captions: &[String]) -> Encoded {
        Self::encoded(captions.par_iter().map(|caption| self.enclose(&tokenize(caption))).collect())
    }

    /// The same from the output of [`tokenize_all`].
    #[must_use]
    pub(crate) fn encode_tokens(&self, tokens: &[Vec<String>]) -> Encoded {
        Self::encoded(tokens.par_iter().map(|words| self.enclose(words)).collect())
    }

    fn encoded(captions: Vec<Vec<u32>>) -> Encoded {
        let words = captions.iter().map(|ids| ids.len() - 2).sum::<usize>();
        // No other word has this id.
        let unknown = captions.iter().flatten().filter(|&&id| id == Self::UNKNOWN).count();
        Encoded { captions, words, unknown }
    }

    /// `<start>`, the words' ids, `<end>`.
    fn enclose(&self, words: &[String]) -> Vec<u32> {
        let ids = words.iter().map(|word| self.id(word).unwrap_or(Self::UNKNOWN));
        std::iter::once(Self::START).chain(ids).chain([Self::END]).collect()
    }

    /// Reads `vocab.json`, or one of the JSON forms that ports of the original write:
    /// `{"word2idx": {word: id}}`, `{"idx2word": {id: word}}`, or one of the two objects alone.
    ///
    /// # Errors
    ///
    /// Fails if the file is missing, has another form, does not begin with the special words, or has a
    /// word twice. A pickle is not read; the error says how to convert it.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let problem = "expected a regular file, found a folder; the original's --vocab_path is the folder of \
                           NAME_precomp_vocab.pkl, but here it is the file";
            return Err(Error::file(path, problem));
        }
        if let Some(kind) = Kind::of(path).filter(|kind| kind.is_pickle()) {
            return Err(Error::file(path, pickled(path, kind)));
        }
        let value = plausible::read(path)?;
        let vocabulary = if let Some(words) = words_of_ports(path, &value)? {
            Self::new(words, 1)
        } else {
            let file: File = serde_json::from_value(value)
                .map_err(|e| Error::file(path, format!("not a vocabulary of this program or of the original: {e}")))?;
            if file.format != Self::FORMAT {
                return Err(Error::file(path, format!("format: expected {}, found {}", Self::FORMAT, file.format)));
            }
            Self::new(file.words, file.threshold)
        };
        for (id, special) in Self::SPECIAL.iter().enumerate() {
            let found = vocabulary.words.get(id).map_or("nothing", String::as_str);
            if found != *special {
                return Err(Error::file(path, format!("word {id}: expected {special}, found {}", escape::name(found))));
            }
        }
        if vocabulary.ids.len() != vocabulary.words.len() {
            let mut seen = HashMap::new();
            let twice = vocabulary.words.iter().enumerate().find(|(id, word)| seen.insert(*word, *id).is_some());
            let problem = twice.map_or_else(String::new, |(id, word)| format!("word {id}: {word:?} occurs twice"));
            return Err(Error::file(path, problem));
        }
        Ok(vocabulary)
    }

    /// The JSON of `vocab.json`.
    #[must_use]
    pub(crate) fn to_json(&self) -> String {
        let file = json!({ "format": Self::FORMAT, "threshold": self.threshold, "words": self.words });
        format!("{file:#}\n")
    }

    /// The JSON that ports of the original read: `word2idx`, `idx2word`, `idx`.
    #[must_use]
    pub(crate) fn to_original_json(&self) -> String {
        let word2idx: serde_json::Map<String, Value> =
            self.words.iter().enumerate().map(|(id, word)| (word.clone(), json!(id))).collect();
        let idx2word: serde_json::Map<String, Value> =
            self.words.iter().enumerate().map(|(id, word)| (id.to_string(), json!(word))).collect();
        format!("{:#}\n", json!({ "word2idx": word2idx, "idx2word": idx2word, "idx": self.len() }))
    }

    /// Writes `vocab.json` atomically.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, self.to_json().as_bytes())
    }
}

/// The words of each caption, in parallel.
#[must_use]
pub(crate) fn tokenize_all(captions: &[String]) -> Vec<Vec<String>> {
    captions.par_iter().map(|caption| tokenize(caption)).collect()
}

/// The words in the JSON of a port of the original, in the order of their ids; `None` for other JSON.
fn words_of_ports(path: &Path, value: &Value) -> Result<Option<Vec<String>>> {
    let Some(object) = value.as_object().filter(|object| !object.is_empty()) else { return Ok(None) };
    // If every value is a number, the keys are words, even if one of them is `words`, `format` or `word2idx`.
    if object.values().all(Value::is_u64) {
        return by_id(path, "", object.iter().map(|(word, id)| (word, id.as_u64()))).map(Some);
    }
    let inner = |key: &str| {
        let expected = || Error::file(path, format!("{key}: expected an object, as in {{\"<pad>\": 0, …}}"));
        object.get(key).map(|value| value.as_object().ok_or_else(expected)).transpose()
    };
    if let Some(ids) = inner("word2idx")? {
        return by_id(path, "word2idx: ", ids.iter().map(|(word, id)| (word, id.as_u64()))).map(Some);
    }
    let is_table =
        |object: &Map<String, Value>| object.iter().all(|(id, word)| id.parse::<u64>().is_ok() && word.is_string());
    let (place, words) = match inner("idx2word")? {
        Some(words) => ("idx2word: ", words),
        None if is_table(object) => ("", object),
        None => return Ok(None),
    };
    let mut pairs = Vec::new();
    for (id, word) in words {
        let Value::String(word) = word else {
            return Err(Error::file(path, format!("{place}{id:?}: expected a word, found {word}")));
        };
        pairs.push((word, id.parse().ok()));
    }
    by_id(path, place, pairs.into_iter()).map(Some)
}

/// Words in the order of their ids, which must be 0 to V − 1, each once.
fn by_id<'a>(
    path: &Path,
    place: &str,
    pairs: impl ExactSizeIterator<Item = (&'a String, Option<u64>)>,
) -> Result<Vec<String>> {
    let mut words = vec![None; pairs.len()];
    for (word, id) in pairs {
        let count = words.len();
        match id.and_then(|id| words.get_mut(usize::try_from(id).ok()?)) {
            Some(slot) if slot.is_none() => *slot = Some(word.clone()),
            _ => {
                let found = id.map_or_else(|| "none".to_owned(), |id| id.to_string());
                let problem = format!("{place}{word:?}: expected a unique id below {count}, found {found}");
                return Err(Error::file(path, problem));
            }
        }
    }
    Ok(words.into_iter().flatten().collect())
}

/// How to convert a pickled vocabulary.
fn pickled(path: &Path, kind: Kind) -> String {
    // A JSON string is also a valid Python string.
    let file = Value::from(path.to_string_lossy().into_owned());
    format!(
        "this is {}. It is not read, and no code in it was executed. Python executes the code in a pickle. If you \
         trust it, this writes a vocabulary that can be read here:\n  \
         import json, pickle, sys, types; Vocabulary = type(\"Vocabulary\", (), {{}}); sys.modules[\"vocab\"] = types.SimpleNamespace(Vocabulary=Vocabulary)\n  \
         v = pickle.load(open({file}, \"rb\"), encoding=\"utf-8\"); json.dump({{\"word2idx\": getattr(v, \"word2idx\", v)}}, open(\"vocab.json\", \"w\"))",
        kind.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captions() -> Vec<String> {
        ["A dog runs.", "a cat", "The dog <unk> ."].map(str::to_owned).into()
    }

    #[test]
    fn words_are_counted_and_keep_the_order_of_first_occurrence() {
        let all = Vocabulary::build(&captions(), 1);
        assert_eq!(all.words()[4..], ["a", "dog", "runs", ".", "cat", "the", "<", "unk", ">"]);
        let frequent = Vocabulary::build(&captions(), 2);
        assert_eq!(frequent.words(), ["<pad>", "<start>", "<end>", "<unk>", "a", "dog", "."]);
        assert_ne!(all.fingerprint(), frequent.fingerprint());
    }

    #[test]
    fn captions_become_ids_between_start_and_end() {
        let vocabulary = Vocabulary::build(&captions(), 2);
        assert_eq!(vocabulary.encode("A DOG sits."), (vec![1, 4, 5, 3, 6, 2], vec!["sits".to_owned()]));
        let encoded = vocabulary.encode_all(&captions());
        assert_eq!((encoded.words, encoded.unknown), (12, 6));
        assert_eq!(encoded.captions[1], [1, 4, 3, 2]);
    }

    #[test]
    fn captions_that_are_tokenised_once_give_the_same() {
        // Enough captions for every thread, so that a wrong order would show.
        let many: Vec<String> = (0..2000).map(|n| format!("Word {} of {}.", n % 700, n % 90)).collect();
        let tokens = tokenize_all(&many);
        let vocabulary = Vocabulary::build(&many, 4);
        assert_eq!(Vocabulary::of_tokens(&tokens, 4), vocabulary);
        let encoded = vocabulary.encode_tokens(&tokens);
        assert_eq!(encoded, vocabulary.encode_all(&many));
        for (caption, ids) in many.iter().zip(&encoded.captions) {
            assert_eq!(vocabulary.encode(caption).0, *ids);
        }
    }

    #[test]
    fn json_round_trips_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.json");
        let vocabulary = Vocabulary::build(&captions(), 2);
        vocabulary.write(&path).unwrap();
        assert_eq!(Vocabulary::read(&path).unwrap(), vocabulary);
        std::fs::write(&path, vocabulary.to_original_json()).unwrap();
        assert_eq!(Vocabulary::read(&path).unwrap().words(), vocabulary.words());
    }

    #[test]
    fn the_forms_of_other_ports_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Vocabulary::read(&path).map(|v| v.words()[4..].to_vec()).map_err(|e| e.to_string())
        };
        // Words that are also keys of other forms.
        let flat = r#"{"words": 4, "<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "word2idx": 5}"#;
        assert_eq!(read(flat).unwrap(), ["words", "word2idx"]);
        let table = r#"{"0": "<pad>", "1": "<start>", "2": "<end>", "3": "<unk>", "5": "b", "4": "a"}"#;
        assert_eq!(read(table).unwrap(), ["a", "b"]);
        assert_eq!(read(&format!(r#"{{"idx2word": {table}, "idx": 6}}"#)).unwrap(), ["a", "b"]);
        let gap = table.replace("\"4\"", "\"6\"");
        assert!(read(&gap).unwrap_err().ends_with("\"a\": expected a unique id below 6, found 6"));
        let twice = flat.replace('5', "4");
        assert!(read(&twice).unwrap_err().contains("expected a unique id below 6, found 4"));
        assert!(read(r#"{"idx2word": {"0": 1}}"#).unwrap_err().contains("idx2word: \"0\": expected a word, found 1"));
        assert!(read(r#"{"word2idx": "a"}"#).unwrap_err().contains("word2idx: expected an object"));
        assert!(read("{}").unwrap_err().contains("not a vocabulary"));
    }

    #[test]
    fn a_pickle_is_recognised_but_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f8k \"x\".pkl");
        std::fs::write(&path, b"\x80\x02cvocab\nVocabulary\nq\x01)\x81.").unwrap();
        let message = Vocabulary::read(&path).unwrap_err().to_string();
        for words in ["a Python pickle", "no code in it was executed", "pickle.load(open(\"", "f8k \\\"x\\\".pkl"] {
            assert!(message.contains(words), "{words}: {message}");
        }
        let message = Vocabulary::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("expected a regular file, found a folder; the original's --vocab_path"), "{message}");
    }

    #[test]
    fn errors_name_the_word_and_the_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.json");
        let message = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Vocabulary::read(&path).unwrap_err().to_string()
        };
        assert!(message("{").contains("vocab.json:1: not a JSON vocabulary"));
        assert!(message("[1]").contains("not a vocabulary"));
        assert!(message(r#"{"format": "x", "threshold": 1, "words": []}"#).contains("expected vsepp-vocabulary-1"));
        let words = |list: &str| format!(r#"{{"format": "vsepp-vocabulary-1", "threshold": 1, "words": [{list}]}}"#);
        assert!(message(&words(r#""<pad>", "a""#)).contains("word 1: expected <start>, found a"));
        let special = r#""<pad>","<start>","<end>","<unk>""#;
        assert!(message(&words(&format!(r#"{special},"a","a""#))).contains("word 5: \"a\" occurs twice"));
        assert!(message(r#"{"word2idx": {"a": 7}}"#).contains("expected a unique id below 1, found 7"));
        assert!(message(r#"{"word2idx": {"a": 0, "a": 0}}"#).contains("the key \"a\" occurs twice"));
        assert!(message(r#"{"word2idx": [[]]}"#).contains("expected"));
    }
}
