//! Pictures as a store.

use std::path::Path;

use ndarray::{Array4, s};

use super::super::crops::{Crops, RandomCrop};
use super::super::normalise::normalise;
use super::super::{Picture, PictureFiles};
use super::{fixture, root};
use crate::data::{Draw, ImageStore};
use crate::model::Images;

const CROPS: Crops = Crops { resize: 16, crop: 12, random: Some(RandomCrop::Today), upright: false };

fn pictures(crops: Crops) -> PictureFiles {
    PictureFiles::open(&root().join("fixtures/pictures"), crops).unwrap()
}

fn fill(store: &PictureFiles, rows: &[usize], draw: Option<Draw<'_>>) -> Array4<f32> {
    let mut images = Images::default();
    store.fill(rows, draw, &mut images).unwrap();
    let Images::Pixels(pixels) = images else { panic!("pixels") };
    pixels
}

#[test]
fn pictures_are_filled_in_order_and_without_a_draw_by_their_centre() {
    let store = pictures(CROPS);
    assert_eq!(store.names().len(), 20);
    assert_eq!((store.names()[0].as_str(), store.names()[19].as_str()), ("420.jpg", "transparent.png"));
    assert_eq!((store.len(), store.shape()), (20, &[3, 12, 12][..]));
    let rows = [19, 0, 3, 0];
    let pixels = fill(&store, &rows, None);
    assert_eq!(pixels.dim(), (4, 3, 12, 12));
    for (found, row) in pixels.outer_iter().zip(rows) {
        let picture = Picture::read(&fixture(&store.names()[row]), false).unwrap();
        let mut right = vec![0.0; 3 * 12 * 12];
        normalise(&CROPS.centre(&picture), &mut right);
        assert_eq!(found.to_owned().into_raw_vec_and_offset().0, right, "{row}");
    }
    let centre = pictures(Crops { random: None, ..CROPS });
    let draw = Draw { seed: 1, epoch: 2, captions: &[5, 6, 7, 8] };
    assert_eq!(fill(&centre, &rows, Some(draw)), pixels, "no law: the centre in training, too");
    let ten = store.ten(19).unwrap();
    assert_eq!(ten.dim(), (10, 3, 12, 12));
    assert_eq!(ten.slice(s![4, .., .., ..]), pixels.slice(s![0, .., .., ..]), "the fifth crop is the centre");
}

#[test]
fn a_crop_is_a_function_of_seed_epoch_and_caption() {
    for law in [RandomCrop::Today, RandomCrop::Before2019] {
        let store = pictures(Crops { random: Some(law), ..CROPS });
        let crops =
            |rows: &[usize], seed, epoch, captions: &[usize]| fill(&store, rows, Some(Draw { seed, epoch, captions }));
        let alone = crops(&[2], 7, 3, &[41]);
        let rows: Vec<usize> = (0..20).collect();
        let captions: Vec<usize> = (39..59).collect();
        let mut last = None;
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let pixels = pool.install(|| crops(&rows, 7, 3, &captions));
            assert_eq!(pixels.slice(s![2..3, .., .., ..]), alone, "its place in the batch changes nothing");
            assert_eq!(*last.get_or_insert_with(|| pixels.clone()), pixels, "{threads} threads");
        }
        for (seed, epoch, caption) in [(8, 3, 41), (7, 4, 41), (7, 3, 42)] {
            assert_ne!(crops(&[2], seed, epoch, &[caption]), alone, "{seed} {epoch} {caption}");
        }
        let twice = crops(&[2, 2, 2], 7, 3, &[41, 42, 41]);
        assert_ne!(twice.slice(s![0, .., .., ..]), twice.slice(s![1, .., .., ..]), "two captions of one picture");
        assert_eq!(twice.slice(s![0, .., .., ..]), twice.slice(s![2, .., .., ..]));
    }
}

#[test]
fn the_crops_of_a_seed_are_pinned() {
    let pixels = fill(&pictures(CROPS), &[17], Some(Draw { seed: 0, epoch: 0, captions: &[0] }));
    let bytes: Vec<u8> = pixels.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(&crate::files::digest(&bytes)[..16], "fd073d9314d9121d", "pinned");
}

#[test]
fn half_of_the_random_crops_are_mirrored() {
    // Left is dark, right is bright.
    let folder = tempfile::tempdir().unwrap();
    let rgb = (0..40u8).flat_map(|_| (0..40u8).flat_map(|x| [6 * x; 3])).collect();
    let file = super::super::encode(&Picture { width: 40, height: 40, rgb });
    std::fs::write(folder.path().join("ramp.png"), file).unwrap();
    let store = PictureFiles::open(folder.path(), CROPS).unwrap();
    let captions: Vec<usize> = (0..1000).collect();
    let pixels = fill(&store, &[0; 1000], Some(Draw { seed: 3, epoch: 0, captions: &captions }));
    let mirrored = pixels.outer_iter().filter(|crop| crop[[0, 0, 0]] > crop[[0, 0, 11]]).count();
    // Five standard deviations of √(1000 / 4).
    assert!(mirrored.abs_diff(500) < 80, "{mirrored}");
}

#[test]
fn errors_name_the_first_picture_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png", "c.png", "d.png"] {
        std::fs::copy(fixture("rgb.png"), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("b.png"), b"GIF89a").unwrap();
    std::fs::write(folder.path().join("d.png"), b"").unwrap();
    let store = PictureFiles::open(folder.path(), CROPS).unwrap();
    let message = |rows: &[usize], draw| store.fill(rows, draw, &mut Images::default()).unwrap_err().to_string();
    for _ in 0..20 {
        assert!(message(&[0, 1, 2, 3], None).ends_with("b.png: expected a JPEG or PNG picture, found a GIF picture"));
        assert!(message(&[3, 0, 1], None).ends_with("d.png: expected a JPEG or PNG picture, found an empty file"));
    }
    assert_eq!(message(&[0, 4], None), "pictures: expected a row below 4, found row 4");
    let draw = Draw { seed: 0, epoch: 0, captions: &[1] };
    assert_eq!(message(&[0, 2], Some(draw)), "pictures: expected a caption for each of 2, found 1");
    assert!(store.ten(1).unwrap_err().to_string().contains("b.png: expected"));
    let none = PictureFiles::new(vec![Path::new("no.png").into()], CROPS).unwrap();
    assert_eq!(none.names(), ["no.png"]);
    assert!(none.fill(&[0], None, &mut Images::default()).unwrap_err().to_string().starts_with("no.png: cannot read"));
    assert!(none.fingerprint(&[0]).is_err());
    assert!(PictureFiles::new(Vec::new(), Crops { crop: 0, ..CROPS }).is_err());
}

#[test]
fn a_fingerprint_is_of_the_files_and_of_what_is_made_of_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("rgb.png"), folder.path().join("a.png")).unwrap();
    std::fs::copy(fixture("grey.png"), folder.path().join("b.png")).unwrap();
    let of = |crops, rows: &[usize]| PictureFiles::open(folder.path(), crops).unwrap().fingerprint(rows).unwrap();
    let first = of(CROPS, &[0, 1]);
    assert_eq!(of(CROPS, &[0, 1]), first);
    assert_ne!(of(CROPS, &[1, 0]), first, "the order");
    for other in [
        Crops { resize: 17, ..CROPS },
        Crops { crop: 11, ..CROPS },
        Crops { random: None, ..CROPS },
        Crops { upright: true, ..CROPS },
    ] {
        assert_ne!(of(other, &[0, 1]), first, "{other:?}");
    }
    std::fs::copy(fixture("rgba.png"), folder.path().join("a.png")).unwrap();
    assert_ne!(of(CROPS, &[0, 1]), first, "other bytes");
}
