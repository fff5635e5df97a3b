//! The character classes of the rules.
//!
//! NLTK uses two regular expression engines and Python's string methods. Within ASCII they differ only in
//! the four separators below; beyond ASCII they differ more. To give the same tokens, each rule must use
//! the class of the same engine, so each function says which engine it follows.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// White space for Python's string methods (`str.split`, `str.strip`) and for `re`: Unicode's white space
/// and the four information separators of ASCII.
pub(super) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// White space for the `regex` engine (`\s`), which all Punkt rules and most word rules use: Unicode's,
/// without the separators.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// A word character for the `regex` engine (`\w`): by Unicode's definition a combining mark belongs to the
/// word and a superscript digit does not.
pub(super) fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    c.is_alphabetic()
        || matches!(c, '\u{200c}' | '\u{200d}')
        || c.general_category_group() == GeneralCategoryGroup::Mark
        || matches!(c.general_category(), GeneralCategory::DecimalNumber | GeneralCategory::ConnectorPunctuation)
}

/// A word character for Python's `re` (`\w`), which the contractions use: letters and numbers of every
/// kind and the underscore. A combining mark is not part of the word.
pub(super) fn is_python_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    matches!(c.general_category_group(), GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number)
}

/// A decimal digit of any script (`\d` in both engines).
pub(super) fn is_digit(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    c.general_category() == GeneralCategory::DecimalNumber
}
