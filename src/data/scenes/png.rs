//! A picture as a PNG file, for the figure of the documentation.

use super::Picture;

impl Picture {
    /// The picture as a PNG file: true colour, 8 bits per channel, uncompressed. This needs no compressor
    /// and costs little at this size.
    ///
    /// # Panics
    ///
    /// Panics if a side exceeds `u32`, or if there are fewer bytes than width and height need.
    pub(super) fn to_png(&self) -> Vec<u8> {
        let side = |pixels: usize| u32::try_from(pixels).expect("a picture's side fits u32");
        let mut header = Vec::new();
        header.extend(side(self.width).to_be_bytes());
        header.extend(side(self.height).to_be_bytes());
        header.extend([8, 2, 0, 0, 0]); // bits, true colour, deflate, filters by row, no interlace
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut file, *b"IHDR", &header);
        chunk(&mut file, *b"IDAT", &stored(&self.filtered_rows()));
        chunk(&mut file, *b"IEND", &[]);
        file
    }

    /// The rows in PNG's form, each after the number of its filter: 0, none.
    fn filtered_rows(&self) -> Vec<u8> {
        let mut rows = Vec::with_capacity(self.height * (1 + 3 * self.width));
        for y in 0..self.height {
            rows.push(0);
            rows.extend(&self.rgb[3 * self.width * y..3 * self.width * (y + 1)]);
        }
        rows
    }
}

/// Appends a chunk of a PNG file: length, name, content, checksum.
fn chunk(file: &mut Vec<u8>, name: [u8; 4], content: &[u8]) {
    let length = u32::try_from(content.len()).expect("a chunk's length fits u32");
    file.extend(length.to_be_bytes());
    let start = file.len();
    file.extend(name);
    file.extend(content);
    let sum = crc32(&file[start..]);
    file.extend(sum.to_be_bytes());
}

/// A zlib stream (RFC 1950) of stored blocks (RFC 1951, 3.2.4).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX); // never longer than that
        stream.push(u8::from(blocks.peek().is_none())); // 1 on the last block
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend(adler32(bytes).to_be_bytes());
    stream
}

/// The checksum of PNG's chunks, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1)))
    })
}

/// The checksum of a zlib stream.
fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    (b << 16) | a
}

#[test]
fn checksums_are_the_published_ones() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
}

#[test]
fn a_png_has_its_parts_in_order() {
    let picture = Picture { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6] };
    let file = picture.to_png();
    assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(&file[12..16], b"IHDR");
    assert_eq!(&file[16..24], [0, 0, 0, 2, 0, 0, 0, 1]);
    // Signature 8, header 25, data 12 + 2 + 5 + 7 + 4, end 12.
    assert_eq!(file.len(), 8 + 25 + 30 + 12);
    assert_eq!(&file[48..55], [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(&file[file.len() - 8..file.len() - 4], b"IEND");
}
