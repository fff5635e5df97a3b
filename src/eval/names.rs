//! The names of the arrays in a file of embeddings, and messages about arrays that are missing or not used.

use crate::escape;
use crate::files::{ElementType, TensorFile};

/// The names of a file's arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The images' vectors.
    pub images: String,
    /// The captions' vectors.
    pub captions: String,
    /// The image of each caption. Optional in a file unless it is named here.
    pub image_ids: Option<String>,
}

impl Default for Names {
    fn default() -> Self {
        Self { images: IMAGES.into(), captions: CAPTIONS.into(), image_ids: None }
    }
}

pub(super) const IMAGES: &str = "images";
pub(super) const CAPTIONS: &str = "captions";
pub(super) const IMAGE_IDS: &str = "image_ids";
/// The array of bytes in an npz, and the key of a safetensors file's metadata.
pub(super) const ABOUT: &str = "vsepp";

/// The message for missing vectors, with the arrays found instead.
pub(super) fn missing(file: &TensorFile, names: &Names) -> String {
    const SHOWN: usize = 8;
    let matrices: Vec<(String, Vec<usize>)> = file
        .names()
        .filter_map(|name| Some((name.to_owned(), file.shape(name).ok()?)))
        .filter(|(name, shape)| shape.len() == 2 && name.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c)))
        .collect();
    let among = |words: &[&str]| {
        let mut fitting = matrices.iter().filter(|(name, _)| {
            let name = name.to_lowercase();
            words.iter().any(|word| name.contains(word))
        });
        fitting.next().filter(|_| fitting.next().is_none())
    };
    let mut there: Vec<String> = file.names().take(SHOWN).map(|name| shown(file, name)).collect();
    if file.names().count() > SHOWN {
        there.push("…".into());
    }
    let there = if there.is_empty() { "nothing".into() } else { there.join(", ") };
    let absent: Vec<&str> = [names.images.as_str(), &names.captions]
        .into_iter()
        .filter(|name| !file.names().any(|there| there == *name))
        .collect();
    let expected = format!("expected a tensor {}, found only: {there}", absent.join(" and a tensor "));
    let guess = among(&["im", "vis"]).zip(among(&["cap", "txt", "text", "sent"]));
    match guess {
        Some(((images, f), (captions, g))) if f[1] == g[1] && images != captions => {
            format!("{expected}; perhaps --names {images},{captions}")
        }
        _ => format!("{expected}; --names IMAGES,CAPTIONS gives their names"),
    }
}

fn is_float(element: ElementType) -> bool {
    matches!(element, ElementType::F16 | ElementType::BF16 | ElementType::F32 | ElementType::F64)
}

/// A name with its shape.
fn shown(file: &TensorFile, name: &str) -> String {
    let shape = file.shape(name).map(|shape| format!(" {shape:?}")).unwrap_or_default();
    format!("{}{shape}", escape::name(name))
}

/// Notes on arrays that look relevant for an evaluation but are not used.
pub(super) fn unused(file: &TensorFile, names: &Names, mapped: bool, n: usize, m: usize) -> Vec<String> {
    let mut notes = Vec::new();
    for name in file.names().filter(|name| ![ABOUT, IMAGE_IDS, &names.images, &names.captions].contains(name)) {
        if names.image_ids.as_deref() == Some(name) {
            continue;
        }
        if name == "measure" {
            notes.push("measure: an array of this name is not read; --measure sets how vectors are compared".into());
            continue;
        }
        let is_map = |tensor: &[f64]| m > 1 && tensor.iter().all(|x| x.fract() == 0.0 && (0.0..n as f64).contains(x));
        let is_vector = file.shape(name).is_ok_and(|shape| shape == [m]);
        if mapped || !is_vector || file.element_type(name).is_ok_and(is_float) {
            continue;
        }
        let Ok(tensor) = file.get(name) else { continue };
        if is_map(&tensor.iter().copied().collect::<Vec<f64>>()) {
            let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c));
            let how = if [name, &names.images, &names.captions].into_iter().all(plain) {
                format!("--names {},{},{name} uses it", names.images, names.captions)
            } else {
                "--names IMAGES,CAPTIONS,IMAGE_IDS can name it".to_owned()
            };
            let name = escape::name(name);
            notes.push(format!("{name} [{m}] may be the image of each caption, but is not used; {how}"));
        }
    }
    notes
}
