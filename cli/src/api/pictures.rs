//! A dump as a picture: the node, its buckets, what it holds and publishes, and the requests in flight, for PlantUML or Graphviz.

use std::fmt::Write;

use super::dump::DumpBody;

/// Lines in one box. What is beyond is counted.
const MOST_LINES: usize = 200;

/// A box, with a name that is one of its kind alone.
struct Part {
    name: String,
    title: String,
    lines: Vec<(String, String)>,
}

/// What the picture has besides the node: what is empty is left out.
fn parts(dump: &DumpBody) -> Vec<Part> {
    let buckets = dump.buckets.iter().map(|bucket| Part {
        name: format!("bucket{}", bucket.index),
        title: format!("bucket {}", bucket.index),
        lines: bucket.contacts.iter().map(super::neighbours::NeighbourBody::line).collect(),
    });
    let record = |key: &str, kind: &str, version: &str, bytes: usize| {
        (key.to_owned(), format!("{kind}, version {version}, {bytes} bytes"))
    };
    let held = dump.records.iter().map(|held| record(&held.key, held.kind, &held.version, held.bytes));
    let published = dump.published.iter().map(|own| record(&own.key, own.kind, &own.version, own.bytes));
    let requests = dump.requests.iter().map(|request| {
        (format!("{} to {}", request.name, request.id.as_deref().unwrap_or("whoever is there")), request.to.clone())
    });
    let others = [
        ("store", "store", held.collect::<Vec<_>>()),
        ("published", "published", published.collect()),
        ("requests", "requests in flight", requests.collect()),
    ];
    let others =
        others.into_iter().map(|(name, title, lines)| Part { name: name.to_owned(), title: title.to_owned(), lines });
    buckets.chain(others).filter(|part| !part.lines.is_empty()).map(shortened).collect()
}

fn shortened(mut part: Part) -> Part {
    let more = part.lines.len().saturating_sub(MOST_LINES);
    part.lines.truncate(MOST_LINES);
    if more > 0 {
        part.lines.push(("and".to_owned(), format!("{more} more")));
    }
    part
}

/// For PlantUML.
pub(super) fn plantuml(dump: &DumpBody) -> String {
    let mut text = format!("@startuml\nleft to right direction\nobject \"node {}\" as node\n", dump.id);
    for Part { name, title, lines } in parts(dump) {
        writeln!(text, "map \"{title}\" as {name} {{").ok();
        for (index, (key, value)) in lines.iter().enumerate() {
            // Keys of a map must differ.
            writeln!(text, "  {}: {key} => {value}", index + 1).ok();
        }
        writeln!(text, "}}\nnode --> {name}").ok();
    }
    text.push_str("@enduml\n");
    text
}

/// For Graphviz.
pub(super) fn dot(dump: &DumpBody) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = String::from("digraph dht {\n  rankdir=LR;\n  node [shape=box, fontname=monospace];\n");
    writeln!(text, "  node0 [label=\"node {}\"];", dump.id).ok();
    for Part { name, title, lines } in parts(dump) {
        write!(text, "  {name} [label=\"{title}\\n").ok();
        for (key, value) in lines {
            write!(text, "{} {}\\l", quoted(&key), quoted(&value)).ok();
        }
        writeln!(text, "\"];\n  node0 -> {name};").ok();
    }
    text.push_str("}\n");
    text
}
