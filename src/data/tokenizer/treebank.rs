//! Words: the Penn Treebank rules as NLTK's `NLTKWordTokenizer` extends them.
//!
//! Each rule rewrites the whole sentence, mostly by inserting blanks around something; at the end, the
//! words are the pieces between blanks. A later rule reads the output of the earlier ones, so the order is
//! part of the definition. Within a rule, matches go from left to right and do not overlap. `␣` means a
//! blank, `x` any single character except those named, and `→` shows the replacement.
//!
//! | label | rule |
//! |---|---|
//! | | **Opening quotes** |
//! | (T-1) | `«`, `“`, `‘`, `„` and every run of backticks: a blank on both sides |
//! | (T-2) | a `"` that begins the sentence → ` `` ` |
//! | (T-3) | ` `` `: a blank on both sides |
//! | (T-4) | `"` or `''` after a blank, `(`, `[`, `{` or `<` → `` ␣``␣ `` |
//! | (T-5) | `'` before a word and not after one → `'␣`, unless the word is `re`, `ve`, `ll`, `m`, `t`, `s`, `d` or `n` |
//! | | **Punctuation** |
//! | (T-6) | the final period, followed only by closing marks and blanks: both are separated |
//! | (T-7) | `:` and `,` before anything but a digit: a blank on both sides |
//! | (T-8) | a `:` or `,` that ends the sentence: a blank on both sides |
//! | (T-9) | runs of two periods or more: a blank on both sides |
//! | (T-10) | `;`, `@`, `#`, `$`, `%`, `&`: a blank on both sides |
//! | (T-11) | the dashes U+2012 to U+2015: a blank on both sides |
//! | (T-12) | the final period, followed only by ASCII closing marks: a blank before it, one after them |
//! | (T-13) | `?`, `!`: a blank on both sides |
//! | (T-14) | `x'␣` → `x␣'␣` |
//! | (T-15) | `*`: a blank on both sides |
//! | (T-16) | brackets `[ ] ( ) { } < >`: a blank on both sides |
//! | (T-17) | `--`: a blank on both sides |
//! | (T-18) | a blank before the sentence, and one after it |
//! | | **Closing quotes** |
//! | (T-19) | `»`, `”`, `’`: a blank on both sides |
//! | (T-20) | `''`: a blank on both sides |
//! | (T-21) | every remaining `"` → `␣''␣` |
//! | (T-22) | every run of white space → one blank |
//! | | **Contractions** |
//! | (T-23) | `x's␣`, `x'm␣`, `x'd␣`, `x'␣` → a blank before the apostrophe, and one more after |
//! | (T-24) | `x'll␣`, `x're␣`, `x've␣`, `xn't␣` → the same, before the `n` of `n't` |
//! | (T-25) | the words `cannot`, `d'ye`, `gimme`, `gonna`, `gotta`, `lemme`, `more'n`, and `wanna` before white space, are split: `can␣not`, `d␣'ye`, `gim␣me`, … |
//! | (T-26) | after a blank, `'tis` → `'t␣is`, then `'twas` → `'t␣was` |
//!
//! A period inside a sentence stays with its word ("st. james"). This is why sentences are needed.

use super::characters::{is_digit, is_python_space, is_python_word, is_space, is_word};

/// The two parts of each word of (T-25), and whether white space must follow.
const CONTRACTIONS: [(&str, &str, bool); 8] = [
    ("can", "not", false),
    ("d", "'ye", false),
    ("gim", "me", false),
    ("gon", "na", false),
    ("got", "ta", false),
    ("lem", "me", false),
    ("more", "'n", false),
    ("wan", "na", true),
];

/// Appends the words of `sentence`, which is in lower case, to `words`.
pub(super) fn words(sentence: &[char], words: &mut Vec<String>) {
    // Room for a few more blanks.
    let mut text = Rewriter { text: Vec::with_capacity(sentence.len() + 16), spare: Vec::new() };
    text.text.extend_from_slice(sentence);

    opening_quotes(&mut text);
    punctuation(&mut text);
    text.text.insert(0, ' '); // (T-18)
    text.text.push(' ');
    closing_quotes(&mut text);
    contractions(&mut text);

    words.extend(
        text.text
            .split(|&c| is_python_space(c))
            .filter(|word| !word.is_empty())
            .map(|word| word.iter().collect::<String>()),
    );
}

/// (T-1) to (T-5).
fn opening_quotes(text: &mut Rewriter) {
    text.rewrite(
        |c| matches!(c, '«' | '“' | '‘' | '„' | '`'),
        |m| {
            let length = if m.rest[0] == '`' { m.run(|c| c == '`') } else { 1 };
            m.pad(length)
        },
    );
    if text.text.first() == Some(&'"') {
        text.text.splice(..1, ['`', '`']); // (T-2)
    }
    text.rewrite(
        |c| c == '`',
        |m| {
            if m.rest.starts_with(&['`', '`']) { m.pad(2) } else { 0 }
        },
    );
    text.rewrite(
        |c| matches!(c, '"' | '\''),
        |m| {
            let length = match m.rest {
                ['"', ..] => 1,
                ['\'', '\'', ..] => 2,
                _ => return 0,
            };
            if matches!(m.free.last(), Some(' ' | '(' | '[' | '{' | '<')) { m.replace(" `` ", length) } else { 0 }
        },
    );
    text.rewrite(
        |c| c == '\'',
        |m| {
            let after = &m.rest[1..];
            if after.first().is_some_and(|&c| is_word(c))
                && !m.before.is_some_and(is_word)
                && !is_clitic(&after[..m.run_after(1, is_word)])
            {
                m.replace("' ", 1)
            } else {
                0
            }
        },
    );
}

/// The words that keep their apostrophe in (T-5). The pattern ignores case, and it treats the long `ſ`,
/// which is already lower case, as a form of `s`.
fn is_clitic(word: &[char]) -> bool {
    matches!(word, ['r' | 'v', 'e'] | ['l', 'l'] | ['m' | 't' | 's' | 'ſ' | 'd' | 'n'])
}

/// (T-6) to (T-17).
fn punctuation(text: &mut Rewriter) {
    text.final_period(|c| matches!(c, ']' | ')' | '}' | '>' | '"' | '\'' | '»' | '”' | '’' | ' '), " . ");
    // A `:` or `,` that ends the sentence is left to (T-8). A match consumes two characters: in "::" the
    // second mark gets no blanks.
    text.rewrite(
        |c| matches!(c, ':' | ','),
        |m| match *m.rest {
            [mark, next, ..] if !is_digit(next) => {
                m.out.extend([' ', mark, ' ', next]);
                2
            }
            _ => 0,
        },
    );
    if let Some(&mark @ (':' | ',')) = text.text.last() {
        text.text.pop();
        text.text.extend([' ', mark, ' ']); // (T-8)
    }
    text.rewrite(
        |c| c == '.',
        |m| match m.run(|c| c == '.') {
            1 => 0,
            run => m.pad(run),
        },
    );
    text.pad_each(|c| matches!(c, ';' | '@' | '#' | '$' | '%' | '&'));
    text.pad_each(|c| ('\u{2012}'..='\u{2015}').contains(&c));
    text.final_period(|c| matches!(c, ']' | ')' | '}' | '>' | '"' | '\''), " .");
    text.pad_each(|c| matches!(c, '?' | '!'));
    text.rewrite(
        |c| c == '\'',
        |m| match (m.free.last(), m.rest) {
            (Some(&x), ['\'', ' ', ..]) if x != '\'' => m.replace(" ' ", 2),
            _ => 0,
        },
    );
    text.pad_each(|c| c == '*');
    text.pad_each(|c| matches!(c, '[' | ']' | '(' | ')' | '{' | '}' | '<' | '>'));
    text.rewrite(
        |c| c == '-',
        |m| {
            if m.rest.starts_with(&['-', '-']) { m.pad(2) } else { 0 }
        },
    );
}

/// (T-19) to (T-22).
fn closing_quotes(text: &mut Rewriter) {
    text.pad_each(|c| matches!(c, '»' | '”' | '’'));
    text.rewrite(
        |c| c == '\'',
        |m| {
            if m.rest.starts_with(&['\'', '\'']) { m.pad(2) } else { 0 }
        },
    );
    text.rewrite(|c| c == '"', |m| m.replace(" '' ", 1));
    text.rewrite(is_space, |m| {
        let length = m.run(is_space);
        m.replace(" ", length)
    });
}

/// (T-23) to (T-26).
fn contractions(text: &mut Rewriter) {
    // Without an apostrophe only (T-25) can match.
    let has_apostrophe = text.text.contains(&'\'');
    if has_apostrophe {
        text.rewrite(
            |c| c == '\'',
            |m| match m.rest {
                ['\'', 's' | 'm' | 'd', ' ', ..] => m.split_off(3),
                ['\'', ' ', ..] => m.split_off(2),
                _ => 0,
            },
        );
        text.rewrite(
            |c| matches!(c, '\'' | 'n'),
            |m| match m.rest {
                ['\'', 'l', 'l', ' ', ..] | ['\'', 'r' | 'v', 'e', ' ', ..] | ['n', '\'', 't', ' ', ..] => {
                    m.split_off(4)
                }
                _ => 0,
            },
        );
    }
    text.rewrite(
        |c| matches!(c, 'c' | 'd' | 'g' | 'l' | 'm' | 'w'),
        |m| {
            if m.before.is_some_and(is_python_word) {
                return 0;
            }
            for (first, second, before_space) in CONTRACTIONS {
                let after = m.after_word(first, second);
                let matches = after.is_some_and(|after| match after.first() {
                    Some(&c) if before_space => is_python_space(c),
                    Some(&c) => !is_python_word(c),
                    None => !before_space,
                });
                if matches {
                    m.out.push(' ');
                    return m.split_word(first, second);
                }
            }
            0
        },
    );
    if has_apostrophe {
        for second in ["is", "was"] {
            text.rewrite(
                |c| c == '\'',
                |m| match m.after_word("'t", second) {
                    // The blank before it is already written.
                    Some(after)
                        if m.free.last() == Some(&' ') && !after.first().is_some_and(|&c| is_python_word(c)) =>
                    {
                        m.split_word("'t", second)
                    }
                    _ => 0,
                },
            );
        }
    }
}

/// A sentence that the rules rewrite.
struct Rewriter {
    text: Vec<char>,
    /// The output of the current rule. The buffer is kept between rules.
    spare: Vec<char>,
}

/// A place where a rule may match, and the rule's output.
struct Match<'a> {
    /// The character before, even if an earlier match of the rule consumed it.
    before: Option<char>,
    /// The characters before that no earlier match of the rule has consumed.
    free: &'a [char],
    /// The text from here on. Its first character is the trigger.
    rest: &'a [char],
    /// The output so far; it ends with `free`, unchanged.
    out: &'a mut Vec<char>,
}

impl Rewriter {
    /// Applies a rule at every character that `trigger` accepts. The rule writes the replacement and
    /// returns the number of characters that it replaces; 0 means no match and no output.
    fn rewrite(&mut self, trigger: impl Fn(char) -> bool, rule: impl Fn(&mut Match) -> usize) {
        // Most rules do not match in most sentences. Such a sentence is not copied.
        let Some(first) = self.text.iter().position(|&c| trigger(c)) else {
            return;
        };
        self.spare.clear();
        self.spare.extend_from_slice(&self.text[..first]);
        let mut used = 0;
        let mut at = first;
        while at < self.text.len() {
            let c = self.text[at];
            let length = if trigger(c) {
                rule(&mut Match {
                    before: at.checked_sub(1).map(|previous| self.text[previous]),
                    free: &self.text[used..at],
                    rest: &self.text[at..],
                    out: &mut self.spare,
                })
            } else {
                0
            };
            if length == 0 {
                self.spare.push(c);
                at += 1;
            } else {
                at += length;
                used = at;
            }
        }
        std::mem::swap(&mut self.text, &mut self.spare);
    }

    /// Inserts a blank on both sides of each character that `is_mark` accepts.
    fn pad_each(&mut self, is_mark: impl Fn(char) -> bool) {
        self.rewrite(is_mark, |m| m.pad(1));
    }

    /// (T-6), (T-12): writes the last period as `period`, and a blank after the closing marks that follow
    /// it, if only white space comes after them and the character before it is not a period.
    fn final_period(&mut self, closes: impl Fn(char) -> bool, period: &str) {
        let Some(dot) = self.text.iter().rposition(|&c| c == '.') else {
            return;
        };
        let after = &self.text[dot + 1..];
        let closing = after.iter().take_while(|&&c| closes(c)).count();
        if dot == 0 || self.text[dot - 1] == '.' || !after[closing..].iter().all(|&c| is_space(c)) {
            return;
        }
        self.text.truncate(dot + 1 + closing);
        self.text.splice(dot..=dot, period.chars());
        self.text.push(' ');
    }
}

impl Match<'_> {
    /// The length of the run of characters that `class` accepts.
    fn run(&self, class: impl Fn(char) -> bool) -> usize {
        self.run_after(0, class)
    }

    /// The same, starting `skip` characters later.
    fn run_after(&self, skip: usize, class: impl Fn(char) -> bool) -> usize {
        self.rest[skip..].iter().take_while(|&&c| class(c)).count()
    }

    /// Writes `replacement` for `length` characters.
    fn replace(&mut self, replacement: &str, length: usize) -> usize {
        self.out.extend(replacement.chars());
        length
    }

    /// Writes the next `length` characters between blanks.
    fn pad(&mut self, length: usize) -> usize {
        self.out.push(' ');
        self.out.extend_from_slice(&self.rest[..length]);
        self.out.push(' ');
        length
    }

    /// (T-23), (T-24): the same for `length` characters that end with a blank, after a character that is
    /// neither a blank nor an apostrophe. The match consumes the blank too.
    fn split_off(&mut self, length: usize) -> usize {
        if matches!(self.free.last(), None | Some(' ' | '\'')) {
            return 0;
        }
        self.pad(length - 1) + 1
    }

    /// The text after `first` and `second`, if the text continues with them. The patterns ignore case and
    /// treat `ı` and `ſ`, which are already lower case, as forms of `i` and `s`.
    fn after_word(&self, first: &str, second: &str) -> Option<&[char]> {
        let mut rest = self.rest;
        for expected in first.chars().chain(second.chars()) {
            let (&c, after) = rest.split_first()?;
            let folded = match c {
                'ı' => 'i',
                'ſ' => 's',
                c => c,
            };
            if folded != expected {
                return None;
            }
            rest = after;
        }
        Some(rest)
    }

    /// Writes the two parts of a contraction, with a blank after each.
    fn split_word(&mut self, first: &str, second: &str) -> usize {
        // Both are ASCII, so bytes are characters.
        let (first, rest) = self.rest.split_at(first.len());
        self.out.extend_from_slice(first);
        self.out.push(' ');
        self.out.extend_from_slice(&rest[..second.len()]);
        self.out.push(' ');
        first.len() + second.len()
    }
}
