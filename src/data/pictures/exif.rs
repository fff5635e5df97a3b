//! The orientation in EXIF data, by `kamadak-exif`.

use exif::{In, Reader, Tag};

/// The orientation, if the data have one. Data that cannot be read have none: a picture is not refused for what a
/// camera wrote next to it.
pub(super) fn orientation(data: &[u8]) -> Option<u32> {
    let read = Reader::new().continue_on_error(true).read_raw(data.to_vec());
    let exif = read.or_else(|error| error.distill_partial_result(|_| ())).ok()?;
    exif.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0)
}
