//! Files that are refused: each made from a good one by changing some bytes.

use super::super::Picture;
use super::{bytes, fixture};

fn problem(bytes: &[u8]) -> String {
    Picture::decode(bytes, true).expect_err("refused")
}

/// Where a marker of a JPEG file is.
fn marker(bytes: &[u8], marker: u8) -> usize {
    bytes.windows(2).position(|pair| pair == [0xff, marker]).unwrap()
}

/// A JPEG file with some bytes of its frame's header changed; 0 is the number of bits.
fn frame(name: &str, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut file = bytes(name);
    let at = marker(&file, if name == "progressive.jpg" { 0xc2 } else { 0xc0 }) + 4;
    for (offset, byte) in changes {
        file[at + offset] = *byte;
    }
    file
}

/// A PNG file with some bytes of its header changed, and with the checksum that fits; 0 is the width.
fn header(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut file = bytes("rgb.png");
    for (offset, byte) in changes {
        file[16 + offset] = *byte;
    }
    let mut sum = flate2::Crc::new();
    sum.update(&file[12..29]);
    file[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    file
}

#[test]
fn other_kinds_of_files_are_named() {
    let cases: [(&[u8], &str); 14] = [
        (b"", "an empty file"),
        (b"GIF89a\x01", "a GIF picture"),
        (b"BM\x36\x00", "a BMP picture"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "a WebP picture"),
        (b"II*\0\x08", "a TIFF picture"),
        (b"\0\0\0\x1cftypavif", "an AVIF or HEIF picture, or a film"),
        (b"\xff\x0a\xfa", "a JPEG XL picture"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01\0", "a .npy file (one NumPy array)"),
        (b"PK\x03\x04", "a zip archive (npz)"),
        (b"\x80\x02cos\nsystem\n", "a Python pickle"),
        (b"<!DOCTYPE html>", "an HTML page, perhaps from a failed download"),
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself: `git lfs pull` fetches it"),
        (b"a picture", "a file of an unknown kind"),
    ];
    for (bytes, name) in cases {
        assert_eq!(problem(bytes), format!("expected a JPEG or PNG picture, found {name}"));
    }
    let missing = Picture::read(&fixture("no.jpg"), false).unwrap_err().to_string();
    assert!(missing.contains("no.jpg: cannot read"), "{missing}");
    let folder = Picture::read(&fixture("."), false).unwrap_err().to_string();
    assert!(folder.ends_with("expected a regular file, found a folder"), "{folder}");
}

#[test]
fn the_content_decides_and_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really_png.jpg");
    std::fs::write(&path, bytes("rgb.png")).unwrap();
    assert_eq!(Picture::read(&path, false).unwrap(), Picture::read(&fixture("rgb.png"), false).unwrap());
    std::fs::write(&path, b"GIF89a").unwrap();
    let message = Picture::read(&path, false).unwrap_err().to_string();
    assert!(message.ends_with("really_png.jpg: expected a JPEG or PNG picture, found a GIF picture"), "{message}");
}

#[test]
fn jpegs_that_decoders_lack_or_read_wrongly_are_refused() {
    let read = "expected a JPEG picture of the kinds that are read, found one that is";
    // Size: bytes 1 to 4. Components from byte 6 on: name, sampling, table.
    let cases: [(&[(usize, u8)], String); 8] = [
        (&[(10, 0x22), (13, 0x22)], format!("{read} sampled more often in its colours than in its brightness")),
        (&[(7, 0x21), (10, 0x12)], format!("{read} sampled more often in its colours than in its brightness")),
        (&[(7, 0x31), (10, 0x21)], format!("{read} sampled 3×1 by 2×1")),
        (&[(7, 0x11), (10, 0x10)], format!("{read} sampled 1×1 by 1×0")),
        (&[(0, 12)], "expected a JPEG picture of 8 bits, found one of 12 bits".into()),
        (&[(1, 0), (2, 0)], "expected a picture of at least one pixel, found 25 × 0".into()),
        (&[(1, 255), (3, 255)], "expected at most 67108864 pixels, found 65305 × 65298".into()),
        (&[(1, 8), (3, 8)], format!("from the length of the file, found {} × {}", 8 * 256 + 25, 8 * 256 + 18)),
    ];
    for (changes, expected) in cases {
        let found = problem(&frame("444.jpg", changes));
        assert!(found.ends_with(&expected), "{found}\n{expected}");
    }
    let mut file = bytes("444.jpg");
    let at = marker(&file, 0xc0);
    for (byte, expected) in
        [(0xc9, "coded arithmetically"), (0xca, "coded arithmetically"), (0xc3, "lossless or hierarchical")]
    {
        file[at + 1] = byte;
        assert_eq!(problem(&file), format!("{read} {expected}"));
    }
    // Two colour spaces: the names say RGB, JFIF says YCbCr.
    let mut named = frame("444.jpg", &[(6, b'R'), (9, b'G'), (12, b'B')]);
    let scan = marker(&named, 0xda) + 5;
    for (k, name) in b"RGB".iter().enumerate() {
        named[scan + 2 * k] = *name;
    }
    assert_eq!(problem(&named), format!("{read} of two colour spaces, RGB and YCbCr"));
    assert!(Picture::decode(&named[20..], false).is_err(), "no start marker");
    let alone = [&named[..2], &named[20..]].concat();
    let stored = Picture::decode(&alone, false).unwrap();
    assert!(stored != Picture::decode(&bytes("444.jpg"), false).unwrap(), "without JFIF the colours are not converted");
}

#[test]
fn jpegs_that_end_too_early_are_refused_and_bytes_after_the_end_are_not() {
    for name in ["444.jpg", "420.jpg", "progressive.jpg", "restart.jpg", "grey.jpg", "cmyk.jpg", "exif.jpg"] {
        let file = bytes(name);
        let whole = Picture::decode(&file, false).unwrap();
        for length in 4..file.len() {
            let found = problem(&file[..length]);
            assert_eq!(
                found,
                format!("expected a JPEG picture up to its end marker, found only {length} bytes"),
                "{name}"
            );
        }
        assert_eq!(Picture::decode(&[&file, &b"\xff\xd8 more"[..]].concat(), false).unwrap(), whole, "{name}");
    }
    let file = bytes("444.jpg");
    let at = marker(&file, 0xda);
    let empty = [&file[..at], b"\xff\xd9"].concat();
    assert_eq!(problem(&empty), "expected a JPEG picture, found the end marker before any pixels");
    let garbage = [&file[..20], b"garbage", &file[20..]].concat();
    assert_eq!(problem(&garbage), "expected a JPEG marker at byte 20, found 0x67");
}

#[test]
fn damaged_pngs_are_refused() {
    for name in ["rgb.png", "palette.png", "interlaced.png", "exif.png"] {
        let file = bytes(name);
        let whole = Picture::decode(&file, false).unwrap();
        for length in 8..file.len() {
            let found = problem(&file[..length]);
            assert!(found.starts_with("expected a whole PNG picture: "), "{name}: {length}: {found}");
        }
        assert_eq!(Picture::decode(&[&file, &b"more"[..]].concat(), false).unwrap(), whole, "{name}");
        // Every byte after the signature is in a checksum, or is one, or is a length.
        for at in 8..file.len() {
            let mut file = file.clone();
            file[at] ^= 0x10;
            assert!(Picture::decode(&file, false).is_err(), "{name}: byte {at}");
        }
    }
    assert!(problem(&header(&[(3, 0)])).starts_with("expected a whole PNG picture: "), "width 0");
    assert_eq!(problem(&header(&[(1, 1), (5, 1)])), "expected at most 67108864 pixels, found 65561 × 65554");
    let large = problem(&header(&[(2, 16), (6, 16)]));
    assert!(large.ends_with("pixels from the length of the file, found 4121 × 4114"), "{large}");
    let longer = problem(&header(&[(7, 19)]));
    assert!(longer.starts_with("expected a whole PNG picture: "), "one row more than there is: {longer}");
}

/// The pixels of a JPEG file have no checksum, but a code that no table has, or too many numbers of a block, are
/// found. (The decoder's lenient mode fills the rest with grey.)
#[test]
fn jpegs_with_impossible_codes_are_refused() {
    let file = bytes("444.jpg");
    let pixels = marker(&file, 0xda) + 14..file.len() - 2;
    let changed = pixels.map(|at| {
        let mut file = file.clone();
        file[at] ^= 0x55;
        Picture::decode(&file, false).err()
    });
    let refused: Vec<String> = changed.flatten().collect();
    assert!(refused.iter().all(|problem| problem.starts_with("expected a ")), "{refused:?}");
    assert!(refused.iter().any(|problem| problem.starts_with("expected a whole JPEG picture: ")), "{refused:?}");
}

/// Every byte of each small JPEG, changed in several ways: a picture or an error, never a panic.
#[test]
fn no_byte_makes_a_jpeg_panic() {
    for name in ["444.jpg", "422.jpg", "420.jpg", "progressive.jpg", "restart.jpg", "grey.jpg", "cmyk.jpg", "exif.jpg"]
    {
        let file = bytes(name);
        for at in 0..file.len() {
            for change in [0x01, 0x10, 0x80, 0xff, file[at], file[at] ^ 0xff] {
                let mut file = file.clone();
                file[at] ^= change;
                let _ = Picture::decode(&file, true);
            }
        }
    }
}
