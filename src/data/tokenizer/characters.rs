//! The classes of characters that the rules name.
//!
//! NLTK runs on two regular expression engines and on Python's string methods. They agree in ASCII
//! but for the four separators below, and differ outside it. For the same tokens each rule has to
//! ask the same one, so the functions say whose class they are.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// White space to Python's string methods (`str.split`, `str.strip`) and to its `re`: Unicode's
/// white space and the four information separators of ASCII.
pub(super) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// White space to the `regex` engine (`\s`), which all Punkt rules and most word rules use: that of
/// Unicode, without the separators.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// A word character to the `regex` engine (`\w`): Unicode's definition, in which a combining mark
/// belongs to the word and a superscript digit does not.
pub(super) fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    c.is_alphabetic()
        || matches!(c, '\u{200c}' | '\u{200d}')
        || c.general_category_group() == GeneralCategoryGroup::Mark
        || matches!(c.general_category(), GeneralCategory::DecimalNumber | GeneralCategory::ConnectorPunctuation)
}

/// A word character to Python's `re` (`\w`), which the contractions use: letters and numbers of
/// every kind and the underscore. A combining mark is outside the word.
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
