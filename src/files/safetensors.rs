//! The header of a safetensors file: eight bytes of length, then JSON. The numbers follow.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::elements::{ElementType, all_names};
use super::regular::reserve;
use crate::error::{self, Error};
use crate::escape;

/// The longest header that is accepted, far longer than that of any model. It bounds the memory of a header.
pub(super) const LONGEST_HEADER: u64 = 1 << 24;

/// The only key that this crate writes into `__metadata__`: safetensors writes several keys in random order.
pub(super) const METADATA_KEY: &str = "vsepp";

/// A tensor's place in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) element: ElementType,
    pub(crate) shape: Vec<usize>,
    /// The offset of its first byte in the file.
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// Tensors by name. A tensor of an unknown type is an error only when it is requested.
pub(crate) type Places = BTreeMap<String, Result<Place, String>>;

impl Place {
    /// The tensor's bytes in those of the whole file.
    pub(crate) fn of<'f>(&self, file: &'f [u8]) -> Option<&'f [u8]> {
        let start = usize::try_from(self.start).ok()?;
        file.get(start..)?.get(..usize::try_from(self.bytes).ok()?)
    }
}

/// Everything in a safetensors file except the numbers.
pub(crate) struct SafetensorsHead {
    /// The eight bytes of length and the header, as in the file.
    pub(crate) bytes: Vec<u8>,
    pub(crate) places: Places,
    /// The text that this crate wrote into the metadata.
    pub(crate) metadata: Option<String>,
}

impl SafetensorsHead {
    /// Reads the beginning of a file of `length` bytes, whose header may have at most `longest` bytes.
    /// `begin` holds the first bytes if some have been read already, at most eight.
    ///
    /// # Errors
    ///
    /// If the file is truncated or does not fit its header. The message begins with `what`.
    pub(crate) fn read(
        path: &Path,
        (file, length): (&mut File, u64),
        begin: Vec<u8>,
        longest: u64,
        what: &str,
    ) -> error::Result<Self> {
        let failed = |e| Error::io(path, "read", e);
        let broken = |problem: String| Error::file(path, format!("{what}: {problem}"));
        let mut bytes = begin;
        file.take(8 - bytes.len() as u64).read_to_end(&mut bytes).map_err(failed)?;
        let header = <[u8; 8]>::try_from(&bytes[..])
            .map_err(|_| broken(format!("expected at least 8 bytes, found {length}")))?;
        let header = u64::from_le_bytes(header);
        if header > length - 8 {
            return Err(broken(format!("expected a header of {header} bytes, found {}", length - 8)));
        }
        if header > longest {
            return Err(broken(format!("expected a header of at most {longest} bytes, found {header}")));
        }
        reserve(&mut bytes, header).map_err(broken)?;
        file.take(header).read_to_end(&mut bytes).map_err(failed)?;
        let (places, metadata) = read_header(&bytes[8..], length, METADATA_KEY).map_err(broken)?;
        Ok(Self { bytes, places, metadata })
    }
}

/// Reads a header: the tensors, and the text under one key of the metadata.
///
/// # Errors
///
/// Fails if the header is malformed, or if the tensors do not fill a file of `length` bytes exactly,
/// without gaps or overlaps.
fn read_header(header: &[u8], length: u64, key: &str) -> Result<(Places, Option<String>), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(header);
    let (infos, metadata) = HeaderSeed { key }
        .deserialize(&mut deserializer)
        .and_then(|found| deserializer.end().map(|()| found))
        .map_err(|e| format!("its header: {e}"))?;
    let start = 8 + header.len() as u64;
    let mut spans: Vec<(u64, u64, &str)> =
        infos.iter().map(|(name, info)| (info.data_offsets.0, info.data_offsets.1, name.as_str())).collect();
    spans.sort_unstable();
    let mut end = 0;
    for (from, to, name) in spans {
        if from != end || to < from {
            let name = escape::name(name);
            return Err(format!("{name}: expected the bytes from {end}, found {from} to {to}"));
        }
        end = to;
    }
    if start.checked_add(end) != Some(length) {
        return Err(format!("expected {end} bytes after the header, found {}", length - start));
    }
    let mut places = Places::new();
    for (name, info) in infos {
        let place = place(&info, start).map_err(|problem| format!("{}: {problem}", escape::name(&name)))?;
        places.insert(name, place);
    }
    Ok((places, metadata))
}

/// The place of a tensor. The outer error means that its size does not fit type and shape; the inner
/// error, that its type is unknown.
fn place(info: &Info, start: u64) -> Result<Result<Place, String>, String> {
    let (from, to) = info.data_offsets;
    let named = |element: &ElementType| element.to_string() == info.dtype;
    let Some(element) = ElementType::ALL.into_iter().find(named) else {
        return Ok(Err(format!("expected {}, found {}", all_names(), escape::name(&info.dtype))));
    };
    let shape = &info.shape.0;
    // Each number becomes eight bytes in memory. Even an empty shape can be too large: (0, 2⁴⁰, 2⁴⁰).
    let size = shape.iter().try_fold(8usize, |n, &axis| n.checked_mul(axis.max(1)));
    if size.is_none_or(|n| isize::try_from(n).is_err()) {
        return Err(format!("no array can have the shape {shape:?}"));
    }
    let bytes = (shape.iter().product::<usize>() * element.bytes()) as u64;
    if to - from != bytes {
        return Err(format!("expected {bytes} bytes for {element} of shape {shape:?}, found {}", to - from));
    }
    Ok(Ok(Place { element, shape: shape.clone(), start: start + from, bytes }))
}

/// A header's entry for one tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// A shape of at most [`Shape::AXES`] axes.
struct Shape(Vec<usize>);

impl Shape {
    const AXES: usize = 64;
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Axes;
        impl<'de> Visitor<'de> for Axes {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of at most {} axes", Shape::AXES)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut axes = Vec::new();
                while let Some(axis) = list.next_element()? {
                    if axes.len() == Shape::AXES {
                        return Err(A::Error::invalid_length(axes.len() + 1, &self));
                    }
                    axes.push(axis);
                }
                Ok(Shape(axes))
            }
        }
        deserializer.deserialize_seq(Axes)
    }
}

/// Reads the header's object. A duplicate name is an error.
struct HeaderSeed<'k> {
    key: &'k str,
}

type Header = (BTreeMap<String, Info>, Option<String>);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = Header;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = Header;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        /// Enough for a thousand layers.
        const TENSORS: usize = 1 << 14;
        let (mut infos, mut metadata) = (BTreeMap::new(), None);
        let mut seen = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut seen, true) {
                    return Err(A::Error::custom("__metadata__ occurs twice"));
                }
                metadata = map.next_value_seed(MetadataSeed { key: self.key })?;
                continue;
            }
            if infos.len() == TENSORS {
                return Err(A::Error::custom(format!("expected at most {TENSORS} tensors")));
            }
            match infos.entry(name) {
                Entry::Vacant(place) => place.insert(map.next_value::<Info>()?),
                Entry::Occupied(twice) => {
                    let name = escape::name(twice.key());
                    return Err(A::Error::custom(format!("the tensor {name} occurs twice")));
                }
            };
        }
        Ok((infos, metadata))
    }
}

/// Reads the text under one key and skips all other keys.
struct MetadataSeed<'k> {
    key: &'k str,
}

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = Option<String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = Option<String>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata, an object of texts")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != self.key {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value::<String>()?).is_some() {
                return Err(A::Error::custom(format!("the metadata key {name} occurs twice")));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str, data: u64) -> Result<(Places, Option<String>), String> {
        read_header(header.as_bytes(), 8 + header.len() as u64 + data, "vsepp")
    }

    #[test]
    fn a_header_that_fits_is_read() {
        let header = r#"{"__metadata__":{"other":"x","vsepp":"{\"a\":1}"},
            "b":{"dtype":"F32","shape":[2,1],"data_offsets":[2,10]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
            "c":{"dtype":"F8_E8M0","shape":[7],"data_offsets":[10,17]},"d":{"dtype":"F64","shape":[0,9],"data_offsets":[10,10]}}  "#;
        let (places, metadata) = read(header, 17).unwrap();
        assert_eq!(metadata.as_deref(), Some("{\"a\":1}"));
        let start = 8 + header.len() as u64 + 2;
        let expected = Place { element: ElementType::F32, shape: vec![2, 1], start, bytes: 8 };
        assert_eq!(places["b"], Ok(expected));
        assert_eq!(places["d"].as_ref().unwrap().bytes, 0);
        assert!(places["c"].as_ref().unwrap_err().ends_with("found F8_E8M0"));
    }

    #[test]
    fn a_header_that_does_not_fit_is_refused() {
        let tensor = |rest: &str| format!("{{\"a\":{{\"dtype\":\"U8\",{rest}}}}}");
        let many = format!("\"shape\":[{}1],\"data_offsets\":[0,1]", "1,".repeat(64));
        let cases: [(&str, u64, &str); 14] = [
            (&tensor("\"shape\":[2],\"data_offsets\":[0,2]"), 3, "expected 2 bytes after the header, found 3"),
            (&tensor("\"shape\":[2],\"data_offsets\":[0,2]"), 1, "expected 2 bytes after the header, found 1"),
            (&tensor("\"shape\":[2],\"data_offsets\":[1,3]"), 3, "a: expected the bytes from 0, found 1 to 3"),
            (&tensor("\"shape\":[2],\"data_offsets\":[0,3]"), 3, "expected 2 bytes for U8 of shape [2], found 3"),
            (&tensor("\"shape\":[2],\"data_offsets\":[2,0]"), 2, "a: expected the bytes from 0, found 2 to 0"),
            (
                &tensor("\"shape\":[2],\"data_offsets\":[0,18446744073709551615]"),
                2,
                "expected 18446744073709551615 bytes",
            ),
            (&tensor("\"shape\":[0,4611686018427387904,4],\"data_offsets\":[0,0]"), 0, "no array can have the shape"),
            (&tensor("\"shape\":[-1],\"data_offsets\":[0,0]"), 0, "invalid value: integer `-1`"),
            (&tensor(&many), 1, "expected a shape of at most 64 axes"),
            (&tensor("\"shape\":[2]"), 2, "missing field `data_offsets`"),
            ("[]", 0, "expected an object of tensors"),
            ("{}x", 0, "trailing characters"),
            (r#"{"__metadata__":{"vsepp":"a","vsepp":"b"}}"#, 0, "the metadata key vsepp occurs twice"),
            (
                r#"{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[1,2]}}"#,
                2,
                "the tensor a occurs twice",
            ),
        ];
        for (header, data, problem) in cases {
            let found = read(header, data).unwrap_err();
            assert!(found.contains(problem), "{header}: {found}");
        }
        let overlap = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
        assert_eq!(read(overlap, 3).unwrap_err(), "b: expected the bytes from 2, found 1 to 3");
        let nested = format!("{{\"a\":{}", "[".repeat(1 << 20));
        assert!(read(&nested, 0).is_err());
        let ignored = format!("{{\"__metadata__\":{{\"x\":{}", "[".repeat(1 << 20));
        assert!(read(&ignored, 0).is_err());
    }
}
