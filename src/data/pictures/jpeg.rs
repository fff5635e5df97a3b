//! JPEG, by `zune-jpeg` in strict mode, after the checks that it lacks.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::exif::orientation;
use super::limits::room;
use super::picture::Picture;

/// What the segments of a file say.
#[derive(Debug, Default)]
struct Segments {
    /// Bytes up to the end marker, and with it.
    length: usize,
    height: usize,
    width: usize,
    components: Vec<Component>,
    jfif: bool,
    /// The number of the colour transform in Adobe's segment.
    adobe: Option<u8>,
}

#[derive(Debug)]
struct Component {
    name: u8,
    /// How often it is sampled across and down, as a share of the most frequent component's.
    across: u8,
    down: u8,
}

/// A picture, and the orientation in its EXIF data.
///
/// # Errors
///
/// If the file is damaged, or is one that the decoder does not read or reads wrongly; with what was expected and
/// found.
pub(super) fn decode(bytes: &[u8]) -> Result<(Picture, Option<u32>), String> {
    let segments = Segments::read(bytes)?;
    segments.check()?;
    // A block of 8 × 8 values of the first component takes a bit at least.
    let mut rgb = room(segments.height, segments.width, 64 * 8 * bytes.len() as u64)?;
    let most = usize::from(u16::MAX);
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(most)
        .set_max_height(most)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes[..segments.length]), options);
    let damaged = |problem| format!("expected a whole JPEG picture: {problem}");
    decoder.decode_headers().map_err(|problem| damaged(problem.to_string()))?;
    if decoder.dimensions() != Some((segments.width, segments.height)) {
        return Err(damaged(format!("found two sizes, {:?}", decoder.dimensions())));
    }
    decoder.decode_into(&mut rgb).map_err(|problem| damaged(problem.to_string()))?;
    let orientation = decoder.exif().and_then(|exif| orientation(exif));
    Ok((Picture { width: segments.width, height: segments.height, rgb }, orientation))
}

/// A number of two bytes.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])))
}

impl Segments {
    /// Goes from marker to marker, up to the end marker.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut found = Self::default();
        // After the start marker.
        let mut at = 2;
        let mut scans = 0;
        loop {
            let cut = || format!("expected a JPEG picture up to its end marker, found only {} bytes", bytes.len());
            match bytes.get(at) {
                Some(0xff) => {}
                Some(byte) => return Err(format!("expected a JPEG marker at byte {at}, found 0x{byte:02x}")),
                None => return Err(cut()),
            }
            // A marker may begin with more than one 0xff.
            at += bytes[at..].iter().take_while(|&&byte| byte == 0xff).count();
            let marker = *bytes.get(at).ok_or_else(cut)?;
            at += 1;
            if marker == 0xd9 {
                if scans == 0 || found.components.is_empty() {
                    return Err("expected a JPEG picture, found the end marker before any pixels".into());
                }
                return Ok(Self { length: at, ..found });
            }
            let length = number(bytes, at).ok_or_else(cut)?;
            if length < 2 {
                return Err(format!("expected a length of at least 2 at byte {at} of a JPEG picture, found {length}"));
            }
            let segment = bytes.get(at + 2..at + length).ok_or_else(cut)?;
            at += length;
            match marker {
                0xc0..=0xc2 => found.frame(segment)?,
                0xc3 | 0xc5..=0xc7 => return Err(not_read("lossless or hierarchical")),
                0xc9..=0xcb | 0xcd..=0xcf => return Err(not_read("coded arithmetically")),
                0xe0 => found.jfif |= segment.starts_with(b"JFIF\0"),
                0xee if segment.starts_with(b"Adobe") => found.adobe = segment.get(11).copied().or(found.adobe),
                0xda => {
                    scans += 1;
                    at += pixels(&bytes[at..]).ok_or_else(cut)?;
                }
                _ => {}
            }
        }
    }

    /// A frame's header.
    fn frame(&mut self, segment: &[u8]) -> Result<(), String> {
        let short = "expected 8 bytes and more in the frame's header of a JPEG picture";
        let [bits, _, _, _, _, count, components @ ..] = segment else { return Err(short.into()) };
        if *bits != 8 {
            return Err(format!("expected a JPEG picture of 8 bits, found one of {bits} bits"));
        }
        if !self.components.is_empty() {
            return Err("expected one picture in a JPEG file, found two frame headers".into());
        }
        if components.len() != 3 * usize::from(*count) {
            let found = components.len();
            return Err(format!("expected 3 bytes for each of {count} components of a JPEG picture, found {found}"));
        }
        let size = |at| number(segment, at).unwrap_or_default();
        (self.height, self.width) = (size(1), size(3));
        self.components = (components.as_chunks().0.iter())
            .map(|&[name, sampling, _]| Component { name, across: sampling >> 4, down: sampling & 15 })
            .collect();
        Ok(())
    }

    /// What decoders do not read, or read in different ways.
    fn check(&self) -> Result<(), String> {
        let [first, others @ ..] = &self.components[..] else { unreachable!("a frame has components") };
        if ![1, 3, 4].contains(&self.components.len()) {
            return Err(format!("expected a JPEG picture of 1, 3 or 4 components, found {}", self.components.len()));
        }
        for other in others {
            if other.across > first.across || other.down > first.down {
                return Err(not_read("sampled more often in its colours than in its brightness"));
            }
        }
        for each in &self.components {
            let whole = |most: u8, each: u8| (1..=4).contains(&each) && most.is_multiple_of(each);
            if !whole(first.across, each.across) || !whole(first.down, each.down) {
                return Err(not_read(&format!(
                    "sampled {}×{} by {}×{}",
                    first.across, first.down, each.across, each.down
                )));
            }
        }
        let names: Vec<u8> = self.components.iter().map(|component| component.name).collect();
        if names == *b"RGB" && (self.jfif || self.adobe.is_some_and(|transform| transform != 0)) {
            return Err(not_read("of two colour spaces, RGB and YCbCr"));
        }
        Ok(())
    }
}

fn not_read(what: &str) -> String {
    format!("expected a JPEG picture of the kinds that are read, found one that is {what}")
}

/// How many bytes of pixels there are before the next marker. A byte 0xff of the pixels has a zero after it, and
/// the eight markers of restarts are among the pixels.
fn pixels(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|&byte| byte == 0xff)?;
        if !matches!(*bytes.get(at + 1)?, 0 | 0xd0..=0xd7) {
            return Some(at);
        }
        at += 2;
    }
}
