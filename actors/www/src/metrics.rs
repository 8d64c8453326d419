//! `/metrics`: the master in numbers, in the text form of OpenMetrics.

use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::reply::{Reply, TEXT};
use crate::www::Www;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// From half a millisecond to half a minute, the deadline of a request, by factors of four.
const LATENCIES: [f64; 9] = [5e-4, 2e-3, 8e-3, 0.032, 0.128, 0.512, 2.048, 8.192, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    method: &'static str,
    status: u16,
}

/// What is counted of requests. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct HttpCounters {
    requests: Family<Kind, Counter>,
    latency: Histogram,
}

impl Default for HttpCounters {
    fn default() -> Self {
        Self { requests: Family::default(), latency: Histogram::new(LATENCIES) }
    }
}

impl HttpCounters {
    /// Names them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests that were answered", self.requests.clone());
        let took = "How long requests took, to the head of the answer";
        registry.register_with_unit("http_request_duration", took, Unit::Seconds, self.latency.clone());
    }

    pub(crate) fn count(&self, method: &Method, status: StatusCode, took: Duration) {
        // A closed list: a label must not be what anybody sends.
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            _ => "other",
        };
        self.requests.get_or_create(&Kind { method, status: status.as_u16() }).inc();
        self.latency.observe(took.as_secs_f64());
    }
}

/// Answers `/metrics`.
pub(crate) async fn metrics(request: HttpRequest, www: web::Data<Www>) -> HttpResponse {
    // The tree is asked here, since collecting cannot wait; what it answers is kept for a second.
    www.runtime.reports().await;
    let mut text = String::new();
    let reply = match encode(&mut text, &www.metrics) {
        Ok(()) => Reply::new(StatusCode::OK, OPEN_METRICS, text),
        Err(error) => {
            tracing::error!(error = %error, "the metrics could not be rendered");
            Reply::new(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics could not be rendered")
        }
    };
    reply.with(header::CACHE_CONTROL, "no-store").respond(&request).await
}
