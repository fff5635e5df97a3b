//! A figure with one axis of numbers: lines, dots and a legend, as SVG.

use std::fmt::Write;

/// Width and height of the figure.
const SIZE: [f64; 2] = [720.0, 340.0];
/// Left, right, top and bottom of the axes.
const AXES: [f64; 4] = [60.0, 520.0, 20.0, 290.0];
/// Distinct with every kind of colour vision (Okabe and Ito 2008).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555", "#000000"];

/// A figure that is being drawn.
pub(crate) struct Chart {
    svg: String,
    /// The numbers at the bottom and at the top.
    low: f64,
    high: f64,
    legends: usize,
    /// Characters of the longest legend.
    longest: usize,
}

/// How a line looks.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    colour: &'static str,
    dash: &'static str,
}

impl Style {
    /// The style of a series; after all colours come all of them dashed.
    pub(crate) fn of(series: usize) -> Self {
        let dash = if (series / COLOURS.len()).is_multiple_of(2) { "" } else { "6 4" };
        Self { colour: COLOURS[series % COLOURS.len()], dash }
    }

    /// The same colour, dashed.
    pub(crate) fn dashed(self) -> Self {
        Self { dash: "6 4", ..self }
    }
}

impl Chart {
    /// Axes for these numbers, with a line at each round one, and what they are.
    #[allow(clippy::cast_possible_truncation)] // a number of lines
    pub(crate) fn new(numbers: impl Iterator<Item = f64>, what: &str) -> Self {
        let (low, high) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 600.0) };
        let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0].into_iter().find(|step| (high - low) / step <= 10.0);
        let step = step.unwrap_or(100.0);
        let low = (low / step).floor() * step;
        let high = ((high / step).ceil() * step).max(low + step);
        let [width, height] = SIZE;
        let svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' font-family='sans-serif' font-size='13'>\n\
             <rect width='100%' height='100%' fill='white'/>\n"
        );
        let mut chart = Self { svg, low, high, legends: 0, longest: 0 };
        let [left, right, top, bottom] = AXES;
        for tick in 0..=((high - low) / step).round() as i64 {
            let number = low + tick as f64 * step;
            let y = chart.y(number);
            chart.add(&format!(
                "<line x1='{left}' x2='{right}' y1='{y:.1}' y2='{y:.1}' stroke='#e0e0e0'/>\
                 <text x='{}' y='{:.1}' text-anchor='end'>{number}</text>",
                left - 8.0,
                y + 4.0
            ));
        }
        let middle = f64::midpoint(top, bottom);
        chart.add(&format!(
            "<text x='16' y='{middle}' transform='rotate(-90 16 {middle})' text-anchor='middle'>{}</text>",
            escaped(what)
        ));
        chart
    }

    fn add(&mut self, element: &str) {
        let _ = writeln!(self.svg, "{element}");
    }

    fn y(&self, number: f64) -> f64 {
        let [.., top, bottom] = AXES;
        bottom - (number - self.low) / (self.high - self.low) * (bottom - top)
    }

    /// The middle of a place of some along the horizontal axis.
    pub(crate) fn x(place: usize, of: usize) -> f64 {
        let [left, right, ..] = AXES;
        left + (right - left) * (place as f64 + 0.5) / of.max(1) as f64
    }

    /// A text below the horizontal axis.
    pub(crate) fn below(&mut self, x: f64, text: &str) {
        self.add(&format!("<text x='{x:.1}' y='{}' text-anchor='middle'>{}</text>", AXES[3] + 22.0, escaped(text)));
    }

    /// A dot, full or empty.
    pub(crate) fn dot(&mut self, x: f64, number: f64, style: Style, full: bool) {
        let fill = if full { style.colour } else { "white" };
        let y = self.y(number);
        self.add(&format!("<circle cx='{x:.1}' cy='{y:.1}' r='3.5' fill='{fill}' stroke='{}'/>", style.colour));
    }

    /// A line through points; thin for a single seed. Nothing for no points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], style: Style, thin: bool) {
        if points.is_empty() {
            return;
        }
        let points: Vec<String> = points.iter().map(|&(x, number)| format!("{x:.1},{:.1}", self.y(number))).collect();
        let (width, opacity) = if thin { (1.0, 0.35) } else { (2.0, 1.0) };
        self.add(&format!(
            "<polyline points='{}' fill='none' stroke='{}' stroke-width='{width}' stroke-opacity='{opacity}' stroke-dasharray='{}'/>",
            points.join(" "),
            style.colour,
            style.dash
        ));
    }

    /// A line of the legend.
    pub(crate) fn legend(&mut self, style: Style, text: &str) {
        let [_, right, top, _] = AXES;
        let y = top + 20.0 * self.legends as f64 + 4.0;
        self.legends += 1;
        self.longest = self.longest.max(text.chars().count());
        self.add(&format!(
            "<line x1='{}' x2='{}' y1='{y}' y2='{y}' stroke='{}' stroke-width='2' stroke-dasharray='{}'/>\
             <text x='{}' y='{}'>{}</text>",
            right + 10.0,
            right + 34.0,
            style.colour,
            style.dash,
            right + 40.0,
            y + 4.0,
            escaped(text)
        ));
    }

    /// The figure, wide and high enough for its legend.
    pub(crate) fn finish(self) -> String {
        const CHARACTER: f64 = 8.0;
        let [width, height] = SIZE;
        let wide = width.max(AXES[1] + 50.0 + CHARACTER * self.longest as f64);
        let high = height.max(AXES[2] + 20.0 * self.legends as f64 + 10.0);
        let [before, after] = [[width, height], [wide, high]].map(|[w, h]| format!("viewBox='0 0 {w} {h}'"));
        self.svg.replacen(&before, &after, 1) + "</svg>\n"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_has_at_most_ten_steps_and_covers_all_numbers() {
        let mut chart = Chart::new([3.2, 471.0].into_iter(), "dev rsum");
        assert_eq!((chart.low, chart.high), (0.0, 500.0));
        chart.line(&[], Style::of(0), false);
        assert!(!chart.svg.contains("polyline"));
        assert_eq!((chart.y(0.0), chart.y(500.0)), (AXES[3], AXES[2]));
        let flat = Chart::new([528.9].into_iter(), "");
        assert!(flat.low <= 528.9 && 528.9 < flat.high);
        let none = Chart::new(std::iter::empty(), "");
        assert_eq!((none.low, none.high), (0.0, 600.0));
    }

    #[test]
    fn names_are_text_and_a_long_legend_makes_the_figure_higher() {
        let mut chart = Chart::new(std::iter::empty(), "");
        (0..20).for_each(|k| chart.legend(Style::of(k), "a < b & c"));
        let svg = chart.finish();
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("viewBox='0 0 720 430'"), "{svg}");
        assert_eq!(svg.matches("6 4").count(), 8);
    }
}
