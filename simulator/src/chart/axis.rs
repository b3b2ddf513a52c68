//! Axes: what they span, where their marks are, and how those are written.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::summary::grouped;

/// What an axis counts, which decides how numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// As they are.
    Number,
    /// Shares, as percent.
    Share,
    /// Hours, marked at parts of days.
    Hours,
    /// Minutes, marked at parts of hours.
    Minutes,
}

/// An axis. A place on it is the value, or its logarithm.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Places of the marks.
    pub(super) marks: Vec<f64>,
    unit: Unit,
    decimals: usize,
    logarithmic: bool,
}

impl Axis {
    /// From about `low` to about `high`, with marks at round values.
    pub(super) fn round(low: f64, high: f64, unit: Unit) -> Self {
        let span = if high > low { high - low } else { 1.0 };
        let step = step(span, unit);
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil().max(first + 1.0);
        let marks = (0..=(last - first) as usize).map(|mark| (first + mark as f64) * step).collect();
        let shown = if unit == Unit::Share { step * 100.0 } else { step };
        let exact = |decimals: &usize| {
            let scaled = shown * 10_f64.powi(*decimals as i32);
            (scaled - scaled.round()).abs() < 1e-6
        };
        let decimals = (0..6).find(exact).unwrap_or(6);
        Axis { low: first * step, high: last * step, marks, unit, decimals, logarithmic: false }
    }

    /// With marks just where there are points, as far as there is room to write at them.
    pub(super) fn of_points(points: &[f64], unit: Unit, logarithmic: bool) -> Self {
        let place = |value: f64| if logarithmic { libm::log10(value.max(1e-9)) } else { value };
        let marks: Vec<f64> = points.iter().map(|value| place(*value)).collect();
        let low = marks.iter().copied().fold(f64::INFINITY, f64::min);
        let high = marks.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let margin = if high > low { (high - low) * 0.04 } else { 0.5 };
        // From the end, since the last point is the network that was asked for.
        let mut roomy: Vec<f64> = Vec::new();
        for mark in marks.into_iter().rev() {
            if roomy.last().is_none_or(|last| last - mark >= (high - low) * 0.07) {
                roomy.push(mark);
            }
        }
        let marks = roomy;
        Axis { low: low - margin, high: high + margin, marks, unit, decimals: 0, logarithmic }
    }

    /// Where a value is.
    pub(super) fn place(&self, value: f64) -> f64 {
        if self.logarithmic { libm::log10(value.max(1e-9)) } else { value }
    }

    /// What is written at a place.
    pub(super) fn label(&self, place: f64) -> String {
        let value = if self.logarithmic { libm::exp10(place).round() } else { place };
        if self.unit == Unit::Share {
            format!("{:.*} %", self.decimals, value * 100.0)
        } else {
            grouped(&format!("{value:.*}", self.decimals))
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limits: (i32, i32)) -> i32 {
        let share = (place - self.low) / (self.high - self.low);
        limits.0 + (f64::from(limits.1 - limits.0) * share).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        self.label(*place)
    }
}

/// The distance of marks, so that there are about six.
fn step(span: f64, unit: Unit) -> f64 {
    let steps: &[f64] = match unit {
        Unit::Hours => &[1.0, 2.0, 3.0, 4.0, 6.0, 12.0, 24.0, 48.0, 72.0, 168.0],
        Unit::Minutes => &[1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 240.0],
        Unit::Number | Unit::Share => &[],
    };
    let fits = |step: &f64| span / step <= 6.0;
    if span > 2.0
        && let Some(step) = steps.iter().copied().find(fits)
    {
        return step;
    }
    let power = libm::pow(10.0, libm::log10(span).floor() - 1.0);
    let nice = [1.0, 2.0, 5.0, 10.0, 20.0].map(|nice| nice * power);
    nice.into_iter().find(fits).unwrap_or(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.marks.iter().map(|mark| axis.label(*mark)).collect()
    }

    #[test]
    fn marks_are_round() {
        assert_eq!(labels(&Axis::round(0.0, 24.0, Unit::Hours)), ["0", "4", "8", "12", "16", "20", "24"]);
        assert_eq!(labels(&Axis::round(0.0, 0.2, Unit::Hours))[..2], ["0.00", "0.05"]);
        assert_eq!(labels(&Axis::round(0.0, 120.0, Unit::Minutes))[..3], ["0", "20", "40"]);
        assert_eq!(
            labels(&Axis::round(0.9982, 1.0, Unit::Share)),
            ["99.80 %", "99.85 %", "99.90 %", "99.95 %", "100.00 %"]
        );
        assert_eq!(labels(&Axis::round(0.0, 5200.0, Unit::Number))[..2], ["0", "1,000"]);
        assert_eq!(labels(&Axis::round(0.0, 0.0, Unit::Number)).first().unwrap(), "0.0");
    }

    #[test]
    fn logarithms_are_written_as_what_they_stand_for() {
        let axis = Axis::of_points(&[100.0, 1000.0, 10_000.0], Unit::Number, true);
        assert_eq!(labels(&axis), ["10,000", "1,000", "100"]);
        assert_eq!(axis.place(1000.0), 3.0);
        // What would be written over each other is not.
        assert_eq!(labels(&Axis::of_points(&[100.0, 1000.0, 1100.0], Unit::Number, true)), ["1,100", "100"]);
    }
}
