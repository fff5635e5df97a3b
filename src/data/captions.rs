//! Files of captions, one a line: text in UTF-8, the names of images before the captions, and what
//! other programs leave in such files.
//!
//! Whatever is neither a caption nor the name of its image must not become words. It is taken away,
//! and a note says so, where that is safe; otherwise it is an error with the line.

use std::fmt::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::escape;
use crate::files::{Kind, read_bytes, start_of};

/// The largest file of captions: two hundred times those of COCO.
const MOST: u64 = 1 << 32;

/// The captions of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CaptionFile {
    /// `[M]`, line by line.
    pub(super) captions: Vec<String>,
    /// The name of each caption's image, where the lines begin with one: `[M]`.
    pub(super) names: Option<Vec<String>>,
    /// What was noticed.
    pub(super) notes: Vec<String>,
}

/// Reads captions, one a line. A line may end with CR LF, and a byte-order mark is passed over. `rows`
/// tells how many rows of features there are, for a message that needs it.
///
/// **Errors** if the file is missing or is no text in UTF-8, or with the first line that holds anything
/// but a caption.
pub(super) fn read_captions(path: &Path, rows: impl FnOnce() -> Option<usize>) -> Result<CaptionFile> {
    let text = decode(path, read_text_of(path)?)?;
    if text.trim().is_empty() {
        return Err(Error::file(path, "expected one caption a line, found an empty file"));
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

/// Reads ids, one a line. Empty lines at the end are passed over.
///
/// **Errors** if the file is missing or is no text in UTF-8.
pub(super) fn read_ids(path: &Path) -> Result<Vec<String>> {
    let text = decode(path, read_text_of(path)?)?;
    Ok(text.trim_end().lines().map(|line| line.trim().to_owned()).collect())
}

/// The bytes of a file; of one whose beginning shows that it is no text, the beginning is enough.
fn read_text_of(path: &Path) -> Result<Vec<u8>> {
    const START: u64 = 1 << 16;
    let mut start = start_of(path, START).unwrap_or_default();
    match start.iter().rposition(|&byte| byte == 0) {
        Some(zero) if start.len() as u64 == START => {
            start.truncate(zero + 1);
            Ok(start)
        }
        _ => read_bytes(path, MOST),
    }
}

/// UTF-8, without a byte-order mark at the beginning.
fn decode(path: &Path, bytes: Vec<u8>) -> Result<String> {
    let kind = Kind::of_bytes(&bytes);
    if !kind.may_be_text() {
        return Err(Error::file(path, format!("expected text in UTF-8, one caption a line, found {}", kind.name())));
    }
    if let Some((encoding, marked)) = other_encoding(&bytes) {
        let how = if marked { "it begins with its byte-order mark" } else { "by the places of its zero bytes" };
        let problem = format!("this is {encoding} ({how}); expected UTF-8. {}", convert(path, encoding));
        return Err(Error::line(path, 1, problem));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let (bytes, at) = (e.as_bytes(), e.utf8_error().valid_up_to());
        let line = bytes[..at].split(|&b| b == b'\n').count();
        let mut problem = format!("expected UTF-8, found byte 0x{:02x}", bytes[at]);
        if let Some((byte, letter)) = as_western(bytes[at]) {
            let _ = write!(
                problem,
                ". If the file is in Latin-1 or Windows-1252, where 0x{byte:02x} is {letter}: {}",
                convert(path, "WINDOWS-1252")
            );
        }
        Error::line(path, line, problem)
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// The letter of a byte in Windows-1252, which is Latin-1 but for 0x80 to 0x9f, where it is one that
/// captions have.
fn as_western(byte: u8) -> Option<(u8, char)> {
    let letter = match byte {
        0x80 => '€',
        0x85 => '…',
        0x91 => '‘',
        0x92 => '’',
        0x93 => '“',
        0x94 => '”',
        0x96 => '–',
        0x97 => '—',
        0xa0..=0xff => char::from(byte),
        _ => return None,
    };
    (byte != 0xa0).then_some((byte, letter))
}

/// UTF-16 or UTF-32, and whether a byte-order mark says so.
fn other_encoding(bytes: &[u8]) -> Option<(&'static str, bool)> {
    const MARKS: [(&[u8], &str); 4] =
        [(b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")];
    if let Some((_, name)) = MARKS.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        return Some((name, true));
    }
    // Without a mark: letters that ASCII has are one byte and zeros, always in the same place.
    let mut zeros = [0usize; 4];
    for (at, _) in bytes.iter().enumerate().filter(|&(_, &byte)| byte == 0) {
        zeros[at % 4] += 1;
    }
    let quarter = bytes.len() / 4;
    let full = |at: usize| quarter > 0 && zeros[at] * 2 > quarter;
    match [full(0), full(1), full(2), full(3)] {
        [false, true, true, true] => Some(("UTF-32LE", false)),
        [true, true, true, false] => Some(("UTF-32BE", false)),
        [false, true, false, true] => Some(("UTF-16LE", false)),
        [true, false, true, false] => Some(("UTF-16BE", false)),
        _ => None,
    }
}

fn convert(path: &Path, encoding: &str) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    format!("To convert it: iconv -f {encoding} -t UTF-8 '{file}' > new.txt && mv new.txt '{file}'")
}

/// **Errors** if the whole file is JSON, or is not cut into lines by line feeds.
fn check_layout(path: &Path, text: &str) -> Result<()> {
    let inner = text.trim_end_matches(['\r', '\n']);
    if inner.contains('\r') && !text.contains('\n') {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let problem = format!(
            "lines end with CR alone; expected LF or CR LF. To convert it: tr '\\r' '\\n' < '{file}' > new.txt && \
             mv new.txt '{file}'"
        );
        return Err(Error::line(path, 1, problem));
    }
    // A list or an object over one or several lines, as json.dump writes it.
    let whole = text.trim();
    let bracketed =
        (whole.starts_with('[') && whole.ends_with(']')) || (whole.starts_with('{') && whole.ends_with('}'));
    if bracketed && serde_json::from_str::<serde::de::IgnoredAny>(whole).is_ok() {
        let problem = "this is JSON; expected one caption a line, as text. In Python, for a list of captions: \
                       '\\n'.join(json.load(open(FILE)))";
        return Err(Error::line(path, 1, problem));
    }
    Ok(())
}

/// Characters that are not seen and are not needed to write any language.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// What other programs take for the end of a line or of a field, and is white space to the tokenizer.
fn is_separator(c: char) -> bool {
    matches!(c, '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// How often something was found, and where first.
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

    /// `path:line: … in n line(s), this is the first: …`
    fn note(&self, path: &Path, text: impl FnOnce(&str) -> String, notes: &mut Vec<String>) {
        let lines = match self.count {
            0 => return,
            1 => "1 line, this one".to_owned(),
            n => format!("{n} lines, first this one"),
        };
        notes.push(format!("{}:{}: {}", escape::path(path), self.first, text(&lines)));
    }
}

/// The lines, without characters that are not seen.
///
/// **Errors** with the line of a control character, or one without a caption.
fn split_lines(path: &Path, text: &str, notes: &mut Vec<String>) -> Result<Vec<String>> {
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
    lost.note(path, |lines| format!("U+FFFD stands for characters that were lost in {lines}"), notes);
    Ok(lines)
}

fn control_character(column: usize, c: char) -> String {
    let name = match c {
        '\0' => " (NUL)",
        '\r' => " (a carriage return within the line)",
        '\u{1b}' => " (ESC)",
        '\u{7f}' => " (DEL)",
        '\u{80}'..='\u{9f}' => " (such characters are Windows-1252 that was read as Latin-1)",
        _ => "",
    };
    format!("found the control character U+{:04X}{name} at column {column}; expected text", u32::from(c))
}

/// The beginning of a text, for a message: quoted and escaped.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 40;
    let start: String = text.chars().take(LONGEST).collect();
    if start.len() < text.len() { format!("{start:?}…") } else { format!("{start:?}") }
}

// ---- Names of images before the captions -------------------------------------------------------

/// Whether a text ends as the file of a picture does.
fn is_picture(text: &str) -> bool {
    const ENDINGS: [&str; 9] = [".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".npy"];
    let text = text.as_bytes();
    ENDINGS.iter().any(|ending| {
        text.len() > ending.len() && text[text.len() - ending.len()..].eq_ignore_ascii_case(ending.as_bytes())
    })
}

/// `name#3` without its number.
pub(super) fn without_number(text: &str) -> Option<&str> {
    let (name, number) = text.rsplit_once('#')?;
    (!name.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// Name and caption of a line such as `NAME.jpg#0<tab>caption`, `NAME#0<tab>caption`,
/// `NAME.jpg<tab>caption` or `NAME.jpg#0 caption`: no caption begins like that.
fn certain_name(line: &str) -> Option<(&str, &str)> {
    if let Some((head, rest)) = line.split_once('\t') {
        let head = head.trim();
        if let Some(name) = without_number(head) {
            return Some((name, rest));
        }
        return is_picture(head).then_some((head, rest));
    }
    let (head, rest) = line.split_once(' ')?;
    without_number(head).filter(|name| is_picture(name)).map(|name| (name, rest))
}

/// How a line looks that holds a name and a caption in another form, and the name.
fn other_name(line: &str) -> Option<(&'static str, &str)> {
    const SEPARATORS: [(char, &str); 4] = [
        (',', "a name, a comma and a caption"),
        ('|', "a name, a bar and a caption"),
        (';', "a name, a semicolon and a caption"),
        (':', "a name, a colon and a caption"),
    ];
    for (separator, what) in SEPARATORS {
        let Some((head, rest)) = line.split_once(separator) else { continue };
        let head = head.trim().trim_matches(['"', '\'']);
        let number = separator != ':' && !head.is_empty() && head.bytes().all(|b| b.is_ascii_digit());
        if is_picture(head)
            || without_number(head).is_some()
            || (number && !rest.starts_with(|c: char| c.is_ascii_digit()))
        {
            return Some((what, head));
        }
        let tail = line.rsplit(separator).next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        if is_picture(tail) {
            return Some(("a caption and a name", tail));
        }
    }
    let first = line.split_whitespace().next().unwrap_or_default();
    if is_picture(first) {
        return Some(("a name, a blank and a caption", first));
    }
    let last = line.split_whitespace().next_back().unwrap_or_default();
    is_picture(last).then_some(("a caption and a name", last))
}

type Named = (Option<Vec<String>>, Vec<String>);

/// Takes the names away from the lines, if all have one.
///
/// **Errors** if some lines have one and others have not, or if there are columns of another form.
fn take_names(
    path: &Path,
    lines: Vec<String>,
    rows: impl FnOnce() -> Option<usize>,
    notes: &mut Vec<String>,
) -> Result<Named> {
    let named = lines.iter().filter(|line| certain_name(line).is_some()).count();
    if named > 0 {
        return take_certain_names(path, &lines, named, rows, notes);
    }
    let other = lines.iter().filter(|line| other_name(line).is_some()).count();
    if other * 2 > lines.len() && lines.len() > 1 {
        let first = lines.iter().position(|line| other_name(line).is_some()).unwrap_or(0);
        if first == 1 && other + 1 == lines.len() {
            return Err(header(path, &lines, rows));
        }
        let what = other_name(&lines[first]).map_or("", |(what, _)| what);
        let problem = format!(
            "expected a caption, found {what}, {}, as in {other} of the {} lines. {}",
            quoted(&lines[first]),
            lines.len(),
            AS_TABS
        );
        return Err(Error::line(path, first + 1, problem));
    }
    let tabs = lines.iter().filter(|line| line.contains('\t')).count();
    if tabs * 10 >= lines.len() * 9 && lines.len() > 1 {
        return take_columns(path, &lines, notes);
    }
    check_numbered(path, &lines)?;
    Ok((None, lines))
}

const AS_TABS: &str = "Leave the captions alone, or write each line as NAME.jpg, a tab and the caption. In Python, for a \
                       table with a comma: for row in csv.reader(open(FILE, encoding='utf-8', newline='')): \
                       print(row[0], row[1], sep='\\t')";

fn take_certain_names(
    path: &Path,
    lines: &[String],
    named: usize,
    rows: impl FnOnce() -> Option<usize>,
    notes: &mut Vec<String>,
) -> Result<Named> {
    let (mut names, mut captions) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
    for (at, line) in lines.iter().enumerate() {
        let Some((name, caption)) = certain_name(line) else {
            if at == 0 && named + 1 == lines.len() {
                return Err(header(path, lines, rows));
            }
            let few = named * 2 < lines.len();
            let odd = if few { lines.iter().position(|line| certain_name(line).is_some()).unwrap_or(at) } else { at };
            let problem = if few {
                format!(
                    "found the name of an image before the caption, {}; the other lines have none",
                    quoted(&lines[odd])
                )
            } else {
                format!(
                    "expected the name of an image before the caption, as in {named} of the {} lines, found {}",
                    lines.len(),
                    quoted(line)
                )
            };
            return Err(Error::line(path, odd + 1, problem));
        };
        let caption = caption.trim();
        if caption.is_empty() {
            return Err(Error::line(
                path,
                at + 1,
                format!("expected a caption after the name {}, found none", quoted(name)),
            ));
        }
        if caption.contains('\t') {
            let problem = format!("expected a name, a tab and a caption, found more tabs: {}", quoted(line));
            return Err(Error::line(path, at + 1, problem));
        }
        names.push(name.to_owned());
        captions.push(caption.to_owned());
    }
    notes.push(format!(
        "{}: each line begins with the name of its image, such as {}, which is not read as words",
        escape::path(path),
        quoted(&names[0])
    ));
    Ok((Some(names), captions))
}

/// Two columns with a tab between them, the first of which is no text: names without an ending.
fn take_columns(path: &Path, lines: &[String], notes: &mut Vec<String>) -> Result<Named> {
    let (mut names, mut captions) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
    for (at, line) in lines.iter().enumerate() {
        match line.split('\t').map(str::trim).collect::<Vec<_>>()[..] {
            [name, caption] if !name.is_empty() && !caption.is_empty() && !name.contains(char::is_whitespace) => {
                names.push(name.to_owned());
                captions.push(caption.to_owned());
            }
            _ => {
                let problem = format!(
                    "nearly all lines have columns with tabs between them; expected a caption alone, or the name of its \
                     image, a tab and a caption, found {}",
                    quoted(line)
                );
                return Err(Error::line(path, at + 1, problem));
            }
        }
    }
    notes.push(format!(
        "{}: each line begins with a name and a tab, such as {}, which is not read as words",
        escape::path(path),
        quoted(&names[0])
    ));
    Ok((Some(names), captions))
}

fn header(path: &Path, lines: &[String], rows: impl FnOnce() -> Option<usize>) -> Error {
    let next = certain_name(&lines[1]).map(|(name, _)| name).or_else(|| other_name(&lines[1]).map(|(_, name)| name));
    let mut problem = format!(
        "found a header, {}: the other {} lines begin with the name of a file, such as {}; expected captions alone",
        quoted(&lines[0]),
        lines.len() - 1,
        quoted(next.unwrap_or_default())
    );
    if let Some(rows) = rows() {
        let _ = write!(problem, ". There are {}", count_of(lines.len(), rows));
    }
    Error::line(path, 1, format!("{problem}. {AS_TABS}"))
}

/// `401 captions for 80 rows (401 = 5 · 80 + 1)`
pub(super) fn count_of(captions: usize, rows: usize) -> String {
    let (times, more) = (captions / rows.max(1), captions % rows.max(1));
    let sum = match more {
        0 => format!("{captions} = {times} · {rows}"),
        _ if more * 2 <= rows && times > 0 => format!("{captions} = {times} · {rows} + {more}"),
        _ => format!("{captions} = {} · {rows} − {}", times + 1, rows - more),
    };
    format!("{captions} captions for {rows} row(s) of features: {sum}")
}

/// **Errors** if all lines begin with numbers that rise by one.
fn check_numbered(path: &Path, lines: &[String]) -> Result<()> {
    let number = |line: &str| {
        let digits = line.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse::<usize>().ok()
    };
    let Some(first) = number(&lines[0]) else { return Ok(()) };
    if lines.len() < 3 || !lines.iter().enumerate().all(|(at, line)| number(line) == Some(first + at)) {
        return Ok(());
    }
    let problem = format!("the lines are numbered, from {}: expected captions alone", quoted(&lines[0]));
    Err(Error::line(path, 1, problem))
}

// ---- CaptionFile as a program prints them ---------------------------------------------------------

/// **Errors** with the line of a caption that is printed as a program holds it: `b'…'`, `['…', '…']`,
/// `{"…": …}`; or if nearly all are in quotes.
fn check_literals(path: &Path, captions: &[String]) -> Result<()> {
    let mut in_quotes = 0;
    for (at, line) in captions.iter().enumerate() {
        let line = line.trim();
        if is_bytes_literal(line) {
            let start: String = line.chars().take(24).collect();
            let problem = format!(
                "found a Python bytes literal, {start}…: captions were read as bytes and printed as they are, \
                 which halves the recall in silence; expected decoded text (in Python: line.decode('utf-8'))"
            );
            return Err(Error::line(path, at + 1, problem));
        }
        if let Some(what) = literal(line) {
            let problem = format!(
                "found {what}, {}: expected one caption a line, as text. In Python: for caption in \
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
            "found a caption in quotes, {}, as {in_quotes} of the {} are: expected text as it is. In Python: \
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
        // ("stop") is a caption; ("stop", "go") is none, and neither is ['stop'].
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

// ---- Marks of other programs -------------------------------------------------------------------

const STARTS: [&str; 10] =
    ["<start>", "<s>", "<bos>", "<sos>", "<go>", "<begin>", "[cls]", "[bos]", "<|startoftext|>", "startseq"];
const ENDS: [&str; 9] = ["<end>", "</s>", "<eos>", "<stop>", "[sep]", "[eos]", "<|endoftext|>", "<|im_end|>", "endseq"];
const PADS: [&str; 3] = ["<pad>", "[pad]", "<blank>"];
const UNKNOWN: [&str; 3] = ["<unk>", "[unk]", "<oov>"];

/// What is left of a text behind one of some marks at its start.
fn strip_mark_before<'a>(text: &'a str, marks: &[&str]) -> Option<&'a str> {
    marks.iter().find_map(|mark| {
        let start = text.get(..mark.len()).filter(|start| start.eq_ignore_ascii_case(mark))?;
        let rest = &text[start.len()..];
        let ends = !mark.ends_with(|c: char| c.is_alphanumeric()) || rest.is_empty() || rest.starts_with(' ');
        ends.then(|| rest.trim_start())
    })
}

fn strip_mark_after<'a>(text: &'a str, marks: &[&str]) -> Option<&'a str> {
    marks.iter().find_map(|mark| {
        let at = text.len().checked_sub(mark.len())?;
        text.get(at..).filter(|end| end.eq_ignore_ascii_case(mark))?;
        let rest = &text[..at];
        let begins = !mark.starts_with(|c: char| c.is_alphanumeric()) || rest.is_empty() || rest.ends_with(' ');
        begins.then(|| rest.trim_end())
    })
}

/// Takes marks such as `<start>` and `<end>` away.
///
/// **Errors** if only some captions have them, or if one is within a caption.
fn take_marks(path: &Path, captions: &mut [String], notes: &mut Vec<String>) -> Result<()> {
    let (mut starts, mut ends, mut pads) = (0, 0, 0);
    let mut marked = Vec::with_capacity(captions.len());
    let mut bare = Vec::with_capacity(captions.len());
    for (at, caption) in captions.iter().enumerate() {
        let mut text = caption.trim();
        let (mut start, mut end, mut pad) = (false, false, false);
        loop {
            if let Some(rest) = strip_mark_before(text, &STARTS) {
                (text, start) = (rest, true);
            } else if let Some(rest) = strip_mark_after(text, &ENDS) {
                (text, end) = (rest, true);
            } else if let Some(rest) = strip_mark_after(text, &PADS).or_else(|| strip_mark_before(text, &PADS)) {
                (text, pad) = (rest, true);
            } else {
                break;
            }
        }
        if let Some(mark) = text.split_whitespace().find(|word| is_mark(word)) {
            let problem = format!(
                "found the mark {} within a caption, {}: another program wrote it, and it must not become words; \
                 expected the caption as it was written",
                quoted(mark),
                quoted(caption)
            );
            return Err(Error::line(path, at + 1, problem));
        }
        if text.is_empty() {
            return Err(Error::line(
                path,
                at + 1,
                format!("expected a caption, found marks alone: {}", quoted(caption)),
            ));
        }
        starts += usize::from(start);
        ends += usize::from(end);
        pads += usize::from(pad);
        marked.push((start, end));
        bare.push((start || end || pad).then(|| text.to_owned()));
    }
    if starts + ends + pads == 0 {
        return Ok(());
    }
    let m = captions.len();
    for (count, which) in [(starts, 0), (ends, 1)] {
        if count == 0 || count == m {
            continue;
        }
        let has = |at: usize| if which == 0 { marked[at].0 } else { marked[at].1 };
        let rare = count * 2 < m;
        let at = (0..m).find(|&at| has(at) == rare).unwrap_or(0);
        let problem = format!(
            "{} of the {m} captions {} with a mark such as {}, and this one {}: {}; expected all or none",
            count,
            if which == 0 { "begin" } else { "end" },
            if which == 0 { "<start>" } else { "<end>" },
            if rare { "does" } else { "does not" },
            quoted(&captions[at])
        );
        return Err(Error::line(path, at + 1, problem));
    }
    let first = bare.iter().position(Option::is_some).unwrap_or(0);
    notes.push(format!(
        "{}:{}: marks of another program are left out of {} captions, such as in {}",
        escape::path(path),
        first + 1,
        bare.iter().flatten().count(),
        quoted(&captions[first])
    ));
    for (caption, bare) in captions.iter_mut().zip(bare) {
        if let Some(bare) = bare {
            *caption = bare;
        }
    }
    Ok(())
}

fn is_mark(word: &str) -> bool {
    let word = word.trim_end_matches(['.', ',', ';', ':', '!', '?']);
    if !word.starts_with(['<', '[']) && !word.ends_with("seq") {
        return false;
    }
    [&STARTS[..], &ENDS, &PADS, &UNKNOWN].concat().iter().any(|mark| mark.eq_ignore_ascii_case(word))
}

// ---- Words that look like something else -------------------------------------------------------

/// Notes what is read as words and looks as if it should not be.
///
/// **Errors** if nearly all captions are in tags.
fn look_at_words(path: &Path, captions: &[String], notes: &mut Vec<String>) -> Result<()> {
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
            "found a caption in tags, {}, as {} of the {} are: expected text as it is",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &[u8]) -> Result<CaptionFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("FILE");
        std::fs::write(&path, text).unwrap();
        let result = read_captions(&path, || Some(2));
        let told = |text: &str| text.replace(&escape::path(&path), "FILE");
        result
            .map(|c| CaptionFile { notes: c.notes.iter().map(|note| told(note)).collect(), ..c })
            .map_err(|e| Error::mismatch(told(&e.to_string())))
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
        assert_eq!(read(b""), "FILE: expected one caption a line, found an empty file");
        assert_eq!(read(b"\n\n"), "FILE: expected one caption a line, found an empty file");
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
            "FILE:2: U+FFFD stands for characters that were lost",
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
        refused("<start> <end>\n", &["FILE:1: expected a caption, found marks alone"]);
    }

    #[test]
    fn ids_are_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}5081\r\n img 2.jpg \r\n\r\n").unwrap();
        assert_eq!(read_ids(file.path()).unwrap(), ["5081", "img 2.jpg"]);
    }
}
