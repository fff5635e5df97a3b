//! What a setting is: one row of the table in [`super::config`].
//!
//! `settings!` turns the table into the struct [`super::Config`] with its defaults, the settings of the scenes,
//! the presets and the checks, and into a list of [`Setting`]s. The flags of the command line and the table in
//! `docs/training.md` come from that list.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::{Error as WrongName, StrDeserializer};

use super::encoder::Network;
use super::view::{Statistics, View};
use crate::similarity::Measure;

/// A setting of [`Config`](super::Config): its name, what it is, and its values as text.
#[derive(Clone, Debug)]
// The table of docs/training.md, which a test writes, has all of them.
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) struct Setting {
    /// Its field in [`Config`](super::Config) and key in `config.toml`.
    pub key: &'static str,
    /// Its flag, without dashes.
    pub flag: String,
    /// What it is: a sentence without its full stop.
    pub help: String,
    /// What it is about.
    pub group: Group,
    /// The type of its values.
    pub kind: Kind,
    /// What a value is called in the help.
    pub value_name: &'static str,
    /// For a switch that has two flags: the flag that turns it off, and its help.
    pub off: Option<(&'static str, &'static str)>,
    /// The default; none if the setting has no value by default.
    pub default: Option<String>,
    /// What it means if there is no value; empty: nothing special.
    pub unset: &'static str,
    /// The value for the built-in scenes, where it is not the default.
    pub scenes: Option<String>,
    /// The value for the pixels of the scenes, where it is not that for the scenes.
    pub pixels: Option<String>,
    /// Its name in the original's `train.py`, or a remark; empty: the original has none.
    pub original: &'static str,
    /// Whether it may change when a run is resumed: it has no effect on steps already taken.
    pub may_change: bool,
}

/// What a setting is about. The order is that of the help and of the docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// Where images and captions come from.
    Data,
    /// What is minimised.
    Loss,
    /// How images and captions are compared.
    Comparison,
    /// Sizes of the model.
    Sizes,
    /// The image features.
    Features,
    /// How long and how fast.
    Training,
    /// The vocabulary.
    Words,
    /// Random numbers.
    Seed,
}

/// The type of a setting's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file or a folder.
    Path,
    /// A `usize`.
    Count,
    /// A `u64`.
    Integer,
    /// An `f64`.
    Number,
    /// A `bool`.
    Switch,
    /// A [`Network`].
    Network,
    /// One of some names, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
}

impl Setting {
    pub(super) fn new<T: Value>(key: &'static str, doc: &str, default: &T, row: Row<T>) -> Self {
        Self {
            key,
            flag: key.replace('_', "-"),
            help: doc.trim().trim_end_matches('.').to_owned(),
            group: row.group,
            kind: T::KIND,
            value_name: row.value_name,
            off: row.off,
            default: default.show(),
            unset: row.unset,
            scenes: row.scenes.and_then(|value| value.show()),
            pixels: row.pixels.and_then(|value| value.show()),
            original: row.original,
            may_change: row.may_change,
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("a path"),
            Self::Count | Self::Integer => f.write_str("a whole number"),
            Self::Number => f.write_str("a number"),
            Self::Switch => f.write_str("true or false"),
            Self::Network => f.write_str("an image encoder"),
            Self::Choice(names) => f.write_str(&names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ")),
        }
    }
}

/// A row of the table, without the name, the type and the default.
pub(super) struct Row<T: Value> {
    pub(super) group: Group,
    pub(super) value_name: &'static str,
    pub(super) original: &'static str,
    pub(super) unset: &'static str,
    pub(super) off: Option<(&'static str, &'static str)>,
    /// The values that are allowed.
    pub(super) range: T::Range,
    pub(super) scenes: Option<T>,
    pub(super) pixels: Option<T>,
    /// In the order of [`super::Preset::ALL`]; none: left as it is.
    pub(super) presets: [Option<T>; 4],
    pub(super) may_change: bool,
}

impl<T: Value> Row<T> {
    pub(super) fn new(group: Group) -> Self {
        Self {
            group,
            value_name: match T::KIND {
                Kind::Path => "PATH",
                Kind::Count | Kind::Integer => "N",
                Kind::Number => "X",
                Kind::Switch => "BOOL",
                Kind::Network | Kind::Choice(_) => "NAME",
            },
            original: "",
            unset: "",
            off: None,
            range: T::any(),
            scenes: None,
            pixels: None,
            presets: [const { None }; 4],
            may_change: false,
        }
    }
}

/// A type that a setting may have.
pub(super) trait Value: Sized {
    /// Describes the values that are allowed.
    type Range;
    const KIND: Kind;
    /// The range that allows all values.
    fn any() -> Self::Range;
    /// From a flag's value.
    fn read(text: &OsStr) -> Option<Self>;
    /// As text; none if there is no value.
    fn show(&self) -> Option<String>;
    /// Fails for a value that is not allowed, with what is allowed and what was found.
    fn check(&self, _allowed: &Self::Range) -> Result<(), (String, String)> {
        Ok(())
    }
    /// Whether there is no value.
    fn is_unset(&self) -> bool {
        false
    }
}

/// The allowed numbers, in words and as a test. Numbers that are not finite never pass.
pub(super) type Numbers = (&'static str, fn(f64) -> bool);

fn parse<T: FromStr>(text: &OsStr) -> Option<T> {
    text.to_str()?.parse().ok()
}

impl Value for usize {
    type Range = RangeInclusive<usize>;
    const KIND: Kind = Kind::Count;
    fn any() -> Self::Range {
        0..=usize::MAX
    }
    fn read(text: &OsStr) -> Option<Self> {
        parse(text)
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
    fn check(&self, allowed: &Self::Range) -> Result<(), (String, String)> {
        let (least, most) = (allowed.start(), allowed.end());
        let words = if *most == usize::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
        allow(allowed.contains(self), &words, self)
    }
}

impl Value for f64 {
    type Range = Numbers;
    const KIND: Kind = Kind::Number;
    fn any() -> Self::Range {
        ("a number", |_| true)
    }
    fn read(text: &OsStr) -> Option<Self> {
        parse(text)
    }
    fn show(&self) -> Option<String> {
        Some(if *self != 0.0 && self.abs() < 0.01 { format!("{self:e}") } else { self.to_string() })
    }
    fn check(&self, (words, allowed): &Self::Range) -> Result<(), (String, String)> {
        allow(self.is_finite() && allowed(*self), words, self)
    }
}

fn allow(allowed: bool, words: &str, found: &impl Display) -> Result<(), (String, String)> {
    if allowed { Ok(()) } else { Err((words.to_owned(), found.to_string())) }
}

impl<T: Value> Value for Option<T> {
    type Range = T::Range;
    const KIND: Kind = T::KIND;
    fn any() -> Self::Range {
        T::any()
    }
    fn read(text: &OsStr) -> Option<Self> {
        T::read(text).map(Some)
    }
    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
    fn check(&self, allowed: &Self::Range) -> Result<(), (String, String)> {
        self.as_ref().map_or(Ok(()), |value| value.check(allowed))
    }
    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

/// Types without a range: every value is allowed.
macro_rules! free_values {
    ($($type:ty: $kind:expr, $read:expr, $show:expr;)*) => {$(
        impl Value for $type {
            type Range = ();
            const KIND: Kind = $kind;
            fn any() {}
            fn read(text: &OsStr) -> Option<Self> {
                let read: fn(&OsStr) -> Option<Self> = $read;
                read(text)
            }
            fn show(&self) -> Option<String> {
                let show: fn(&Self) -> String = $show;
                Some(show(self))
            }
        }
    )*};
}

free_values! {
    u64: Kind::Integer, parse, u64::to_string;
    bool: Kind::Switch, parse, bool::to_string;
    PathBuf: Kind::Path, |text| Some(text.into()), |path| path.display().to_string();
    Network: Kind::Network, parse, Network::to_string;
    Statistics: Kind::Choice(&[
        ("frozen", "The running ones, which stay as they are"),
        ("original", "The batch's until an epoch's first validation, then the running ones"),
        ("train", "The batch's"),
    ]), |text| Statistics::deserialize(StrDeserializer::<WrongName>::new(text.to_str()?)).ok(), Statistics::to_string;
    View: Kind::Choice(&[
        ("centre", "Its centre"),
        ("random", "A random part of it, mirrored or not"),
        ("random-2019", "The same as torchvision did before 2019"),
    ]), |text| View::deserialize(StrDeserializer::<WrongName>::new(text.to_str()?)).ok(), View::to_string;
    Measure: Kind::Choice(&[
        ("cosine", "The inner product"),
        ("order", "Minus the norm of the order violation"),
        ("order-squared", "Minus its square"),
    ]), |text| Self::deserialize(StrDeserializer::<WrongName>::new(text.to_str()?)).ok(), Measure::to_string;
}

/// Makes [`super::Config`] and all that follows from the table. A row is
///
/// ```text
/// /// What it is.
/// name: type = default, Group { column: value, … }
/// ```
///
/// with the columns that differ from [`Row::new`].
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr, $group:ident { $($column:ident: $value:expr),* $(,)? })*) => {
        /// Every setting of a training run, as `config.toml` holds it.
        ///
        /// The defaults are the original's, except that the loss is MH: this is VSE++.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Value::is_unset")] pub $key: $type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        /// The rows of the table, by name.
        mod rows {
            use super::*;
            $(pub(super) fn $key() -> Row<$type> {
                #[allow(clippy::needless_update)]
                Row { $($column: $value,)* ..Row::new(Group::$group) }
            })*
        }

        impl Config {
            /// The settings for the built-in scenes: a small model, trained in seconds.
            #[must_use]
            pub fn scenes() -> Self {
                Self { $($key: rows::$key().scenes.unwrap_or($default),)* }
            }

            /// The settings for the pixels of the built-in scenes: a small image encoder is trained, too.
            #[must_use]
            pub fn pixels() -> Self {
                Self { $($key: rows::$key().pixels.or(rows::$key().scenes).unwrap_or($default),)* }
            }

            /// Sets loss, measure, abs, image normalisation and margin as the original's command for this
            /// model does, and the learning rate where that command names one (order0). Leaves the rest.
            pub fn apply(&mut self, preset: Preset) {
                $({
                    let [vse0, vse_plus_plus, order0, order_plus_plus] = rows::$key().presets;
                    let value = match preset {
                        Preset::Vse0 => vse0,
                        Preset::VsePlusPlus => vse_plus_plus,
                        Preset::Order0 => order0,
                        Preset::OrderPlusPlus => order_plus_plus,
                    };
                    if let Some(value) = value {
                        self.$key = value;
                    }
                })*
            }

            /// **The table of settings**, in the order of the help.
            #[must_use]
            pub(crate) fn settings() -> &'static [Setting] {
                static ALL: LazyLock<Vec<Setting>> = LazyLock::new(|| {
                    let mut all = vec![$(Setting::new(
                        stringify!($key),
                        concat!($($doc),+),
                        &($default as $type),
                        rows::$key(),
                    )),*];
                    all.sort_by_key(|setting| setting.group);
                    all
                });
                &ALL
            }

            /// Sets a setting to a value given as text, as in `config.set("margin", "0.3")`. Its range is
            /// checked by [`Self::check`].
            ///
            /// # Errors
            ///
            /// If there is no such setting, or if the text is not a value of its type.
            pub(crate) fn set(&mut self, key: &str, text: impl AsRef<OsStr>) -> Result<()> {
                let text = text.as_ref();
                let expected = match key {
                    $(stringify!($key) => match Value::read(text) {
                        Some(value) => {
                            self.$key = value;
                            return Ok(());
                        }
                        None => <$type as Value>::KIND.to_string(),
                    },)*
                    _ => "the name of a setting".to_owned(),
                };
                Err(Error::config(key, expected, text.to_string_lossy()))
            }

            /// Whether every setting by itself is in its range.
            fn check_ranges(&self) -> Result<()> {
                $(self.$key.check(&rows::$key().range).map_err(|(expected, found)| {
                    Error::config(stringify!($key), expected, found)
                })?;)*
                Ok(())
            }
        }
    };
}

pub(super) use settings;
