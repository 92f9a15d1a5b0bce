//! The same assertions against moto, which we did not write, and against our own SSM: where they agree, ours can be
//! believed.
//!
//! Not asserted, because moto differs from the real service: it pages in the order of insertion and not by name, takes any
//! text as a token, has no KMS behind `SecureString`, and never throttles.

use std::collections::BTreeSet;

use parameter_mirror_test_support::{Moto, Ssm, SsmClient};
use serde_json::{Value, json};

/// Asks one of the two.
struct Service<'a> {
    name: &'a str,
    client: SsmClient,
}

impl Service<'_> {
    async fn ok(&self, operation: &str, input: Value) -> Value {
        let (status, answer) = self.client.call(operation, input.clone()).await;
        assert_eq!(status, 200, "{}: {operation} {input}: {answer}", self.name);
        answer
    }

    /// The code of a refusal, without namespace.
    async fn refused(&self, operation: &str, input: Value) -> String {
        let (status, answer) = self.client.call(operation, input.clone()).await;
        assert_eq!(status, 400, "{}: {operation} {input}: {answer}", self.name);
        let code = answer["__type"].as_str().unwrap_or_default();
        code.rsplit('#').next().unwrap_or_default().to_owned()
    }

    async fn put(&self, name: &str, value: &str, kind: &str) -> i64 {
        self.client.put(name, value, kind).await
    }

    /// Everything that a listing gives, page by page.
    async fn list(&self, path: &str, recursive: bool, decrypt: bool) -> (Vec<Value>, usize) {
        let (mut all, mut pages, mut token) = (Vec::new(), 0, None::<String>);
        loop {
            let mut input = json!({"Path": path, "Recursive": recursive, "WithDecryption": decrypt});
            if let Some(token) = &token {
                input["NextToken"] = json!(token);
            }
            let answer = self.ok("GetParametersByPath", input).await;
            let page = answer["Parameters"].as_array().unwrap();
            assert!(page.len() <= 10, "{}: a page of {}", self.name, page.len());
            all.extend(page.iter().cloned());
            pages += 1;
            token = answer["NextToken"].as_str().map(str::to_owned);
            if token.is_none() {
                return (all, pages);
            }
        }
    }
}

fn names(parameters: &[Value]) -> BTreeSet<&str> {
    parameters.iter().map(|one| one["Name"].as_str().unwrap()).collect()
}

async fn holds(service: &Service<'_>) {
    types_and_values(service).await;
    listings(service).await;
    versions_and_labels(service).await;
    absence_and_rebirth(service).await;
    refusals(service).await;
}

async fn types_and_values(service: &Service<'_>) {
    for (name, value, kind) in [
        ("/types/plain", "multi\nline Grüße", "String"),
        ("/types/list", "a,b,c", "StringList"),
        ("/types/secret", "hunter2", "SecureString"),
    ] {
        assert_eq!(service.put(name, value, kind).await, 1, "{}", service.name);
        let read = service.ok("GetParameter", json!({"Name": name, "WithDecryption": true})).await;
        let read = &read["Parameter"];
        assert_eq!(
            (&read["Name"], &read["Type"], &read["Value"]),
            (&json!(name), &json!(kind), &json!(value))
        );
        assert_eq!(read["Version"], 1);
        assert!(read["LastModifiedDate"].is_number(), "{}: {read}", service.name);
        let arn = read["ARN"].as_str().unwrap();
        assert!(
            arn.starts_with("arn:aws:ssm:us-east-1:") && arn.ends_with(&format!(":parameter{name}")),
            "{arn}"
        );
    }
    let sealed = service.ok("GetParameter", json!({"Name": "/types/secret"})).await;
    assert_ne!(sealed["Parameter"]["Value"], "hunter2", "{}", service.name);
    assert_eq!(sealed["Parameter"]["Type"], "SecureString");
}

async fn listings(service: &Service<'_>) {
    for n in 0..23 {
        service.put(&format!("/tree/n{n:02}"), "v", "String").await;
    }
    service.put("/tree/deep/er/x", "hunter2", "SecureString").await;
    service.put("/treetop", "v", "String").await;
    let (all, pages) = service.list("/tree", true, true).await;
    assert_eq!((all.len(), names(&all).len(), pages), (24, 24, 3), "{}", service.name);
    let deep = all.iter().find(|one| one["Name"] == "/tree/deep/er/x").unwrap();
    assert_eq!(deep["Value"], "hunter2");
    let (sealed, _) = service.list("/tree", true, false).await;
    let deep = sealed.iter().find(|one| one["Name"] == "/tree/deep/er/x").unwrap();
    assert_ne!(deep["Value"], "hunter2");
    let (level, _) = service.list("/tree", false, true).await;
    assert!(level.len() == 23 && !names(&level).contains("/tree/deep/er/x"), "{}", service.name);
    let (nothing, pages) = service.list("/nowhere", true, true).await;
    assert_eq!((nothing.len(), pages), (0, 1), "{}", service.name);
}

async fn versions_and_labels(service: &Service<'_>) {
    for (version, value) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(service.put("/versions/x", value, "String").await, version, "{}", service.name);
    }
    service.client.label("/versions/x", 2, "live").await;
    for (selector, value, version) in [("", "three", 3), (":1", "one", 1), (":live", "two", 2)] {
        let name = format!("/versions/x{selector}");
        let answer = service.ok("GetParameters", json!({"Names": [name]})).await;
        let read = &answer["Parameters"][0];
        assert_eq!(
            (&read["Value"], &read["Version"]),
            (&json!(value), &json!(version)),
            "{}: {name}",
            service.name
        );
    }
    service.client.label("/versions/x", 1, "live").await;
    let answer = service.ok("GetParameters", json!({"Names": ["/versions/x:live"]})).await;
    assert_eq!(answer["Parameters"][0]["Value"], "one", "{}: a label moves back", service.name);
}

async fn absence_and_rebirth(service: &Service<'_>) {
    let answer = service.ok("GetParameters", json!({"Names": ["/versions/x", "/absent"]})).await;
    assert_eq!(answer["Parameters"].as_array().unwrap().len(), 1, "{}", service.name);
    assert_eq!(answer["InvalidParameters"], json!(["/absent"]));
    service.put("/reborn", "one", "String").await;
    service.put("/reborn", "two", "String").await;
    service.client.delete("/reborn").await;
    assert_eq!(service.put("/reborn", "new", "String").await, 1, "{}: versions start again", service.name);
}

async fn refusals(service: &Service<'_>) {
    let absent = service.refused("GetParameter", json!({"Name": "/absent"})).await;
    assert_eq!(absent, "ParameterNotFound", "{}", service.name);
    let eleven: Vec<_> = (0..11).map(|n| format!("/n{n}")).collect();
    let refused = service.refused("GetParameters", json!({"Names": eleven})).await;
    assert_eq!(refused, "ValidationException", "{}", service.name);
    let again = json!({"Name": "/versions/x", "Value": "v", "Type": "String"});
    assert_eq!(service.refused("PutParameter", again).await, "ParameterAlreadyExists", "{}", service.name);
}

#[tokio::test]
async fn moto_and_our_own_ssm_keep_the_same_contract() {
    let (moto, ours) = (Moto::start().await, Ssm::start());
    holds(&Service { name: "moto", client: moto.ssm("us-east-1") }).await;
    holds(&Service { name: "ours", client: SsmClient::new(&ours.endpoint(), "us-east-1") }).await;
}
