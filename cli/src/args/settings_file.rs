//! A file of settings: each setting is the option of that name, so that both have the same names, values and bounds.

use std::any::TypeId;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use kademlia_dht::Multiaddr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a file says: options that were not given on the command line, and where in the file each stands.
#[derive(Debug)]
pub(super) struct Settings {
    /// As they would be written on the command line.
    pub(super) arguments: Vec<OsString>,
    pub(super) places: Places,
}

/// Where in a file the settings stand that count.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    path: PathBuf,
    /// Of each setting its values and their lines.
    lines: BTreeMap<String, Vec<(String, usize)>>,
}

/// One value of a setting.
struct Given {
    /// As it would be written on the command line.
    argument: String,
    text: String,
    offset: usize,
}

impl Settings {
    /// Reads the file. `command` has the options, and `given` those of the command line, which win.
    ///
    /// # Errors
    ///
    /// What is wrong, with file and line.
    pub(super) fn read(path: &Path, command: &Command, given: &ArgMatches) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Self::of_text(&text, path, command, given)
    }

    fn of_text(text: &str, path: &Path, command: &Command, given: &ArgMatches) -> Result<Self, String> {
        let line_at = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        let wrong = |offset: usize, what: &str| format!("{}, line {}: {what}", path.display(), line_at(offset));
        let table =
            DeTable::parse(text).map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message()))?;
        let places = Places { path: path.to_owned(), lines: BTreeMap::new() };
        let mut settings = Settings { arguments: Vec::new(), places };
        for (name, value) in table.get_ref() {
            let values = values(command, name, value).map_err(|(offset, error)| wrong(offset, &error))?;
            let name = name.get_ref().as_ref();
            if given.value_source(&name.replace('-', "_")) != Some(ValueSource::CommandLine) {
                let lines = values.iter().map(|value| (value.text.clone(), line_at(value.offset))).collect();
                settings.places.lines.insert(name.to_owned(), lines);
                settings.arguments.extend(values.into_iter().map(|value| OsString::from(value.argument)));
            }
        }
        Ok(settings)
    }
}

impl Places {
    /// File and line of a setting that counts; of several values, that of this one.
    pub(crate) fn of(&self, setting: &str, value: Option<&str>) -> Option<String> {
        let lines = self.lines.get(setting)?;
        // An address can be written in several ways.
        let is_this = |text: &str| {
            value == Some(text) || text.parse::<Multiaddr>().is_ok_and(|address| value == Some(&address.to_string()))
        };
        let this = lines.iter().find(|(text, _)| is_this(text));
        let (_, line) = this.or(lines.first())?;
        Some(format!("{}, line {line}", self.path.display()))
    }
}

/// The values of a setting, each of which was parsed as it will be. What is wrong comes with its place.
fn values(
    command: &Command,
    name: &Spanned<Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Given>, (usize, String)> {
    let (start, name) = (name.span().start, name.get_ref().as_ref());
    let option = command.get_arguments().find(|option| option.get_long() == Some(name) && name != "config");
    let option = option.filter(|option| !["help", "version"].contains(&option.get_id().as_str()));
    let unknown = || (start, format!("there is no setting `{name}`; `dht node --help` has all of them"));
    let option = option.ok_or_else(unknown)?;
    let values: Vec<_> = match value.get_ref() {
        DeValue::Array(values) if matches!(option.get_action(), ArgAction::Append) => {
            values.iter().map(|value| (value.span().start, value)).collect()
        }
        DeValue::Array(_) => return Err((start, format!("`{name}` takes one value and no list"))),
        _ => vec![(start, value)],
    };
    let mut all = Vec::new();
    for (offset, value) in values {
        let kind = Kind::of(option);
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Array(_) | DeValue::Table(_) | DeValue::Datetime(_) => {
                return Err((offset, format!("`{name}` takes a string, a number, true or false")));
            }
        };
        let argument = match (value.get_ref(), kind) {
            (DeValue::Boolean(false), Kind::Switch | Kind::Optional) => continue,
            (DeValue::Boolean(true), Kind::Switch | Kind::Optional) => format!("--{name}"),
            _ => format!("--{name}={text}"),
        };
        check(command, &argument).map_err(|error| (offset, error))?;
        if !kind.takes(value.get_ref()) {
            return Err((offset, format!("`{name}` takes {}", kind.words())));
        }
        all.push(Given { argument, text, offset });
    }
    Ok(all)
}

/// What is written in a file as the value of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An option without a value.
    Switch,
    Truth,
    Number,
    /// It has a unit, or not.
    Bytes,
    Text,
    /// Of an option that is something by itself as well.
    Optional,
}

impl Kind {
    fn of(option: &Arg) -> Self {
        let parsed = option.get_value_parser().type_id();
        if matches!(option.get_action(), ArgAction::SetTrue) {
            Kind::Switch
        } else if parsed == TypeId::of::<bool>() {
            Kind::Truth
        } else if parsed == TypeId::of::<usize>() {
            Kind::Number
        } else if parsed == TypeId::of::<u64>() {
            Kind::Bytes
        } else if option.get_num_args().is_some_and(|range| range.min_values() == 0) {
            Kind::Optional
        } else {
            Kind::Text
        }
    }

    fn takes(self, value: &DeValue<'_>) -> bool {
        match value {
            DeValue::Boolean(_) => matches!(self, Kind::Switch | Kind::Truth | Kind::Optional),
            DeValue::Integer(_) => matches!(self, Kind::Number | Kind::Bytes),
            DeValue::String(_) => matches!(self, Kind::Bytes | Kind::Text | Kind::Optional),
            _ => false,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Kind::Switch | Kind::Truth => "true or false",
            Kind::Number => "a number, without quotes",
            Kind::Bytes => "a number, or a text in quotes",
            Kind::Text => "a text in quotes",
            Kind::Optional => "a text in quotes, true or false",
        }
    }
}

/// Whether the option is right by itself.
fn check(command: &Command, argument: &str) -> Result<(), String> {
    let parsed = command.clone().no_binary_name(true).try_get_matches_from([argument]);
    parsed.map(|_| ()).map_err(|error| {
        let error = error.to_string();
        let mut lines = error.lines().map(str::trim);
        let first = lines.next().unwrap_or_default();
        let first = first.strip_prefix("error: ").unwrap_or(first);
        match lines.find(|line| line.starts_with("[possible values")) {
            Some(choices) => format!("{first} {choices}"),
            None => first.to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::super::node::NodeArgs;
    use super::*;

    fn read(text: &str, given: &[&str]) -> Result<Vec<String>, String> {
        let command = NodeArgs::augment_args(Command::new("node"));
        let given = command.clone().no_binary_name(true).try_get_matches_from(given).unwrap();
        let settings = Settings::of_text(text, Path::new("dht.toml"), &command, &given)?;
        Ok(settings.arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect())
    }

    #[test]
    fn settings_are_options_and_the_command_line_wins() {
        let text = "k = 8\nlisten = ['/ip4/127.0.0.1/udp/0', '/ip4/127.0.0.1/tcp/0']\nclient = true\nhttp = ':0'\n";
        let both = ["--listen=/ip4/127.0.0.1/udp/0", "--listen=/ip4/127.0.0.1/tcp/0"];
        assert_eq!(read(text, &["--k=3"]).unwrap(), ["--client=true", "--http=:0", both[0], both[1]]);
        assert_eq!(read("listen = '/ip4/127.0.0.1/udp/0'", &[]).unwrap(), [both[0]]);
        assert_eq!(read("client = false\nhttp = true", &[]).unwrap(), ["--client=false", "--http"]);
        assert!(read("http = false\njson = false\npublic = false", &[]).unwrap().is_empty());
        let sizes = read("http-max-body = 4096", &[]).unwrap();
        assert_eq!(
            (sizes, read("http-max-body = '4KiB'", &[]).unwrap()),
            (vec!["--http-max-body=4096".to_owned()], vec!["--http-max-body=4KiB".to_owned()])
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        for (text, expected) in [
            ("k = 8\nlisten = [", "dht.toml, line 2: "),
            ("\n\nlisen = 'x'", "dht.toml, line 3: there is no setting `lisen`; "),
            ("config = 'x'", "dht.toml, line 1: there is no setting `config`; "),
            ("# words\nk = 0", "dht.toml, line 2: invalid value '0' for '--k <NUMBER>': not a number from 1 to 100"),
            ("k = [1, 2]", "dht.toml, line 1: `k` takes one value and no list"),
            ("k = true", "dht.toml, line 1: invalid value 'true' for '--k <NUMBER>'"),
            ("[k]\nx = 1", "dht.toml, line 1: `k` takes a string, a number, true or false"),
            ("k = 1\nk = 2", "dht.toml, line 2: duplicate key"),
            (
                "listen = [\n  '/memory/1',\n\n  'nowhere',\n]",
                "dht.toml, line 4: invalid value 'nowhere' for '--listen <MULTI",
            ),
            ("listen = [\n  1,\n  [2],\n]", "dht.toml, line 2: invalid value '1' for '--listen <MULTIADDR>'"),
            ("k = '8'", "dht.toml, line 1: `k` takes a number, without quotes"),
            ("data-dir = 5", "dht.toml, line 1: `data-dir` takes a text in quotes"),
            ("data-dir = true", "dht.toml, line 1: `data-dir` takes a text in quotes"),
            ("client = 'true'", "dht.toml, line 1: `client` takes true or false"),
            ("network-name = ''", "dht.toml, line 1: a value is required for '--network-name <NAME>'"),
            (
                "hash = 'md5'",
                "dht.toml, line 1: invalid value 'md5' for '--hash <HASH>' [possible values: sha1, sha256]",
            ),
            ("request-timeout = 2", "dht.toml, line 1: invalid value '2' for '--request-timeout <TIME>': not a time"),
        ] {
            let error = read(text, &[]).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_place_is_that_of_the_value_and_only_of_what_counts() {
        let command = NodeArgs::augment_args(Command::new("node"));
        let given = command.clone().no_binary_name(true).try_get_matches_from(["--k=3"]).unwrap();
        let text = "k = 8\n\nlisten = [\n '/memory/1',\n '/memory/2',\n]\nhttp = true\n";
        let places = Settings::of_text(text, Path::new("dht.toml"), &command, &given).unwrap().places;
        let of = |setting, value| places.of(setting, value);
        assert_eq!(of("listen", Some("/memory/2")).as_deref(), Some("dht.toml, line 5"));
        assert_eq!(of("listen", None).as_deref(), Some("dht.toml, line 4"));
        assert_eq!(of("http", None).as_deref(), Some("dht.toml, line 7"));
        assert_eq!((of("k", None), of("alpha", None)), (None, None));
    }
}
