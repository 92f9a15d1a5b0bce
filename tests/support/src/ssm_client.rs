//! A minimal SSM client: one HTTP request with the operation's name and a JSON body.
//!
//! It works with moto and with the fault-injecting SSM. On purpose it is not the AWS SDK: tests that prepare
//! and inspect parameters should not share a client's retries and defaults with the code under test.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// The time limit of a call. No stand-in on this machine takes that long for one answer, unless it is frozen.
const ANSWERED: Duration = Duration::from_secs(10);

/// Calls SSM operations in one region.
#[derive(Clone, Debug)]
pub struct SsmClient {
    endpoint: String,
    region: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl SsmClient {
    /// Creates a client for an endpoint such as `http://127.0.0.1:5000`. It connects for each call.
    #[must_use]
    pub fn new(endpoint: &str, region: &str) -> Self {
        // A pooled connection would belong to the runtime of one test.
        let http = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Self { endpoint: endpoint.to_owned(), region: region.to_owned(), http }
    }

    /// Calls an operation, for example `GetParameter`; returns the HTTP status and the body, also for an
    /// error.
    ///
    /// # Panics
    /// When there is no answer, or one that is not JSON.
    pub async fn call(&self, operation: &str, input: Value) -> (u16, Value) {
        self.try_call(operation, &input).await.unwrap_or_else(|error| panic!("{operation} {input}: {error}"))
    }

    /// Like [`call`](Self::call), for a service that may be down.
    ///
    /// # Errors
    /// When there is no answer within seconds, or one that is not JSON. An empty body is `null`.
    pub async fn try_call(&self, operation: &str, input: &Value) -> Result<(u16, Value), String> {
        let exchange = async {
            let response = self
                .http
                .request(self.request(operation, input)?)
                .await
                .map_err(|error| format!("{error:?}"))?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
            if body.is_empty() {
                return Ok((status, Value::Null));
            }
            let text = String::from_utf8_lossy(&body);
            Ok((status, serde_json::from_str(&text).map_err(|error| format!("{status}, {error}: {text}"))?))
        };
        tokio::time::timeout(ANSWERED, exchange)
            .await
            .map_err(|_| format!("no answer within {ANSWERED:?}"))?
    }

    /// Writes a parameter, and overwrites an existing one; returns its version. The kind is `String`,
    /// `StringList` or `SecureString`.
    ///
    /// # Panics
    /// When the answer is not a success.
    pub async fn put(&self, name: &str, value: &str, kind: &str) -> i64 {
        let input = json!({"Name": name, "Value": value, "Type": kind, "Overwrite": true});
        let answer = self.succeed("PutParameter", input).await;
        answer["Version"].as_i64().expect("PutParameter answers with a version")
    }

    /// Deletes a parameter.
    ///
    /// # Panics
    /// When the answer is not a success, also if the parameter does not exist.
    pub async fn delete(&self, name: &str) {
        self.succeed("DeleteParameter", json!({ "Name": name })).await;
    }

    /// Moves a label to a version of a parameter.
    ///
    /// # Panics
    /// When the answer is not a success.
    pub async fn label(&self, name: &str, version: i64, label: &str) {
        let input = json!({"Name": name, "ParameterVersion": version, "Labels": [label]});
        self.succeed("LabelParameterVersion", input).await;
    }

    async fn succeed(&self, operation: &str, input: Value) -> Value {
        let (status, answer) = self.call(operation, input.clone()).await;
        assert_eq!(status, 200, "{operation} {input}: {answer}");
        answer
    }

    fn request(&self, operation: &str, input: &Value) -> Result<Request<Full<Bytes>>, String> {
        // Stand-ins read region and service from the signature's scope, and check nothing else of it.
        let scope = format!("test/20260101/{}/ssm/aws4_request", self.region);
        Request::builder()
            .method(Method::POST)
            .uri(format!("{}/", self.endpoint))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AmazonSSM.{operation}"))
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
            )
            .body(Full::new(Bytes::from(input.to_string())))
            .map_err(|error| error.to_string())
    }
}
