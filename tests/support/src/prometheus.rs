//! A Prometheus that scrapes the addresses that a test names. Only Prometheus can show that metrics arrive
//! and queries match them.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::port::Port;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::{eventually, programs};

/// The time limit of a start, which takes one second alone.
const STARTED: Duration = Duration::from_mins(1);

/// A running Prometheus with its own database.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    port: Port,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `/metrics` of these addresses twice a second, as the chart's
    /// `ServiceMonitor` would, and evaluates the rules of a file as often.
    pub async fn start(addresses: &[&str], rules: &Path) -> Self {
        let scratch = Arc::new(Scratch::new("prometheus").expect("a temporary folder"));
        let port = Port::take();
        let configuration = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [rules],
            "scrape_configs": [
                {"job_name": "operator", "honor_labels": true, "static_configs": [{"targets": addresses}]},
            ],
        });
        let file = scratch.path().join("prometheus.json");
        fs::write(&file, configuration.to_string()).expect("a configuration is written");
        let mut command = Command::new(programs::path("prometheus"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{}", port.number()));
        command.arg("--storage.tsdb.path=data");
        let process = Process::start(&scratch, "prometheus", &command).expect("Prometheus starts");
        let prometheus = Self { process, port };
        eventually("Prometheus is ready", STARTED, async || {
            let log = || prometheus.process.log();
            assert!(prometheus.process.exited().is_none(), "Prometheus ended:\n{}", log());
            if prometheus.get("/-/ready").await.is_some() { Ok(()) } else { Err(log()) }
        })
        .await;
        prometheus
    }

    /// Returns `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Returns the series of an instant query, each with its labels and its value.
    ///
    /// # Errors
    /// When Prometheus rejects the query; the error is its message.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let body = self.get(&format!("/api/v1/query?query={}", encoded(query))).await;
        let answer: Value = serde_json::from_str(&body.unwrap_or_default()).unwrap_or_default();
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(answer.to_string()),
        }
    }

    /// Returns the rules, as last evaluated.
    pub async fn rules(&self) -> Vec<Value> {
        let body = self.get("/api/v1/rules").await.unwrap_or_default();
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        groups.iter().filter_map(|group| group["rules"].as_array().cloned()).flatten().collect()
    }

    /// Returns the body of any answer; `None` while Prometheus is not ready.
    async fn get(&self, path: &str) -> Option<String> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let answer = client.get(format!("{}{path}", self.url()).parse().ok()?).await.ok()?;
        if answer.status().as_u16() == 503 {
            return None;
        }
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some(String::from_utf8_lossy(&body).into_owned())
    }
}

/// Encodes a query for a URL.
fn encoded(query: &str) -> String {
    query.bytes().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "%{byte:02X}");
        text
    })
}
