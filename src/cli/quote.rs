//! Quotes paths in the commands that the program suggests, so that they work when typed.

use std::ffi::OsStr;

/// A path or a word as the shell reads it back. A leading dash gets `./` before it, so that it is
/// not read as a flag.
#[cfg(unix)]
pub(crate) fn shell_quote(text: impl AsRef<OsStr>) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;

    let bytes = text.as_ref().as_bytes();
    let dash = if bytes.starts_with(b"-") { "./" } else { "" };
    let plain = |&b: &u8| b.is_ascii_alphanumeric() || b"_-./:@%+,=".contains(&b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return format!("{dash}{}", String::from_utf8_lossy(bytes));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(crate::escape::is_obeyed) => format!("'{dash}{}'", text.replace('\'', r"'\''")),
        // Bytes that a terminal must not receive raw are escaped; bash, zsh and ksh read this form.
        _ => {
            let mut quoted = format!("$'{dash}");
            for &b in bytes {
                let _ = match b {
                    b'\'' | b'\\' => write!(quoted, "\\{}", char::from(b)),
                    b' '..=b'~' => write!(quoted, "{}", char::from(b)),
                    _ => write!(quoted, "\\{b:03o}"),
                };
            }
            quoted.push('\'');
            quoted
        }
    }
}

/// A path or a word as the shell reads it back.
#[cfg(not(unix))]
pub(crate) fn shell_quote(text: impl AsRef<OsStr>) -> String {
    let text = text.as_ref().to_string_lossy();
    let dash = if text.starts_with('-') { "./" } else { "" };
    let plain = |c: char| c.is_alphanumeric() || "_-./\\:@+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) { format!("{dash}{text}") } else { format!("\"{dash}{text}\"") }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let cases: [(&[u8], &str); 8] = [
            (b"runs/scenes-1", "runs/scenes-1"),
            (b"my runs", "'my runs'"),
            (b"it's", r"'it'\''s'"),
            (b"-x", "./-x"),
            (b"-x y", "'./-x y'"),
            (b"", "''"),
            ("größe $HOME".as_bytes(), "'größe $HOME'"),
            (b"a\x1b\xff'", r"$'a\033\377\''"),
        ];
        for (bytes, quoted) in cases {
            use std::os::unix::ffi::OsStrExt;
            assert_eq!(shell_quote(OsStr::from_bytes(bytes)), quoted);
            let echo = std::process::Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output();
            // Not every machine has bash.
            if let Ok(output) = echo {
                let expected = [if bytes.starts_with(b"-") { &b"./"[..] } else { b"" }, bytes].concat();
                assert_eq!(output.stdout, expected, "{quoted}");
            }
        }
    }
}
