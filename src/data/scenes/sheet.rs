//! The figure of the documentation: a dozen test pictures with their captions, as SVG.

use std::fmt::Write;

use super::{CAPTIONS_PER_IMAGE, Part, ScenesConfig, captions, picture};
use crate::data::pictures::encode;
use crate::pages::{page, root};

const FIGURE: &str = "docs/figures/scenes.svg";

const COLUMNS: usize = 2;
const ROWS: usize = 6;

/// Side of a picture on the page: two units per pixel.
const SIDE: usize = 96;
/// Room for the captions to the right of it.
const TEXT: usize = 440;
/// Room between things.
const GAP: usize = 20;
/// The distance between captions.
const LINE: usize = SIDE / CAPTIONS_PER_IMAGE;

fn sheet() -> String {
    let config = ScenesConfig::default();
    let width = GAP + COLUMNS * (SIDE + TEXT + GAP);
    let height = GAP + ROWS * (SIDE + GAP);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' \
         font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n"
    );
    for row in 0..COLUMNS * ROWS {
        let left = GAP + row % COLUMNS * (SIDE + TEXT + GAP);
        let top = GAP + row / COLUMNS * (SIDE + GAP);
        let file = base64(&encode(&picture(&config, Part::Test, row)));
        let _ = writeln!(
            svg,
            "<image x='{left}' y='{top}' width='{SIDE}' height='{SIDE}' \
             style='image-rendering:pixelated' href='data:image/png;base64,{file}'/>"
        );
        let x = left + SIDE + GAP / 2;
        for (line, caption) in captions(&config, Part::Test, row).iter().enumerate() {
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

#[test]
fn the_figure_in_the_documentation_shows_these_scenes() {
    let sheet = sheet();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root().join(FIGURE), &sheet).unwrap();
    }
    assert!(page(FIGURE) == sheet, "{FIGURE} is not current: UPDATE=1 cargo test --release --lib scenes::sheet");
}
