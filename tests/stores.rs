//! A store of images fills a batch without taking memory.

// A counting allocator is an unsafe trait; the crate itself has no unsafe code.
#![allow(unsafe_code)]

mod counting;

use std::sync::atomic::Ordering;

use counting::ASKED;
use ndarray::Array2;
use vsepp::data::{ImageStore, Memory, RowFile};
use vsepp::model::Images;

#[test]
fn a_store_takes_no_memory_once_it_has_filled_the_largest_batch() {
    let folder = tempfile::tempdir().unwrap();
    let features = Array2::from_shape_fn((60, 5000), |(i, j)| ((i * 13 + j * 7) % 29) as f32 / 29.0);
    let path = folder.path().join("train_ims.npy");
    ndarray_npy::write_npy(&path, &features).unwrap();
    let stores: [&dyn ImageStore; 2] = [&RowFile::open(&path).unwrap(), &Memory::new(features)];
    let rows: Vec<usize> = (0..60).collect();
    for store in stores {
        let mut images = Images::default();
        store.fill(&rows[..32], None, &mut images).unwrap();
        let before = ASKED.load(Ordering::Relaxed);
        for (from, to) in [(20, 52), (7, 9), (58, 60), (0, 32)] {
            store.fill(&rows[from..to], None, &mut images).unwrap();
        }
        assert_eq!(ASKED.load(Ordering::Relaxed) - before, 0, "{store:?}");
    }
}
