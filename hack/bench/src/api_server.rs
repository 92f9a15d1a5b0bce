//! The requests to the API server, by its own metrics.

use parameter_mirror_test_support::Cluster;

/// The resources that either operator works with, without its lease.
const RESOURCES: [&str; 6] =
    ["secrets", "parametermirrors", "parametersources", "externalsecrets", "secretstores", "events"];
const READS: [&str; 2] = ["GET", "LIST"];
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// The number of requests at a moment, or between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    pub reads: u64,
    pub writes: u64,
}

impl Requests {
    /// Returns the requests since an earlier moment.
    pub const fn since(self, earlier: &Self) -> Self {
        Self { reads: self.reads - earlier.reads, writes: self.writes - earlier.writes }
    }
}

/// Returns the number of all requests for the operator's resources.
pub async fn requests(cluster: &Cluster) -> Requests {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).await;
    let mut requests = Requests { reads: 0, writes: 0 };
    for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        if !RESOURCES.iter().any(|resource| line.contains(&format!("resource=\"{resource}\""))) {
            continue;
        }
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        let has = |verbs: &[&str]| verbs.iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")));
        if has(&READS) {
            requests.reads += count;
        } else if has(&WRITES) {
            requests.writes += count;
        }
    }
    requests
}
