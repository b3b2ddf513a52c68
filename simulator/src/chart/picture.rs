//! How a picture is drawn: a title, and panels one below the other that share an axis.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::ChartError;
use super::axis::{Axis, Unit};

/// Colours that the colour-blind can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);

const WIDTH: u32 = 900;
const TITLE: u32 = 64;
const LEGEND: u32 = 30;
/// The space for what is written at the y axis.
const LEFT: u32 = 96;
const RIGHT: u32 = 28;
const EDGE: u32 = 12;
/// The size of letters, in pixels.
const LETTERS: f64 = 13.0;
/// The width of a letter beside its size, about, on average. There is no font to measure.
const LETTER_WIDTH: f64 = 0.53;

/// A line, and how sure its points are.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
    /// The bounds of each point.
    pub(super) bounds: Vec<(f64, (f64, f64))>,
}

/// What a y axis spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// From zero.
    FromZero,
    /// Shares close to all: up to 100 %, and no farther down than there is something.
    UpToAll,
}

/// Lines with a y axis of their own.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) label: &'static str,
    pub(super) unit: Unit,
    pub(super) span: Span,
    pub(super) lines: Vec<Line>,
}

/// A whole picture.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) title: &'static str,
    pub(super) subtitle: String,
    /// What is written at the x axis.
    pub(super) label: &'static str,
    pub(super) axis: Axis,
    pub(super) panels: Vec<Panel>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failed = Box<dyn Error + Send + Sync>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

impl Panel {
    fn axis(&self) -> Axis {
        let values = self.lines.iter().flat_map(|line| {
            let bounds = line.bounds.iter().flat_map(|(_, (low, high))| [*low, *high]);
            line.points.iter().map(|(_, value)| *value).chain(bounds)
        });
        let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        match self.span {
            Span::FromZero => Axis::round(0.0, high, self.unit),
            Span::UpToAll if low < 0.5 => Axis::round(0.0, 1.0, self.unit),
            // Not so close that a single miss in many thousands looks like a collapse.
            Span::UpToAll => Axis::round(low.clamp(0.0, 0.999), 1.0, self.unit),
        }
    }

    #[cfg(test)]
    pub(super) fn has_room_for_legend(&self) -> bool {
        let bounds = self.lines.iter().filter(|line| !line.bounds.is_empty()).map(|_| INTERVAL);
        let texts = self.lines.iter().map(|line| line.name).chain(bounds);
        let width: i32 = texts.map(|text| SIGN + reach(text) + GAP).sum();
        LEFT as i32 + width - GAP <= WIDTH as i32
    }

    fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points.is_empty())
    }
}

impl Drawing {
    /// The picture as SVG; `None` if there is nothing to be drawn.
    pub(super) fn svg(mut self) -> Result<Option<String>, ChartError> {
        self.panels.retain(|panel| !panel.is_empty());
        if self.panels.is_empty() {
            return Ok(None);
        }
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| ChartError { title: self.title, error: error.to_string() })?;
        Ok(Some(svg))
    }

    fn draw(&self, svg: &mut String) -> Result<(), Failed> {
        let panel = if self.panels.len() == 1 { 400 } else { 250 };
        let count = u32::try_from(self.panels.len())?;
        let root = SVGBackend::with_string(svg, (WIDTH, TITLE + panel * count + 30)).into_drawing_area();
        root.fill(&WHITE)?;
        let (top, mut below) = root.split_vertically(TITLE);
        let left = i32::try_from(LEFT)?;
        top.draw(&Text::new(self.title, (left, 14), font(19.0).style(FontStyle::Bold).color(&INK)))?;
        top.draw(&Text::new(self.subtitle.as_str(), (left, 41), font(fitting(&self.subtitle)).color(&INK)))?;
        for (index, one) in self.panels.iter().enumerate() {
            let is_last = index + 1 == self.panels.len();
            let (area, rest) = below.split_vertically(if is_last { panel + 30 } else { panel });
            below = rest;
            self.draw_panel(one, is_last, &area)?;
        }
        root.present()?;
        Ok(())
    }

    fn draw_panel(&self, panel: &Panel, is_last: bool, area: &Area<'_>) -> Result<(), Failed> {
        let (legend, area) = area.split_vertically(LEGEND);
        draw_legend(panel, &legend)?;
        let mut chart = ChartBuilder::on(&area)
            .margin_left(EDGE)
            .margin_right(RIGHT)
            .margin_bottom(8)
            .margin_top(4)
            .set_label_area_size(LabelAreaPosition::Left, LEFT - EDGE)
            .set_label_area_size(LabelAreaPosition::Bottom, if is_last { 54 } else { 28 })
            .build_cartesian_2d(self.axis.clone(), panel.axis())?;
        let mut mesh = chart.configure_mesh();
        mesh.bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(font(LETTERS).color(&INK))
            .axis_desc_style(font(LETTERS + 1.0).color(&INK))
            .y_desc(panel.label);
        if is_last {
            mesh.x_desc(self.label);
        }
        mesh.draw()?;
        for (index, line) in panel.lines.iter().enumerate() {
            self.draw_line(line, index, &mut chart)?;
        }
        Ok(())
    }

    fn draw_line(&self, line: &Line, index: usize, chart: &mut Chart<'_, '_>) -> Result<(), Failed> {
        let colour = colour(index);
        let bounds = || line.bounds.iter().map(|(x, bounds)| (self.axis.place(*x), *bounds));
        let low = bounds().map(|(x, (low, _))| (x, low));
        let outline: Vec<(f64, f64)> = low.chain(bounds().rev().map(|(x, (_, high))| (x, high))).collect();
        if line.bounds.len() > 1 {
            chart.draw_series([Polygon::new(outline, colour.mix(0.2))])?;
        } else {
            chart.draw_series([PathElement::new(outline, colour.mix(0.4).stroke_width(5))])?;
        }
        let points = || line.points.iter().map(|(x, y)| (self.axis.place(*x), *y));
        chart.draw_series([PathElement::new(points().collect::<Vec<_>>(), colour.stroke_width(width(index)))])?;
        match index {
            0 => chart.draw_series(points().map(|point| Circle::new(point, 5, colour.filled())))?,
            1 => chart.draw_series(points().map(|point| TriangleMarker::new(point, 6, colour.filled())))?,
            _ => chart.draw_series(points().map(|point| Cross::new(point, 5, colour.stroke_width(2))))?,
        };
        Ok(())
    }
}

/// The name of the bounds of the line before.
const INTERVAL: &str = "95 % interval";

/// What shows a line or its bounds in a legend, with the gap after it.
const SIGN: i32 = 36;
const GAP: i32 = 24;

/// How far the text of a legend reaches, about.
fn reach(text: &str) -> i32 {
    (text.chars().count() as f64 * LETTERS * LETTER_WIDTH) as i32
}

/// Above a panel, so that it hides nothing: the lines, from left to right.
fn draw_legend(panel: &Panel, area: &Area<'_>) -> Result<(), Failed> {
    let (mut x, y) = (i32::try_from(LEFT)?, i32::try_from(LEGEND)? / 2);
    let write = |x: &mut i32, text: &str| {
        let start = *x + SIGN;
        *x = start + reach(text) + GAP;
        area.draw(&Text::new(text.to_owned(), (start, y - 8), font(LETTERS).color(&INK)))
    };
    for (index, line) in panel.lines.iter().enumerate() {
        let colour = colour(index);
        area.draw(&PathElement::new([(x, y), (x + 28, y)], colour.stroke_width(width(index))))?;
        let middle = (x + 14, y);
        match index {
            0 => area.draw(&Circle::new(middle, 5, colour.filled()))?,
            1 => area.draw(&TriangleMarker::new(middle, 6, colour.filled()))?,
            _ => area.draw(&Cross::new(middle, 5, colour.stroke_width(2)))?,
        }
        write(&mut x, line.name)?;
        if !line.bounds.is_empty() {
            area.draw(&Rectangle::new([(x, y - 7), (x + 28, y + 7)], colour.mix(0.2).filled()))?;
            write(&mut x, INTERVAL)?;
        }
    }
    Ok(())
}

/// The first is the thickest, so that it is seen under others.
fn width(index: usize) -> u32 {
    if index == 0 { 3 } else { 2 }
}

fn colour(index: usize) -> RGBColor {
    COLOURS.get(index).copied().unwrap_or(INK)
}

/// The size of letters in which a line under the title has room.
fn fitting(text: &str) -> f64 {
    let room = f64::from(WIDTH - LEFT - RIGHT);
    LETTERS.min(room / (text.chars().count().max(1) as f64 * LETTER_WIDTH))
}

/// Letters of so many pixels. The library makes them smaller by this factor when it writes SVG.
fn font(pixels: f64) -> FontDesc<'static> {
    ("sans-serif", pixels * 1.24).into_font()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_has_smaller_letters() {
        assert_eq!(["", "1,000 nodes, seed 1"].map(fitting), [LETTERS; 2]);
        let size = fitting(&"x".repeat(160));
        assert!((9.0..LETTERS).contains(&size) && size * LETTER_WIDTH * 160.0 < f64::from(WIDTH - LEFT), "{size}");
    }
}
