//! What the API server was asked, by its own count.

use parameter_mirror_test_support::Cluster;

/// Resources of the operator's work; its lease is not among them.
const RESOURCES: [&str; 4] = ["secrets", "parametermirrors", "parametersources", "events"];
const READS: [&str; 2] = ["GET", "LIST"];
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// Requests at one moment, or between two.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    pub reads: u64,
    pub writes: u64,
}

impl Requests {
    /// What came since an earlier moment.
    pub const fn since(self, earlier: &Self) -> Self {
        Self { reads: self.reads - earlier.reads, writes: self.writes - earlier.writes }
    }
}

/// How often anybody has asked for what the operator works with.
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
