//! PNG, by `png` with every checksum compared.

use std::io::Cursor;

use png::{ColorType, DecodeOptions, Decoder, Transformations};

use super::exif::orientation;
use super::limits::room;
use super::picture::Picture;

/// A picture, and the orientation in its EXIF data. Alpha and transparent colours are dropped, and of 16 bits the
/// high 8 are kept.
///
/// # Errors
///
/// If the file is damaged, with what was expected and found.
pub(super) fn decode(bytes: &[u8]) -> Result<(Picture, Option<u32>), String> {
    let damaged = |problem| format!("expected a whole PNG picture: {problem}");
    let mut options = DecodeOptions::default();
    options.set_ignore_checksums(false);
    options.set_skip_ancillary_crc_failures(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(|problem| damaged(problem.to_string()))?;
    let (height, width) = (header.height as usize, header.width as usize);
    // Deflate unpacks a byte to 1032 at most, and a byte has 8 pixels at most.
    let mut pixels = room(height, width, 1032 * 8 * bytes.len() as u64)?;
    let mut reader = decoder.read_info().map_err(|problem| damaged(problem.to_string()))?;
    // One to four bytes a pixel.
    pixels.resize(reader.output_color_type().0.samples() * height * width, 0);
    reader.next_frame(&mut pixels).map_err(|problem| damaged(problem.to_string()))?;
    reader.finish().map_err(|problem| damaged(problem.to_string()))?;
    let orientation = reader.info().exif_metadata.as_ref().and_then(|exif| orientation(exif));
    let rgb = match reader.output_color_type().0 {
        ColorType::Rgb => pixels,
        ColorType::Rgba => pixels.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect(),
        ColorType::Grayscale => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => pixels.as_chunks::<2>().0.iter().flat_map(|&[grey, _]| [grey; 3]).collect(),
        ColorType::Indexed => return Err(damaged("found numbers without their palette".into())),
    };
    Ok((Picture { width, height, rgb }, orientation))
}

/// A picture as a PNG file of 8 bits per colour, not compressed.
#[cfg(test)]
pub(crate) fn encode(picture: &Picture) -> Vec<u8> {
    let side = |pixels: usize| u32::try_from(pixels).expect("a picture's side fits u32");
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(picture.width), side(picture.height));
    encoder.set_color(ColorType::Rgb);
    encoder.set_compression(png::Compression::NoCompression);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&picture.rgb));
    written.expect("memory takes every picture");
    file
}
