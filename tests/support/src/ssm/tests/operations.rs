//! Listings, batches, selectors, writes, errors.

use serde_json::json;

use super::super::{Operation, Ssm};
use super::{PATIENCE, ask, ask_in, filled, page, sweep};

#[test]
fn a_listing_comes_in_alphabetical_pages_of_ten() {
    let pages = sweep(&filled(21));
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 1]);
    assert_eq!(pages.concat(), (0..21).map(|number| format!("/a/{number:03}")).collect::<Vec<_>>());
}

#[test]
fn a_full_last_page_has_no_token() {
    assert_eq!(sweep(&filled(10)).len(), 1);
}

#[test]
fn a_token_survives_the_deletion_of_what_it_stands_after() {
    let ssm = filled(12);
    let first = page(&ssm, None);
    ssm.delete("/a/009");
    assert_eq!(page(&ssm, first.token().as_deref()).names(), ["/a/010", "/a/011"]);
}

#[test]
fn a_token_of_another_listing_is_refused() {
    let ssm = filled(12);
    let token = page(&ssm, None).token();
    let body = json!({ "Path": "/a", "NextToken": token });
    assert_eq!(ask(&ssm, "GetParametersByPath", &body).code(), "InvalidNextToken");
    let body = json!({ "Path": "/a", "Recursive": true, "NextToken": "made up" });
    assert_eq!(ask(&ssm, "GetParametersByPath", &body).code(), "InvalidNextToken");
}

#[test]
fn a_path_holds_what_is_below_it_and_not_itself() {
    let ssm = Ssm::start();
    for name in ["/a", "/a/b", "/a/b/c", "/ab", "/b"] {
        ssm.put(name, "v");
    }
    let list = |path: &str, recursive: bool| {
        ask(&ssm, "GetParametersByPath", &json!({ "Path": path, "Recursive": recursive })).names()
    };
    assert_eq!(list("/a", true), ["/a/b", "/a/b/c"]);
    assert_eq!(list("/a/", false), ["/a/b"]);
    assert_eq!(list("/", true).len(), 5);
    assert_eq!(list("/", false), ["/a", "/ab", "/b"]);
    assert!(list("/b", true).is_empty());
    assert!(list("/nothing", true).is_empty());
    assert_eq!(ask(&ssm, "GetParametersByPath", &json!({ "Path": "a" })).code(), "ValidationException");
    let eleven = json!({ "Path": "/a", "MaxResults": 11 });
    assert_eq!(ask(&ssm, "GetParametersByPath", &eleven).code(), "ValidationException");
}

#[test]
fn selectors_are_echoed_and_the_missing_are_listed() {
    let ssm = Ssm::start();
    ssm.put("/a/x", "one");
    ssm.put("/a/x", "two");
    ssm.label("/a/x", 1, "live");
    let names = ["/a/x:live", "/a/x", "/a/x:2", "/a/x:3", "/a/y"];
    let got = ask(&ssm, "GetParameters", &json!({ "Names": names })).json();
    let found: Vec<_> = got["Parameters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| (item["Name"].as_str(), item["Selector"].as_str(), item["Value"].as_str()))
        .collect();
    let name = Some("/a/x");
    assert_eq!(
        found,
        [(name, None, Some("two")), (name, Some(":2"), Some("two")), (name, Some(":live"), Some("one"))]
    );
    assert_eq!(got["InvalidParameters"], json!(["/a/x:3", "/a/y"]));
}

#[test]
fn a_batch_has_one_to_ten_names() {
    let ssm = Ssm::start();
    for count in [0, 11] {
        let names: Vec<_> = (0..count).map(|number| format!("/{number}")).collect();
        assert_eq!(ask(&ssm, "GetParameters", &json!({ "Names": names })).code(), "ValidationException");
    }
}

#[test]
fn a_secure_string_is_plain_only_with_decryption() {
    let ssm = Ssm::start();
    ssm.put_secure("/a/secret", "hunter2");
    let cipher = ask(&ssm, "GetParameter", &json!({ "Name": "/a/secret" }));
    let again = ask(&ssm, "GetParametersByPath", &json!({ "Path": "/a" })).json();
    assert!(!cipher.body.contains("hunter2"));
    assert_eq!(again["Parameters"][0]["Value"], cipher.json()["Parameter"]["Value"]);
    assert_eq!(ssm.calls().decrypts, 0);
    let plain = ask(&ssm, "GetParameter", &json!({ "Name": "/a/secret", "WithDecryption": true }));
    assert_eq!(plain.json()["Parameter"]["Value"], "hunter2");
    assert_eq!(ssm.calls().decrypts, 1);
}

#[test]
fn dates_are_seconds_with_milliseconds_and_arns_name_the_place() {
    let ssm = Ssm::start();
    ssm.region("eu-west-1").put_at("/a/x", "v", super::super::Kind::String, 1_700_000_000_123);
    let got =
        ask_in(&ssm, "eu-west-1", "GetParameter", &json!({ "Name": "/a/x" }), PATIENCE).expect("an answer");
    assert!(got.body.contains("\"LastModifiedDate\":1700000000.123"), "{}", got.body);
    assert_eq!(got.json()["Parameter"]["ARN"], "arn:aws:ssm:eu-west-1:111122223333:parameter/a/x");
    assert_eq!(ask(&ssm, "GetParameter", &json!({ "Name": "/a/x" })).code(), "ParameterNotFound");
}

#[test]
fn an_error_names_its_code_twice_and_an_absence_has_no_message() {
    let got = ask(&Ssm::start(), "GetParameter", &json!({ "Name": "/none" }));
    assert_eq!((got.status, got.body.as_str()), (400, r#"{"__type":"ParameterNotFound"}"#));
    assert!(got.head.contains("x-amzn-errortype: ParameterNotFound"), "{}", got.head);
    assert_eq!(ask(&Ssm::start(), "StartSession", &json!({})).code(), "UnknownOperationException");
}

#[test]
fn writes_follow_the_rules_of_the_service() {
    let ssm = Ssm::start();
    let put = |body| ask(&ssm, "PutParameter", &body);
    assert_eq!(put(json!({ "Name": "/a/x", "Value": "1" })).code(), "ValidationException");
    assert_eq!(put(json!({ "Name": "/a/x", "Value": "1", "Type": "String" })).json()["Version"], 1);
    assert_eq!(
        put(json!({ "Name": "/a/x", "Value": "1", "Type": "String" })).code(),
        "ParameterAlreadyExists"
    );
    assert_eq!(put(json!({ "Name": "/a/x", "Value": "2", "Overwrite": true })).json()["Version"], 2);
    let other = json!({ "Name": "/a/x", "Value": "2", "Type": "SecureString", "Overwrite": true });
    assert_eq!(put(other).code(), "HierarchyTypeMismatchException");
    for name in ["/a x", "a/b", "/a//b", "/aws/x", "/a/"] {
        let body = json!({ "Name": name, "Value": "1", "Type": "String" });
        assert_eq!(put(body).code(), "ValidationException", "{name}");
    }
    let big = json!({ "Name": "/big", "Value": "v".repeat(4097), "Type": "String" });
    assert_eq!(put(big).code(), "ValidationException");
    let deep = json!({ "Name": "/d".repeat(16), "Value": "1", "Type": "String" });
    assert_eq!(put(deep).code(), "HierarchyLevelLimitExceededException");
}

#[test]
fn a_parameter_written_again_after_deletion_starts_at_version_one() {
    let ssm = Ssm::start();
    ssm.put("/a/x", "1");
    ssm.put("/a/x", "2");
    let gone = ask(&ssm, "DeleteParameters", &json!({ "Names": ["/a/x", "/a/y"] })).json();
    assert_eq!(gone, json!({ "DeletedParameters": ["/a/x"], "InvalidParameters": ["/a/y"] }));
    assert_eq!(ask(&ssm, "DeleteParameter", &json!({ "Name": "/a/x" })).code(), "ParameterNotFound");
    assert_eq!(ssm.put("/a/x", "3"), 1);
}

#[test]
fn labels_move_and_the_oldest_version_with_one_is_kept() {
    let ssm = Ssm::start();
    for number in 1..=100 {
        assert_eq!(ssm.put("/a/x", &number.to_string()), number);
    }
    let label = |version: u64| {
        ask(
            &ssm,
            "LabelParameterVersion",
            &json!({ "Name": "/a/x", "ParameterVersion": version, "Labels": ["l", "1"] }),
        )
    };
    assert_eq!(label(1).json(), json!({ "InvalidLabels": ["1"], "ParameterVersion": 1 }));
    let full = json!({ "Name": "/a/x", "Value": "101", "Overwrite": true });
    assert_eq!(ask(&ssm, "PutParameter", &full).code(), "ParameterMaxVersionLimitExceeded");
    label(2);
    assert_eq!(ask(&ssm, "PutParameter", &full).json()["Version"], 101);
    assert_eq!(ask(&ssm, "GetParameter", &json!({ "Name": "/a/x:1" })).code(), "ParameterVersionNotFound");
    assert_eq!(ask(&ssm, "GetParameter", &json!({ "Name": "/a/x:l" })).json()["Parameter"]["Value"], "2");
}

#[test]
fn the_ledger_counts_and_remembers() {
    let ssm = filled(11);
    let before = ssm.calls();
    sweep(&ssm);
    ask(&ssm, "GetParameters", &json!({ "Names": ["/a/001:1"] }));
    let calls = ssm.calls().since(&before);
    assert_eq!((calls.of(Operation::GetParametersByPath), calls.of(Operation::GetParameters)), (2, 1));
    assert_eq!((calls.total(), calls.connections), (3, 3));
    let log = ssm.log();
    assert_eq!(log.iter().map(|call| call.has_token).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((log[0].path.as_deref(), log[2].names.as_slice()), (Some("/a"), &["/a/001:1".to_owned()][..]));
}

#[test]
fn a_refused_port_is_the_same_port_afterwards() {
    let ssm = filled(1);
    ssm.refuse();
    let refused = ask_in(&ssm, "us-east-1", "GetParameter", &json!({ "Name": "/a/000" }), PATIENCE);
    assert_eq!(refused.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
    ssm.listen_again();
    assert_eq!(page(&ssm, None).names(), ["/a/000"]);
}
