//! STS on the same port: roles, the accounts they belong to, and their errors.

use std::io;
use std::time::Duration;

use serde_json::json;

use super::super::{Fault, Operation, Ssm, When};
use super::{Got, PATIENCE, ask_as, send, small};

const ROLE: &str = "arn:aws:iam::444455556666:role/read";

fn assume(ssm: &Ssm, role: &str) -> Got {
    try_assume(ssm, role, PATIENCE).expect("an answer")
}

fn try_assume(ssm: &Ssm, role: &str, patience: Duration) -> io::Result<Got> {
    let role = role.replace(':', "%3A").replace('/', "%2F");
    let body = format!("Action=AssumeRole&Version=2011-06-15&RoleArn={role}");
    send(ssm, "", "test/20260101/us-east-1/sts", &body, patience)
}

/// Returns the content of an XML element.
fn element<'a>(got: &'a Got, name: &str) -> &'a str {
    let (_, rest) = got.body.split_once(&format!("<{name}>")).expect("the element");
    rest.split('<').next().expect("its content")
}

#[test]
fn a_role_reads_its_own_account() {
    let ssm = small();
    ssm.account("444455556666").put("/a/theirs", "v");
    let got = assume(&ssm, ROLE);
    assert_eq!(got.status, 200);
    let listed = ask_as(&ssm, element(&got, "AccessKeyId"), "GetParametersByPath", &json!({"Path": "/a"}));
    assert_eq!(listed.names(), ["/a/theirs"]);
    assert_eq!(
        listed.json()["Parameters"][0]["ARN"],
        "arn:aws:ssm:us-east-1:444455556666:parameter/a/theirs"
    );
    assert_eq!(ssm.calls().of(Operation::AssumeRole), 1);
    assert_eq!(ssm.log()[0].names, [ROLE]);
}

#[test]
fn a_role_is_denied_while_another_is_not() {
    let ssm = small();
    let denied = Fault::coded(403, "AccessDenied", "no");
    ssm.fail(When::any().operation(Operation::AssumeRole).name(ROLE), denied);
    let got = assume(&ssm, ROLE);
    assert_eq!((got.status, element(&got, "Code")), (403, "AccessDenied"));
    assert_eq!(assume(&ssm, "arn:aws:iam::444455556666:role/other").status, 200);
}

#[test]
fn sts_fails_alone() {
    let ssm = small();
    let sts = || When::any().operation(Operation::AssumeRole);
    let id = ssm.fail(sts(), Fault::internal());
    assert_eq!(assume(&ssm, ROLE).status, 500);
    ssm.clear(id);
    ssm.fail(sts(), Fault::Silent);
    try_assume(&ssm, ROLE, Duration::from_millis(300)).expect_err("an answer");
    assert_eq!(super::page(&ssm, None).status, 200, "SSM itself is well");
}

#[test]
fn what_is_no_role_is_refused() {
    let ssm = small();
    for role in ["", "role", "arn:aws:iam:::role/read"] {
        let got = assume(&ssm, role);
        assert_eq!((got.status, element(&got, "Code")), (400, "ValidationError"), "{role}");
    }
}

#[test]
fn a_session_ends_in_time_and_before_when_it_is_ended() {
    let ssm = small();
    let list = |key: &str| ask_as(&ssm, key, "GetParametersByPath", &json!({"Path": "/a"}));
    let long = assume(&ssm, ROLE);
    ssm.sessions_last(Duration::ZERO);
    let over = assume(&ssm, ROLE);
    let over = element(&over, "AccessKeyId");
    assert_eq!((list(over).status, list(over).code()), (400, "ExpiredTokenException".to_owned()));
    let scope = format!("{over}/20260101/us-east-1/sts");
    let body = format!("Action=AssumeRole&Version=2011-06-15&RoleArn={ROLE}");
    let got = send(&ssm, "", &scope, &body, PATIENCE).expect("an answer");
    assert_eq!((got.status, element(&got, "Code")), (403, "ExpiredToken"));

    let long = element(&long, "AccessKeyId");
    assert_eq!(list(long).status, 200);
    ssm.end_sessions();
    assert_eq!(list(long).code(), "ExpiredTokenException");
}

#[test]
fn a_web_identity_shows_its_token_in_place_of_a_signature() {
    let ssm = small();
    ssm.account("444455556666").put("/a/theirs", "v");
    let body =
        format!("Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={ROLE}&WebIdentityToken=a.b%3D");
    let got = send(&ssm, "", "", &body, PATIENCE).expect("an answer");
    let listed = ask_as(&ssm, element(&got, "AccessKeyId"), "GetParametersByPath", &json!({"Path": "/a"}));
    assert_eq!(listed.names(), ["/a/theirs"]);
    assert_eq!(ssm.web_identity_tokens(), ["a.b="]);
    assert_eq!(ssm.calls().of(Operation::AssumeRoleWithWebIdentity), 1);
}
