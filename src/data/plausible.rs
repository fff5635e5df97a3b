//! Checks JSON that should be a vocabulary before it is parsed into memory: parsed JSON takes many times
//! the memory of its file, and a file may hold anything.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher;
use std::path::Path;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::escape;
use crate::files::read_text;

/// The first words of every vocabulary.
pub(super) const SPECIAL: [&str; 4] = ["<pad>", "<start>", "<end>", "<unk>"];

/// Reads a JSON file that may be a vocabulary: an object that holds words, numbers, lists of words that
/// begin with the special ones, and objects from words to words or numbers.
///
/// # Errors
///
/// If the file cannot be read, is larger than 64 MiB, is not JSON, holds anything else, or has a key
/// twice.
pub(super) fn read(path: &Path) -> Result<Value> {
    /// The largest file in bytes, enough for several million words.
    const MOST: u64 = 1 << 26;
    let text = read_text(path, MOST)?;
    let with_advice = |e: serde_json::Error| {
        let what = if e.is_data() { "a vocabulary of this program or of the original" } else { "a JSON vocabulary" };
        Error::line(path, e.line(), format!("not {what}: {e}"))
    };
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    Look { depth: 0, words: false, keys: &mut HashSet::new() }.deserialize(&mut deserializer).map_err(with_advice)?;
    deserializer.end().map_err(with_advice)?;
    serde_json::from_str(&text).map_err(with_advice)
}

/// Checks a value and keeps only a hash of each key.
struct Look<'n> {
    /// How many objects and lists enclose the value.
    depth: usize,
    /// The value is the list of words of `vocab.json`.
    words: bool,
    keys: &'n mut HashSet<u64>,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.depth {
            0 => "an object",
            1 => "a word, a number, a list of words, or an object of words or numbers",
            _ => "a word or a number",
        })
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> std::result::Result<(), E> {
        if self.depth == 0 { Err(E::invalid_type(serde::de::Unexpected::Str(word), &self)) } else { Ok(()) }
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> std::result::Result<(), E> {
        if self.depth == 0 { Err(E::invalid_type(serde::de::Unexpected::Unsigned(number), &self)) } else { Ok(()) }
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> std::result::Result<(), E> {
        if self.depth == 0 { Err(E::invalid_type(serde::de::Unexpected::Signed(number), &self)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        if self.depth != 1 {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let mut id = 0;
        while let Some(word) = list.next_element::<Cow<'_, str>>()? {
            if let Some(special) = SPECIAL.get(id).filter(|special| self.words && **special != word) {
                let word = escape::name(&word);
                return Err(A::Error::custom(format!("word {id}: expected {special}, found {word}")));
            }
            id += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> std::result::Result<(), A::Error> {
        if self.depth > 1 {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        // Two objects may have the same keys, so each hashes them with a salt of its own.
        let salt = self.keys.len();
        while let Some(key) = object.next_key::<Cow<'_, str>>()? {
            let hash = self.keys.hasher().hash_one((salt, &key));
            if !self.keys.insert(hash) {
                return Err(A::Error::custom(format!("the key {key:?} occurs twice")));
            }
            let words = self.depth == 0 && key == "words";
            object.next_value_seed(Look { depth: self.depth + 1, words, keys: &mut *self.keys })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_vocabulary_is_refused_before_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.json");
        let message = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map_or_else(|e| e.to_string(), |value| value.to_string())
        };
        for right in
            [r#"{"words":["<pad>","<start>"],"threshold":4}"#, r#"{"a":{"a":1,"c":"d"},"c":{"c":0},"idx":-1}"#, "{}"]
        {
            assert_eq!(message(right), right);
        }
        for (text, problem) in [
            ("[1]", "expected an object"),
            ("1", "expected an object"),
            (r#"{"a":[[]]}"#, "invalid type: sequence"),
            (r#"{"a":[0]}"#, "invalid type: integer `0`"),
            (r#"{"a":{"b":{}}}"#, "expected a word or a number"),
            (r#"{"a":null}"#, "invalid type: null"),
            (r#"{"words":["<pad>","a"]}"#, "word 1: expected <start>, found a"),
            (r#"{"a":{"b":1,"b":1}}"#, "the key \"b\" occurs twice"),
            (r#"{"a":1,"a":1}"#, "the key \"a\" occurs twice"),
            (r#"{"a":1} 2"#, "trailing characters"),
            (r#"{"a":"#, "not a JSON vocabulary"),
            (&"[".repeat(1 << 20), "not a vocabulary"),
            (&"{\"a\":".repeat(1 << 18), "not a vocabulary"),
        ] {
            let found = message(text);
            assert!(found.contains(problem) && found.contains("v.json"), "{found}");
        }
    }
}
