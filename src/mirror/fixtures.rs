//! Values for the tests of this module.

use std::collections::BTreeMap;

use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::content::{Content, Signed};
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::value::Value;

use crate::api::{GrantSpec, ParameterMirrorSpec, ParameterSourceSpec, SelectionSpec};
use crate::mirror::content;
use crate::mirror::plan::{Plan, PlanError, PlanInput};
use crate::mirror::snapshot::{Cost, Parameter, Snapshot};

/// A source that grants `/app` to the namespace `shop`.
pub fn source() -> ParameterSourceSpec {
    ParameterSourceSpec {
        region: "us-east-1".to_owned(),
        grants: vec![grant_to_shop(&["/app"])],
        ..ParameterSourceSpec::default()
    }
}

/// A grant of these paths to the namespace `shop`.
pub fn grant_to_shop(paths: &[&str]) -> GrantSpec {
    GrantSpec {
        namespaces: vec!["shop".to_owned()],
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
        ..GrantSpec::default()
    }
}

/// A selection of everything below a path.
pub fn path(path: &str) -> SelectionSpec {
    SelectionSpec { path: Some(path.to_owned()), ..SelectionSpec::default() }
}

/// A selection of one name.
pub fn name(name: &str) -> SelectionSpec {
    SelectionSpec { name: Some(name.to_owned()), ..SelectionSpec::default() }
}

/// A spec with both targets.
pub fn spec(parameters: &[SelectionSpec]) -> ParameterMirrorSpec {
    ParameterMirrorSpec {
        parameters: parameters.to_vec(),
        secret: Some(crate::api::SecretTargetSpec::default()),
        redis: Some(crate::api::RedisTargetSpec::default()),
        ..ParameterMirrorSpec::default()
    }
}

/// Plans a spec of `shop/checkout`.
pub fn judge(spec: &ParameterMirrorSpec, source: Option<&ParameterSourceSpec>) -> Result<Plan, PlanError> {
    let around = PlanInput {
        cluster: "c",
        namespace: "shop",
        namespace_labels: &BTreeMap::from([("team".to_owned(), "checkout".to_owned())]),
        mirror: "checkout",
        source,
        drill_until: None,
        redis_prefix: "pm:",
        key_secret: Some("parameter-mirror-keys"),
    };
    Plan::new(spec, &around)
}

/// A plan for these selections, with both targets and everything below `/app` granted.
pub fn plan(parameters: &[SelectionSpec]) -> Plan {
    judge(&spec(parameters), Some(&source())).unwrap()
}

/// One key ring for all tests of the process.
pub fn keys() -> &'static KeyRing {
    static KEYS: std::sync::OnceLock<KeyRing> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| KeyRing::generate("k1".parse().unwrap()).unwrap())
}

/// A parameter of version 1.
pub fn parameter(value: &str) -> Parameter {
    Parameter { kind: ParameterType::String, version: 1, date: 1_000, value: Value::new(value.to_owned()) }
}

/// Parameters by name.
pub fn parameters(all: &[(&str, &str)]) -> BTreeMap<String, Parameter> {
    all.iter().map(|&(name, value)| (name.to_owned(), parameter(value))).collect()
}

/// Returns the content that `plan` publishes for these parameters, read at `read_at`.
pub fn content(plan: &Plan, all: &[(&str, &str)], read_at: i64) -> Content {
    let source = plan.stored_source("111122223333").unwrap();
    content::content(plan, &source, &parameters(all), read_at).0
}

/// The same, signed.
pub fn signed(plan: &Plan, all: &[(&str, &str)], read_at: i64) -> Signed {
    keys().sign(content(plan, all, read_at))
}

/// The snapshot of a good read that found these parameters.
pub fn reading(all: &[(&str, &str)], started_at: i64) -> Snapshot {
    Snapshot {
        started_at,
        account: Some("111122223333".to_owned()),
        parameters: parameters(all),
        absent: std::collections::BTreeSet::new(),
        cost: Cost::default(),
    }
}
