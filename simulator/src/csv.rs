//! Findings as a table for other programs: CSV, as in RFC 4180.

use std::fmt::Write;

use crate::Report;
use crate::experiment::Findings;

/// All points of all series, a row for each, or one row if there are none. The first two columns say which series and
/// where on its axis; each of the others is a figure of [`Report`], empty where it does not apply.
///
/// Nothing needs quotes: there are numbers, names of axes and hashes in it. [`Report::told`] is left out.
pub fn csv(findings: &Findings) -> String {
    let mut text = String::from("axis,at");
    for (name, _) in columns(&findings.report) {
        text.extend([",", name]);
    }
    text.push_str("\r\n");
    let mut row = |start: &str, report: &Report| {
        text.push_str(start);
        for (_, value) in columns(report) {
            text.extend([",", &value]);
        }
        text.push_str("\r\n");
    };
    let mut start = String::new();
    for (axis, point) in findings.series.iter().flat_map(|series| series.points.iter().map(|at| (series.axis, at))) {
        start.clear();
        // Writing to a string cannot fail.
        write!(start, "{axis},{}", point.at).ok();
        row(&start, &point.report);
    }
    if start.is_empty() {
        row(",", &findings.report);
    }
    text
}

/// The columns and their values. It names all fields, so that the compiler asks about a new one.
fn columns(report: &Report) -> Vec<(&'static str, String)> {
    fn text(number: Option<impl ToString>) -> String {
        number.map(|number| number.to_string()).unwrap_or_default()
    }
    macro_rules! columns {
        ($($kind:ident $field:ident),* $(,)?) => {{
            let Report { $($field,)* told: _ } = report;
            [$(columns!(@$kind $field)),*].concat()
        }};
        (@number $field:ident) => { vec![(stringify!($field), $field.to_string())] };
        (@maybe $field:ident) => { vec![(stringify!($field), text(*$field))] };
        (@bounds $field:ident) => {
            vec![
                (concat!(stringify!($field), "_low"), text($field.map(|(low, _)| low))),
                (concat!(stringify!($field), "_high"), text($field.map(|(_, high)| high))),
            ]
        };
    }
    columns! {
        number nodes, number seed,
        number lookups, number lookups_failed, maybe exact, bounds exact_interval, maybe requests_per_lookup, maybe messages_per_lookup, maybe hops,
        maybe p50_ms, maybe p90_ms, maybe p99_ms,
        number gets, number gets_failed, maybe get_success, bounds get_success_interval, maybe messages_per_get,
        maybe get_p50_ms, maybe get_p99_ms,
        number deleted, number outdated, number holders_failed, number expired, number unreachable, number out_of_reach, number healing, number unexplained,
        number missed, number wrong, number lies, number refused_records, number unpinned, maybe deceived, bounds deceived_interval,
        number saves, number saves_failed, maybe messages_per_save, number unsaved, number records, number lost,
        maybe fewest_copies, maybe full_copies, bounds full_copies_interval, maybe outdated_copies,
        number abandoned, number joining, number joins, number joins_failed,
        maybe stale, maybe timeouts, maybe bytes_per_node_s,
        number delivered, number measured_s, number virtual_s, number violations, number trace_hash,
        number events, maybe events_per_s, maybe delivered_per_s, maybe wall_s, maybe peak_rss_mib,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Point, Series};

    fn findings(series: Vec<Series>) -> Findings {
        let report = Report { nodes: 9, trace_hash: "00ff".to_owned(), ..Report::default() };
        Findings { experiment: "churn", report, series }
    }

    fn column<'a>(rows: &[Vec<&'a str>], name: &str) -> Vec<&'a str> {
        let place = rows[0].iter().position(|header| *header == name).unwrap();
        rows.iter().skip(1).map(|row| row[place]).collect()
    }

    #[test]
    fn a_row_for_each_point_and_a_column_for_each_figure() {
        let report = Report { nodes: 3, exact: Some(0.5), exact_interval: Some((0.25, 0.75)), ..Report::default() };
        let point = |at, report: &Report| Point { at, report: report.clone() };
        let hours = vec![point(1.0, &report), point(1.5, &Report::default())];
        let text = csv(&findings(vec![Series { axis: "hours", points: hours }]));
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert!(rows.len() == 3 && rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert_eq!((column(&rows, "axis"), column(&rows, "at")), (vec!["hours"; 2], vec!["1", "1.5"]));
        assert_eq!((column(&rows, "nodes"), column(&rows, "exact")), (vec!["3", "0"], vec!["0.5", ""]));
        assert_eq!(
            (column(&rows, "exact_interval_low"), column(&rows, "exact_interval_high")[0]),
            (vec!["0.25", ""], "0.75")
        );
    }

    #[test]
    fn without_series_there_is_the_whole() {
        let text = csv(&findings(Vec::new()));
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!((rows.len(), column(&rows, "nodes"), column(&rows, "trace_hash")), (2, vec!["9"], vec!["00ff"]));
    }
}
