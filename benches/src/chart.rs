//! Plots as SVG, with no help but text: panels side by side, bars or lines, one colour
//! for each server.

use std::fmt::{self, Write};

/// How values are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bars from zero, with their values above.
    Bars,
    /// Lines, on a scale of powers of ten.
    Lines,
}

/// A plot.
pub(crate) struct Chart {
    /// What stands above it.
    pub(crate) title: &'static str,
    /// What the values are.
    pub(crate) values: &'static str,
    /// How they are drawn.
    pub(crate) kind: Kind,
    /// Side by side, on one scale.
    pub(crate) panels: Vec<Panel>,
}

/// A part of a plot.
pub(crate) struct Panel {
    /// What stands below it.
    pub(crate) title: String,
    /// What stands along it.
    pub(crate) ticks: Vec<String>,
    /// A name, a colour and a value for each tick.
    pub(crate) series: Vec<Series>,
}

/// The values of one server.
pub(crate) struct Series {
    /// The server.
    pub(crate) name: &'static str,
    /// As CSS has it.
    pub(crate) colour: &'static str,
    /// None: not measured.
    pub(crate) values: Vec<Option<f64>>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 80.0;
const BOTTOM: f64 = 60.0;
const GAP: f64 = 24.0;

/// The values that the axis shows.
struct Scale {
    log: bool,
    low: f64,
    high: f64,
}

impl Scale {
    fn of(chart: &Chart) -> Scale {
        let values = || chart.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.values);
        let high = values().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
        let log = chart.kind == Kind::Lines;
        if !log {
            return Scale { log, low: 0.0, high: high * 1.1 };
        }
        let low = values().flatten().copied().filter(|&value| value > 0.0).fold(high, f64::min);
        Scale { log, low: power(low.log10().floor()), high: power(high.log10().ceil()).max(low * 10.0) }
    }

    fn y(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            value / self.high
        };
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        if self.log {
            let mut tick = self.low;
            while tick <= self.high * 1.001 {
                ticks.push(tick);
                tick *= 10.0;
            }
            return ticks;
        }
        // 1, 2 or 5 times a power of ten, about five of them.
        let rough = self.high / 5.0;
        let power = power(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough);
        let step = step.unwrap_or(rough);
        let mut tick = 0.0;
        while tick <= self.high {
            ticks.push(tick);
            tick += step;
        }
        ticks
    }
}

fn power(exponent: f64) -> f64 {
    10_f64.powf(exponent)
}

/// With as many digits as help.
fn short(value: f64) -> String {
    let digits = match value {
        value if value >= 20.0 || value == 0.0 => 0,
        value if value >= 1.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl Chart {
    /// The file's text.
    pub(crate) fn svg(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"16\" font-weight=\"bold\">{}</text>\n\
             <text x=\"{LEFT}\" y=\"{}\">{}</text>",
            self.title,
            TOP - 12.0,
            self.values,
        )?;
        self.legend(&mut out)?;
        let scale = Scale::of(self);
        for tick in scale.ticks() {
            let y = scale.y(tick);
            writeln!(
                out,
                "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                short(tick),
            )?;
        }
        let width = (WIDTH - LEFT - RIGHT + GAP) / self.panels.len() as f64;
        for (number, panel) in self.panels.iter().enumerate() {
            let left = LEFT + width * number as f64;
            panel.draw(&mut out, self.kind, &scale, left, width - GAP)?;
        }
        out += "</svg>\n";
        Ok(out)
    }

    fn legend(&self, out: &mut String) -> fmt::Result {
        let mut x = LEFT;
        for series in self.panels.first().map(|panel| panel.series.as_slice()).unwrap_or_default() {
            writeln!(
                out,
                "<rect x=\"{x}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{}\"/>\
                 <text x=\"{}\" y=\"46\">{}</text>",
                series.colour,
                x + 18.0,
                series.name,
            )?;
            x += 50.0 + 7.0 * series.name.len() as f64;
        }
        Ok(())
    }
}

impl Panel {
    fn draw(&self, out: &mut String, kind: Kind, scale: &Scale, left: f64, width: f64) -> fmt::Result {
        let each = width / self.ticks.len() as f64;
        for (number, tick) in self.ticks.iter().enumerate() {
            let x = left + each * (number as f64 + 0.5);
            let y = HEIGHT - BOTTOM + 18.0;
            writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{tick}</text>")?;
        }
        let (x, y) = (left + width / 2.0, HEIGHT - BOTTOM + 40.0);
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", self.title)?;
        for (number, series) in self.series.iter().enumerate() {
            let points = series.values.iter().enumerate();
            let points = points.filter_map(|(tick, &value)| Some((left + each * tick as f64, value?)));
            if kind == Kind::Bars {
                let bar = each * 0.8 / self.series.len() as f64;
                let offset = each * 0.1 + bar * number as f64;
                for (x, value) in points {
                    draw_bar(out, series.colour, scale, x + offset, bar, value)?;
                }
            } else {
                let points: Vec<_> = points.map(|(x, value)| (x + each / 2.0, scale.y(value))).collect();
                draw_line(out, series.colour, &points)?;
            }
        }
        Ok(())
    }
}

fn draw_bar(out: &mut String, colour: &str, scale: &Scale, x: f64, width: f64, value: f64) -> fmt::Result {
    let y = scale.y(value);
    writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        width * 0.9,
        HEIGHT - BOTTOM - y,
        x + width * 0.45,
        y - 5.0,
        short(value),
    )
}

fn draw_line(out: &mut String, colour: &str, points: &[(f64, f64)]) -> fmt::Result {
    let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        line.join(" ")
    )?;
    for (x, y) in points {
        writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>")?;
    }
    Ok(())
}
