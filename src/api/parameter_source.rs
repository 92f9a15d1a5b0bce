//! `ParameterSource`: an AWS account, region and identity to read with, and who may read what.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::RedisEncryption;

/// An AWS region and identity to read parameters with, and the namespaces that may. No grant, no read.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "parameter-mirror.dev",
    version = "v1alpha1",
    kind = "ParameterSource",
    plural = "parametersources",
    shortname = "psource",
    category = "parameter-mirror",
    status = "ParameterSourceStatus",
    derive = "PartialEq",
    doc = "An AWS account, region and identity to read SSM parameters with, owned by the administrators of the cluster. Deny by default: a namespace reads only what a grant names.",
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Available")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Available")].reason"#
    ),
    printcolumn(name = "Breaker", type_ = "string", json_path = ".status.breaker"),
    printcolumn(name = "Mirrors", type_ = "integer", json_path = ".status.mirrors"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.roleArn", priority = 1),
    printcolumn(name = "Last Success", type_ = "date", json_path = ".status.lastSuccessTime", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSourceSpec {
    /// AWS region of the Parameter Store, e.g. `us-east-1`.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = ("self.matches('^[a-z]{2,}(-[a-z]+)+-[0-9]+$')", "not an AWS region: write it like us-east-1"))]
    pub region: String,
    /// Role to assume with the operator's own identity, e.g. to read another account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = ("self.matches('^arn:aws(-[a-z]+)*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$')", "not the ARN of an IAM role: write it like arn:aws:iam::111122223333:role/checkout-read"))]
    pub role_arn: Option<String>,
    /// External ID that the role's trust policy demands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224))]
    pub external_id: Option<String>,
    /// Most requests per second for this source, inside the budget of its account and region.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub requests_per_second: Option<i32>,
    /// The least encryption that a mirror on this source may choose for Redis.
    #[serde(default)]
    pub redis_encryption: RedisEncryption,
    /// Which namespaces may read which paths.
    #[schemars(length(max = 256))]
    #[serde(default)]
    pub grants: Vec<GrantSpec>,
}

/// Lets namespaces read paths.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(has(self.namespaces) && size(self.namespaces) > 0) || (has(self.namespaceSelector) && ((has(self.namespaceSelector.matchLabels) && size(self.namespaceSelector.matchLabels) > 0) || (has(self.namespaceSelector.matchExpressions) && size(self.namespaceSelector.matchExpressions) > 0)))", "a grant names namespaces, or has a namespaceSelector that is not empty; for all namespaces write namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: Exists}]}"))]
pub struct GrantSpec {
    /// Who, by name. Added to what `namespaceSelector` selects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Who, by the labels of the namespace. An empty selector selects nothing and is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// What: each path with everything below it, on path-segment boundaries; `/prod/check` does not grant `/prod/checkout`. The segment
    /// `{namespace}` stands for the name of the namespace that reads.
    #[schemars(length(min = 1, max = 20), inner(length(min = 1, max = 512)))]
    #[x_kube(validation = (r"self.all(p, p.matches('^(/([\\w.-]+|[{]namespace[}]))*/?$'))", "a path starts with / and has only letters, digits, _ . - in its segments, or the segment {namespace}, e.g. /prod/checkout/"))]
    pub paths: Vec<String>,
}

/// What the last read by any mirror found.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSourceStatus {
    /// Generation of the spec that the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Available`: whether mirrors can be read through it now, from the latest reads of all of them. `Ready`: whether its identity may
    /// read; an outage of SSM leaves it True, so that a rollout does not wait for AWS. Both are absent before the first read.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Last good read by any mirror.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// Whether SSM is asked: `Closed` (it is), `Open` (it did not answer; only a probe is sent, every 30 s), `HalfOpen` (it
    /// answers again; requests begin slowly) or `Drill` (an outage is rehearsed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// Most requests per second: the budget of the account and region, or the cap of this source if that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<i32>,
    /// Number of mirrors on this source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirrors: Option<i32>,
}
