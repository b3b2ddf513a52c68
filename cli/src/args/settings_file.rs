//! A file of settings: each setting is the option of that name, so that both have the same names, values and bounds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a file says: options that were not given on the command line, and where in the file each stands.
#[derive(Debug)]
pub(super) struct Settings {
    path: PathBuf,
    /// As they would be written on the command line.
    pub(super) arguments: Vec<OsString>,
    lines: BTreeMap<String, usize>,
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
        let wrong = |line: usize, what: &str| format!("{}, line {line}: {what}", path.display());
        let table = DeTable::parse(text)
            .map_err(|error| wrong(error.span().map_or(1, |span| line_at(span.start)), error.message()))?;
        let mut settings = Settings { path: path.to_owned(), arguments: Vec::new(), lines: BTreeMap::new() };
        for (name, value) in table.get_ref() {
            let line = line_at(name.span().start);
            let name = name.get_ref().as_ref();
            let arguments = arguments(command, name, value).map_err(|error| wrong(line, &error))?;
            settings.lines.insert(name.to_owned(), line);
            let id = name.replace('-', "_");
            if given.value_source(&id) != Some(ValueSource::CommandLine) {
                settings.arguments.extend(arguments.into_iter().map(OsString::from));
            }
        }
        Ok(settings)
    }

    /// Says of what is wrong with a setting in which line of the file it stands, if it does.
    pub(super) fn place(&self, setting: &str, error: String) -> String {
        match self.lines.get(setting) {
            Some(line) => format!("{}, line {line}: {error}", self.path.display()),
            None => error,
        }
    }
}

/// A setting as options of the command line, each of which was parsed as it will be.
fn arguments(command: &Command, name: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
    let option = command.get_arguments().find(|option| option.get_long() == Some(name) && name != "config");
    let option = option.filter(|option| !["help", "version"].contains(&option.get_id().as_str()));
    let option = option.ok_or_else(|| format!("there is no setting `{name}`; `dht node --help` has all of them"))?;
    let takes_many = matches!(option.get_action(), ArgAction::Append);
    let values = match value.get_ref() {
        DeValue::Array(values) if takes_many => values.iter().collect(),
        DeValue::Array(_) => return Err(format!("`{name}` takes one value and no list")),
        _ => vec![value],
    };
    let mut arguments = Vec::new();
    for value in values {
        let argument = match value.get_ref() {
            DeValue::String(text) => format!("--{name}={text}"),
            DeValue::Integer(number) => format!("--{name}={number}"),
            DeValue::Float(number) => format!("--{name}={number}"),
            DeValue::Boolean(false) if matches!(option.get_action(), ArgAction::SetTrue) => continue,
            DeValue::Boolean(true)
                if matches!(option.get_action(), ArgAction::SetTrue)
                    || option.get_num_args().is_some_and(|range| range.min_values() == 0) =>
            {
                format!("--{name}")
            }
            DeValue::Boolean(value) => format!("--{name}={value}"),
            DeValue::Array(_) | DeValue::Table(_) | DeValue::Datetime(_) => {
                return Err(format!("`{name}` takes a string, a number, true or false"));
            }
        };
        check(command, &argument)?;
        arguments.push(argument);
    }
    Ok(arguments)
}

/// Whether the option is right by itself.
fn check(command: &Command, argument: &str) -> Result<(), String> {
    let parsed = command.clone().no_binary_name(true).try_get_matches_from([argument]);
    parsed.map(|_| ()).map_err(|error| {
        let error = error.to_string();
        let first = error.lines().next().unwrap_or_default();
        first.strip_prefix("error: ").unwrap_or(first).to_owned()
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
        assert_eq!(read(text, &["--k=3"]).unwrap(), ["--client", "--http=:0", both[0], both[1]]);
        assert_eq!(read("listen = '/ip4/127.0.0.1/udp/0'", &[]).unwrap(), [both[0]]);
        assert_eq!(read("client = false\nhttp = true", &[]).unwrap(), ["--client=false", "--http"]);
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
            ("request-timeout = 2", "dht.toml, line 1: invalid value '2' for '--request-timeout <TIME>': not a time"),
        ] {
            let error = read(text, &[]).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
