//! Escapes text from untrusted files for display.
//!
//! A caption, a word, a tensor's name or a path may hold characters that a terminal interprets instead of
//! displaying: ESC begins a command, U+202E reverses the writing direction. They are shown as numbers.
//! Control and format characters, and the separators of lines and paragraphs, are escaped. The joiners
//! U+200C and U+200D are not, because Persian, Hindi and emoji need them.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Escapes output of several lines; newlines and tabs stay.
#[must_use]
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_obeyed(c) && c != '\n' && c != '\t', number)
}

/// Escapes a name within a line, including newlines and tabs.
#[must_use]
pub(crate) fn name(name: &str) -> Cow<'_, str> {
    escape(name, is_obeyed, number)
}

/// Escapes a path within a line. Bytes that are not UTF-8 become `\xNN`.
#[must_use]
pub(crate) fn path(path: &Path) -> String {
    chunks(path, name)
}

/// A path for JSON. Only bytes that are not UTF-8 change: they become `\xNN`.
#[must_use]
pub(crate) fn json_path(path: &Path) -> String {
    chunks(path, |valid: &str| Cow::Borrowed(valid))
}

fn chunks(path: &Path, show: impl Fn(&str) -> Cow<'_, str>) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        out += &show(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Escapes a JSON document without changing its meaning, as in `\u202e`.
#[must_use]
pub(crate) fn json(document: &str) -> Cow<'_, str> {
    // All such characters are within strings: between tokens JSON has only spaces and newlines.
    escape(
        document,
        |c| is_obeyed(c) && c != '\n',
        |c, out| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

/// Whether a terminal would interpret a character, or show nothing for it.
#[must_use]
pub(crate) fn is_obeyed(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    !matches!(c, '\u{200c}' | '\u{200d}')
        && matches!(
            c.general_category(),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
        )
}

fn number(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        c if u32::from(c) > 0xffff => {
            let _ = write!(out, "\\U{:08x}", u32::from(c));
        }
        c => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
    }
}

fn escape(text: &str, escaped: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(&escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escaped(c) { write(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_a_terminal_interprets_are_escaped() {
        assert_eq!(text("a\u{1b}[31m\tb\r\n\u{7f}\u{9b}1m"), "a\\u001b[31m\tb\\u000d\n\\u007f\\u009b1m");
        assert_eq!(name("a\nb\tc\0"), "a\\nb\\tc\\u0000");
        for c in
            ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').chain("\u{2028}\u{2029}\u{200b}\u{feff}".chars())
        {
            assert_eq!(text(&format!("a{c}b")), format!("a\\u{:04x}b", u32::from(c)));
        }
        assert_eq!(text("\u{e0001}"), "\\U000e0001");
        for usual in ["h₀ ∘ é \"\\u001b\"", "می\u{200c}خواهم", "👩\u{200d}🚀", "שלום", "\u{ad00}", ""]
        {
            assert!(matches!(text(usual), Cow::Borrowed(same) if same == usual), "{usual}");
        }
    }

    #[test]
    fn escaped_json_has_the_same_meaning() {
        let value = serde_json::json!({ "a\u{7f}": ["\u{9b}\u{202e}\u{2028}", "\u{e0001}\u{1b}", "é \\ \" \n"] });
        let document = format!("{value:#}\n");
        let shown = json(&document);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert!(!shown.chars().any(|c| is_obeyed(c) && c != '\n'), "{shown}");
        assert!(shown.contains("\\u202e") && shown.contains("\\udb40\\udc01") && shown.contains("é"));
    }

    #[cfg(unix)]
    #[test]
    fn paths_of_any_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"runs/\xff\xc3\xa9\x1b\nx"));
        assert_eq!(path(odd), "runs/\\xffé\\u001b\\nx");
        assert_eq!(json_path(odd), "runs/\\xffé\u{1b}\nx");
    }
}
