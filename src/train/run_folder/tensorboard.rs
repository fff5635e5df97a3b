//! TensorBoard's file of events, as a function of the lines of `metrics.jsonl`.
//!
//! A line becomes one event with its `step` and its `time`. Its numbers are scalars: `loss` of a `"step"` has the tag
//! `step/loss`. What a validation finds has tags such as `dev/image_to_text/r1`, within an epoch and at its end. Numbers
//! that only say where the line belongs have none ([`PLACES`]).
//!
//! ```text
//! record   the length of the event (u64), its checksum, the event, its checksum        all little-endian
//! Event    { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
//! Summary  { repeated Value value = 1; }    Value { string tag = 1; float simple_value = 2; }
//! ```

use serde_json::Value;

/// What is no figure.
const PLACES: [&str; 9] = ["time", "step", "epoch", "batch", "batches", "pairs", "images", "captions", "folds"];

/// The records of these lines. Before the file's first line, there is one with the version of the format.
pub(super) fn records(lines: &[u8], is_first: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let lines = lines.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    for (number, line) in lines.enumerate() {
        let (time, step) = (line["time"].as_f64().unwrap_or_default(), line["step"].as_u64().unwrap_or_default());
        if is_first && number == 0 {
            add_record(&mut bytes, &[&wall_time(time)[..], &field(3, b"brain.Event:2")].concat());
        }
        let kind = line["event"].as_str().unwrap_or_default();
        let mut summary = Vec::new();
        for (name, value) in line.as_object().into_iter().flatten() {
            let tag = match name.as_str() {
                "dev" => name.clone(),
                "hardest_percentile" => format!("dev/{name}"),
                _ => format!("{kind}/{name}"),
            };
            add_scalars(&mut summary, name, &tag, value);
        }
        add_record(&mut bytes, &[&wall_time(time)[..], &[2 << 3], &varint(step), &field(5, &summary)].concat());
    }
    bytes
}

/// Adds a number, or all numbers within an object, unless their name is that of a place.
fn add_scalars(summary: &mut Vec<u8>, name: &str, tag: &str, value: &Value) {
    if PLACES.contains(&name) {
        return;
    }
    match value {
        Value::Object(values) => {
            values.iter().for_each(|(name, value)| add_scalars(summary, name, &format!("{tag}/{name}"), value));
        }
        Value::Number(number) => {
            #[allow(clippy::cast_possible_truncation)] // the format has f32
            let simple_value = number.as_f64().unwrap_or_default() as f32;
            let value = [&field(1, tag.as_bytes())[..], &[2 << 3 | 5], &simple_value.to_le_bytes()].concat();
            summary.extend(field(1, &value));
        }
        _ => {}
    }
}

fn add_record(bytes: &mut Vec<u8>, event: &[u8]) {
    let length = (event.len() as u64).to_le_bytes();
    for part in [&length, event] {
        bytes.extend(part);
        bytes.extend(masked_crc32c(part).to_le_bytes());
    }
}

fn wall_time(time: f64) -> [u8; 9] {
    let mut bytes = [1 << 3 | 1; 9];
    bytes[1..].copy_from_slice(&time.to_le_bytes());
    bytes
}

/// A field of protobuf that has a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2], &varint(content.len() as u64)[..], content].concat()
}

#[allow(clippy::cast_possible_truncation)] // seven bits a byte
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The checksum of a record: CRC-32C, rotated and with a constant added.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by TensorBoard 2.21.0, `tensorboard.summary.writer.record_writer`.
    const WRITTEN: &str = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c\
        31000000000000009d8383e909000000000000f83f10ac022a230a100a09737465702f6c6f73731500004d420a0f0a08737465702f67617015\
        000000bfc0e7a9893c00000000000000c8b7a35209000000000000024010ad022a2e0a0f0a086465762f7273756d15cdccf6420a1b0a146465\
        762f746578745f746f5f696d6167652f723115cdcccc3dee96a0b7";
    const LINES: [&str; 2] = [
        r#"{"event":"step","time":1.5,"step":300,"epoch":3,"batch":7,"loss":51.25,"gap":-0.5}"#,
        r#"{"event":"epoch","time":2.25,"step":301,"violation":"max","best":true,"dev":{"images":9,"rsum":123.4,"text_to_image":{"r1":0.1}},"hardest_percentile":null}"#,
    ];

    #[test]
    fn the_records_are_those_of_tensorboards_own_writer() {
        let whole = records(LINES.join("\n").as_bytes(), true);
        assert_eq!(crate::files::hex(&whole), WRITTEN);
        let parts = [records(format!("{}\n", LINES[0]).as_bytes(), true), records(LINES[1].as_bytes(), false)];
        assert_eq!(parts.concat(), whole, "line by line");
        assert!(records(b"", true).is_empty());
    }
}
