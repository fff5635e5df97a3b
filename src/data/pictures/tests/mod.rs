//! Comparisons with Pillow and torchvision. `fixtures/pictures/make_pictures.py` made what is expected.

mod damaged;
mod fixtures;
mod shared;
mod store;

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use super::Picture;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> PathBuf {
    root().join("fixtures/pictures").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Calls `check` with what is expected.
fn expected<R>(check: impl FnOnce(&SafeTensors<'_>) -> R) -> R {
    let file = bytes("expected.safetensors");
    check(&SafeTensors::deserialize(&file).unwrap())
}

/// A picture of what is expected.
fn picture(expected: &SafeTensors<'_>, name: &str) -> Picture {
    let tensor = expected.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let &[height, width, 3] = tensor.shape() else { panic!("{name}: {:?}", tensor.shape()) };
    Picture { width, height, rgb: tensor.data().to_vec() }
}

/// The share of values that differ, and the largest difference. The sizes must be equal.
fn difference(found: &Picture, expected: &Picture) -> (f64, u8) {
    assert_eq!(found.size(), expected.size());
    let differences = || found.rgb().iter().zip(expected.rgb()).map(|(&a, &b)| a.abs_diff(b));
    let differ = differences().filter(|&d| d > 0).count();
    (differ as f64 / found.rgb().len() as f64, differences().max().unwrap_or(0))
}
