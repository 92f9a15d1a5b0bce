//! `--read-ssm`: one read of a mirror with the caller's own AWS identity. Nothing else shows whether IAM and KMS allow it.

use std::sync::Arc;

use parameter_mirror_clock::Clock;
use parameter_mirror_format::humanize::parameters;
use parameter_mirror_ssm::credentials::OperatorIdentity;

use crate::commands::verify::facts::FoundMirror;
use crate::commands::verify::finding::{Finding, Level};
use crate::mirror::plan::Plan;
use crate::mirror::snapshot::{Priority, QueueKey, ReadError, ReadRequest};
use crate::ssm::client::Aws;
use crate::ssm::{ParameterReader, SsmReader};

/// Requests per second: the default of the operator, which has the same quota.
const REQUESTS_PER_SECOND: u32 = 10;

/// Returns a reader with the AWS identity of this process.
pub(super) fn reader() -> SsmReader {
    let clock = Clock::start();
    SsmReader::new(REQUESTS_PER_SECOND, Box::new(Aws::new(OperatorIdentity::new(clock.clone()))), clock)
}

/// Reads everything that the mirror selects, and returns the number of parameters. The values are decrypted and dropped.
/// Returns nothing for a mirror without a source.
pub(super) async fn read(ssm: &SsmReader, plan: &Plan) -> Option<Result<usize, ReadError>> {
    let request = ReadRequest {
        selections: plan.selections.clone(),
        known: std::collections::BTreeMap::new(),
        known_account: None,
        last_failure: None,
        turn: QueueKey {
            namespace: plan.namespace.as_str().into(),
            priority: Priority::Refresh,
            last_read: 0,
        },
        coalesce: false,
        started: Arc::default(),
    };
    let snapshot = ssm.read(plan.source.as_ref()?, &request).await;
    Some(snapshot.map(|snapshot| snapshot.parameters.len()))
}

/// Judges the outcome, if a read was wanted.
pub(super) fn judge(mirror: &FoundMirror) -> Option<Finding> {
    let identity = match mirror.source.as_ref().ok()?.as_ref()?.spec.role_arn.as_deref() {
        Some(role) => format!("this identity, as {role},"),
        None => "this identity".to_owned(),
    };
    let (level, text) = match mirror.dry_read.as_ref()? {
        Ok(0) => (Level::Warn, format!("{identity} may read SSM, which holds no parameter that it selects")),
        Ok(count) => (Level::Ok, format!("{identity} read {} from SSM", parameters(*count))),
        Err(error) => (
            Level::Fail,
            format!(
                "{identity} cannot read SSM, {error}. `parameter-mirror iam` prints the policy that is needed"
            ),
        ),
    };
    Some(Finding::new(level, "ssm-read", text))
}
