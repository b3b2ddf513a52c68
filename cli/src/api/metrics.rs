//! `/metrics`: figures for Prometheus, in the text form of OpenMetrics.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kademlia_dht::{GatewayState, GatewayStatus, Status};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::errors::ApiError;
use super::state::Api;
use super::status::{dropped, is_isolated};

/// What tells figures of one kind apart.
type Labels = Vec<(&'static str, String)>;

/// How long requests take, in seconds: from what a value takes that is at hand, to the longest lookup.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

/// What is counted of the requests over HTTP.
#[derive(Debug, Clone)]
pub(super) struct HttpMetrics {
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        HttpMetrics { requests: Family::default(), seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)) }
    }
}

impl HttpMetrics {
    fn count(&self, method: &Method, resource: &str, status: StatusCode, took: Duration) {
        let (resource, status) = (resource.to_owned(), status.as_str().to_owned());
        self.seconds.get_or_create(&vec![("resource", resource.clone())]).observe(took.as_secs_f64());
        // Anybody can make methods up.
        let known = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE, Method::OPTIONS];
        let method = if known.contains(method) { method.as_str() } else { "other" };
        let labels = vec![("method", method.to_owned()), ("resource", resource), ("status", status)];
        self.requests.get_or_create(&labels).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests over HTTP", self.requests.clone());
        let words = "What requests over HTTP took until the head of the answer was there";
        registry.register_with_unit("http_request_duration", words, Unit::Seconds, self.seconds.clone());
    }
}

/// Counts a request.
pub(super) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (start, method) = (Instant::now(), request.method().clone());
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let resource = path.as_ref().map_or("other", MatchedPath::as_str);
    api.metrics().count(&method, resource, response.status(), start.elapsed());
    response
}

/// Figures of the node, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "node",
    responses((status = 200, description = "Figures in the text form of OpenMetrics", content_type = "application/openmetrics-text", body = String))
)]
pub(super) async fn get(State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.aside(kademlia_dht::DHTService::status).await?;
    let mut registry = Registry::with_prefix("dht");
    api.metrics().register(&mut registry);
    Figures(&mut registry).of_node(&api, &status);
    let mut text = String::new();
    let encoded = encode_registry(&mut text, &registry).and_then(|()| encode_eof(&mut text));
    encoded.map_err(|error| ApiError::internal(error.to_string()))?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// Figures of this moment.
pub(super) struct Figures<'a>(&'a mut Registry);

impl Figures<'_> {
    fn of_node(&mut self, api: &Api, status: &Status) {
        let uptime: Gauge<f64, AtomicU64> = Gauge::default();
        uptime.set(status.uptime.as_secs_f64());
        self.0.register_with_unit("uptime", "Since the node was started", Unit::Seconds, uptime);
        self.gauge("known_peers", "Contacts in the routing table", status.known_peers);
        self.gauge("isolated", "1 where the node knows nobody though it should", is_isolated(api, status).into());
        self.gauge("records", "Records held for the network", status.records);
        self.gauge("record_bytes", "Bytes of the values held for the network", status.record_bytes);
        self.gauge("published_records", "Records of its own that the node keeps alive", status.published);
        self.gauge("requests_in_flight", "Requests that wait for their answers", status.requests_in_flight);
        self.gauge("operations", "Operations of users under way", status.operations);
        self.counter("relayed_messages", "Messages passed on between others", status.relayed);
        self.counter("unroutable_messages", "Messages that no gateway was there for", status.unroutable);
        let counters = &status.counters;
        self.counter("replies", "Replies that counted", counters.replies);
        self.counter("unanswered_requests", "Requests without an answer", counters.unanswered);
        let kinds = [
            ("requests_sent", "Requests sent, repetitions included", "request", &counters.requests_sent),
            ("requests_served", "Requests answered", "request", &counters.requests_served),
            ("requests_refused", "Requests refused", "reason", &counters.refused),
            ("messages_dropped", "Messages, and parts of them, that were dropped", "cause", &counters.dropped),
        ];
        for (name, words, label, counts) in kinds {
            let counts = counts.iter().map(|(kind, count)| (vec![(label, (*kind).to_owned())], *count));
            self.counters(name, words, counts);
        }
        self.of_gateways(&status.gateways);
        super::persistence::count(self, status);
    }

    fn of_gateways(&mut self, gateways: &[GatewayStatus]) {
        let labels = |gateway: &GatewayStatus| -> Labels {
            let address = gateway.addresses.first().map(ToString::to_string).unwrap_or_default();
            vec![("gateway", gateway.name.clone()), ("address", address)]
        };
        let up = Family::<Labels, Gauge>::default();
        for gateway in gateways {
            up.get_or_create(&labels(gateway)).set((gateway.state == GatewayState::Running).into());
        }
        self.0.register("gateway_up", "1 where the gateway runs", up);
        let of =
            |count: fn(&GatewayStatus) -> u64| gateways.iter().map(move |gateway| (labels(gateway), count(gateway)));
        self.counters("gateway_sent_messages", "Messages handed to the gateway to be sent", of(|gateway| gateway.sent));
        self.counters("gateway_received_messages", "Messages that came in by it", of(|gateway| gateway.link.received));
        let unsent = of(|gateway| gateway.refused.total() + gateway.link.unsent.total());
        self.counters("gateway_unsent_messages", "Messages that it did not take, or could not send", unsent);
        let dropped = gateways.iter().flat_map(|gateway| {
            let of_cause = move |(cause, count)| ([labels(gateway), vec![("cause", cause)]].concat(), count);
            dropped(gateway).into_iter().map(of_cause)
        });
        self.counters("gateway_dropped", "What came in by it and was dropped, and connections closed", dropped);
    }

    pub(super) fn gauge(&mut self, name: &str, words: &str, value: usize) {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.0.register(name, words, gauge);
    }

    pub(super) fn counter(&mut self, name: &str, words: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.0.register(name, words, counter);
    }

    fn counters(&mut self, name: &str, words: &str, counts: impl Iterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, count) in counts {
            family.get_or_create(&labels).inc_by(count);
        }
        self.0.register(name, words, family);
    }
}
