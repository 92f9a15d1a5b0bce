//! Why SSM could not be read, for the person on call.

use parameter_mirror_ssm::{SsmError, SsmErrorKind};

/// Why a read failed. A failed read has no partial result, and the text holds no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SsmReadError {
    /// The deadline passed, whatever the server did.
    #[error(
        "SSM gave no complete answer in the time allowed: it hangs, or the network to it drops packets (VPC endpoint, security group)"
    )]
    Timeout,
    /// The deadline passed before there were credentials.
    #[error("SSM was not read: the source of this process's AWS credentials gave none in the time allowed")]
    NoCredentialsInTime,
    /// A request failed.
    #[error("{}", with_hint(.0))]
    Request(#[from] SsmError),
    /// SSM reports that parameters do not exist.
    #[error("SSM has no {}: was it deleted or misspelt, or is this the wrong Region or account?", names.join(", "))]
    NotFound {
        /// The names as selected.
        names: Vec<String>,
    },
    /// The path has no parameters, which would make an empty environment.
    #[error(
        "SSM has nothing below {path}: was it deleted or misspelt, or is this the wrong Region or account?"
    )]
    Empty {
        /// The path.
        path: String,
    },
}

/// Adds whose fault an error is, as far as its class says.
fn with_hint(error: &SsmError) -> String {
    let SsmError { kind, detail } = error;
    match kind {
        SsmErrorKind::Unavailable => format!("SSM is unavailable: {detail}"),
        SsmErrorKind::Timeout => format!("SSM hangs: {detail}"),
        SsmErrorKind::Throttled => format!(
            "SSM throttles: {detail}; this account makes more calls in the Region than its quota allows"
        ),
        SsmErrorKind::CredentialsUnavailable => format!("SSM was not read: {detail}"),
        SsmErrorKind::AccessDenied => {
            format!("SSM refuses the read: {detail}; the IAM policy of this task does not allow it")
        }
        SsmErrorKind::KmsUnavailable => format!("SSM cannot decrypt: {detail}"),
        SsmErrorKind::InvalidResponse => format!("SSM's answer cannot be used: {detail}"),
    }
}
