//! The window for operators: `/metrics`, `/status`, `/live` and `/ready` over HTTP.
//!
//! It only reads, and it has no authentication: it listens on loopback unless an address is given.
//! At most [`CONNECTIONS_MAX`] connections are open, none for longer than [`CONNECTION_AGE_MAX`],
//! and none for longer than [`SILENCE_MAX`] without an answer going out: who sends half a
//! request, or takes no answer, holds a place for that long at most.

use std::fmt::Write;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use kmirror_client::clock;
use kmirror_client::task::{self, Task};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::exit::Failure;
use crate::watched::{Shared, Watched};

/// Reads `PORT`, `:PORT` or `ADDRESS:PORT`; without an address it is loopback's.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map_err(|_| "must be PORT or ADDRESS:PORT, such as 127.0.0.1:9404".to_owned())
}

/// Listens and answers until the task is dropped.
pub(crate) async fn serve(address: SocketAddr, flows: Shared) -> Result<Task<()>, Failure> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|cause| Failure::runtime(format!("listen on http {address}: {cause}")))?;
    let bound = listener.local_addr().map_err(Failure::runtime)?;
    tracing::info!(address = %bound, "http listens");
    if !bound.ip().is_loopback() {
        tracing::warn!(address = %bound, "http is open to other hosts and has no authentication");
    }
    let bounded = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    let server = axum::serve(bounded, router(flows));
    Ok(task::spawn("http", async move {
        if let Err(error) = server.await {
            tracing::error!(error = crate::exit::chain(&error), "http ended");
        }
    }))
}

/// How many connections are open at once; a further one waits for a place.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may last, busy or not: nobody can hold a place by being slow.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);

/// How long may pass without a byte of an answer going out. Answers are made at once, so this is
/// the time that a client has for the head of its request, and for taking what was answered.
const SILENCE_MAX: Duration = Duration::from_secs(5);

struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("invariant: the places are never closed");
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let old = Box::pin(tokio::time::sleep(CONNECTION_AGE_MAX));
        let silent = Box::pin(tokio::time::sleep(SILENCE_MAX));
        (Connection { stream, old, silent, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that reads and writes an error once it is too old, or silent for too long.
struct Connection {
    stream: TcpStream,
    old: Pin<Box<Sleep>>,
    silent: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn poll_bounds(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let ends = [self.old.as_mut().poll(context), self.silent.as_mut().poll(context)];
        match ends.iter().any(Poll::is_ready) {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_bounds(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_bounds(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() {
            self.silent.as_mut().reset(clock::now() + SILENCE_MAX);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn router(flows: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .with_state(flows)
}

async fn metrics(State(flows): State<Shared>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = |flow: &Watched| Some((flow.name.clone(), flow.mirror()?.metrics()));
    let texts: Vec<_> = flows.iter().filter_map(text).collect();
    ([(header::CONTENT_TYPE, OPEN_METRICS)], merge(&texts))
}

/// The status of each flow by its name.
async fn status(State(flows): State<Shared>) -> impl IntoResponse {
    let mut shown = Map::new();
    for flow in flows.iter() {
        let value = match flow.mirror() {
            Some(mirror) => {
                let status = Arc::clone(&mirror.status().borrow());
                serde_json::to_value(&*status).unwrap_or(Value::Null)
            }
            None => json!({ "phase": "connecting", "why": flow.setback() }),
        };
        shown.insert(flow.name.clone(), value);
    }
    Json(json!({ "flows": shown }))
}

/// Ready once every flow is; otherwise a line for each that is not.
async fn ready(State(flows): State<Shared>) -> (StatusCode, String) {
    let line =
        |flow: &Watched| Some(format!("not ready: flow {}: {}\n", flow.name, flow.unready()?));
    let waiting: String = flows.iter().filter_map(line).collect();
    if waiting.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, waiting)
    }
}

/// One text out of the flows'. With several flows every sample gets a `flow` label, and the
/// samples of one metric stand together, as the format demands.
fn merge(texts: &[(String, String)]) -> String {
    if let [(_, text)] = texts {
        return text.clone();
    }
    let mut families: Vec<Family<'_>> = Vec::new();
    for (name, text) in texts {
        let mut at = None;
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(comment) = line.strip_prefix("# ") {
                let metric = comment.split(' ').nth(1).unwrap_or_default();
                let known = families.iter().position(|family| family.metric == metric);
                at = Some(known.unwrap_or_else(|| {
                    families.push(Family { metric, comments: Vec::new(), samples: String::new() });
                    families.len() - 1
                }));
            }
            let Some(family) = at.and_then(|at| families.get_mut(at)) else { continue };
            if line.starts_with('#') {
                if !family.comments.contains(&line) {
                    family.comments.push(line);
                }
            } else {
                let _ = writeln!(family.samples, "{}", labelled(line, name));
            }
        }
    }
    let mut merged = String::new();
    for family in families {
        let _ = writeln!(merged, "{}", family.comments.join("\n"));
        merged.push_str(&family.samples);
    }
    merged.push_str("# EOF\n");
    merged
}

struct Family<'text> {
    metric: &'text str,
    comments: Vec<&'text str>,
    samples: String,
}

fn labelled(sample: &str, flow: &str) -> String {
    let flow = flow.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    match sample.split_once('{') {
        Some((name, rest)) if rest.starts_with('}') => format!("{name}{{flow=\"{flow}\"{rest}"),
        Some((name, rest)) => format!("{name}{{flow=\"{flow}\",{rest}"),
        None => match sample.split_once(' ') {
            Some((name, value)) => format!("{name}{{flow=\"{flow}\"}} {value}"),
            None => sample.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_host_is_loopback() {
        for text in ["9404", ":9404", "localhost:9404", "127.0.0.1:9404"] {
            assert_eq!(parse_address(text).unwrap().to_string(), "127.0.0.1:9404");
        }
        assert_eq!(parse_address("0.0.0.0:1").unwrap().to_string(), "0.0.0.0:1");
        assert!(parse_address("example.com:1").is_err());
        assert!(parse_address("").is_err());
    }

    #[test]
    fn the_metrics_of_one_flow_are_left_as_they_are() {
        let text = "# TYPE a counter\na_total 1\n# EOF\n".to_owned();
        assert_eq!(merge(&[("f".to_owned(), text.clone())]), text);
    }

    #[test]
    fn the_metrics_of_several_flows_are_told_apart_and_stay_together() {
        let text = |value| {
            let counter = format!("# TYPE a counter\na_total{{x=\"y\"}} {value}");
            format!("# HELP a What.\n{counter}\n# TYPE b gauge\nb 0\n# EOF\n")
        };
        let merged = merge(&[("one".to_owned(), text(1)), ("t\"wo".to_owned(), text(2))]);
        let expected = "# HELP a What.\n# TYPE a counter\n\
            a_total{flow=\"one\",x=\"y\"} 1\na_total{flow=\"t\\\"wo\",x=\"y\"} 2\n\
            # TYPE b gauge\nb{flow=\"one\"} 0\nb{flow=\"t\\\"wo\"} 0\n# EOF\n";
        assert_eq!(merged, expected);
    }
}
