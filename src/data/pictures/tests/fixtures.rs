//! The files of `fixtures/pictures/`.

use super::super::normalise::normalise;
use super::super::resize::{Window, resize};
use super::super::{Crops, Picture};
use super::{difference, expected, fixture, picture};

fn read(name: &str) -> Picture {
    Picture::read(&fixture(name), false).unwrap()
}

#[test]
fn every_form_of_png_is_pillows() {
    expected(|expected| {
        let forms = [
            ("rgb.png", "picture"),
            ("rgba.png", "picture"),
            ("transparent.png", "picture"),
            ("interlaced.png", "picture"),
            ("exif.png", "picture"),
            // The high byte.
            ("rgb16.png", "picture"),
            ("grey16.png", "grey"),
            ("grey.png", "grey"),
            ("grey_alpha.png", "grey"),
            ("grey1.png", "decoded/grey1.png"),
            ("palette.png", "decoded/palette.png"),
            ("palette4.png", "decoded/palette4.png"),
        ];
        for (file, name) in forms {
            assert_eq!(read(file), picture(expected, name), "{file}");
        }
    });
}

#[test]
fn every_form_of_jpeg_is_near_pillows() {
    expected(|expected| {
        // The largest difference that was found.
        let forms = [
            ("444.jpg", "444.jpg", 2),
            ("restart.jpg", "444.jpg", 2),
            ("exif.jpg", "444.jpg", 2),
            ("grey.jpg", "grey.jpg", 1),
            ("cmyk.jpg", "cmyk.jpg", 1),
            ("422.jpg", "422.jpg", 2),
            ("420.jpg", "420.jpg", 2),
            ("progressive.jpg", "420.jpg", 2),
        ];
        for (file, name, most) in forms {
            let (share, largest) = difference(&read(file), &picture(expected, &format!("decoded/{name}")));
            println!("{file}: {share:.3} of the values differ, by {largest} at most");
            assert!(largest <= most, "{file}: {largest}");
        }
        assert_eq!(read("progressive.jpg"), read("420.jpg"), "the same coefficients");
        assert_eq!(read("restart.jpg"), read("444.jpg"), "the same coefficients");
    });
}

#[test]
fn pictures_are_turned_only_if_it_is_asked_for() {
    expected(|expected| {
        assert_eq!(Picture::read(&fixture("exif.png"), true).unwrap(), picture(expected, "upright"));
        let [height, width] = read("exif.jpg").size();
        let upright = Picture::read(&fixture("exif.jpg"), true).unwrap();
        assert_eq!(upright.size(), [width, height]);
        assert_eq!(upright, read("exif.jpg").upright(6));
        assert_eq!(Picture::read(&fixture("444.jpg"), true).unwrap(), read("444.jpg"), "no EXIF data");
    });
}

#[test]
fn resizing_gives_pillows_bits() {
    expected(|expected| {
        let from = picture(expected, "picture");
        let all = Window::all(from.size());
        let names =
            expected.names().into_iter().filter(|name| name.starts_with("resize/") || name.starts_with("short/"));
        let mut compared = 0;
        for name in names {
            let right = picture(expected, name);
            assert_eq!(resize(&from, all, right.size(), Window::all(right.size())), right, "{name}");
            compared += 1;
        }
        assert_eq!(compared, 10);
        let place = expected.tensor("box").unwrap();
        let &[top, left, height, width] = place.data() else { panic!("a box") };
        let [top, left, height, width] = [top, left, height, width].map(usize::from);
        let window = Window { top, left, height, width };
        assert_eq!(resize(&from, window, [20, 20], Window::all([20, 20])), picture(expected, "boxed"));
    });
}

#[test]
fn crops_are_torchvisions() {
    expected(|expected| {
        let from = picture(expected, "picture");
        for crop in [13, 21] {
            let crops = Crops { resize: 16, crop, ..Crops::default() };
            assert_eq!(crops.centre(&from), picture(expected, &format!("centre/{crop}")), "{crop}");
        }
        for resize in [11, 16, 23] {
            // The whole short side: the rest of the long one is cut off.
            let centre = Crops { resize, crop: resize, ..Crops::default() }.centre(&from);
            let short = picture(expected, &format!("short/{resize}"));
            let left = (short.width - resize) / 2 + usize::from((short.width - resize) % 4 == 3);
            for y in 0..resize {
                assert_eq!(centre.row(y), &short.row(y)[3 * left..3 * (left + resize)], "{resize}");
            }
        }
        let ten = Crops { resize: 16, crop: 13, ..Crops::default() }.ten(&from).unwrap();
        let right = expected.tensor("ten").unwrap();
        let found: Vec<u8> = ten.iter().flat_map(|crop| crop.rgb().to_vec()).collect();
        assert_eq!(right.shape(), [10, 13, 13, 3]);
        assert!(found == right.data());
    });
}

#[test]
fn normalising_gives_torchvisions_bits() {
    expected(|expected| {
        let right = expected.tensor("levels").unwrap();
        let right: Vec<u32> = right.data().as_chunks().0.iter().map(|&x| u32::from_le_bytes(x)).collect();
        let ramp = Picture { width: 256, height: 1, rgb: (0..=255).flat_map(|x| [x; 3]).collect() };
        let mut found = vec![0.0f32; 3 * 256];
        normalise(&ramp, &mut found);
        assert_eq!(found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), right);
    });
}
