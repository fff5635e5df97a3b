//! Splits text into lines, one caption each.

use std::path::Path;

use super::Seen;
use crate::error::{Error, Result};

/// # Errors
///
/// If the whole file is JSON, or if its lines do not end with line feeds.
pub(super) fn check_layout(path: &Path, text: &str) -> Result<()> {
    let inner = text.trim_end_matches(['\r', '\n']);
    if inner.contains('\r') && !text.contains('\n') {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let problem = format!(
            "lines end with CR alone; expected LF or CR LF. To convert it: tr '\\r' '\\n' < '{file}' > new.txt && \
             mv new.txt '{file}'"
        );
        return Err(Error::line(path, 1, problem));
    }
    // A list or an object on one or several lines, as json.dump writes it.
    let whole = text.trim();
    let bracketed =
        (whole.starts_with('[') && whole.ends_with(']')) || (whole.starts_with('{') && whole.ends_with('}'));
    if bracketed && serde_json::from_str::<serde::de::IgnoredAny>(whole).is_ok() {
        let problem = "this is JSON; expected one caption per line, as text. In Python, for a list of captions: \
                       '\\n'.join(json.load(open(FILE)))";
        return Err(Error::line(path, 1, problem));
    }
    Ok(())
}

/// Invisible characters that no language needs.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Characters that other programs treat as the end of a line or of a field, and the tokenizer as white space.
fn is_separator(c: char) -> bool {
    matches!(c, '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The lines, without invisible characters.
///
/// # Errors
///
/// If a line contains a control character or is empty.
pub(super) fn split_lines(path: &Path, text: &str, notes: &mut Vec<String>) -> Result<Vec<String>> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let (mut invisible, mut separators, mut lost) = (Seen::default(), Seen::default(), Seen::default());
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.chars().all(|c| c.is_whitespace() || c.is_control() && c != '\0' || is_invisible(c)) {
            return Err(Error::line(path, number, "expected a caption, found an empty line"));
        }
        let unusual = |c: char| (c.is_control() && c != '\t') || is_invisible(c) || is_separator(c) || c == '\u{fffd}';
        if !line.contains(unusual) {
            lines.push(line.to_owned());
            continue;
        }
        if let Some((column, c)) =
            (1..).zip(line.chars()).find(|&(_, c)| c.is_control() && c != '\t' && !is_separator(c))
        {
            return Err(Error::line(path, number, control_character(column, c)));
        }
        if line.contains(is_invisible) {
            invisible.add(number);
        }
        if line.contains(is_separator) {
            separators.add(number);
        }
        if line.contains('\u{fffd}') {
            lost.add(number);
        }
        let line = line.chars().filter(|&c| !is_invisible(c));
        lines.push(line.map(|c| if is_separator(c) { ' ' } else { c }).collect());
    }
    invisible.note(
        path,
        |lines| format!("invisible characters, such as U+200B or U+FEFF, are left out of {lines}"),
        notes,
    );
    separators.note(
        path,
        |lines| {
            format!("separators other than a line feed, such as U+2028 or a form feed, are read as blanks in {lines}")
        },
        notes,
    );
    lost.note(path, |lines| format!("U+FFFD marks characters that were lost in {lines}"), notes);
    Ok(lines)
}

/// A caption that is not a line of a file, as one: white space of any kind becomes one blank, and invisible characters
/// are left out.
///
/// # Errors
///
/// If nothing is left, or if there are other control characters.
pub(in crate::data) fn plain(text: &str) -> std::result::Result<String, String> {
    let is_space = |c: char| c.is_whitespace() || is_separator(c);
    if let Some((column, c)) = (1..).zip(text.chars()).find(|&(_, c)| c.is_control() && !is_space(c)) {
        return Err(control_character(column, c));
    }
    let visible: String = text.chars().filter(|&c| !is_invisible(c)).collect();
    let words: Vec<&str> = visible.split(is_space).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { Err(format!("expected a caption, found {text:?}")) } else { Ok(words.join(" ")) }
}

fn control_character(column: usize, c: char) -> String {
    let name = match c {
        '\0' => " (NUL)",
        '\r' => " (a carriage return within the line)",
        '\u{1b}' => " (ESC)",
        '\u{7f}' => " (DEL)",
        '\u{80}'..='\u{9f}' => " (this comes from Windows-1252 that was read as Latin-1)",
        _ => "",
    };
    format!("found the control character U+{:04X}{name} at column {column}; expected text", u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_a_line() {
        assert_eq!(plain(" A  dog\n\trun\u{200b}s\u{2028}.\r\n").unwrap(), "A dog runs .");
        for nothing in ["", " \n", "\u{feff}"] {
            assert_eq!(plain(nothing).unwrap_err(), format!("expected a caption, found {nothing:?}"));
        }
        assert!(plain("a\u{1b}[1m").unwrap_err().starts_with("found the control character U+001B (ESC) at column 2"));
    }
}
