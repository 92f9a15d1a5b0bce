//! A container without IPv4, or whose `localhost` is IPv6 first.

use std::net::{Ipv6Addr, SocketAddr};

use axum::http::{Method, StatusCode};
use parameter_mirror_test_support::Ssm;
use tokio::net::{TcpListener, TcpStream};

use crate::serve::send;
use crate::world::{World, endpoint};

/// Leads from a port of `[::1]` to a server, for as long as the test's runtime lives.
async fn leading_to(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn localhost_is_served_in_both_families_on_the_port_of_awss_extension() {
    let world = World::usual().await;
    let port = [("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "0")];
    let served = world.start_reader("serve", &port, "listening on ").await;
    let urls = endpoint(&served).await;
    let (four, six) = urls.split_once(" and ").expect(&urls);
    assert!(four.starts_with("http://127.0.0.1:") && six.starts_with("http://[::1]:"), "{urls}");
    for url in [four, six] {
        let target = [("x-amz-target", "AmazonSSM.GetParameter")];
        let (status, body) = send(Method::POST, url, &target, r#"{"Name": "/app/db/host"}"#).await;
        assert!(status == StatusCode::OK && body.contains("db.internal"), "{url}: {body}");
    }
}

#[tokio::test]
async fn redis_is_reached_by_an_address_in_brackets() {
    let world = World::usual().await;
    let address = leading_to(world.redis.address()).await;
    let at = |address: SocketAddr| {
        world.reader("get DB_HOST").with("PARAMETER_MIRROR_REDIS_URL", &format!("redis://{address}/0"))
    };
    assert_eq!(at(address).run().await.good(), "db.internal\n");
    let nobody = at((Ipv6Addr::LOCALHOST, 1).into()).run().await;
    assert!(nobody.err.contains("[::1]:1: "), "{nobody:?}");
}

/// Every spelling of `NO_PROXY` for an address: alone, in brackets, as a network.
#[tokio::test]
async fn ssm_at_an_address_of_ipv6_is_reached_around_the_proxy() {
    let (world, ssm) = (World::start().await, Ssm::start());
    ssm.put("/x", "of ssm");
    let address = leading_to(ssm.address()).await;
    let get = |no_proxy: &str| {
        let reader = world.reader("get /x --source ssm-first --ssm-name /x --region us-east-1");
        let reader = reader.with("AWS_ENDPOINT_URL_SSM", &format!("http://{address}"));
        let reader = reader.with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
        let reader = reader.with("AWS_SECRET_ACCESS_KEY", "secret").with("NO_PROXY", no_proxy);
        reader.with("HTTP_PROXY", "http://127.0.0.1:1").run()
    };
    for no_proxy in ["::1", "[::1]", "::/64", "example.com,::1", "*"] {
        assert_eq!(get(no_proxy).await.good(), "of ssm\n", "{no_proxy}");
    }
    let through_the_proxy = get("example.com").await;
    assert_eq!(through_the_proxy.code, Some(18), "{through_the_proxy:?}");
}
