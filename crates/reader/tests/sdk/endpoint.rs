//! Official SDKs, configured only with an endpoint. Each program has its own checks (tests/sdk): values byte
//! for byte, types, versions, dates, pages of three, absent names. Runs against moto prove that the checks
//! match SSM; runs against `serve` prove that it behaves the same.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parameter_mirror_format::hash::EncryptionMode;
use parameter_mirror_test_support::{Moto, Process, Redis, Scratch, eventually};

use crate::mirror::{Expected, MIRROR, laid_out};
use crate::programs::{program, root, run};

const REGION: &str = "us-east-1";
const STARTED: Duration = Duration::from_secs(20);

/// `serve` over a mirror in its own Redis.
struct Serve {
    endpoint: String,
    _process: Process,
    _redis: Redis,
}

impl Serve {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let hash = laid_out(&Expected::read(), EncryptionMode::SecureStrings);
        hash.write(&redis).await;
        let scratch = Arc::new(Scratch::new("serve").unwrap());
        std::fs::write(scratch.path().join("sub-key"), &hash.sub_key).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_parameter-mirror-reader"));
        command.args(["serve", "--mirror", MIRROR, "--redis-url", &redis.url()]);
        command.args(["--sub-key-file", "sub-key", "--listen", "127.0.0.1:0"]);
        let process = Process::start(&scratch, "serve", &command).unwrap();
        let endpoint = eventually("serve says where it listens", STARTED, async || {
            let log = process.log();
            assert!(process.exited().is_none(), "serve ended:\n{log}");
            listens_at(&log).ok_or(log)
        })
        .await;
        Self { endpoint, _process: process, _redis: redis }
    }
}

/// Returns the endpoint in a log, once its line is complete.
fn listens_at(log: &str) -> Option<String> {
    let address = "http://127.0.0.1:";
    let line = log.split_inclusive('\n').find(|line| line.contains(address) && line.ends_with('\n'))?;
    let port = line.split_once(address)?.1;
    let digits = port.find(|c: char| !c.is_ascii_digit())?;
    Some(format!("{address}{}", &port[..digits]))
}

/// Starts moto with the same parameters. It lists in the order of insertion, which is that of the names here.
async fn moto() -> Moto {
    let moto = Moto::start().await;
    let ssm = moto.ssm(REGION);
    for (name, parameter) in &Expected::read().parameters {
        for _ in 0..parameter.version {
            ssm.put(name, &parameter.value, &parameter.kind).await;
        }
    }
    moto
}

/// Returns a program with the environment of an application: an endpoint, a region, and credentials of which
/// only the form matters. boto3 reads the region only from the second variable, the others from the first.
fn pointed_at(endpoint: &str, name: &str) -> Command {
    let mut command = program(name);
    command.env("AWS_ENDPOINT_URL_SSM", endpoint);
    command.envs([("AWS_REGION", REGION), ("AWS_DEFAULT_REGION", REGION)]);
    command.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
    command
}

async fn checks(name: &str, endpoint: &str) {
    let mut command = pointed_at(endpoint, name);
    command.arg(root().join("tests/sdk/expected.json"));
    let count = Expected::read().parameters.len();
    let printed = run(&command).await.unwrap_or_else(|printed| panic!("{name}: {printed}"));
    assert!(printed.contains(&format!("{count} parameters as expected")), "{name}: {printed}");
}

/// Runs chamber 2. It uses the previous SDK for Go, with its own variable for the endpoint.
async fn chamber(endpoint: &str, args: &[&str]) -> String {
    let mut command = pointed_at(endpoint, "chamber");
    command.env_remove("AWS_ENDPOINT_URL_SSM").env("CHAMBER_AWS_SSM_ENDPOINT", endpoint);
    command.args(args);
    run(&command).await.unwrap_or_else(|printed| panic!("chamber {args:?}: {printed}"))
}

/// A service of chamber is a path without deeper levels.
async fn chamber_checks(endpoint: &str) {
    let expected = Expected::read();
    for service in ["app", "app/api", "app/db"] {
        let below = format!("/{service}/");
        let name_and_value = |(name, value): (String, String)| {
            let name = name.strip_prefix(&below)?;
            (!name.contains('/')).then(|| (name.to_owned(), value))
        };
        let wanted: BTreeMap<String, String> =
            expected.values().into_iter().filter_map(name_and_value).collect();

        let exported = chamber(endpoint, &["export", service]).await;
        let exported: BTreeMap<String, String> = serde_json::from_str(&exported).unwrap();
        assert_eq!(exported, wanted, "chamber export {service}");

        let variables = chamber(endpoint, &["exec", "--pristine", service, "--", "env", "-0"]).await;
        let variables: BTreeMap<String, String> = variables
            .split_terminator('\0')
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.to_lowercase().replace('_', "-"), value.to_owned()))
            .collect();
        assert_eq!(variables, wanted, "chamber exec {service}");
    }
}

mod from_moto {
    use super::{chamber_checks, checks, moto};

    #[tokio::test]
    async fn python_boto3() {
        checks("check-python", &moto().await.endpoint()).await;
    }

    #[tokio::test]
    async fn javascript_v3() {
        checks("check-node", &moto().await.endpoint()).await;
    }

    #[tokio::test]
    async fn go_v2() {
        checks("check-go", &moto().await.endpoint()).await;
    }

    #[tokio::test]
    async fn java_v2() {
        checks("check-java", &moto().await.endpoint()).await;
    }

    #[tokio::test]
    async fn chamber() {
        chamber_checks(&moto().await.endpoint()).await;
    }
}

mod from_serve {
    use super::{Serve, chamber_checks, checks};

    #[tokio::test]
    async fn python_boto3() {
        checks("check-python", &Serve::start().await.endpoint).await;
    }

    #[tokio::test]
    async fn javascript_v3() {
        checks("check-node", &Serve::start().await.endpoint).await;
    }

    #[tokio::test]
    async fn go_v2() {
        checks("check-go", &Serve::start().await.endpoint).await;
    }

    #[tokio::test]
    async fn java_v2() {
        checks("check-java", &Serve::start().await.endpoint).await;
    }

    #[tokio::test]
    async fn chamber() {
        chamber_checks(&Serve::start().await.endpoint).await;
    }
}
