//! Captions that are not plain text: lists and strings as a program prints them, or captions in tags.

use std::path::Path;

use super::{Seen, quoted};
use crate::error::{Error, Result};

/// # Errors
///
/// If a line is a literal of a program, such as `b'…'`, `['…', '…']` or `{"…": …}`, or if nearly all captions
/// are in quotes.
pub(super) fn check_literals(path: &Path, captions: &[String]) -> Result<()> {
    let mut in_quotes = 0;
    for (at, line) in captions.iter().enumerate() {
        let line = line.trim();
        if is_bytes_literal(line) {
            let start: String = line.chars().take(24).collect();
            let problem = format!(
                "found a Python bytes literal, {start}…: captions were read as bytes and printed without decoding, \
                 which silently halves the recall; expected decoded text (in Python: line.decode('utf-8'))"
            );
            return Err(Error::line(path, at + 1, problem));
        }
        if let Some(what) = literal(line) {
            let problem = format!(
                "found {what}, {}: expected one caption per line, as text. In Python: for caption in \
                 ast.literal_eval(line): print(caption)",
                quoted(line)
            );
            return Err(Error::line(path, at + 1, problem));
        }
        in_quotes += usize::from(is_in_quotes(line));
    }
    if captions.len() > 1 && in_quotes * 10 >= captions.len() * 9 {
        let at = captions.iter().position(|line| is_in_quotes(line.trim())).unwrap_or(0);
        let problem = format!(
            "found a caption in quotes, {}, as {in_quotes} of the {} are: expected plain text. In Python: \
             print(ast.literal_eval(line.rstrip().rstrip(',')))",
            quoted(&captions[at]),
            captions.len()
        );
        return Err(Error::line(path, at + 1, problem));
    }
    Ok(())
}

/// `b'…'` or `b"…"`, what Python 3 prints for undecoded bytes; `u'…'` likewise.
fn is_bytes_literal(line: &str) -> bool {
    ['\'', '"'].iter().any(|&quote| {
        let rest = line.strip_prefix(['b', 'u']).and_then(|rest| rest.strip_prefix(quote));
        rest.is_some_and(|rest| rest.ends_with(quote))
    })
}

/// Lists, tuples, sets and objects of Python or JSON.
fn literal(line: &str) -> Option<&'static str> {
    const KINDS: [(char, char, &str); 3] = [
        ('[', ']', "a list (the captions of an image, or the words of one)"),
        ('(', ')', "a tuple (the captions of an image, or the words of one)"),
        ('{', '}', "an object of JSON or Python"),
    ];
    KINDS.iter().find_map(|&(open, close, what)| {
        let inner = line.strip_prefix(open)?.trim_end_matches(',').strip_suffix(close)?.trim();
        let inner = inner.trim_start_matches(['[', '(', '{', 'b', 'u', ' ']);
        let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        // ("stop") is a caption; ("stop", "go") and ['stop'] are not.
        let several = inner.contains(&format!("{quote},")) || inner.contains(&format!("{quote}:"));
        (open != '(' || several).then_some(what)
    })
}

fn is_in_quotes(line: &str) -> bool {
    let line = line.strip_suffix(',').unwrap_or(line);
    ['\'', '"'].iter().any(|&quote| {
        line.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)).is_some_and(|rest| !rest.is_empty())
    })
}

/// Notes what is read as words but looks as if it should not be.
///
/// # Errors
///
/// If nearly all captions are in tags.
pub(super) fn look_at_words(path: &Path, captions: &[String], notes: &mut Vec<String>) -> Result<()> {
    const ENTITIES: [&str; 7] = ["&amp;", "&quot;", "&lt;", "&gt;", "&nbsp;", "&apos;", "&#"];
    const NOTHING: [&str; 6] = ["nan", "NaN", "None", "null", "NULL", "N/A"];
    let (mut entities, mut tags, mut nothing) = (Seen::default(), Seen::default(), Seen::default());
    for (line, caption) in (1..).zip(captions) {
        if caption.contains('&') && ENTITIES.iter().any(|entity| caption.contains(entity)) {
            entities.add(line);
        }
        if caption.contains('<') && caption.split('<').skip(1).any(is_tag) {
            tags.add(line);
        }
        if NOTHING.contains(&caption.as_str()) {
            nothing.add(line);
        }
    }
    let in_tags = |caption: &String| caption.starts_with('<') && caption.ends_with('>');
    if captions.len() > 1 && tags.count * 10 >= captions.len() * 9 && in_tags(&captions[tags.first - 1]) {
        let problem = format!(
            "found a caption in tags, {}, as {} of the {} are: expected plain text",
            quoted(&captions[tags.first - 1]),
            tags.count,
            captions.len()
        );
        return Err(Error::line(path, tags.first, problem));
    }
    entities.note(path, |lines| format!("entities of HTML, such as &amp;, are read as words in {lines}"), notes);
    tags.note(path, |lines| format!("words in angle brackets, such as <b>, are read as words in {lines}"), notes);
    nothing.note(
        path,
        |lines| format!("a caption that was missing (nan, None, null) is read as a word in {lines}"),
        notes,
    );
    Ok(())
}

/// What follows a `<`: letters up to a `>`.
fn is_tag(rest: &str) -> bool {
    rest.split_once('>').is_some_and(|(inside, _)| {
        let word = inside.trim_start_matches('/').split(' ').next().unwrap_or_default().trim_end_matches('/');
        !word.is_empty()
            && word.len() <= 12
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && word.starts_with(|c: char| c.is_ascii_alphabetic())
    })
}
