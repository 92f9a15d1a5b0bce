//! The HTTP endpoints of an operator, and the content of `/metrics`.

use std::collections::BTreeMap;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// A client of one operator's endpoints. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Endpoints {
    metrics: String,
    probes: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Endpoints {
    /// Creates a client for the metrics and the probes, both `127.0.0.1:port`.
    #[must_use]
    pub fn new(metrics: &str, probes: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { metrics: metrics.to_owned(), probes: probes.to_owned(), client }
    }

    /// Returns status code and body; `None` if the operator does not answer.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let address = if path.starts_with("/metrics") { &self.metrics } else { &self.probes };
        let answer = self.client.get(format!("http://{address}{path}").parse().ok()?).await.ok()?;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((code, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Scrapes `/metrics`; `None` if the operator does not answer with 200.
    pub async fn scrape(&self) -> Option<Scrape> {
        match self.get("/metrics").await? {
            (200, text) => Some(Scrape::parse(&text)),
            _ => None,
        }
    }
}

/// All samples of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Parses Prometheus's text format. Lines that are not samples are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// Returns the value of one series, written with its labels as the operator prints them
    /// (`name{target="redis"}`).
    #[must_use]
    pub fn value(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// Returns every value of a metric with its labels, `{...}` or empty.
    pub fn series<'s>(&'s self, name: &'s str) -> impl Iterator<Item = (&'s str, f64)> {
        let of_metric =
            self.0.range(name.to_owned()..).take_while(move |(series, _)| series.starts_with(name));
        of_metric.filter_map(move |(series, value)| {
            let labels = series.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }

    /// Returns the sum over all series of a metric.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        self.series(name).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Scrape;

    #[test]
    fn sums_the_series_of_one_metric() {
        let text = "# TYPE reads counter\nreads_total{result=\"good\"} 3\nreads_total{result=\"Timeout\"} 4\n\
                    reads_total_more 7\nup 1\n# EOF\n";
        let scrape = Scrape::parse(text);
        assert_eq!(scrape.value("reads_total{result=\"good\"}"), Some(3.0));
        assert_eq!((scrape.sum("reads_total"), scrape.sum("up"), scrape.sum("reads")), (7.0, 1.0, 0.0));
        assert_eq!(scrape.value("down"), None);
    }
}
