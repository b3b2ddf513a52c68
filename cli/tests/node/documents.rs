//! The documents tell of all that there is, and the files in `packaging/` are taken.

use std::fs;
use std::path::Path;

use super::process::{Node, run, text};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a text names that is in no document.
fn missing(document: &str, names: impl IntoIterator<Item = String>) -> Vec<String> {
    names.into_iter().filter(|name| !document.contains(name.as_str())).collect()
}

#[test]
fn every_setting_is_in_the_guide() {
    let help = text(&run("node --help").stdout);
    let options = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    let names = options.map(|option| option.split(|letter| !is_name(letter)).next().unwrap_or_default());
    let names: Vec<&str> = names.filter(|name| !["help", "config", ""].contains(name)).collect();
    assert!(names.len() > 20, "{names:?}");
    let rows = names.into_iter().map(|name| format!("| `{name}` |"));
    assert_eq!(missing(&document("docs/running-a-node.md"), rows), [""; 0]);
}

#[test]
fn every_resource_and_metric_is_in_its_document() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&format!("--data-dir {}", folder.path().display()));
    let resources = node.json("/openapi.json")["paths"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert!(resources.len() > 10, "{resources:?}");
    assert_eq!(missing(&document("docs/api.md"), resources), [""; 0]);

    let metrics = text(&node.get("/metrics").body);
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split_once(' ')).map(|(name, kind)| {
        let end = if kind == "counter" { "_total" } else { "" };
        format!("| `{name}{end}` | {kind} |")
    });
    let names: Vec<String> = names.collect();
    assert!(names.len() > 20, "{names:?}");
    assert_eq!(missing(&document("docs/metrics.md"), names), [""; 0]);
}

#[test]
fn the_settings_that_come_with_it_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let settings = document("packaging/dht.toml");
    // Those that are left out by a sign of comment as well.
    let all: Vec<String> = settings
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = ")).unwrap_or(line).to_owned())
        .collect();
    let (token, file) = (folder.path().join("token"), folder.path().join("dht.toml"));
    fs::write(&token, "token").unwrap();
    fs::write(&file, all.join("\n")).unwrap();
    let (data, token, file) = (folder.path().join("data"), token.display().to_string(), file.display().to_string());
    let node = Node::start(&format!(
        "--config {file} --data-dir {} --http-token-file {token} --listen /ip4/127.0.0.1/udp/0 \
         --connect /ip4/127.0.0.1/udp/9 --request-timeout 100ms",
        data.display()
    ));
    assert_eq!(node.get("/status").status, 200);
}
