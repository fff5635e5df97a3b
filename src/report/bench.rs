//! The results of a benchmark, as tables.

use std::fmt::Write;

use super::table::thousands;
use crate::bench::{
    EncoderMeasured, EncoderReport, Form, Measured, Peak, Product, Rate, Report, SizeReport, Spread, Timing,
};

/// Width of the names.
const NAME: usize = 48;
/// Width of the figures for one number of threads.
const FIGURES: usize = 25;

/// The peak, then one table per size, with a column for each number of threads.
#[must_use]
pub(crate) fn bench_report(report: &Report) -> String {
    let cores = threads(report.cores).replace("thread", "core");
    let processor = report.processor.as_ref().map_or_else(String::new, |name| format!(", {name}"));
    let mut out = format!("vsepp {}{processor}, {cores}, vector unit: {}", report.version, report.vectors);
    if let Some(load) = report.load {
        let _ = write!(out, "\nload {load:.1}");
        if load > 0.5 {
            out.push_str(" at the start: the machine was busy");
        }
    }
    let _ = writeln!(out, "\ncaptions: {}\n", report.captions);
    peak_table(&mut out, &report.peaks);
    for size in &report.sizes {
        size_table(&mut out, size);
    }
    for encoder in &report.encoders {
        encoder_table(&mut out, encoder);
    }
    if let Some(peak) = report.peak_rss_mib {
        let _ = writeln!(out, "\npeak memory of this process: {} MiB", whole(peak));
    }
    out.push_str("Times are medians; --json also has minimum and maximum.\n");
    out
}

fn threads(n: usize) -> String {
    if n == 1 { "1 thread".into() } else { format!("{n} threads") }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a figure for display
fn whole(x: f64) -> String {
    thousands(x.round() as usize)
}

/// Appends a line of a table: its name, then a cell for each number of threads.
fn line(out: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let _ = write!(out, "  {name:<NAME$}");
    for cell in cells {
        let _ = write!(out, "{cell:>FIGURES$}");
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
}

fn peak_table(out: &mut String, peaks: &[Peak]) {
    let _ = write!(out, "{:<width$}", format!("peak: a product of {}³", Peak::SIDE), width = NAME + 2);
    for peak in peaks {
        let _ = write!(out, "{:>FIGURES$}", threads(peak.threads));
    }
    out.push('\n');
    let cell = |rate: f64| format!("{rate:.1} GFLOP/s");
    let share = |peak: &Peak| format!("{:.1} GFLOP/s  {:3.0} %", peak.linalg, 100.0 * peak.linalg / peak.fused);
    line(out, "fused multiply-add without memory", peaks.iter().map(|peak| cell(peak.fused)));
    line(out, "this crate's product, share of that", peaks.iter().map(share));
    line(out, "matrixmultiply's, by columns", peaks.iter().map(|peak| cell(peak.matrixmultiply)));
}

fn size_table(out: &mut String, size: &SizeReport) {
    let (a, c) = (&size.architecture, &size.counts);
    let dimensions = if a.hidden_size == a.embed_size {
        format!("H = D = {}", a.embed_size)
    } else {
        format!("H {}, D {}", a.hidden_size, a.embed_size)
    };
    let layers = if a.num_layers == 1 { String::new() } else { format!(", {} layers", a.num_layers) };
    let sentences = match size.sentences {
        1 => String::new(),
        more => format!(", {more} sentences in a caption"),
    };
    let _ = writeln!(
        out,
        "\n{}: B {}, E {}, {dimensions}, F {}, V {}{layers}{sentences}; {} parameters",
        size.size,
        c.pairs,
        a.word_dim,
        a.img_dim,
        thousands(a.vocab_size),
        usize::try_from(size.parameters).map_or_else(|_| size.parameters.to_string(), thousands),
    );
    let _ = writeln!(
        out,
        "a batch: {} tokens, {} states ({:.0} %), {} parents, {} distinct words; a step: {:.2} GFLOP",
        thousands(c.tokens),
        thousands(c.states),
        100.0 * c.states as f64 / c.tokens.max(1) as f64,
        thousands(c.parents),
        thousands(c.distinct_words),
        size.operations / 1e9,
    );
    let measured = &size.measured;
    headings(out, measured.iter().map(|m| m.threads));
    let mut row = |name: &str, of: fn(&Measured) -> Timing| {
        line(out, name, measured.iter().map(|m| timing(&of(m))));
    };
    row("step", |m| m.step);
    row("  forward", |m| m.forward);
    row("  backward", |m| m.backward);
    line(out, "  norm, clipping, Adam", measured.iter().map(|m| seconds(&m.update)));
    line(out, "step in f64", measured.iter().map(|m| seconds(&m.step_f64)));
    if let Some(encoding) = measured.first().and_then(|m| m.encoding) {
        let name = format!("encoding {} captions", thousands(encoding.captions));
        let cell = |m: &Measured| {
            m.encoding.map_or_else(String::new, |e| {
                format!("{}{:>16}", milliseconds(&e.seconds), format!("{}/s", whole(e.captions_per_second)))
            })
        };
        line(out, &name, measured.iter().map(cell));
    }
    if let Some(e) = measured.first().and_then(|m| m.evaluation) {
        let name = format!("ranking {} images × {} captions", thousands(e.images), thousands(e.captions));
        line(out, &name, measured.iter().map(|m| m.evaluation.map_or_else(String::new, |e| timing(&e.timing))));
    }
    out.push_str("\n  product m×k×n\n");
    for (i, p) in measured.first().map_or(&[][..], |m| &m.products).iter().enumerate() {
        line(out, &product(&p.product), measured.iter().map(|m| timing(&m.products[i].timing)));
    }
}

/// The pictures per second of the forward pass and of the fine-tuning step.
fn encoder_table(out: &mut String, encoder: &EncoderReport) {
    let EncoderReport { pictures, picture: [rows, columns], parameters, measured, .. } = encoder;
    let _ = writeln!(
        out,
        "\n{}: {pictures} pictures of {rows} × {columns}; {} parameters with the captions' side\n\
         forward: {:.2} GFLOP; a fine-tuning step: {:.2} GFLOP",
        encoder.encoder,
        usize::try_from(*parameters).map_or_else(|_| parameters.to_string(), thousands),
        encoder.forward_operations / 1e9,
        encoder.step_operations / 1e9,
    );
    headings(out, measured.iter().map(|m| m.threads));
    for (name, of) in [("forward", (|m| m.forward) as fn(&EncoderMeasured) -> Rate), ("fine-tuning step", |m| m.step)] {
        line(out, name, measured.iter().map(|m| timing(&of(m).timing)));
        line(out, "  pictures/s", measured.iter().map(|m| format!("{:>9.2}{:16}", of(m).pictures_per_second, "")));
    }
}

/// The numbers of threads, and the names of the figures.
fn headings(out: &mut String, all: impl Iterator<Item = usize> + Clone) {
    let _ = write!(out, "\n{:NAME$}  ", "");
    for n in all.clone() {
        let _ = write!(out, "{:>FIGURES$}", threads(n));
    }
    out.push('\n');
    line(out, "", all.map(|_| format!("{:>9}{:>8}{:>8}", "ms", "GFLOP/s", "of peak")));
}

fn milliseconds(seconds: &Spread) -> String {
    format!("{:>9.2}", 1e3 * seconds.median)
}

/// A time without other figures, aligned with the times of the other lines.
fn seconds(seconds: &Spread) -> String {
    format!("{}{:16}", milliseconds(seconds), "")
}

fn timing(timing: &Timing) -> String {
    format!("{}{:>8.1}{:>6.0} %", milliseconds(&timing.seconds), timing.gflops, 100.0 * timing.share)
}

/// A product's name and its sizes.
fn product(p: &Product) -> String {
    let levels = if p.m.len() > 1 { format!(", {} levels", p.m.len()) } else { String::new() };
    let form = match p.form {
        Form::Output => "A Bᵀ",
        Form::Input => "A B",
        Form::Weight => "Aᵀ B",
    };
    format!("  {:<16} {:<5}{}×{}×{}{levels}", p.name, form, p.rows(), p.k, p.n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Captions, Options, Size, run};

    #[test]
    fn the_tables_have_a_column_for_each_number_of_threads() {
        let options = Options::of(vec![Size::Demo.model()], Captions::MadeUp);
        let options = Options { threads: vec![1, 2], encode: Some(20), evaluate: 0, ..options };
        let mut report = run(&options, &|_| ()).unwrap();
        report.load = Some(2.5);
        let text = bench_report(&report);
        for words in [
            "load 2.5 at the start: the machine was busy\ncaptions: made up\n",
            "1 thread                2 threads\n",
            "demo: B 128, E 32, H = D = 64, F 256, V 150; 40,064 parameters",
            "parents, ",
            "encoding 20 captions",
            "recurrent",
            " levels",
        ] {
            assert!(text.contains(words), "{words:?} in\n{text}");
        }
        assert!(!text.contains("ranking"), "0 leaves it out");
        assert!(text.lines().all(|line| line.chars().count() <= 100 && line.trim_end() == line), "{text}");
        let step = text.lines().find(|line| line.starts_with("  step  ")).unwrap();
        assert_eq!(step.matches('%').count(), 2, "{step}");
    }
}
