//! The same assertions against moto, which is independent of us, and against our own SSM. Where the two
//! agree, ours can be trusted.
//!
//! Some behaviour is not asserted, because moto differs from the real service: it pages in the order of
//! insertion instead of by name, adds an empty page after a full last one, answers an unknown token with 500
//! and HTML, returns no `Selector`, accepts a batch without names and values of any size, gives
//! `ParameterNotFound` a message, includes the plain text in its stand-in for ciphertext, and never
//! throttles. The code for an unknown label is not asserted either: the two differ, and the service's own is
//! not documented.

use std::collections::BTreeSet;

use parameter_mirror_test_support::{Moto, Ssm, SsmClient};
use serde_json::{Value, json};

/// One of the two services.
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

    /// Returns the code of an error, without namespace.
    async fn refused(&self, operation: &str, input: Value) -> String {
        let (status, answer) = self.client.call(operation, input.clone()).await;
        assert_eq!(status, 400, "{}: {operation} {input}: {answer}", self.name);
        let code = answer["__type"].as_str().unwrap_or_default();
        code.rsplit('#').next().unwrap_or_default().to_owned()
    }

    async fn put(&self, name: &str, value: &str, kind: &str) -> i64 {
        self.client.put(name, value, kind).await
    }

    /// Returns the complete listing, and its number of pages with at most this many parameters.
    async fn list(&self, path: &str, recursive: bool, decrypt: bool, size: usize) -> (Vec<Value>, usize) {
        let (mut all, mut pages, mut token) = (Vec::new(), 0, None::<String>);
        loop {
            let mut input =
                json!({"Path": path, "Recursive": recursive, "WithDecryption": decrypt, "MaxResults": size});
            if let Some(token) = &token {
                input["NextToken"] = json!(token);
            }
            let answer = self.ok("GetParametersByPath", input).await;
            let page = answer["Parameters"].as_array().unwrap();
            assert!(page.len() <= size, "{}: a page of {}", self.name, page.len());
            all.extend(page.iter().cloned());
            pages += 1;
            token = answer["NextToken"].as_str().map(str::to_owned);
            if token.is_none() {
                return (all, pages);
            }
        }
    }

    /// Reads one parameter with each of the three read operations, which must agree.
    async fn read(&self, name: &str, decrypt: bool) -> Value {
        let alone = self.ok("GetParameter", json!({"Name": name, "WithDecryption": decrypt})).await;
        let batch = self.ok("GetParameters", json!({"Names": [name], "WithDecryption": decrypt})).await;
        let (parent, _) = name.rsplit_once('/').unwrap();
        let (listed, _) = self.list(parent, false, decrypt, 10).await;
        let listed = listed.into_iter().find(|one| one["Name"] == name);
        assert_eq!(batch["Parameters"], json!([alone["Parameter"]]), "{}", self.name);
        assert_eq!(listed.as_ref(), Some(&alone["Parameter"]), "{}", self.name);
        alone["Parameter"].clone()
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
        let read = service.read(name, true).await;
        assert_eq!(
            (&read["Name"], &read["Type"], &read["Value"], &read["Version"], &read["DataType"]),
            (&json!(name), &json!(kind), &json!(value), &json!(1), &json!("text")),
            "{}",
            service.name
        );
        assert!(read["LastModifiedDate"].is_number(), "{}: {read}", service.name);
        let arn = read["ARN"].as_str().unwrap();
        let account = arn
            .strip_prefix("arn:aws:ssm:us-east-1:")
            .and_then(|rest| rest.strip_suffix(&format!(":parameter{name}")));
        assert!(account.is_some_and(|account| account.len() == 12), "{}: {arn}", service.name);
        let by_arn = service.ok("GetParameter", json!({"Name": arn, "WithDecryption": true})).await;
        assert_eq!(by_arn["Parameter"], read, "{}", service.name);

        let sealed = service.read(name, false).await;
        assert_eq!(sealed["Value"] == value, kind != "SecureString", "{}: {sealed}", service.name);
        for member in ["Name", "Type", "Version", "LastModifiedDate", "ARN", "DataType"] {
            assert_eq!(sealed[member], read[member], "{}: {member} needs no decryption", service.name);
        }
    }
}

async fn listings(service: &Service<'_>) {
    for n in 0..23 {
        service.put(&format!("/tree/n{n:02}"), "v", "String").await;
    }
    service.put("/tree/deep/er/x", "hunter2", "SecureString").await;
    service.put("/tree", "not below itself", "String").await;
    service.put("/treetop", "v", "String").await;
    for (size, expected) in [(10, 3), (5, 5)] {
        let (all, pages) = service.list("/tree", true, true, size).await;
        assert_eq!((all.len(), names(&all).len(), pages), (24, 24, expected), "{}", service.name);
        let deep = all.iter().find(|one| one["Name"] == "/tree/deep/er/x").unwrap();
        assert_eq!(deep["Value"], "hunter2", "{}", service.name);
    }
    let (level, _) = service.list("/tree", false, true, 10).await;
    assert!(level.len() == 23 && !names(&level).contains("/tree/deep/er/x"), "{}", service.name);
    let (slashed, _) = service.list("/tree/", true, true, 10).await;
    assert_eq!(slashed.len(), 24, "{}", service.name);
    let (nothing, pages) = service.list("/nowhere", true, true, 10).await;
    assert_eq!((nothing.len(), pages), (0, 1), "{}", service.name);
}

async fn versions_and_labels(service: &Service<'_>) {
    for (version, value) in [(1, "one"), (2, "two"), (3, "three"), (4, "three")] {
        assert_eq!(service.put("/versions/x", value, "String").await, version, "{}", service.name);
    }
    service.client.label("/versions/x", 2, "live").await;
    for (selector, value, version) in [("", "three", 4), (":1", "one", 1), (":live", "two", 2)] {
        let name = format!("/versions/x{selector}");
        let batch = service.ok("GetParameters", json!({"Names": [name]})).await;
        let alone = service.ok("GetParameter", json!({"Name": name})).await;
        for read in [&batch["Parameters"][0], &alone["Parameter"]] {
            assert_eq!(
                (&read["Name"], &read["Value"], &read["Version"]),
                (&json!("/versions/x"), &json!(value), &json!(version)),
                "{}: {name}",
                service.name
            );
        }
    }
    service.client.label("/versions/x", 1, "live").await;
    let answer = service.ok("GetParameters", json!({"Names": ["/versions/x:live"]})).await;
    assert_eq!(answer["Parameters"][0]["Value"], "one", "{}: a label moves back", service.name);
    let labels = json!({"Name": "/versions/x", "ParameterVersion": 3, "Labels": ["live", "1st"]});
    let answer = service.ok("LabelParameterVersion", labels).await;
    assert_eq!(answer, json!({"ParameterVersion": 3, "InvalidLabels": ["1st"]}), "{}", service.name);
    let answer = service.ok("GetParameter", json!({"Name": "/versions/x:live"})).await;
    assert_eq!(answer["Parameter"]["Version"], 3, "{}: a label moves forward", service.name);
}

async fn absence_and_rebirth(service: &Service<'_>) {
    let wanted = json!({"Names": ["/versions/x", "/absent", "/versions/x:9", "/versions/x:none"]});
    let answer = service.ok("GetParameters", wanted).await;
    assert_eq!(answer["Parameters"].as_array().unwrap().len(), 1, "{}", service.name);
    let invalid: BTreeSet<_> =
        answer["InvalidParameters"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(invalid, ["/absent", "/versions/x:9", "/versions/x:none"].into(), "{}", service.name);

    service.put("/reborn/x", "one", "String").await;
    service.put("/reborn/x", "two", "String").await;
    let names = json!({"Names": ["/reborn/x", "/absent"]});
    let answer = service.ok("DeleteParameters", names).await;
    let deleted = json!({"DeletedParameters": ["/reborn/x"], "InvalidParameters": ["/absent"]});
    assert_eq!(answer, deleted, "{}", service.name);
    let (left, _) = service.list("/reborn", true, true, 10).await;
    assert!(left.is_empty(), "{}: {left:?}", service.name);
    let gone = service.refused("GetParameter", json!({"Name": "/reborn/x"})).await;
    assert_eq!(gone, "ParameterNotFound", "{}", service.name);
    assert_eq!(service.put("/reborn/x", "new", "String").await, 1, "{}: versions start again", service.name);
    assert_eq!(service.read("/reborn/x", true).await["Value"], "new", "{}", service.name);
    let before = service.refused("GetParameter", json!({"Name": "/reborn/x:2"})).await;
    assert_eq!(before, "ParameterVersionNotFound", "{}: of the former life", service.name);
}

async fn refusals(service: &Service<'_>) {
    let eleven: Vec<_> = (0..11).map(|n| format!("/n{n}")).collect();
    for (operation, input, code) in [
        ("GetParameter", json!({"Name": "/absent"}), "ParameterNotFound"),
        ("GetParameter", json!({"Name": "/versions/x:9"}), "ParameterVersionNotFound"),
        ("GetParameters", json!({"Names": eleven}), "ValidationException"),
        ("GetParametersByPath", json!({"Path": "/tree", "MaxResults": 11}), "ValidationException"),
        ("DeleteParameter", json!({"Name": "/absent"}), "ParameterNotFound"),
        (
            "PutParameter",
            json!({"Name": "/versions/x", "Value": "v", "Type": "String"}),
            "ParameterAlreadyExists",
        ),
        ("PutParameter", json!({"Name": "/untyped", "Value": "v"}), "ValidationException"),
        ("PutParameter", json!({"Name": "/empty", "Value": "", "Type": "String"}), "ValidationException"),
        ("LabelParameterVersion", json!({"Name": "/absent", "Labels": ["live"]}), "ParameterNotFound"),
        (
            "LabelParameterVersion",
            json!({"Name": "/versions/x", "ParameterVersion": 9, "Labels": ["live"]}),
            "ParameterVersionNotFound",
        ),
    ] {
        let refused = service.refused(operation, input.clone()).await;
        assert_eq!(refused, code, "{}: {operation} {input}", service.name);
    }
}

#[tokio::test]
async fn moto_and_our_own_ssm_keep_the_same_contract() {
    let (moto, ours) = (Moto::start().await, Ssm::start());
    holds(&Service { name: "moto", client: moto.ssm("us-east-1") }).await;
    holds(&Service { name: "ours", client: SsmClient::new(&ours.endpoint(), "us-east-1") }).await;
}
