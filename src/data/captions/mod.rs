//! Files of captions, one per line: text in UTF-8, the names of images before the captions, and what
//! other programs leave in such files.
//!
//! What is neither a caption nor the name of its image must not become words. If it can be removed safely,
//! it is, and a note says so. Otherwise it is an error that names the line.

mod columns;
mod encoding;
mod lines;
mod literals;
mod marks;

use std::path::Path;

use columns::take_names;
pub(super) use columns::{count_of, without_number};
use encoding::{decode, read_text_of};
pub(super) use lines::plain;
use lines::{check_layout, split_lines};
use literals::{check_literals, look_at_words};
use marks::take_marks;

use crate::error::{Error, Result};
use crate::escape;

/// The captions of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CaptionFile {
    /// `[M]`, line by line.
    pub(super) captions: Vec<String>,
    /// The name of each caption's image, if the lines begin with one: `[M]`.
    pub(super) names: Option<Vec<String>>,
    /// Notes on what was noticed.
    pub(super) notes: Vec<String>,
}

/// Reads captions, one per line. A line may end with CR LF, and a byte-order mark is skipped. `rows`
/// returns the number of rows of features, for a message that needs it.
///
/// # Errors
///
/// If the file is missing or is not text in UTF-8, or if a line holds anything but a caption; the message
/// names the first such line.
pub(super) fn read_captions(path: &Path, rows: impl FnOnce() -> Option<usize>) -> Result<CaptionFile> {
    let text = decode(path, read_text_of(path)?)?;
    if text.trim().is_empty() {
        return Err(Error::file(path, "expected one caption per line, found an empty file"));
    }
    check_layout(path, &text)?;
    let mut found = CaptionFile::default();
    let lines = split_lines(path, &text, &mut found.notes)?;
    let (names, mut captions) = take_names(path, lines, rows, &mut found.notes)?;
    check_literals(path, &captions)?;
    take_marks(path, &mut captions, &mut found.notes)?;
    look_at_words(path, &captions, &mut found.notes)?;
    Ok(CaptionFile { captions, names, ..found })
}

/// Reads ids, one per line. Empty lines at the end are skipped.
///
/// # Errors
///
/// If the file is missing or is not text in UTF-8.
pub(super) fn read_ids(path: &Path) -> Result<Vec<String>> {
    let text = decode(path, read_text_of(path)?)?;
    Ok(text.trim_end().lines().map(|line| line.trim().to_owned()).collect())
}

/// How often something was found, and the first line with it.
#[derive(Default)]
struct Seen {
    count: usize,
    first: usize,
}

impl Seen {
    fn add(&mut self, line: usize) {
        if self.count == 0 {
            self.first = line;
        }
        self.count += 1;
    }

    /// Adds a note `path:line: …`, if something was found. `text` receives the number of lines in words.
    fn note(&self, path: &Path, text: impl FnOnce(&str) -> String, notes: &mut Vec<String>) {
        let lines = match self.count {
            0 => return,
            1 => "1 line, this one".to_owned(),
            n => format!("{n} lines, the first of them this one"),
        };
        notes.push(format!("{}:{}: {}", escape::path(path), self.first, text(&lines)));
    }
}

/// The beginning of a text, for a message: quoted and escaped.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 40;
    let start: String = text.chars().take(LONGEST).collect();
    if start.len() < text.len() { format!("{start:?}…") } else { format!("{start:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &[u8]) -> Result<CaptionFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("FILE");
        std::fs::write(&path, text).unwrap();
        let result = read_captions(&path, || Some(2));
        let without_path = |text: &str| text.replace(&escape::path(&path), "FILE");
        result
            .map(|c| CaptionFile { notes: c.notes.iter().map(|note| without_path(note)).collect(), ..c })
            .map_err(|e| Error::mismatch(without_path(&e.to_string())))
    }

    fn read(text: &[u8]) -> String {
        found(text).map_or_else(|error| error.to_string(), |found| format!("{:?}", found.captions))
    }

    /// The captions, the names and the one note of a file.
    #[track_caller]
    fn with_note(text: &str, expected: &[&str], note: &str) -> Option<Vec<String>> {
        let found = found(text.as_bytes()).unwrap();
        assert_eq!(found.captions, expected);
        assert!(found.notes.len() == 1 && found.notes[0].contains(note), "{:?}", found.notes);
        found.names
    }

    #[track_caller]
    fn plain(text: &str) {
        let found = found(text.as_bytes()).unwrap();
        assert_eq!(found.captions, text.trim_end_matches('\n').split('\n').collect::<Vec<_>>());
        assert_eq!((found.names, found.notes), (None, vec![]));
    }

    #[track_caller]
    fn refused(text: impl AsRef<[u8]>, words: &[&str]) {
        let message = read(text.as_ref());
        for word in words {
            assert!(message.contains(word), "expected {word:?} in: {message}");
        }
    }

    #[test]
    fn caption_files() {
        assert_eq!(read(b"A dog.\r\ntwo\n"), r#"["A dog.", "two"]"#);
        assert_eq!(read("\u{feff}é".as_bytes()), r#"["é"]"#);
        assert_eq!(read(b""), "FILE: expected one caption per line, found an empty file");
        assert_eq!(read(b"\n\n"), "FILE: expected one caption per line, found an empty file");
        assert_eq!(read(b"a\n\x1c\nb\n"), "FILE:2: expected a caption, found an empty line");
        assert_eq!(read(b"a\n \nb\n"), "FILE:2: expected a caption, found an empty line");
        assert_eq!(read(b"a\nb\n\n"), "FILE:3: expected a caption, found an empty line");
        assert!(read(b"a\nb'a man'\n").starts_with("FILE:2: found a Python bytes literal"));
        assert!(read(b"b\"a man's\"").starts_with("FILE:1: found a Python bytes literal"));
    }

    #[test]
    fn natural_captions_give_no_notes() {
        plain("b is for 'bee'\n\"Stop\" says the sign\n'Tis a dog's life, isn't it'\n");
        plain("3 dogs, 2 cats\n10:30 on a clock\n2,000 people\n#1 dad mug\n");
        plain("a screen showing cat.jpg\ncat.jpg on a screen\na dog\na cat\n");
        plain("a man (left) [sic] & a woman <3 him\n(a dog)\n[a cat]\n(\"stop\")\na < b > c\n");
        plain("a dog\tand a cat\na bird\na plane\n");
        plain("1 dog\n2 dogs\n");
        plain("naïve café – “quoted” 日本語 👩\u{200d}👧 \u{200c}می\n");
        plain("\"a sign\"\na dog\n");
        plain("none of them\nnan bread\nthe start\nend of the road\n");
        plain("one dog\n");
    }

    #[test]
    fn other_encodings_are_named() {
        let text = "a dog\na cat\n";
        let utf16 =
            |swap: bool| text.encode_utf16().flat_map(move |c| if swap { c.to_be_bytes() } else { c.to_le_bytes() });
        refused(
            [b"\xff\xfe".to_vec(), utf16(false).collect()].concat(),
            &["FILE:1: this is UTF-16 (it begins with its byte-order mark)", "iconv -f UTF-16 -t UTF-8"],
        );
        refused([b"\xfe\xff".to_vec(), utf16(true).collect()].concat(), &["this is UTF-16 (it begins"]);
        refused(utf16(false).collect::<Vec<u8>>(), &["this is UTF-16LE (by the places of its zero bytes)"]);
        refused(utf16(true).collect::<Vec<u8>>(), &["this is UTF-16BE (by"]);
        let utf32: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        refused(&utf32, &["this is UTF-32LE"]);
        refused([b"\xff\xfe\0\0".to_vec(), utf32].concat(), &["this is UTF-32 (it begins"]);
        refused(
            b"a\nb\xe9\n",
            &[
                "FILE:2: expected UTF-8, found byte 0xe9. If the file is in Latin-1 or Windows-1252, where 0xe9 is é: To convert it: iconv -f WINDOWS-1252",
            ],
        );
        refused(b"a\n\nb\xff\n", &["FILE:3: expected UTF-8, found byte 0xff"]);
    }

    #[test]
    fn files_of_other_kinds_are_named() {
        refused(b"\x1f\x8b\x08\x00abc", &["FILE: expected text in UTF-8", "compressed by gzip"]);
        refused(b"PK\x03\x04abc", &["a zip archive"]);
        refused(b"\x93NUMPY\x01\x00", &["a .npy file"]);
        refused("<!DOCTYPE html>\n<html>\n", &["an HTML page"]);
        refused("[\"a dog\",\n\"a cat\"]\n", &["FILE:1: this is JSON"]);
        refused("{\"images\": [\n1]}", &["FILE:1: this is JSON"]);
    }

    #[test]
    fn line_ends_and_control_characters() {
        refused("a dog\ra cat\r", &["FILE:1: lines end with CR alone"]);
        refused(
            "a dog\ra cat\r\n",
            &["FILE:1: found the control character U+000D (a carriage return within the line) at column 6"],
        );
        refused("a\na\0dog\n", &["FILE:2: found the control character U+0000 (NUL) at column 2"]);
        refused("a\n\0\n", &["FILE:2: found the control character U+0000"]);
        refused("a\n\u{1b}[1mdog\n", &["FILE:2", "U+001B (ESC) at column 1"]);
        refused("a\u{7f}\n", &["FILE:1", "U+007F (DEL)"]);
        refused("it\u{92}s\n", &["FILE:1", "U+0092", "Windows-1252 that was read as Latin-1"]);
        with_note("a\u{2028}dog\na\u{c}cat\n", &["a dog", "a cat"], "FILE:1: separators other than a line feed");
        with_note(
            "a dog\n\u{feff}a c\u{200b}at\n",
            &["a dog", "a cat"],
            "FILE:2: invisible characters, such as U+200B or U+FEFF, are left out of 1 line",
        );
        with_note(
            "a dog\na c\u{fffd}t\n",
            &["a dog", "a c\u{fffd}t"],
            "FILE:2: U+FFFD marks characters that were lost",
        );
    }

    #[test]
    fn names_before_the_captions_are_taken_away() {
        let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let note = "each line begins with the name of its image, such as";
        let captions = ["a dog", "a cat"];
        assert_eq!(with_note("a.jpg#0\ta dog\na.jpg#1\ta cat\n", &captions, note), names(&["a.jpg", "a.jpg"]));
        assert_eq!(with_note("x/a.PNG\ta dog\nmy b.png\ta cat\n", &captions, note), names(&["x/a.PNG", "my b.png"]));
        assert_eq!(with_note("a.jpg#0 a dog\nb.jpg#0 a cat\n", &captions, note), names(&["a.jpg", "b.jpg"]));
        assert_eq!(with_note("17#0\ta dog\n18#0\t a cat\n", &captions, note), names(&["17", "18"]));
        assert_eq!(
            with_note("17\ta dog\n18\ta cat\n", &captions, "each line begins with a name and a tab, such as \"17\""),
            names(&["17", "18"])
        );
        refused(
            "a.jpg#0\ta dog\na cat\nb.jpg#0\ta cow\n",
            &["FILE:2: expected the name of an image before the caption, as in 2 of the 3"],
        );
        refused("a dog\na cat\nb.jpg#0\ta cow\n", &["FILE:3: found the name of an image before the caption"]);
        refused("image\tcaption\na.jpg\ta dog\nb.jpg\ta cat\n", &["FILE:1: found a header, \"image\\tcaption\""]);
        refused("a.jpg\ta dog\nb.jpg\t \n", &["FILE:2: expected a caption after the name \"b.jpg\", found none"]);
        refused(
            "a.jpg\t0\ta dog\nb.jpg\t0\ta cat\n",
            &["FILE:1: expected a name, a tab and a caption, found more tabs"],
        );
    }

    #[test]
    fn names_in_other_forms_are_refused() {
        refused(
            "a.jpg,a dog\nb.jpg,a cat\n",
            &["FILE:1: expected a caption, found a name, a comma and a caption", "as in 2 of the 2 lines"],
        );
        refused("\"a.jpg\",\"a dog\"\n\"b.jpg\",\"a cat\"\n", &["FILE:1", "a name, a comma"]);
        refused("a.jpg,0,a dog\nb.jpg,0,a cat\n", &["FILE:1", "a name, a comma"]);
        refused("a.jpg| 0| a dog\nb.jpg| 0| a cat\n", &["FILE:1", "a name, a bar"]);
        refused("a.jpg#0,a dog\na.jpg#1,a cat\n", &["FILE:1", "a name, a comma"]);
        refused("a.jpg: a dog\nb.jpg: a cat\n", &["FILE:1", "a name, a colon"]);
        refused("path/a.png a dog\npath/b.png a cat\n", &["FILE:1", "a name, a blank and a caption"]);
        refused("a dog,a.jpg\na cat,b.jpg\n", &["FILE:1", "a caption and a name"]);
        refused("a dog\ta.jpg\na cat\tb.jpg\n", &["FILE:1", "a caption and a name"]);
        refused("17,a dog\n18,a cat\n", &["FILE:1", "a name, a comma"]);
        refused("a dog\t1\na cat\t2\n", &["FILE:1: nearly all lines have columns with tabs"]);
        let header = "image,caption\na.jpg,a dog\na.jpg,a cat\na.jpg,a cow\nb.jpg,a pig\n";
        refused(
            header,
            &["FILE:1: found a header, \"image,caption\": the other 4 lines", "such as \"a.jpg\"", "5 = 2 · 2 + 1"],
        );
        refused("1. a dog\n2. a cat\n3. a cow\n", &["FILE:1: the lines are numbered, from \"1. a dog\""]);
    }

    #[test]
    fn what_programs_print_is_refused() {
        refused("a dog\n['a', \"b's\"]\n", &["FILE:2: found a list (the captions of an image"]);
        refused("['a dog']\n", &["FILE:1: found a list"]);
        refused("[[\"a\", \"b\"]]\na\n", &["FILE:1: found a list"]);
        refused("('a', 'b')\na\n", &["FILE:1: found a tuple"]);
        refused("{\"caption\": \"a dog\"}\n{\"caption\": \"a cat\"}\n", &["FILE:1: found an object"]);
        refused("{'caption': 'a dog'},\na\n", &["FILE:1: found an object"]);
        refused("\"a dog\"\n\"a cat\"\n", &["FILE:1: found a caption in quotes, \"\\\"a dog\\\"\", as 2 of the 2 are"]);
        refused("'a dog',\n'a cat',\n", &["FILE:1: found a caption in quotes"]);
        refused(
            "<p>a dog</p>\n<p>a cat</p>\n",
            &["FILE:1: found a caption in tags, \"<p>a dog</p>\", as 2 of the 2 are"],
        );
        refused("u'a dog'\na\n", &["FILE:1: found a Python bytes literal"]);
        refused("a.jpg\t['a', 'b']\nb.jpg\t['a', 'b']\n", &["FILE:1: found a list"]);
        with_note("a dog\nnan\n", &["a dog", "nan"], "FILE:2: a caption that was missing");
        with_note("a dog &amp; a cat\na cow\n", &["a dog &amp; a cat", "a cow"], "FILE:1: entities of HTML");
        with_note("a <b>dog</b>\na cow\n", &["a <b>dog</b>", "a cow"], "FILE:1: words in angle brackets");
    }

    #[test]
    fn marks_of_other_programs_are_taken_away() {
        let captions = ["a dog", "a cat ."];
        let note = "FILE:1: marks of another program are left out of 2 captions";
        for (start, end) in [
            ("<start> ", " <end>"),
            ("<s> ", " </s>"),
            ("<BOS>", "<EOS>"),
            ("startseq ", " endseq"),
            ("[CLS] ", " [SEP]"),
            ("<sos> ", ""),
            ("", " <eos>"),
            ("<start> ", " <end> <pad> <pad>"),
            ("<|startoftext|>", "<|endoftext|>"),
        ] {
            with_note(&format!("{start}a dog{end}\n{start}a cat .{end}\n"), &captions, note);
        }
        with_note("a dog <pad>\na cat .\n", &captions, "left out of 1 captions");
        refused(
            "<start> a dog <end>\na cat\n<start> a cow <end>\n",
            &["FILE:2: 2 of the 3 captions begin with a mark such as <start>, and this one does not"],
        );
        refused(
            "a dog <eos>\na cat\na cow\n",
            &["FILE:1: 1 of the 3 captions end with a mark such as <end>, and this one does"],
        );
        refused("a dog\na <unk> cat\n", &["FILE:2: found the mark \"<unk>\" within a caption"]);
        refused("<start> a dog <end> <start> a cat <end>\n", &["FILE:1: found the mark \"<end>\" within a caption"]);
        refused("<start> <end>\n", &["FILE:1: expected a caption, found only marks"]);
    }

    #[test]
    fn ids_are_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}5081\r\n img 2.jpg \r\n\r\n").unwrap();
        assert_eq!(read_ids(file.path()).unwrap(), ["5081", "img 2.jpg"]);
    }
}
