//! Every scripted fault as a caller observes it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::{Body, Fault, Operation, When};
use super::{PATIENCE, ask, ask_in, filled, page, small, sweep};

#[test]
fn a_status_comes_with_the_body_asked_for() {
    for (body, media) in [(Body::Json, "json"), (Body::Html, "html"), (Body::Empty, "plain")] {
        let ssm = small();
        ssm.fail(When::any(), Fault::Status { code: 503, body });
        let got = page(&ssm, None);
        assert!(got.status == 503 && got.head.contains(media), "{got:?}");
    }
}

#[test]
fn service_errors_carry_their_code_where_sdks_look_for_it() {
    let cases = [
        (Fault::throttling(), 400, "\"ThrottlingException\""),
        (Fault::throttling_namespaced(), 400, "com.amazonaws.ssm#ThrottlingException"),
        (Fault::throttling_header_only(), 400, "x-amzn-errortype: ThrottlingException:http"),
        (Fault::too_many_requests(), 429, "TooManyRequestsException"),
        (Fault::access_denied_iam("ssm:GetParameters"), 400, "not authorized to perform: ssm:GetParameters"),
        (Fault::access_denied_kms(), 400, "Service: AWSKMS"),
        (Fault::invalid_key_id(), 400, "InvalidKeyId"),
        (Fault::kms_throttled(), 400, "Service: AWSKMS"),
        (Fault::expired_token(), 400, "ExpiredTokenException"),
        (Fault::unrecognized_client(), 400, "UnrecognizedClientException"),
        (Fault::invalid_signature(), 400, "InvalidSignatureException"),
        (Fault::internal(), 500, "InternalServerError"),
        (Fault::unavailable(), 503, "ServiceUnavailable"),
        (Fault::validation(), 400, "ValidationException"),
        (Fault::invalid_next_token(), 400, "InvalidNextToken"),
    ];
    for (fault, status, text) in cases {
        let ssm = small();
        ssm.fail(When::any(), fault.clone());
        let got = page(&ssm, None);
        assert_eq!(got.status, status, "{fault:?}");
        assert!(got.head.contains(text) || got.body.contains(text), "{fault:?}: {got:?}");
    }
}

#[test]
fn bodies_lie_in_the_ways_asked_for() {
    let body = |fault: Fault| {
        let ssm = small();
        ssm.fail(When::any(), fault);
        page(&ssm, None)
    };
    assert!(body(Fault::GarbageOk).head.contains("text/html"));
    assert!(serde_json::from_str::<serde_json::Value>(&body(Fault::BrokenJson).body).is_err());
    assert_eq!(body(Fault::EmptyObject).json(), json!({}));
    assert!(body(Fault::NullParameters).json()["Parameters"].is_null());
    let first = |fault: Fault| body(fault).json()["Parameters"][0].clone();
    assert!(first(Fault::MissingValue).get("Value").is_none());
    assert!(first(Fault::MissingVersion).get("Version").is_none());
    assert!(first(Fault::WrongTypes)["Version"].is_string());
    assert_eq!(body(Fault::DuplicateName).names(), ["/a/plain", "/a/plain", "/a/secret"]);
    let secret = body(Fault::CiphertextAsValue).json()["Parameters"][1]["Value"].clone();
    assert!(!secret.as_str().expect("a text").contains("hunter2"));
}

#[test]
fn pages_repeat_their_token_come_empty_or_lack_a_name() {
    let ssm = filled(25);
    let id = ssm.fail(When::any().page(2), Fault::EmptyPage);
    assert_eq!(sweep(&ssm).concat().len(), 25, "an empty page loses nothing");
    ssm.clear(id);
    ssm.fail(When::any().page(2), Fault::RepeatedToken);
    let token = page(&ssm, None).token();
    assert_eq!(page(&ssm, token.as_deref()).token(), token);
    ssm.clear_all();
    ssm.fail(When::any().name("/a/003"), Fault::Drop);
    let names = sweep(&ssm).concat();
    assert!(names.len() == 24 && !names.contains(&"/a/003".to_owned()));
}

#[test]
fn a_stale_answer_is_that_of_the_moment_the_fault_was_set() {
    let ssm = small();
    ssm.fail(When::any().name("/a/plain"), Fault::Stale);
    ssm.put("/a/plain", "newer");
    ssm.put("/a/third", "new");
    let got = page(&ssm, None);
    assert_eq!(got.json()["Parameters"][0]["Value"], "value");
    assert_eq!(got.names().len(), 3, "other names are as they are now");
}

#[test]
fn conditions_narrow_skip_and_end() {
    let ssm = small();
    let id = ssm.fail(When::any().operation(Operation::GetParameters).skip(1).times(1), Fault::internal());
    let names = json!({"Names": ["/a/plain"]});
    let statuses = [0; 3].map(|_| ask(&ssm, "GetParameters", &names).status);
    assert_eq!((statuses, ssm.hits(id)), ([200, 500, 200], 1));
    ssm.fail(When::any().decrypting(), Fault::kms_throttled());
    assert_eq!(ask(&ssm, "GetParameters", &names).status, 200, "a String needs no KMS");
    assert_eq!(page(&ssm, None).status, 400);
    ssm.clear_all();
    let share = ssm.fail(When::any().share(0.5, 7), Fault::internal());
    for _ in 0..40 {
        ask(&ssm, "GetParameters", &names);
    }
    assert!((10..30).contains(&ssm.hits(share)), "{}", ssm.hits(share));
}

#[test]
fn conditions_select_region_account_and_path() {
    let ssm = small();
    ssm.region("eu-west-1").put("/a/x", "v");
    let status = |region: &str, path: &str| {
        let body = json!({ "Path": path });
        ask_in(&ssm, region, "GetParametersByPath", &body, PATIENCE).expect("an answer").status
    };
    let id = ssm.fail(When::any().region("eu-west-1"), Fault::internal());
    assert_eq!((status("eu-west-1", "/a"), status("us-east-1", "/a")), (500, 200));
    ssm.clear(id);
    let id = ssm.fail(When::any().path("/a"), Fault::internal());
    assert_eq!((status("us-east-1", "/a"), status("us-east-1", "/a/plain")), (500, 200));
    ssm.clear(id);
    ssm.fail(When::any().account("444455556666"), Fault::internal());
    assert_eq!(status("us-east-1", "/a"), 200, "these credentials are of another account");
}

#[test]
fn of_two_answers_the_later_fault_wins_and_a_delay_stays() {
    let ssm = small();
    let delay = Duration::from_millis(50);
    ssm.fail(When::any(), Fault::Slow(delay));
    ssm.fail(When::any(), Fault::internal());
    let throttled = ssm.fail(When::any(), Fault::throttling());
    let began = Instant::now();
    assert_eq!(page(&ssm, None).code(), "ThrottlingException");
    assert!(began.elapsed() >= delay);
    ssm.clear(throttled);
    assert_eq!(page(&ssm, None).status, 500);
}

#[test]
fn a_value_that_was_not_delivered_was_not_counted_as_decrypted() {
    let ssm = small();
    let listing = json!({ "Path": "/a", "WithDecryption": true });
    ssm.fail(When::any().times(1), Fault::kms_throttled());
    page(&ssm, None);
    ssm.fail(When::any().times(1), Fault::Reset);
    ask_in(&ssm, "us-east-1", "GetParametersByPath", &listing, PATIENCE).expect_err("an answer");
    assert_eq!(ssm.calls().decrypts, 0);
    page(&ssm, None);
    assert_eq!(ssm.calls().decrypts, 1);
}

#[test]
fn something_can_happen_between_two_pages() {
    let ssm = filled(12);
    ssm.after_page(1, |here| {
        here.put("/a/011", "changed meanwhile");
    });
    let token = page(&ssm, None).token();
    let second = page(&ssm, token.as_deref()).json();
    assert_eq!(second["Parameters"][1]["Value"], "changed meanwhile");
}

#[test]
fn a_refused_write_writes_nothing_and_an_unanswered_one_does() {
    let ssm = small();
    let put = json!({"Name": "/a/new", "Value": "v", "Type": "String"});
    ssm.fail(When::any().operation(Operation::PutParameter).times(1), Fault::throttling());
    assert_eq!(ask(&ssm, "PutParameter", &put).status, 400);
    assert_eq!(page(&ssm, None).names().len(), 2);
    ssm.fail(When::any().operation(Operation::PutParameter), Fault::Reset);
    ask_in(&ssm, "us-east-1", "PutParameter", &put, Duration::from_secs(5)).expect_err("an answer");
    assert_eq!(page(&ssm, None).names().len(), 3);
}
