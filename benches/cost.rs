//! The cost of a training step: where its time goes, and how it grows with B, H, T, V and the threads.
//!
//! `cargo bench --bench cost [-- FILE.svg]` times the parts of the steps of `vsepp bench`. Then it times steps of
//! the paper's size (V 11,755, E 300, H = D = 1024, F 4096, B 128) with one letter changed, on 1 thread and on all
//! cores. With a file, it draws both. It takes about two minutes. The captions are made up, with COCO's
//! lengths; T grows by joining sentences.
//!
//! `cargo test --benches` starts this file without `--bench`: it times one small step, to check that it runs.

#[path = "../src/bench/spread.rs"]
mod spread;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use spread::Spread;

/// A letter, its flag in `vsepp bench`, and its values; the paper's is among them.
const LETTERS: [(&str, &str, &[usize]); 4] = [
    ("B", "--batch-size", &[32, 64, 128, 256]),
    ("H", "--embed-size", &[256, 512, 1024, 2048]),
    ("T", "--sentences", &[1, 2, 4]),
    ("V", "--vocab-size", &[3_000, 11_755, 47_000]),
];

/// A size's name, the seconds of its step, and the shares of its parts.
type Shares = (String, f64, [f64; 4]);

/// The measurement at one size.
struct Point {
    /// The letter's value.
    at: f64,
    /// Seconds on one thread and on all cores.
    seconds: [f64; 2],
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    if !std::env::args().any(|argument| argument == "--bench") {
        let (seconds, operations) = step(&["--size", "demo"], 1)?;
        ensure!(seconds > 0.0 && operations > 0.0, "expected a time and operations, found {seconds} and {operations}");
        return Ok(());
    }
    let all = std::thread::available_parallelism()?.get();
    eprintln!("parts of a step …");
    let shares = shares()?;
    println!("where the time of a step goes, 1 thread\n");
    println!(
        "{:8}{:>12}{:>22}{:>22}{:>18}{:>12}",
        "", "ms", "products, forward", "products, backward", "norm and Adam", "the rest"
    );
    for (name, total, parts) in &shares {
        let [forward, backward, update, rest] = parts.map(|part| format!("{:.0} %", 100.0 * part));
        println!("{name:8}{:>12.2}{forward:>22}{backward:>22}{update:>18}{rest:>12}", 1e3 * total);
    }
    let mut curves = Vec::new();
    println!("\none letter changed; milliseconds\n");
    println!("{:16}{:>10}{:>12}{:>14}{:>10}", "", "GFLOP", "1 thread", format!("{all} threads"), "ratio");
    for (letter, flag, values) in LETTERS {
        let mut points = Vec::new();
        for &value in values {
            eprintln!("{letter} = {value} …");
            let flags = ["--size", "paper", flag, &value.to_string()];
            let ((one, operations), (many, _)) = (step(&flags, 1)?, step(&flags, all)?);
            println!(
                "{:16}{:>10.1}{:>12.1}{:>14.1}{:>10.2}",
                format!("{letter} = {value}{}", if letter == "T" { " ×" } else { "" }),
                operations / 1e9,
                1e3 * one,
                1e3 * many,
                one / many
            );
            points.push(Point { at: value as f64, seconds: [one, many] });
        }
        curves.push((letter, points));
    }
    if let Some(path) = arguments.next() {
        std::fs::write(path, draw(&shares, &curves, all))?;
    }
    Ok(())
}

/// What `vsepp bench` prints with these flags.
fn bench(flags: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vsepp"));
    command.arg("bench").args(flags).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn()?;
    process.stdin.take().context("no pipe")?.write_all(input.as_bytes())?;
    let output = process.wait_with_output()?;
    ensure!(output.status.success(), "vsepp bench {}: see its message above", flags.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// The median of the seconds of five steps, after two for warming up, and the useful operations of one.
fn step(flags: &[&str], threads: usize) -> Result<(f64, f64)> {
    let threads = threads.to_string();
    let flags = [&["--serve", "step", "--threads", &threads], flags].concat();
    let lines = bench(&flags, &"run\n".repeat(7))?;
    let lines = lines.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Value>>>()?;
    let number = |value: &Value| value.as_f64().context("expected a number");
    let seconds = lines.iter().skip(3).map(|line| number(&line["seconds"])).collect::<Result<Vec<f64>>>()?;
    Ok((Spread::of(seconds).median, number(&lines[0]["about"]["operations"])?))
}

/// Shares of a step's time: products of the forward and of the backward pass, norm and Adam, the rest.
/// The parts are timed separately from the step, so the rest could be below 0 on a busy machine.
fn shares() -> Result<Vec<Shares>> {
    let flags = ["--threads", "1", "--steps", "15", "--encode", "0", "--evaluate", "0", "--json"];
    let report: Value = serde_json::from_str(&bench(&flags, "")?)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let of = |size: &Value| {
        let measured = &size["measured"][0];
        let total = number(&measured["step"]["seconds"]["median"]);
        let products = |pass: &str| -> f64 {
            let products = list(&measured["products"]);
            let of_pass = products.iter().filter(|product| product["pass"] == *pass);
            of_pass.map(|product| number(&product["seconds"]["median"])).sum::<f64>() / total
        };
        let (forward, backward) = (products("forward"), products("backward"));
        let update = number(&measured["update"]["median"]) / total;
        let name = size["size"].as_str().unwrap_or_default().to_owned();
        (name, total, [forward, backward, update, 1.0 - forward - backward - update])
    };
    Ok(list(&report["sizes"]).iter().map(of).collect())
}

/// Draws the shares of the time at the three sizes and, below them, a curve for each letter.
fn draw(shares: &[Shares], curves: &[(&str, Vec<Point>)], all: usize) -> String {
    const PARTS: [(&str, &str); 4] = [
        ("products, forward", "#1f5fa8"),
        ("products, backward", "#6fa3d8"),
        ("norm and Adam", "#c2571a"),
        ("the rest: gates, sums, the tree", "#bbb"),
    ];
    let text = |x: f64, y: f64, anchor: &str, words: &str| {
        format!(r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="#333">{words}</text>"##) + "\n"
    };
    let mut svg = String::from(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 400" font-family="sans-serif" font-size="12">"#,
    );
    svg += "\n<rect width=\"760\" height=\"400\" fill=\"white\"/>\n";
    svg += &text(20.0, 20.0, "start", "where the time of a training step goes, 1 thread");
    for (k, (name, total, parts)) in shares.iter().enumerate() {
        let y = 34.0 + 26.0 * k as f64;
        svg += &text(60.0, y + 14.0, "end", name);
        let mut x = 68.0;
        for (part, (_, colour)) in parts.iter().zip(PARTS) {
            let width = 560.0 * part.max(0.0);
            let _ = writeln!(svg, r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="20" fill="{colour}"/>"#);
            x += width;
        }
        svg += &text(638.0, y + 14.0, "start", &format!("{:.1} ms", 1e3 * total));
    }
    let mut x = 68.0;
    for (label, colour) in PARTS {
        let _ = writeln!(svg, r#"<rect x="{x:.1}" y="120" width="12" height="12" fill="{colour}"/>"#);
        svg += &text(x + 17.0, 130.5, "start", label);
        x += 40.0 + 6.2 * label.len() as f64;
    }

    svg += &text(
        20.0,
        172.0,
        "start",
        "a step of the paper's size with one letter changed: milliseconds, both axes logarithmic",
    );
    let _ = writeln!(svg, r##"<path d="M560 168h22" stroke="#c2571a" stroke-width="2"/>"##);
    svg += &text(588.0, 172.0, "start", "1 thread");
    let _ = writeln!(svg, r##"<path d="M660 168h22" stroke="#1f5fa8" stroke-width="2"/>"##);
    svg += &text(688.0, 172.0, "start", &format!("{all} threads"));
    let slowest = curves.iter().flat_map(|(_, points)| points).flat_map(|p| p.seconds).fold(0.5, f64::max);
    let (low, high) = (10f64.ln(), (1.2e3 * slowest).ln());
    let height = |seconds: f64| 370.0 - 160.0 * ((1e3 * seconds).ln() - low) / (high - low);
    for (k, (letter, points)) in curves.iter().enumerate() {
        let left = 60.0 + 178.0 * k as f64;
        let ticks = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
        for tick in ticks.into_iter().filter(|tick| *tick <= 1e3 * slowest) {
            let y = height(tick / 1e3);
            let _ = writeln!(svg, r##"<path d="M{left:.1} {y:.1}h130" stroke="#ddd"/>"##);
            if k == 0 {
                svg += &text(left - 5.0, y + 4.0, "end", &format!("{tick}"));
            }
        }
        let (first, last) = (points[0].at.ln(), points[points.len() - 1].at.ln());
        let across = |at: f64| left + 130.0 * (at.ln() - first) / (last - first);
        for (threads, colour) in [(0, "#c2571a"), (1, "#1f5fa8")] {
            let line: Vec<String> =
                points.iter().map(|p| format!("{:.1},{:.1}", across(p.at), height(p.seconds[threads]))).collect();
            let _ = writeln!(
                svg,
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.8"/>"#,
                line.join(" ")
            );
        }
        for point in points {
            let label = if *letter == "T" { format!("×{}", point.at) } else { format!("{}", point.at) };
            svg += &text(across(point.at), 388.0, "middle", &label);
        }
        svg += &text(left + 4.0, 206.0, "start", letter);
    }
    svg + "</svg>\n"
}
