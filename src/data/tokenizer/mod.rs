//! Tokens of a caption: lower case, sentences, words.
//!
//! [`tokenize`] gives what NLTK 3.10 gives for `word_tokenize(text.lower())` with its default
//! arguments, the tokens that the VSE++ vocabulary is made of.
//!
//! ```
//! use vsepp::data::tokenize;
//!
//! assert_eq!(
//!     tokenize("A man's dog can't cross St. James Ave. at 10:30 a.m., \"poor thing\"."),
//!     [
//!         "a", "man", "'s", "dog", "ca", "n't", "cross", "st.", "james", "ave.", "at", "10:30",
//!         "a.m.", ",", "``", "poor", "thing", "''", ".",
//!     ],
//! );
//! ```
//!
//! # The rules, in order
//!
//! | step | rule | where |
//! |---|---|---|
//! | (L) | lower case, as Unicode defines it: `İ` becomes `i` and a combining dot, a final `Σ` becomes `ς` | [`str::to_lowercase`] |
//! | (P-1) … (P-6) | sentences, by Punkt with its English parameters | `punkt` |
//! | (T-1) … (T-26) | words of each sentence, by the Penn Treebank rules as NLTK extends them | `treebank` |
//!
//! Sentences matter because a period becomes a separate token only at the end of a sentence:
//!
//! ```
//! # use vsepp::data::tokenize;
//! assert_eq!(tokenize("Two dogs run. One sits."), ["two", "dogs", "run", ".", "one", "sits", "."]);
//! assert_eq!(tokenize("Mr. Smith sits."), ["mr.", "smith", "sits", "."]);
//! // Nothing follows this period, so it ends the text after any word.
//! assert_eq!(tokenize("A photo of Mr."), ["a", "photo", "of", "mr", "."]);
//! ```
//!
//! The words are pieces of the text with two exceptions. A straight double quote (or two apostrophes)
//! becomes ` `` ` if it opens a quotation and `''` if it closes one. `cannot`, `gonna`, `'tis` and a few
//! similar words are split in two.
//!
//! # Sources
//!
//! - T. Kiss and J. Strunk, "Unsupervised Multilingual Sentence Boundary Detection",
//!   *Computational Linguistics* 32 (2006), 485–525: Punkt.
//! - R. MacIntyre, the tokenizer of the Penn Treebank project (1995): the word rules.
//! - NLTK, `nltk.tokenize.word_tokenize`: how the two are combined, and its additions to both.
//!
//! # Agreement
//!
//! `tests/tokenizer.rs` compares with NLTK's output, sentence by sentence. The rules here reproduce that
//! behaviour; they take time linear in the length of the text.
//!
//! Whether a character is a letter or a capital depends on the version of Unicode: here on those of the
//! Rust toolchain and of `unicode-properties`, in NLTK on those of Python and of its `regex` package.
//! Characters that are new in one of these versions may be treated differently.

// The name MacIntyre is not code.
#![allow(clippy::doc_markdown)]

mod characters;
mod english;
mod punkt;
mod treebank;

/// The tokens of `text`: what NLTK's `word_tokenize(text.lower())` returns.
///
/// Any text is valid; a blank text has no tokens. No token is empty.
///
/// ```
/// use vsepp::data::tokenize;
///
/// assert_eq!(tokenize("It's gonna rain..."), ["it", "'s", "gon", "na", "rain", "..."]);
/// assert_eq!(tokenize("$5.00 (or so)"), ["$", "5.00", "(", "or", "so", ")"]);
/// assert!(tokenize(" \t").is_empty());
/// ```
#[must_use]
pub fn tokenize(text: &str) -> Vec<String> {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let mut tokens = Vec::new();
    for sentence in punkt::sentences(&text) {
        treebank::words(&text[sentence], &mut tokens);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::tokenize;

    /// Line feeds and control characters, which a line of `awkward.txt` cannot hold. The expected tokens
    /// are NLTK's.
    #[test]
    fn control_characters() {
        let cases: &[(&str, &[&str])] = &[
            ("\n", &[]),
            ("a\nb", &["a", "b"]),
            ("a dog.\na cat.\n", &["a", "dog", ".", "a", "cat", "."]),
            ("by dr.\nno. one", &["by", "dr.", "no", ".", "one"]),
            ("room 5.\nno", &["room", "5.", "no"]),
            ("b.\nadministrators", &["b", ".", "administrators"]),
            ("\"a.\n\" b", &["``", "a.", "''", "b"]),
            ("(a.)\n\nb", &["(", "a", ".", ")", "b"]),
            ("wanna\nwanna", &["wan", "na", "wan", "na"]),
            ("he said,\n\"no\"", &["he", "said", ",", "''", "no", "''"]),
            ("\u{1c}\n. .\n.", &[".", ".", "."]),
            ("j.\n\u{1c} !ℝ).", &["j.", "!", "ℝ", ")", "."]),
            ("a\0b.\0 c.", &["a\0b.\0", "c", "."]),
            ("\u{1b}[1ma\u{7f}.", &["\u{1b}", "[", "1ma\u{7f}", "."]),
        ];
        for (text, expected) in cases {
            assert_eq!(tokenize(text), *expected, "{text:?}");
        }
    }

    /// The time is linear in the length of a text. If it were quadratic, each unit would take most of a
    /// minute.
    #[test]
    fn long_texts() {
        let units = [".", ". ", "'", "\"", "a.", "a!", "a'", "?! ", " ", "``", "a-b.-", "\u{301}", "a. 'b' "];
        for unit in units {
            let tokens = tokenize(&unit.repeat(300_000));
            assert!(tokens.iter().all(|token| !token.is_empty()), "{unit:?}");
        }
    }
}
