//! The figures of the documentation: test pictures with their captions, as SVG.

use std::fmt::Write;

use super::{CAPTIONS_PER_IMAGE, Part, PixelScenes, ScenesConfig, captions, picture};
use crate::data::Picture;
use crate::data::pictures::encode;
use crate::pages::{page, root};

const COLUMNS: usize = 2;

/// Side of a picture on the page.
const SIDE: usize = 96;
/// Room for the captions to the right of it.
const TEXT: usize = 440;
/// Room between things.
const GAP: usize = 20;
/// The distance between captions.
const LINE: usize = SIDE / CAPTIONS_PER_IMAGE;

fn sheet(pictures: &[(Picture, Vec<String>)]) -> String {
    let width = GAP + COLUMNS * (SIDE + TEXT + GAP);
    let height = GAP + pictures.len().div_ceil(COLUMNS) * (SIDE + GAP);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' \
         font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n"
    );
    for (row, (picture, captions)) in pictures.iter().enumerate() {
        let left = GAP + row % COLUMNS * (SIDE + TEXT + GAP);
        let top = GAP + row / COLUMNS * (SIDE + GAP);
        let file = base64(&encode(picture));
        let _ = writeln!(
            svg,
            "<image x='{left}' y='{top}' width='{SIDE}' height='{SIDE}' \
             style='image-rendering:pixelated' href='data:image/png;base64,{file}'/>"
        );
        let x = left + SIDE + GAP / 2;
        for (line, caption) in captions.iter().enumerate() {
            let y = top + LINE * line + 14; // 14: from the top of a line to its baseline
            let _ = writeln!(svg, "<text x='{x}' y='{y}'>{caption}</text>");
        }
    }
    svg + "</svg>\n"
}

/// Base64 (RFC 4648), for data URLs.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |k: usize| u32::from(*group.get(k).unwrap_or(&0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for k in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * k)) as usize & 63];
            text.push(if k <= group.len() { digit.into() } else { '=' });
        }
    }
    text
}

fn assert_current(figure: &str, pictures: &[(Picture, Vec<String>)]) {
    let sheet = sheet(pictures);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root().join(figure), &sheet).unwrap();
    }
    assert!(page(figure) == sheet, "{figure} is not current: UPDATE=1 cargo test --release --lib scenes::sheet");
}

#[test]
fn the_figures_in_the_documentation_show_these_scenes() {
    let config = ScenesConfig::default();
    let close = |row| (picture(&config, Part::Test, row), captions(&config, Part::Test, row).into());
    assert_current("docs/figures/scenes.svg", &(0..12).map(close).collect::<Vec<_>>());
    let scenes = PixelScenes::CAPTIONED;
    let wide = |row| (scenes.picture(Part::Test, row), scenes.texts(Part::Test, row));
    assert_current("docs/figures/pixels.svg", &(0..6).map(wide).collect::<Vec<_>>());
}
