//! Sentences: the Punkt algorithm with its English parameters, for lower-cased text.
//!
//! Punkt examines only the places where a sentence may end, and decides each from the words around it.
//!
//! | label | rule |
//! |---|---|
//! | (P-1) | *Candidates*: `.`, `?` or `!` before a punctuation mark that cannot be inside a word, or before white space and another word. Of several candidates in one blank-delimited word, only the last counts. |
//! | (P-2) | *Context*: from the beginning of the candidate's word to the end of what follows it. It is cut into tokens (see [`tokens`]). |
//! | (P-3) | *First pass*, from the token only: `.`, `?`, `!` are a break; two periods or more are an ellipsis, not a break; a word with a final period is a break unless it, or its part after the last hyphen, is a known abbreviation. |
//! | (P-4) | *Second pass*, from the token and the next one: a break after an initial (`j.`) or a number (`5.`) is removed if the next token does not look like the beginning of a sentence. |
//! | (P-5) | The candidate ends a sentence if a token of its context other than the last is a break. The next sentence begins at the next word, or at once if a punctuation mark follows. |
//! | (P-6) | *Realignment*: closing quotes and brackets that would begin a sentence go to the one before it. |
//!
//! In lower-case text the rest of the second pass has no effect. Two heuristics of Kiss and Strunk
//! (orthographic context, frequent sentence starters) need a capital to turn an abbreviation or an
//! ellipsis into a break. And wherever a collocation of the English parameters would remove a break, (P-4)
//! removes it too. `english` holds the parameters that remain; the script that writes it checks these
//! claims.

use std::ops::Range;

use super::characters::{is_digit, is_python_space, is_space, is_word};
use super::english::{ABBREVIATIONS, LOWER_CASE_STARTERS};

/// The sentences of `text`, in order, as ranges of its characters. None is empty. White space before the
/// first sentence belongs to it; white space between two sentences belongs to neither.
pub(super) fn sentences(text: &[char]) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let mut begin = 0;
    for candidate in candidates(text) {
        if contains_break(&text[candidate.context]) {
            cuts.push(begin..candidate.end);
            begin = candidate.resume;
        }
    }
    let end = text.iter().rposition(|&c| !is_python_space(c)).map_or(0, |last| last + 1);
    cuts.push(begin..end.max(begin));
    realign(text, &cuts)
}

/// A place where a sentence may end (P-1).
struct Candidate {
    /// The characters that decide (P-2).
    context: Range<usize>,
    /// Just past the mark, where the sentence would end.
    end: usize,
    /// Where the next sentence would begin.
    resume: usize,
}

/// (P-1), (P-2).
fn candidates(text: &[char]) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut open: Option<Candidate> = None;
    // The word before the latest mark, without it. Punkt's first word begins at the text's first
    // character, even if that is a blank.
    let mut word = 0..0;
    for (at, _) in text.iter().enumerate().filter(|&(_, &c)| is_mark(c)) {
        let end = at + 1;
        let Some((context_end, resume)) = following(text, end) else {
            continue;
        };
        // Here only ASCII blanks delimit a word. The search begins at the latest mark, which is not a
        // blank, so a blank at offset 0 can only be the text's first character.
        let start = match text[word.end..at].iter().rposition(|&c| is_ascii_space(c)) {
            Some(blank) if blank > 0 => word.end + blank + 1,
            _ => word.start,
        };
        // Marks of the same word ("what?!)") are one candidate, the last of them.
        if word.end <= start {
            found.extend(open.take());
        }
        word = start..at;
        open = Some(Candidate { context: start..context_end, end, resume });
    }
    found.extend(open);
    found
}

/// If a mark that ends at `end` can end a sentence: the end of the context and the beginning of the next
/// sentence.
fn following(text: &[char], end: usize) -> Option<(usize, usize)> {
    let rest = &text[end..];
    if ends_word(*rest.first()?) {
        return Some((end + 1, end));
    }
    let blanks = rest.iter().take_while(|&&c| is_space(c)).count();
    if blanks == 0 {
        return None;
    }
    let letters = rest[blanks..].iter().take_while(|&&c| !is_space(c)).count();
    (letters > 0).then_some((end + blanks + letters, end + blanks))
}

/// (P-3) to (P-5): whether a break comes before the last token of `context`.
fn contains_break(context: &[char]) -> bool {
    let mut tokens: Vec<Token> = context
        .split(|&c| c == '\n')
        // Python's white space: a line of separators has no tokens, although the rules for tokens do not
        // count separators as white space.
        .filter(|line| !line.iter().all(|&c| is_python_space(c)))
        .flat_map(tokens)
        .map(Token::first_pass)
        .collect();
    for i in 1..tokens.len() {
        tokens[i - 1].is_break &= !tokens[i - 1].is_removed(&tokens[i]);
    }
    tokens.pop();
    tokens.iter().any(|token| token.is_break)
}

/// A token of a context, after the first pass.
struct Token<'a> {
    text: &'a [char],
    is_break: bool,
}

impl<'a> Token<'a> {
    /// (P-3).
    fn first_pass(text: &'a [char]) -> Self {
        let is_break = match text {
            ['.' | '?' | '!'] => true,
            [.., '.', '.'] => false,
            [word @ .., '.'] => {
                let last_part = word.rsplit(|&c| c == '-').next().unwrap_or(word);
                !contains(&ABBREVIATIONS, word) && !contains(&ABBREVIATIONS, last_part)
            }
            _ => false,
        };
        Token { text, is_break }
    }

    /// (P-4).
    fn is_removed(&self, next: &Token) -> bool {
        let is_initial = matches!(self.text, [c, '.'] if is_word(*c) && !is_digit(*c));
        let is_number = self.text.ends_with(&['.']) && is_number(self.text);
        if !is_initial && !is_number {
            return false;
        }
        match next.text {
            [',' | '.' | ';' | ':' | '!' | '?'] => true,
            // The period of a token that is itself a break does not belong to its word.
            [word @ .., '.'] if !word.is_empty() && next.is_break => Self::continues_sentence(word, is_initial),
            word => Self::continues_sentence(word, is_initial),
        }
    }

    /// Whether the case of a word shows that it does not begin a sentence.
    fn continues_sentence(word: &[char], after_initial: bool) -> bool {
        match word {
            [c, ..] if c.is_lowercase() => !contains(&LOWER_CASE_STARTERS, word),
            // Some capitals have no lower case (ℝ, 𝐀). No word of the parameters begins with one, and
            // Punkt takes a word that it has never seen in lower case for a name: "j. ℝ".
            [c, ..] => after_initial && c.is_uppercase(),
            [] => false,
        }
    }
}

/// Whether a token is a number: digits with inner commas, periods and hyphens, optionally after a minus
/// sign and a comma or period.
fn is_number(token: &[char]) -> bool {
    let token = token.strip_prefix(&['-']).unwrap_or(token);
    match token {
        [',' | '.', digit, rest @ ..] | [digit, rest @ ..] if is_digit(*digit) => {
            rest.iter().all(|&c| is_digit(c) || matches!(c, ',' | '.' | '-'))
        }
        _ => false,
    }
}

/// The tokens of a line of a context. Punctuation is split from words, except for periods, hyphens and
/// punctuation inside a word. At each place, the first of these that matches is a token:
///
/// 1. two or more hyphens, two or more periods, three or more periods with single blanks between them;
/// 2. a word: up to the next white space, punctuation that ends a word, or run as in 1;
/// 3. any other character.
fn tokens(line: &[char]) -> Vec<&[char]> {
    let mut tokens = Vec::new();
    let mut rest = line;
    while let Some(&first) = rest.first() {
        if is_space(first) {
            rest = &rest[1..];
            continue;
        }
        let length = match run_length(rest) {
            0 if begins_word(first) => {
                // A word always ends at the end of the line.
                1 + (1..rest.len()).take_while(|&end| !word_ends_before(&rest[end..])).count()
            }
            0 => 1,
            run => run,
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after;
    }
    tokens
}

/// The length of the run of hyphens, periods or spaced periods at the start of `rest`; 0 if the run is too
/// short to be a token.
fn run_length(rest: &[char]) -> usize {
    match rest {
        ['-', '-', ..] => rest.iter().take_while(|&&c| c == '-').count(),
        ['.', '.', ..] => rest.iter().take_while(|&&c| c == '.').count(),
        ['.', b1, '.', b2, '.', ..] if is_space(*b1) && is_space(*b2) => {
            let more = rest[5..].chunks_exact(2).take_while(|pair| is_space(pair[0]) && pair[1] == '.');
            5 + 2 * more.count()
        }
        _ => 0,
    }
}

/// Whether `rest`, the remaining line, ends the word before it.
fn word_ends_before(rest: &[char]) -> bool {
    let stops = |rest: &[char]| rest.first().is_none_or(|&c| is_space(c) || ends_word(c)) || starts_run(rest);
    stops(rest) || (rest[0] == ',' && stops(&rest[1..]))
}

/// Whether [`run_length`] is not 0. It is faster, because it is called at every character of a word.
fn starts_run(rest: &[char]) -> bool {
    match rest {
        ['-', '-', ..] | ['.', '.', ..] => true,
        ['.', b1, '.', b2, '.', ..] => is_space(*b1) && is_space(*b2),
        _ => false,
    }
}

/// (P-6).
fn realign(text: &[char], cuts: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut sentences = Vec::with_capacity(cuts.len());
    let mut moved = 0;
    for (i, cut) in cuts.iter().enumerate() {
        let begin = cut.start + moved;
        let next = cuts.get(i + 1).cloned().unwrap_or(text.len()..text.len());
        let (closers, blanks) = closers(&text[next.clone()]);
        let end = if closers > 0 { next.start + closers } else { cut.end };
        moved = closers + blanks;
        if begin < end {
            sentences.push(begin..end);
        }
    }
    sentences
}

/// The number of closing quotes and brackets at the start of `sentence`, and of the blanks after them. If
/// anything but a blank, a dash or the end follows, they open the sentence, and the result is 0.
fn closers(sentence: &[char]) -> (usize, usize) {
    let closers = sentence.iter().take_while(|&&c| closes(c)).count();
    let rest = &sentence[closers..];
    let blanks = rest.iter().take_while(|&&c| is_space(c)).count();
    if closers > 0 && (blanks > 0 || rest.is_empty() || rest.starts_with(&['-', '-'])) {
        (closers, blanks)
    } else {
        (0, 0)
    }
}

fn contains(table: &[&str], word: &[char]) -> bool {
    table.binary_search_by(|entry| entry.chars().cmp(word.iter().copied())).is_ok()
}

fn is_ascii_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// Marks that can end a sentence.
fn is_mark(c: char) -> bool {
    matches!(c, '.' | '?' | '!')
}

/// Closing punctuation that stays with its sentence.
fn closes(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '}' | '‘' | '’' | '“' | '”' | '«' | '»')
}

/// Punctuation that cannot be inside a word.
fn ends_word(c: char) -> bool {
    closes(c) || matches!(c, ';' | '*' | ':' | '@' | '(' | '{' | '[' | '?' | '!')
}

/// Whether a character, other than white space, can be the first of a word.
fn begins_word(c: char) -> bool {
    !matches!(c, '(' | '"' | '`' | '{' | '[' | ':' | ';' | '&' | '#' | '*' | '@' | ')' | '}' | ']' | '-' | ',')
}
