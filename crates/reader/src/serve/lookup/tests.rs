use parameter_mirror_format::content::source::StoredSelection;
use parameter_mirror_format::hash::{Encryption, ReaderCopy};
use parameter_mirror_format::value::Value;
use rstest::rstest;

use super::*;

/// One mirror that holds `/app/x` and covers everything below `/app` except `/app/out`.
fn mirrors() -> Vec<Mirror> {
    let entry = Entry {
        key: None,
        is_key_given: false,
        kind: ParameterType::String,
        version: 4,
        date: 0,
        value: Value::from("v"),
    };
    let selections = vec![
        StoredSelection::Path { path: "/app".to_owned(), recursive: true, exclude: vec!["out".to_owned()] },
        StoredSelection::Name { name: "y:live".to_owned() },
        StoredSelection::Name { name: "/aws/service/x".to_owned() },
    ];
    let source = StoredSource {
        name: "default".to_owned(),
        region: "us-east-1".to_owned(),
        role_arn: String::new(),
        external_id: String::new(),
        account: "111122223333".to_owned(),
        selections,
    };
    let copy = ReaderCopy {
        entries: ["/app/x", "/y:live", "/aws/service/x"].map(|name| (name.to_owned(), entry.clone())).into(),
        source,
        encryption: Encryption::None,
        revision: String::new(),
        read_at: 0,
        checked_at: None,
        generation: None,
        status: None,
        is_authentic: true,
    };
    vec![Mirror { name: "shop/checkout".parse().unwrap(), copy }]
}

#[rstest]
#[case::held("/app/x", Ok(true))]
#[case::absent("/app/none", Ok(false))]
#[case::its_version("/app/x:4", Ok(true))]
#[case::another_version("/app/x:3", Err("/app/x:3 is not mirrored with this version"))]
#[case::a_label("/app/x:live", Err("/app/x:live is not mirrored with this version"))]
#[case::the_label_that_is_selected("y:live", Ok(true))]
#[case::without_that_label("/y", Err("no mirror here covers /y"))]
#[case::excluded("/app/out/x", Err("no mirror here covers /app/out/x"))]
#[case::elsewhere("/other", Err("no mirror here covers /other"))]
#[case::arn("arn:aws:ssm:us-east-1:111122223333:parameter/app/x", Ok(true))]
#[case::arn_with_version("arn:aws:ssm:us-east-1:111122223333:parameter/app/x:4", Ok(true))]
#[case::public("/aws/service/x", Ok(true))]
#[case::arn_of_a_public_one("arn:aws:ssm:us-east-1::parameter/aws/service/x", Ok(true))]
#[case::arn_of_a_public_one_elsewhere(
    "arn:aws:ssm:eu-west-1::parameter/aws/service/x",
    Err("no mirror here covers")
)]
#[case::arn_without_an_account("arn:aws:ssm:us-east-1::parameter/app/x", Err("no mirror here covers"))]
#[case::arn_of_another_account(
    "arn:aws:ssm:us-east-1:444455556666:parameter/app/x",
    Err("no mirror here covers")
)]
#[case::arn_of_another_service("arn:aws:s3:us-east-1:111122223333:app/x", Err("not mirrored"))]
#[case::a_secret_of_another_service("/aws/reference/secretsmanager/x", Err("no mirror here covers"))]
fn a_name_is_held_or_absent_or_not_ours(#[case] name: &str, #[case] expected: Result<bool, &str>) {
    let mirrors = mirrors();
    let found = find(&mirrors, &Requested::parse(name), true).map(|hit| hit.is_some());
    match (found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(why), Err(says)) => assert!(why.to_string().contains(says), "{why}"),
        (found, _) => panic!("{found:?}"),
    }
}

#[rstest]
#[case::all("/app", true, None)]
#[case::below("/app/deep", true, Some(""))]
#[case::one_level("/app", false, None)]
#[case::above("/", true, None)]
#[case::excluded("/app/out", true, None)]
fn a_path_is_answered_only_if_nothing_is_left_out(
    #[case] path: &str,
    #[case] recursive: bool,
    #[case] expected: Option<&str>,
) {
    let mirrors = mirrors();
    let found = below(&mirrors, path, recursive, true).ok();
    let found = found.map(|hits| hits.keys().copied().collect::<Vec<_>>().join(" "));
    assert_eq!(found.as_deref(), expected);
}
