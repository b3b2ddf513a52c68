//! `dht get`, `put`, `delete`, `announce`, `peers`, `status`, `dump` and `trace`: commands that ask a node, over the HTTP that it serves.

mod cleanup;
mod door;
mod output;
mod patience;
mod printed;
mod upload;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Builder;
use axum::http::{Method, Request as HttpRequest, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use crate::args::{ClientPlan, Condition, DumpFormat, Request};
use crate::node;
use crate::say;
use crate::signals::SignalsError;
use cleanup::Cleanup;
use door::Door;
use output::{Output, Unfinished};
use upload::Upload;

/// What stands for itself in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{url} is no address of a node; http://HOST:PORT is")]
    Url { url: String },
    #[error("cannot reach a node at {place}: {error}; is it running (dht node --http)?")]
    Unreachable { place: String, error: io::Error },
    #[error("the node at {place} has said nothing for {time:?}; it may hang, or need more time: --timeout")]
    Silent { place: String, time: Duration },
    #[error("cannot join the network through {entrances}: {error}")]
    NotJoined { entrances: String, error: node::Unjoined },
    #[error(transparent)]
    Node(#[from] node::Failure),
    #[error(transparent)]
    Server(#[from] crate::api::ServerError),
    #[error("cannot read {}: {error}", .path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("cannot write {}: {error}", .path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("the node's answer is none: {0}")]
    Answer(String),
    #[error("the request is wrong: {0}")]
    Wrong(String),
    #[error("the node cannot say: {0}")]
    Node5xx(String),
    #[error("cannot start the runtime: {0}")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Signals(#[from] SignalsError),
    #[error("cannot print the result: {0}")]
    Print(#[from] io::Error),
}

impl Failure {
    /// Whether the arguments are to blame.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Failure::Url { .. } | Failure::Read { .. } | Failure::Wrong(_) => true,
            Failure::Node(failure) => failure.is_usage(),
            _ => false,
        }
    }
}

/// Asks, and prints the answer. Whether it was found, or done.
pub(crate) fn run(plan: ClientPlan) -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    let cleanup = Cleanup::default();
    let result = runtime.block_on(cleanup.unless_interrupted(ask(plan, cleanup.clone())));
    // Standard input may be read by a thread that nobody can stop.
    runtime.shutdown_background();
    result
}

async fn ask(plan: ClientPlan, cleanup: Cleanup) -> Result<bool, Failure> {
    let token = match &plan.token_file {
        Some(path) => {
            let read = std::fs::read_to_string(path);
            Some(read.map_err(|error| Failure::Read { path: path.clone(), error })?.trim().to_owned())
        }
        None => None,
    };
    // What cannot be read is said before anybody is asked.
    let upload = match &plan.request {
        Request::Put { value, .. } => upload::body(value)?,
        _ => Upload::default(),
    };
    let door = Door::open(plan.door, plan.timeout, &cleanup).await?;
    let asker = Asker { door, token, json: plan.json, cleanup };
    match plan.request {
        Request::Get { key, output } => asker.get(&key, output).await,
        Request::Put { key, kind, condition, .. } => {
            let kind = kind.map(|kind| format!("?type={}", kind.name())).unwrap_or_default();
            asker.put(&format!("{}{kind}", path("dht", &key)), condition, upload).await
        }
        Request::Delete { key } => {
            let request = asker.request(Method::DELETE, &path("dht", &key));
            asker.show(request, Upload::default(), printed::receipt).await
        }
        Request::Announce { info_hash, port } => {
            let port = port.map(|port| format!("?port={port}")).unwrap_or_default();
            let request = asker.request(Method::PUT, &format!("{}{port}", path("peers", &info_hash)));
            asker.show(request, Upload::default(), printed::receipt).await
        }
        Request::Peers { info_hash } => {
            let request = asker.request(Method::GET, &path("peers", &info_hash));
            asker.show_if(request, Upload::default(), printed::peers, printed::has_peers).await
        }
        Request::Health => asker.health().await,
        Request::Status => asker.show(asker.request(Method::GET, "/status"), Upload::default(), printed::status).await,
        Request::Dump { format } => asker.dump(format).await,
        Request::Trace { key } => {
            let request = asker.request(Method::GET, &path("trace", &key));
            asker.show_if(request, Upload::default(), printed::trace, printed::has_found).await
        }
    }
}

fn path(resource: &str, key: &str) -> String {
    format!("/{resource}/{}", utf8_percent_encode(key, PATH))
}

/// Asks a node.
#[derive(Debug)]
struct Asker {
    door: Door,
    token: Option<String>,
    json: bool,
    cleanup: Cleanup,
}

impl Asker {
    fn request(&self, method: Method, path: &str) -> Builder {
        let request = HttpRequest::builder().method(method).uri(path).header(header::HOST, self.door.host());
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    async fn send(&self, request: Builder, upload: Upload) -> Result<Response<Body>, Failure> {
        let request = request.body(upload.body).map_err(|error| Failure::Wrong(error.to_string()))?;
        self.door.send(request, upload.turn).await
    }

    /// Asks, and prints the answer as words or as it is.
    async fn show(&self, request: Builder, upload: Upload, words: fn(&Json) -> String) -> Result<bool, Failure> {
        self.show_if(request, upload, words, |_| true).await
    }

    /// The same, of an answer that can say that there is nothing.
    async fn show_if(
        &self,
        request: Builder,
        upload: Upload,
        words: fn(&Json) -> String,
        is_good: fn(&Json) -> bool,
    ) -> Result<bool, Failure> {
        let response = self.send(request, upload).await?;
        let Some((text, json)) = self.judged(response).await? else { return Ok(false) };
        let shown = if self.json { text } else { words(&json) };
        if shown.is_empty() {
            say("nothing was found");
        } else {
            line(&shown)?;
        }
        Ok(is_good(&json))
    }

    /// A good answer, as it is and as JSON. What was not found or is refused is said, and gives none.
    async fn judged(&self, response: Response<Body>) -> Result<Option<(String, Json)>, Failure> {
        let status = response.status();
        let bytes = self.whole(response).await?;
        let json: Json = serde_json::from_slice(&bytes).map_err(|error| Failure::Answer(error.to_string()))?;
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if status.is_success() {
            return Ok(Some((text, json)));
        }
        let told = |field| json.pointer(field).and_then(Json::as_str);
        let message = told("/error/message").unwrap_or("it does not say why").to_owned();
        let is_refusal = matches!(told("/error/code"), Some("not_stored" | "no_peers" | "nobody_answered"));
        match status {
            StatusCode::BAD_REQUEST => Err(Failure::Wrong(message)),
            _ if status.is_client_error() || is_refusal => {
                say(&message);
                if self.json {
                    line(&text)?;
                }
                Ok(None)
            }
            _ => Err(Failure::Node5xx(message)),
        }
    }

    async fn get(&self, key: &str, output: Option<PathBuf>) -> Result<bool, Failure> {
        let response = self.send(self.request(Method::GET, &path("dht", key)), Upload::default()).await?;
        if !response.status().is_success() {
            return self.judged(response).await.map(|answer| answer.is_some());
        }
        if self.json {
            let headers = response.headers();
            let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
            let version = tag.map(|tag| tag.trim_matches('"').to_owned());
            let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|name| name == "application/json");
            let kind = headers.get("value-type").and_then(|kind| kind.to_str().ok()).map(str::to_owned);
            let value = self.whole(response).await?;
            line(&printed::value(key, version.as_deref(), kind.as_deref(), &value, is_json).to_string())?;
            return Ok(true);
        }
        match output {
            Some(path) => self.write(response, &path).await?,
            None => {
                let mut out = io::stdout();
                self.door.copy(response, |piece| Ok(out.write_all(piece)?)).await?;
                out.flush()?;
            }
        }
        Ok(true)
    }

    /// Puts an answer into a file, all of it or nothing.
    async fn write(&self, response: Response<Body>, path: &Path) -> Result<(), Failure> {
        let failed = |error| Failure::Write { path: path.to_owned(), error };
        let unfinished = Unfinished::default();
        let removed = unfinished.clone();
        self.cleanup.on_interrupt(move || removed.remove_for_good())?;
        let mut output = Output::begin(path, &unfinished).map_err(failed)?;
        self.door.copy(response, |piece| output.write(piece).map_err(failed)).await?;
        output.end().map_err(failed)
    }

    async fn put(&self, path: &str, condition: Condition, upload: Upload) -> Result<bool, Failure> {
        let content_type = "application/octet-stream";
        let request = self.request(Method::PUT, path).header(header::CONTENT_TYPE, content_type);
        let request = match condition {
            Condition::None => request,
            Condition::Version(version) => request.header(header::IF_MATCH, format!("\"{version}\"")),
            Condition::Absent => request.header(header::IF_NONE_MATCH, "*"),
        };
        let request = match upload.length {
            Some(length) => request.header(header::CONTENT_LENGTH, length),
            None => request,
        };
        self.show(request, upload, printed::receipt).await
    }

    /// Whether the node is well.
    async fn health(&self) -> Result<bool, Failure> {
        let response = self.send(self.request(Method::GET, "/healthz"), Upload::default()).await?;
        let is_well = response.status().is_success();
        let bytes = self.whole(response).await?;
        let json: Json = serde_json::from_slice(&bytes).map_err(|error| Failure::Answer(error.to_string()))?;
        if json.get("status").is_none() {
            return Err(Failure::Answer("it says nothing of its health".to_owned()));
        }
        line(&if self.json { json.to_string() } else { printed::health(&json) })?;
        Ok(is_well)
    }

    async fn dump(&self, format: DumpFormat) -> Result<bool, Failure> {
        let format = match format {
            DumpFormat::Json => "json",
            DumpFormat::Plantuml => "plantuml",
            DumpFormat::Dot => "dot",
        };
        let response =
            self.send(self.request(Method::GET, &format!("/dump?format={format}")), Upload::default()).await?;
        if !response.status().is_success() {
            return self.judged(response).await.map(|answer| answer.is_some());
        }
        let text = self.whole(response).await?;
        if self.json && format != "json" {
            line(&json!({ format: String::from_utf8_lossy(&text) }).to_string())?;
        } else {
            line(String::from_utf8_lossy(&text).trim_end())?;
        }
        Ok(true)
    }

    /// All of an answer.
    async fn whole(&self, response: Response<Body>) -> Result<Vec<u8>, Failure> {
        let mut whole = Vec::new();
        let add = |piece: &[u8]| {
            whole.extend_from_slice(piece);
            Ok(())
        };
        self.door.copy(response, add).await?;
        Ok(whole)
    }
}

fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
