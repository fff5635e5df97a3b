//! The pictures of `../shared/data/pictures`, which are not part of this repository.

use std::path::PathBuf;

use ndarray::Array3;
use ndarray_npy::read_npy;
use sha2::{Digest, Sha256};

use super::super::resize::{Window, resize};
use super::super::{Crops, Picture};
use super::{difference, root};
use crate::files::hex;

fn shared(name: &str) -> Option<PathBuf> {
    let folder = root().join("../shared/data/pictures").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: ../shared/data/pictures/{name} does not exist");
    None
}

fn of_array(array: Array3<u8>) -> Picture {
    let (height, width, _) = array.dim();
    Picture { width, height, rgb: array.iter().copied().collect() }
}

/// Each file: refused with words in the message, or read, with the largest difference from Pillow.
#[test]
fn odd_files_are_pillows_or_refused() {
    let Some(folder) = shared("odd") else { return };
    let refused = [
        ("arithmetic.jpg", "found one that is coded arithmetically"),
        ("bad_crc.png", "expected a whole PNG picture: CRC error"),
        ("bomb.png", "expected at most 67108864 pixels, found 60000 × 60000"),
        ("empty.jpg", "found an empty file"),
        ("header_only.jpg", "up to its end marker, found only 20 bytes"),
        ("j_luma1x1_chroma2x2.jpg", "sampled more often in its colours than in its brightness"),
        ("no_eoi.jpg", "up to its end marker, found only 947 bytes"),
        ("really_bmp.jpg", "found a BMP picture"),
        ("really_gif.jpg", "found a GIF picture"),
        ("really_webp.jpg", "found a WebP picture"),
        ("text.jpg", "found a file of an unknown kind"),
        ("truncated.jpg", "up to its end marker, found only 632 bytes"),
        ("truncated.png", "expected a whole PNG picture: "),
        ("zero_width.png", "expected a whole PNG picture: "),
    ];
    let mut names: Vec<String> =
        (folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()))
            .filter(|name| name.contains('.') && !name.contains(".tsv"))
            .collect();
    names.sort();
    assert_eq!(names.len(), 54);
    for name in names {
        let found = Picture::read(&folder.join(&name), false);
        if let Some((_, problem)) = refused.iter().find(|(file, _)| *file == name) {
            let message = found.expect_err(&name).to_string();
            assert!(message.contains(&name) && message.contains(problem), "{message}");
            continue;
        }
        let found = found.unwrap();
        let right = of_array(read_npy(folder.join(format!("expected/{name}.npy"))).unwrap());
        if name == "grey16.png" {
            // Ours is the high byte; Pillow clips at 255.
            assert!(
                right.rgb.iter().zip(&found.rgb).all(|(&right, &found)| right == 255 || (found == 0 && right < 255))
            );
            assert!(found.rgb.iter().any(|&x| x > 0 && x < 255));
            continue;
        }
        let (share, largest) = difference(&found, &right);
        println!("{name}: {share:.3} of the values differ, by {largest} at most");
        let jpeg = std::fs::read(folder.join(&name)).unwrap().starts_with(b"\xff\xd8");
        assert!(largest <= if jpeg { 2 } else { 0 }, "{name}: {largest}");
        let turned = folder.join(format!("expected/{name}.upright.npy"));
        if turned.is_file() {
            let upright = Picture::read(&folder.join(&name), true).unwrap();
            let (_, largest) = difference(&upright, &of_array(read_npy(turned).unwrap()));
            assert!(largest <= 2, "{name} upright: {largest}");
        }
    }
}

#[test]
fn resizing_gives_pillows_bits() {
    let Some(folder) = shared("odd") else { return };
    let read = |name: &str| Picture::read(&folder.join(name), false).unwrap();
    let (base, tall) = (read("base.png"), read("1x2000.png"));
    let to =
        |picture: &Picture, size: [usize; 2]| resize(picture, Window::all(picture.size()), size, Window::all(size));
    let mut compared = 0;
    for entry in folder.join("resize").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().unwrap() == "sha256" {
            let right = std::fs::read_to_string(&path).unwrap();
            assert_eq!(hex(&Sha256::digest(to(&base, [224, 224]).rgb())), right.trim(), "{name}");
        } else if let Some((from, size)) = name.split_once("_to_").or_else(|| name.split_once('_'))
            && let Some((width, height)) = size.split_once('x')
        {
            let right = of_array(read_npy(&path).unwrap());
            assert_eq!(right.size(), [height, width].map(|n| n.parse::<usize>().unwrap()));
            assert_eq!(to(if from == "base" { &base } else { &tall }, right.size()), right, "{name}");
        } else {
            continue;
        }
        compared += 1;
    }
    assert_eq!(compared, 11);
    // The short side stays as it is: the crops of the picture itself.
    let crops = Crops { resize: 29, crop: 20, ..Crops::default() };
    let right = of_array(read_npy(folder.join("resize/base_centre_crop_20.npy")).unwrap());
    assert_eq!(crops.centre(&base), right);
    let right: ndarray::Array4<u8> = read_npy(folder.join("resize/base_ten_crops_20.npy")).unwrap();
    let found: Vec<u8> = crops.ten(&base).unwrap().iter().flat_map(|crop| crop.rgb().to_vec()).collect();
    assert!(found == right.iter().copied().collect::<Vec<_>>());
}

/// The 100 pictures of COCO, from Pillow's pixels: `fixtures/pictures/coco_pixels.py` writes them as PNG into a
/// folder, which the variable `VSEPP_COCO_PIXELS` names.
#[test]
fn coco_from_decoded_pixels_on_has_pillows_bits() {
    let Some(folder) = shared("coco") else { return };
    let Some(pixels) = std::env::var_os("VSEPP_COCO_PIXELS").map(PathBuf::from) else {
        eprintln!("skipped: VSEPP_COCO_PIXELS does not name a folder that fixtures/pictures/coco_pixels.py wrote");
        return;
    };
    let digest = |picture: &Picture| hex(&Sha256::digest(picture.rgb()))[..16].to_owned();
    let list = |name: &str| -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    };
    let made: std::collections::HashMap<String, String> =
        list("pictures.tsv").into_iter().map(|row| (row[1].clone(), row[7].clone())).collect();
    let mut differences = std::collections::BTreeMap::<&str, Vec<(f64, u8)>>::new();
    let rows = list("pillow.tsv");
    assert_eq!(rows.len(), 100);
    for row in &rows {
        let file = row[0].as_str();
        let decoded = Picture::read(&pixels.join(file).with_extension("png"), false).unwrap();
        assert_eq!(digest(&decoded), row[1], "{file}: decoded");
        let crops = Crops::default();
        let [height, width] = decoded.size();
        let short = if height < width { [256, 256 * width / height] } else { [256 * height / width, 256] };
        let all = Window::all(decoded.size());
        assert_eq!(digest(&resize(&decoded, all, short, Window::all(short))), row[2], "{file}: short side 256");
        assert_eq!(digest(&crops.centre(&decoded)), row[3], "{file}: centre");
        let [top, left, height, width] = [4, 5, 6, 7].map(|k| row[k].parse().unwrap());
        let cropped = resize(&decoded, Window { top, left, height, width }, [224; 2], Window::all([224; 2]));
        assert_eq!(digest(&cropped), row[8], "{file}: box");
        assert_eq!(digest(&cropped.flipped()), row[9], "{file}: box, flipped");
        let ours = Picture::read(&folder.join("images").join(file), false).unwrap();
        let kind = made[file].split_once(' ').map_or("4:4:4", |(_, sampling)| &sampling[..5]);
        let kind = ["4:4:4", "4:2:2", "4:2:0"].into_iter().find(|name| *name == kind).unwrap();
        differences.entry(kind).or_default().push(difference(&ours, &decoded));
    }
    for (kind, differences) in differences {
        let (n, most) = (differences.len(), differences.iter().map(|d| d.1).max().unwrap());
        let share = differences.iter().fold(0.0, |sum, d| sum + d.0) / n as f64;
        println!("{kind}: {n} pictures, {:.1} % of the values differ, by {most} at most", 100.0 * share);
        let bound = [("4:4:4", 3, 0.01), ("4:2:2", 4, 0.08), ("4:2:0", 9, 0.15)];
        assert!(bound.iter().any(|b| b.0 == kind && most <= b.1 && share < b.2), "{kind}: docs/pictures.md says less");
    }
}
