//! The figures, as a table.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::Summary;

/// What stands above the table: which machine, and how it was measured.
pub(super) fn title(summary: &Summary) -> String {
    let Summary { version, nodes, runs, seed, cores, processor, .. } = summary;
    let processor = processor.as_deref().unwrap_or("processor unknown");
    let runs = if *runs == 1 { String::new() } else { format!(", medians of {runs} runs") };
    format!("dht {version} on {cores} cores ({processor}); {nodes} nodes, seed {seed}{runs}")
}

pub(super) fn table(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["figure", "value", ""]);
    for (figure, value) in summary.figures.iter() {
        table.add_row([figure.name, &number(value), figure.unit]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// With as many digits as are worth reading.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0123, 0.5, 7.456, 12.34, 91_234.5].map(number), ["0.012", "0.50", "7.46", "12.3", "91234"]);
    }
}
