//! Fields of JSON whose errors give the place: `images[3]: sentences[1]: raw: invalid type …`.
//!
//! Each function here reads the field of its name: `#[serde(deserialize_with = "field::raw")]`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The error of a field's value begins with its name.
macro_rules! fields {
    ($($name:ident)*) => {$(
        pub(super) fn $name<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<T, D::Error> {
            T::deserialize(from).map_err(|e| D::Error::custom(format_args!(concat!(stringify!($name), ": {}"), e)))
        }
    )*};
}

/// The error of a list's entry begins with name and number.
macro_rules! lists {
    ($($name:ident)*) => {$(
        pub(super) fn $name<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
            from.deserialize_seq(List(stringify!($name), PhantomData))
        }
    )*};
}

fields!(filename filepath split raw id image_id file_name caption);
lists!(images sentences annotations);

/// A list that numbers its entries in errors.
struct List<T>(&'static str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        // No size is reserved: memory grows with the data that are there.
        let mut entries = Vec::new();
        let failed = |at, e| A::Error::custom(format_args!("{}[{at}]: {e}", self.0));
        while let Some(entry) = list.next_element().map_err(|e| failed(entries.len(), e))? {
            entries.push(entry);
        }
        Ok(entries)
    }
}
