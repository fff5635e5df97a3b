//! The time to open a file of image features, and to read its rows in batches.
//!
//! ```text
//! cargo bench --bench load                          # 1 GiB of float32
//! cargo bench --bench load -- --kind f8 --mib 512
//! ```
//!
//! The file is written first, so it comes from the page cache if there is enough memory: this measures the
//! program, not the disk. "Bytes" reads the file in pieces of 1 MiB into one buffer, on one thread, as every
//! reader must. "Open" checks that all numbers are finite and digests each row, on all threads. "Rows" reads
//! all rows in batches of 128, in an order without neighbours, and checks that none has changed. The peak
//! memory is that of the whole process.
//!
//! `cargo test --benches` starts this file without `--bench`: it reads one small file, to check that it
//! runs.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use half::f16;
use vsepp::data::{ImageStore, RowFile};
use vsepp::model::Images;

/// F, the number of columns of the file.
const COLUMNS: usize = 4096;
/// Rows read at once.
const BATCH: usize = 128;
/// From one row of a batch to the next; a prime, so that every row is read once.
const STRIDE: usize = 10_007;

/// Times reading a `.npy` file.
#[derive(Parser)]
struct Options {
    /// Size of the file
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Type of its numbers
    #[arg(long, value_enum, default_value = "f4")]
    kind: Kind,
    /// How often it is read
    #[arg(long, default_value_t = 5)]
    times: usize,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    F2,
    F4,
    F8,
}

impl Kind {
    fn letters(self) -> &'static str {
        match self {
            Self::F2 => "f2",
            Self::F4 => "f4",
            Self::F8 => "f8",
        }
    }

    fn bytes(self, x: f32) -> Vec<u8> {
        match self {
            Self::F2 => f16::from_f32(x).to_le_bytes().to_vec(),
            Self::F4 => x.to_le_bytes().to_vec(),
            Self::F8 => f64::from(x).to_le_bytes().to_vec(),
        }
    }
}

fn main() -> Result<()> {
    if !std::env::args().any(|argument| argument == "--bench") {
        measure(&Options { mib: 1, kind: Kind::F4, times: 1, bench: false })?;
        println!("a file is read; `cargo bench --bench load` takes the time");
        return Ok(());
    }
    measure(&Options::parse())
}

fn measure(options: &Options) -> Result<()> {
    ensure!(options.times > 0 && options.mib > 0, "--times, --mib: expected at least 1, found 0");
    let file = tempfile::NamedTempFile::new()?;
    write(file.path(), options)?;
    let bytes = file.as_file().metadata()?.len() as f64;
    println!(
        "{} MiB of {}, GB/s of the file:{:>10}{:>10}{:>10}",
        options.mib,
        options.kind.letters(),
        "bytes",
        "open",
        "rows"
    );
    for time in 1..=options.times {
        let start = Instant::now();
        read_bytes(file.path())?;
        let alone = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let matrix = RowFile::open(file.path())?;
        let open = start.elapsed().as_secs_f64();
        ensure!(matrix.shape() == [COLUMNS], "expected [{COLUMNS}], found {:?}", matrix.shape());
        // Rows far apart, as in a batch.
        let n = matrix.len();
        let order: Vec<usize> = (0..n).map(|row| row * STRIDE % n).collect();
        let mut images = Images::default();
        let start = Instant::now();
        for rows in order.chunks(BATCH) {
            matrix.fill(rows, None, &mut images)?;
            std::hint::black_box(&images);
        }
        let rows = start.elapsed().as_secs_f64();
        let speed = |seconds: f64| bytes / seconds / 1e9;
        println!("{time:>33}{:>10.2}{:>10.2}{:>10.2}", speed(alone), speed(open), speed(rows));
    }
    if let Some(peak) = peak_mib() {
        println!("peak memory {peak} MiB");
    }
    Ok(())
}

fn write(path: &Path, options: &Options) -> Result<()> {
    let row: Vec<u8> = (0u8..64).cycle().take(COLUMNS).flat_map(|n| options.kind.bytes(f32::from(n) / 64.0)).collect();
    let rows = (options.mib << 20) / row.len();
    let shape = format!("({rows}, {COLUMNS})");
    let mut header = format!("{{'descr': '<{}', 'fortran_order': False, 'shape': {shape}, }}", options.kind.letters());
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&u16::try_from(header.len())?.to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for _ in 0..rows {
        file.write_all(&row)?;
    }
    Ok(file.flush()?)
}

fn read_bytes(path: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {
        std::hint::black_box(&buffer);
    }
    Ok(())
}

/// The peak memory, if Linux provides it.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? >> 10)
}
