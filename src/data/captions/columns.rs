//! The names of images before the captions, and other columns.

use std::fmt::Write;
use std::path::Path;

use super::quoted;
use crate::error::{Error, Result};
use crate::escape;

/// Whether a text ends like the name of a picture file.
fn is_picture(text: &str) -> bool {
    const ENDINGS: [&str; 9] = [".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".npy"];
    let text = text.as_bytes();
    ENDINGS.iter().any(|ending| {
        text.len() > ending.len() && text[text.len() - ending.len()..].eq_ignore_ascii_case(ending.as_bytes())
    })
}

/// `name#3` without its number.
pub(in crate::data) fn without_number(text: &str) -> Option<&str> {
    let (name, number) = text.rsplit_once('#')?;
    (!name.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// Name and caption of a line such as `NAME.jpg#0<tab>caption`, `NAME#0<tab>caption`,
/// `NAME.jpg<tab>caption` or `NAME.jpg#0 caption`. No caption begins like that, so the name is certain.
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

/// For a line that seems to hold a name and a caption in another form: that form in words, and the name.
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

/// The names, if there are any, and the captions.
pub(super) type Named = (Option<Vec<String>>, Vec<String>);

/// Separates the names from the captions, if all lines have a name.
///
/// # Errors
///
/// If some lines have one and others do not, or if there are columns of another form.
pub(super) fn take_names(
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

const AS_TABS: &str = "Keep only the captions, or write each line as NAME.jpg, a tab and the caption. In Python, for a \
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

/// Two columns with a tab between them. The first has no spaces: names without an ending.
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
                    "nearly all lines have columns with tabs between them; expected only a caption, or the name of its \
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
        "found a header, {}: the other {} lines begin with the name of a file, such as {}; expected only captions",
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
pub(in crate::data) fn count_of(captions: usize, rows: usize) -> String {
    let (times, more) = (captions / rows.max(1), captions % rows.max(1));
    let sum = match more {
        0 => format!("{captions} = {times} · {rows}"),
        _ if more * 2 <= rows && times > 0 => format!("{captions} = {times} · {rows} + {more}"),
        _ => format!("{captions} = {} · {rows} − {}", times + 1, rows - more),
    };
    format!("{captions} captions for {rows} row(s) of features: {sum}")
}

/// # Errors
///
/// If the lines are numbered.
fn check_numbered(path: &Path, lines: &[String]) -> Result<()> {
    let number = |line: &str| {
        let digits = line.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse::<usize>().ok()
    };
    let Some(first) = number(&lines[0]) else { return Ok(()) };
    if lines.len() < 3 || !lines.iter().enumerate().all(|(at, line)| number(line) == Some(first + at)) {
        return Ok(());
    }
    let problem = format!("the lines are numbered, from {}: expected only captions", quoted(&lines[0]));
    Err(Error::line(path, 1, problem))
}
