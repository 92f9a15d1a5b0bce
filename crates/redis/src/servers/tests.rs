use super::*;

fn servers() -> RedisClient {
    RedisClient::new(RedisSettings::new(crate::Setting::Value("redis://first:6379".into())))
}

fn node(route: &Route) -> Option<&str> {
    route.node.as_deref()
}

#[test]
fn the_slot_is_that_of_the_specification() {
    // "123456789" is the specification's own example; the others are what `CLUSTER KEYSLOT` answers.
    assert_eq!(slot("123456789"), 0x31c3);
    for (key, expected) in [
        ("", 0),
        ("foo", 12_182),
        ("{foo}", 12_182),
        ("pm:{foo}:stage:1", 12_182),
        ("{}foo", 9_500),
        ("foo{", 7_673),
        ("foo{}{bar}", 8_363),
        ("foo{{bar}}zap", 4_015),
    ] {
        assert_eq!(slot(key), expected, "{key}");
    }
    assert_eq!(slot("pm:{shop/checkout}"), slot("pm:{shop/checkout}:stage:0123456789abcdef"));
}

#[tokio::test]
async fn redirections_are_remembered_until_the_node_fails() {
    let servers = servers();
    let inner = &servers.0;
    assert_eq!(node(&inner.route(7)), None);
    let first = inner.route(7);
    let second = inner.redirected(7, "second:6380", &first).unwrap();
    assert_eq!(node(&second), Some("second:6380"));
    assert_eq!(node(&inner.route(7)), Some("second:6380"));
    assert_eq!(node(&inner.route(8)), None, "another slot is another matter");
    // An error about the data is no reason to ask another node.
    inner.failed(7, &ConnectionError::WrongType);
    inner.failed(7, &ConnectionError::OutOfMemory);
    assert_eq!(node(&inner.route(7)), Some("second:6380"));
    inner.failed(7, &ConnectionError::Timeout);
    assert_eq!(node(&inner.route(7)), None);
    assert_eq!(servers.connections().len(), 2, "its connection is kept, and what it knows of the node");
}

#[tokio::test]
async fn a_node_without_a_host_is_where_the_one_asked_is() {
    let servers = servers();
    let first = servers.0.route(7);
    let second = servers.0.redirected(7, ":6380", &first).unwrap();
    assert_eq!(node(&second), Some("first:6380"));
    let third = servers.0.redirected(7, "2001:db8::3:6381", &second).unwrap();
    let fourth = servers.0.redirected(7, ":6382", &third).unwrap();
    assert_eq!(node(&fourth), Some("2001:db8::3:6382"));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_left_are_forgotten() {
    let servers = servers();
    let first = servers.0.route(1);
    servers.0.redirected(1, "old:1", &first).unwrap();
    servers.0.redirected(2, "new:2", &first).unwrap();
    tokio::time::advance(FORGOTTEN_AFTER / 2).await;
    servers.0.route(2);
    tokio::time::advance(FORGOTTEN_AFTER / 2).await;
    // Routing any unknown slot triggers the cleanup.
    servers.0.route(3);
    assert_eq!(node(&servers.0.route(1)), None);
    assert_eq!(node(&servers.0.route(2)), Some("new:2"));
    assert_eq!(servers.connections().len(), 2);
}
