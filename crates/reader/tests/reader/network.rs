//! Networks as they are: IPv6, proxies, and certificates of the company's own authority.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::{Method, StatusCode};
use parameter_mirror_test_support::{Scratch, Ssm, TlsFront};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::serve::send;
use crate::world::{Ended, Reader, World, endpoint};

/// Leads from a port of `[::1]` to a server, for as long as the test's runtime lives.
async fn leading_to(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
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

/// Reads `/x` from SSM at this URL.
fn asking(world: &World, url: &str) -> Reader {
    let reader = world.reader("get /x --source ssm-first --ssm-name /x --region us-east-1");
    let reader = reader.with("AWS_ENDPOINT_URL_SSM", url);
    reader.with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").with("AWS_SECRET_ACCESS_KEY", "secret")
}

/// `NO_PROXY` names an address alone or as a network.
#[tokio::test]
async fn ssm_at_an_address_of_ipv6_is_reached_around_the_proxy() {
    let (world, ssm) = (World::start().await, Ssm::start());
    ssm.put("/x", "of ssm");
    let address = leading_to(ssm.address()).await;
    let get = |no_proxy: &str| {
        let reader = asking(&world, &format!("http://{address}")).with("NO_PROXY", no_proxy);
        reader.with("HTTP_PROXY", "http://127.0.0.1:1").run()
    };
    for no_proxy in ["::1", "::/64", "example.com,::1"] {
        assert_eq!(get(no_proxy).await.good(), "of ssm\n", "{no_proxy}");
    }
    let through_the_proxy = get("example.com").await;
    assert_eq!(through_the_proxy.code, Some(18), "{through_the_proxy:?}");
}

#[track_caller]
fn says(ended: &Ended, all: &[&str]) {
    assert_eq!(ended.code, Some(18), "{ended:?}");
    for says in all {
        assert!(ended.err.contains(says), "{says:?} is not in {:?}", ended.err);
    }
}

#[tokio::test]
async fn the_authorities_of_aws_ca_bundle_are_trusted_and_without_them_the_certificate_is_named() {
    let (world, ssm) = (World::start().await, Ssm::start());
    ssm.put("/x", "of ssm");
    let front = TlsFront::start(ssm.address()).await;
    let ca = front.ca().to_str().unwrap();
    let trusting = |path: &str| asking(&world, &front.url()).with("AWS_CA_BUNDLE", path).run();
    assert_eq!(trusting(ca).await.good(), "of ssm\n");
    // It replaces the authorities of the system, which are trusted without it.
    let of_the_system = asking(&world, &front.url()).with("SSL_CERT_FILE", ca);
    assert_eq!(of_the_system.run().await.good(), "of ssm\n");
    let other = TlsFront::start(ssm.address()).await;
    let replaced = asking(&world, &front.url()).with("SSL_CERT_FILE", ca);
    let replaced = replaced.with("AWS_CA_BUNDLE", other.ca().to_str().unwrap()).run().await;
    let host = front.address().to_string();
    says(&replaced, &[&host, "its certificate is"]);
    says(&asking(&world, &front.url()).run().await, &[&host, "UnknownIssuer", "AWS_CA_BUNDLE"]);
    let another_host = front.url().replace("127.0.0.1", "localhost");
    let another_host = asking(&world, &another_host).with("AWS_CA_BUNDLE", ca).run().await;
    says(&another_host, &["localhost", "its certificate is not accepted", "not valid for name"]);
}

#[tokio::test]
async fn a_bundle_that_cannot_be_used_is_named() {
    let (world, scratch) = (World::start().await, Scratch::new("bundle").unwrap());
    let file = scratch.path().join("ca.pem");
    std::fs::write(&file, "hunter2").unwrap();
    for (path, says) in [
        (file.to_str().unwrap(), "holds no certificate in PEM"),
        ("/nowhere/ca.pem", "AWS_CA_BUNDLE: file /nowhere/ca.pem is not readable"),
    ] {
        let ended = asking(&world, "https://127.0.0.1:1").with("AWS_CA_BUNDLE", path).run().await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains(says) && !ended.err.contains("hunter2"), "{ended:?}");
    }
}

/// A proxy that tunnels, for as long as the test's runtime lives.
async fn proxy() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    client.read_line(&mut head).await.unwrap();
                }
                let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap();
                let Ok(mut server) = TcpStream::connect(target).await else {
                    return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await.unwrap();
                };
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn ssm_is_reached_through_the_proxy_and_a_proxy_that_does_not_lead_there_is_named() {
    let (world, ssm) = (World::start().await, Ssm::start());
    ssm.put("/x", "of ssm");
    let front = TlsFront::start(ssm.address()).await;
    let through = async |proxy: &str, url: &str| {
        let reader = asking(&world, url).with("AWS_CA_BUNDLE", front.ca().to_str().unwrap());
        reader.with("HTTPS_PROXY", proxy).run().await
    };
    let proxy = format!("http://me:hunter2@{}", proxy().await);
    assert_eq!(through(&proxy, &front.url()).await.good(), "of ssm\n");
    let nobody = through("http://me:hunter2@127.0.0.1:1", &front.url()).await;
    says(&nobody, &[&front.address().to_string(), "the proxy (HTTPS_PROXY)"]);
    let refused = through(&proxy, "https://127.0.0.1:1").await;
    says(&refused, &["127.0.0.1:1", "the proxy (HTTPS_PROXY)"]);
    assert!(!nobody.err.contains("hunter2") && !refused.err.contains("hunter2"), "{nobody:?} {refused:?}");
}
