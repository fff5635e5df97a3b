//! The vocabulary: which words have an id.
//!
//! Ids 0 to 3 are `<pad>`, `<start>`, `<end>`, `<unk>`; then come the words that occur at least
//! `threshold` times in the **training** captions, in the order of their first occurrence. (The
//! original counted the test captions too, which lets the test split leak into the model.) A caption
//! becomes `<start> w1 … wn <end>`, a word without an id `<unk>`.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use rayon::prelude::*;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value, json};

use super::tokenizer::tokenize;
use crate::error::{Error, Result};
use crate::files::{read_text, write_atomically};
use crate::random::fnv1a;

/// Words and their ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    threshold: usize,
}

/// Captions as ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// `<start>` … `<end>` of each caption.
    pub captions: Vec<Vec<u32>>,
    /// Words in all, `<start>` and `<end>` not counted.
    pub words: usize,
    /// Words that became `<unk>`.
    pub unknown: usize,
}

impl Vocabulary {
    /// The padding's id.
    pub const PAD: u32 = 0;
    /// The id before the first word.
    pub const START: u32 = 1;
    /// The id behind the last word.
    pub const END: u32 = 2;
    /// The id of a word that has none.
    pub const UNKNOWN: u32 = 3;
    /// The words of ids 0 to 3.
    pub const SPECIAL: [&str; 4] = ["<pad>", "<start>", "<end>", "<unk>"];
    const FORMAT: &str = "vsepp-vocabulary-1";

    /// Counts the words of the training captions and keeps those that occur `threshold` times.
    #[must_use]
    pub fn build(captions: &[String], threshold: usize) -> Self {
        Self::of_tokens(&tokenize_all(captions), threshold)
    }

    /// The same from [`tokenize_all`]: whoever encodes them too needs to do it only once.
    #[must_use]
    pub fn of_tokens(tokens: &[Vec<String>], threshold: usize) -> Self {
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
        // A caption may hold the text of a special word: it has its id already.
        let frequent = frequent.filter(|word| !Self::SPECIAL.contains(word));
        Self::new(Self::SPECIAL.into_iter().chain(frequent).map(str::to_owned).collect(), threshold)
    }

    fn new(words: Vec<String>, threshold: usize) -> Self {
        let ids = (0..).zip(&words).map(|(id, word)| (word.clone(), id)).collect();
        Self { words, ids, threshold }
    }

    /// V, the special words included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Never: there are always the special words.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The words in the order of their ids.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// How often a word had to occur.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// A word's id, if it has one.
    #[must_use]
    pub fn id(&self, word: &str) -> Option<u32> {
        self.ids.get(word).copied()
    }

    /// A number that differs for different vocabularies; checkpoints keep it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", fnv1a(self.words.join("\n").as_bytes()))
    }

    /// A caption's ids, `<start>` … `<end>`, and the words that have none.
    #[must_use]
    pub fn encode(&self, caption: &str) -> (Vec<u32>, Vec<String>) {
        let words = tokenize(caption);
        let ids = self.enclose(&words);
        let unknown = words.into_iter().filter(|word| self.id(word).is_none()).collect();
        (ids, unknown)
    }

    /// All captions of a split, in parallel.
    #[must_use]
    pub fn encode_all(&self, captions: &[String]) -> Encoded {
        Self::encoded(captions.par_iter().map(|caption| self.enclose(&tokenize(caption))).collect())
    }

    /// The same from [`tokenize_all`].
    #[must_use]
    pub fn encode_tokens(&self, tokens: &[Vec<String>]) -> Encoded {
        Self::encoded(tokens.par_iter().map(|words| self.enclose(words)).collect())
    }

    fn encoded(captions: Vec<Vec<u32>>) -> Encoded {
        let words = captions.iter().map(|ids| ids.len() - 2).sum::<usize>();
        // No word has this id by itself.
        let unknown = captions.iter().flatten().filter(|&&id| id == Self::UNKNOWN).count();
        Encoded { captions, words, unknown }
    }

    /// `<start>`, the words' ids, `<end>`.
    fn enclose(&self, words: &[String]) -> Vec<u32> {
        let ids = words.iter().map(|word| self.id(word).unwrap_or(Self::UNKNOWN));
        std::iter::once(Self::START).chain(ids).chain([Self::END]).collect()
    }

    /// Reads `vocab.json`, or the original's JSON (`word2idx`, `idx2word`, `idx`).
    ///
    /// **Errors** if the file is missing, is neither, begins with other than the special words, or
    /// has a word twice.
    pub fn read(path: &Path) -> Result<Self> {
        /// Of several million words.
        const MOST: u64 = 1 << 26;
        let text = read_text(path, MOST)?;
        let told = |what: &str, e: &serde_json::Error| Error::line(path, e.line(), format!("{what}: {e}"));
        // First without keeping anything: whatever is held of a file takes more memory than the file.
        serde_json::from_str::<IgnoredAny>(&text).map_err(|e| told("not a JSON vocabulary", &e))?;
        let file: File =
            serde_json::from_str(&text).map_err(|e| told("not a vocabulary of this program or of the original", &e))?;
        let wrong = |problem: String| Err(Error::file(path, problem));
        if let Some(ids) = file.word2idx {
            return Self::of_words(original_words(path, ids)?, 1).or_else(wrong);
        }
        let (Some(format), Some(threshold), Some(words)) = (file.format, file.threshold, file.words) else {
            let expected = "expected format, threshold and words, or the original's word2idx";
            return wrong(format!("not a vocabulary of this program or of the original: {expected}"));
        };
        if format != Self::FORMAT {
            return wrong(format!("format: expected {}, found {format}", Self::FORMAT));
        }
        if let Some(unknown) = file.unknown {
            return wrong(format!("unknown field {unknown:?}: expected format, threshold and words"));
        }
        let Words { words, ids } = words;
        let vocabulary = Self { words, ids, threshold };
        vocabulary.check_special().map_or(Ok(vocabulary), wrong)
    }

    fn of_words(all: Vec<String>, threshold: usize) -> std::result::Result<Self, String> {
        let mut words = Words::default();
        for word in all {
            words.push(word)?;
        }
        let vocabulary = Self { words: words.words, ids: words.ids, threshold };
        vocabulary.check_special().map_or(Ok(vocabulary), Err)
    }

    /// What is wrong with the special words; those that are there have been compared.
    fn check_special(&self) -> Option<String> {
        let missing = Self::SPECIAL.iter().enumerate().nth(self.words.len());
        missing.map(|(id, special)| format!("word {id}: expected {special}, found nothing"))
    }

    /// The JSON of `vocab.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let file = json!({ "format": Self::FORMAT, "threshold": self.threshold, "words": self.words });
        format!("{file:#}\n")
    }

    /// The JSON that ports of the original read: `word2idx`, `idx2word`, `idx`.
    #[must_use]
    pub fn to_original_json(&self) -> String {
        let word2idx: serde_json::Map<String, Value> =
            self.words.iter().enumerate().map(|(id, word)| (word.clone(), json!(id))).collect();
        let idx2word: serde_json::Map<String, Value> =
            self.words.iter().enumerate().map(|(id, word)| (id.to_string(), json!(word))).collect();
        format!("{:#}\n", json!({ "word2idx": word2idx, "idx2word": idx2word, "idx": self.len() }))
    }

    /// Writes `vocab.json`, all or nothing.
    ///
    /// **Errors** if the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, self.to_json().as_bytes())
    }
}

/// `vocab.json`, or the original's JSON; what the original repeats is passed over.
#[derive(Default)]
struct File {
    format: Option<String>,
    threshold: Option<usize>,
    words: Option<Words>,
    word2idx: Option<HashMap<String, Number>>,
    unknown: Option<String>,
}

/// Words, each once.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Words {
    /// **Errors** if it is there already, or if a special word belongs here.
    fn push(&mut self, word: String) -> std::result::Result<(), String> {
        let id = self.words.len();
        if let Some(special) = Vocabulary::SPECIAL.get(id).filter(|special| **special != word) {
            return Err(format!("word {id}: expected {special}, found {word}"));
        }
        let number = u32::try_from(id).map_err(|_| format!("word {id}: expected fewer words"))?;
        if self.ids.insert(word.clone(), number).is_some() {
            return Err(format!("word {id}: {word:?} is there twice"));
        }
        self.words.push(word);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = File;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<File, A::Error> {
                let mut file = File::default();
                while let Some(key) = map.next_key::<String>()? {
                    let twice = match key.as_str() {
                        "format" => file.format.replace(map.next_value()?).is_some(),
                        "threshold" => file.threshold.replace(map.next_value()?).is_some(),
                        "words" => file.words.replace(map.next_value()?).is_some(),
                        "word2idx" => file.word2idx.replace(map.next_value::<Ids>()?.0).is_some(),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            file.unknown.get_or_insert(key.clone());
                            false
                        }
                    };
                    if twice {
                        return Err(A::Error::custom(format!("{key} is there twice")));
                    }
                }
                Ok(file)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Words;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of words")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Words, A::Error> {
                let mut words = Words::default();
                while let Some(word) = list.next_element()? {
                    words.push(word).map_err(A::Error::custom)?;
                }
                Ok(words)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// From words to ids; a word that is there twice is refused.
struct Ids(HashMap<String, Number>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Ids;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from words to ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Ids, A::Error> {
                let mut ids = HashMap::new();
                while let Some(word) = map.next_key::<String>()? {
                    if ids.contains_key(&word) {
                        return Err(A::Error::custom(format!("{word:?} is there twice")));
                    }
                    ids.insert(word, map.next_value()?);
                }
                Ok(Ids(ids))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// The words of each caption, in parallel.
#[must_use]
pub fn tokenize_all(captions: &[String]) -> Vec<Vec<String>> {
    captions.par_iter().map(|caption| tokenize(caption)).collect()
}

/// The words of the original's JSON in the order of their ids.
fn original_words(path: &Path, ids: HashMap<String, Number>) -> Result<Vec<String>> {
    let count = ids.len();
    let mut words = vec![None; count];
    // In a fixed order, so that the same file gives the same message.
    let mut ids: Vec<(String, Number)> = ids.into_iter().collect();
    ids.sort_by(|a, b| a.0.cmp(&b.0));
    for (word, id) in ids {
        let slot = id.as_u64().and_then(|id| words.get_mut(usize::try_from(id).ok()?));
        match slot {
            Some(slot) if slot.is_none() => *slot = Some(word),
            _ => {
                let problem = format!("word2idx: {word:?}: expected an id of its own below {count}, found {id}");
                return Err(Error::file(path, problem));
            }
        }
    }
    Ok(words.into_iter().flatten().collect())
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
        // Enough for every thread, so that an order could be lost.
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
    fn what_is_wrong_is_said() {
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
        assert!(message(&words(&format!(r#"{special},"a","a""#))).contains("word 5: \"a\" is there twice"));
        assert!(message(r#"{"word2idx": {"a": 7}}"#).contains("expected an id of its own below 1, found 7"));
        assert!(message(r#"{"word2idx": {"a": 0, "a": 0}}"#).contains("\"a\" is there twice"));
        assert!(message(r#"{"word2idx": {"a": "0"}}"#).contains("not a vocabulary"));
        assert!(message(r#"{"word2idx": {}}"#).contains("word 0: expected <pad>, found nothing"));
        assert!(message(&words(r#""<pad>""#)).contains("word 1: expected <start>, found nothing"));
        assert!(message(&words(&format!("{special},7"))).contains("not a vocabulary"));
        let more = words(special).replace("{\"format", "{\"more\": 1, \"format");
        assert!(message(&more).contains("unknown field \"more\""));
        assert!(
            message(r#"{"<pad>": 0}"#).contains("expected format, threshold and words, or the original's word2idx")
        );
        assert!(message(&"[".repeat(1 << 20)).contains("not a JSON vocabulary"));
    }
}
