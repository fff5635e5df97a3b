//! Marks of other programs, such as `<start>` and `<end>`.

use std::path::Path;

use super::quoted;
use crate::error::{Error, Result};
use crate::escape;

const STARTS: [&str; 10] =
    ["<start>", "<s>", "<bos>", "<sos>", "<go>", "<begin>", "[cls]", "[bos]", "<|startoftext|>", "startseq"];
const ENDS: [&str; 9] = ["<end>", "</s>", "<eos>", "<stop>", "[sep]", "[eos]", "<|endoftext|>", "<|im_end|>", "endseq"];
const PADS: [&str; 3] = ["<pad>", "[pad]", "<blank>"];
const UNKNOWN: [&str; 3] = ["<unk>", "[unk]", "<oov>"];

/// The text without the mark at its start, if it begins with one of `marks`.
fn strip_mark_before<'a>(text: &'a str, marks: &[&str]) -> Option<&'a str> {
    marks.iter().find_map(|mark| {
        let start = text.get(..mark.len()).filter(|start| start.eq_ignore_ascii_case(mark))?;
        let rest = &text[start.len()..];
        let ends = !mark.ends_with(|c: char| c.is_alphanumeric()) || rest.is_empty() || rest.starts_with(' ');
        ends.then(|| rest.trim_start())
    })
}

/// The text without the mark at its end, if it ends with one of `marks`.
fn strip_mark_after<'a>(text: &'a str, marks: &[&str]) -> Option<&'a str> {
    marks.iter().find_map(|mark| {
        let at = text.len().checked_sub(mark.len())?;
        text.get(at..).filter(|end| end.eq_ignore_ascii_case(mark))?;
        let rest = &text[..at];
        let begins = !mark.starts_with(|c: char| c.is_alphanumeric()) || rest.is_empty() || rest.ends_with(' ');
        begins.then(|| rest.trim_end())
    })
}

/// Removes marks such as `<start>` and `<end>`.
///
/// # Errors
///
/// If only some captions have them, or if one is within a caption.
pub(super) fn take_marks(path: &Path, captions: &mut [String], notes: &mut Vec<String>) -> Result<()> {
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
                 expected only the words of the caption",
                quoted(mark),
                quoted(caption)
            );
            return Err(Error::line(path, at + 1, problem));
        }
        if text.is_empty() {
            return Err(Error::line(
                path,
                at + 1,
                format!("expected a caption, found only marks: {}", quoted(caption)),
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
