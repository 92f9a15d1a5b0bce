//! The expected tokens come from botocore (`SigV4QueryAuth`), an AWS implementation that shares no code with ours.

use rstest::rstest;

use super::*;

/// 2026-01-02T03:04:05Z
const NOW: u64 = 1_767_323_045;

const NODES: &str = "shop-cache/?Action=connect&User=parameter-mirror&X-Amz-Algorithm=AWS4-HMAC-SHA256&\
    X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-central-1%2Felasticache%2Faws4_request&X-Amz-Date=20260102T030405Z&\
    X-Amz-Expires=900&X-Amz-SignedHeaders=host&\
    X-Amz-Signature=89f25560aa6fcfb2aad64dda60ae7ed95c3c3f7c1990c4115f847b3e17138dcf";
const SERVERLESS: &str = "shop-cache/?Action=connect&User=parameter-mirror&ResourceType=ServerlessCache&\
    X-Amz-Algorithm=AWS4-HMAC-SHA256&\
    X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-central-1%2Felasticache%2Faws4_request&X-Amz-Date=20260102T030405Z&\
    X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=TOKEN%2F%2B%3D&\
    X-Amz-Signature=9e977ee27d705df46acf930e15dcb7cb735ad44cad0055444464d42980c225f8";
const MEMORYDB: &str = "shop-cache/?Action=connect&User=parameter-mirror&X-Amz-Algorithm=AWS4-HMAC-SHA256&\
    X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-central-1%2Fmemorydb%2Faws4_request&X-Amz-Date=20260102T030405Z&\
    X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=TOKEN%2F%2B%3D&\
    X-Amz-Signature=093b916d2be97a790a4314f28410426ff74fb3952586de4e37d9fcc624e11df0";
const ESCAPES: &str = "shop-cache/?Action=connect&User=a%20b%2B%C3%A9&X-Amz-Algorithm=AWS4-HMAC-SHA256&\
    X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-central-1%2Felasticache%2Faws4_request&X-Amz-Date=20260102T030405Z&\
    X-Amz-Expires=900&X-Amz-SignedHeaders=host&\
    X-Amz-Signature=d66d49225c41d4e9306cae2fb9ab9ae89e51a10ea27aff53b5d4a00d425a3a22";

fn token(service: Service, name: &str, user: &str, session: Option<&str>, now: u64) -> Value {
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let credentials = Credentials::new("AKIDEXAMPLE", secret, session.map(str::to_owned), None, "test");
    let cache = Cache::new(service, name, "eu-central-1".to_owned()).unwrap();
    cache.token(user, &credentials, SystemTime::UNIX_EPOCH + Duration::from_secs(now)).unwrap()
}

#[rstest]
#[case::nodes(Service::ElastiCache, "parameter-mirror", None, NODES)]
#[case::serverless(Service::ElastiCacheServerless, "parameter-mirror", Some("TOKEN/+="), SERVERLESS)]
#[case::memorydb(Service::MemoryDb, "parameter-mirror", Some("TOKEN/+="), MEMORYDB)]
#[case::a_user_that_needs_escapes(Service::ElastiCache, "a b+\u{e9}", None, ESCAPES)]
fn a_token_is_byte_for_byte_what_botocore_makes(
    #[case] service: Service,
    #[case] user: &str,
    #[case] session: Option<&str>,
    #[case] expected: &str,
) {
    assert_eq!(token(service, "shop-cache", user, session, NOW).expose(), expected);
}

#[test]
fn the_name_of_a_cache_is_signed_in_lower_case() {
    assert_eq!(token(Service::ElastiCache, "Shop-Cache", "parameter-mirror", None, NOW).expose(), NODES);
}

#[test]
fn each_second_has_a_token_of_its_own() {
    let at = |now| token(Service::ElastiCache, "shop-cache", "parameter-mirror", None, now);
    assert_eq!(at(NOW), at(NOW));
    assert_ne!(at(NOW), at(NOW + 1));
}

#[test]
fn an_endpoint_is_no_name_of_a_cache() {
    for name in ["", "shop.abc123.use1.cache.amazonaws.com", "shop:6379", "rediss://shop", "a/b", "a?b"] {
        let refused = Cache::new(Service::ElastiCache, name, "us-east-1".to_owned()).unwrap_err();
        assert!(refused.to_string().starts_with(&format!("`{name}` is no name of a cache")), "{refused}");
    }
}
