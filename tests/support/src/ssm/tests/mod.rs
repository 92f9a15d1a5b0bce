//! The service as a caller observes it, over plain HTTP.

mod delivery;
mod faults;
mod operations;
mod roles;

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::Ssm;

/// How long to wait for answers that are expected to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a caller received.
#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    fn code(&self) -> String {
        self.json()["__type"].as_str().unwrap_or_default().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let json = self.json();
        let items = json["Parameters"].as_array().expect("there are parameters");
        items.iter().map(|item| item["Name"].as_str().expect("a name").to_owned()).collect()
    }

    fn token(&self) -> Option<String> {
        self.json()["NextToken"].as_str().map(str::to_owned)
    }
}

/// Sends one request, on its own connection.
fn ask(ssm: &Ssm, operation: &str, body: &Value) -> Got {
    ask_in(ssm, "us-east-1", operation, body, PATIENCE).expect("an answer")
}

/// Sends one request with this access key.
fn ask_as(ssm: &Ssm, access_key: &str, operation: &str, body: &Value) -> Got {
    let scope = format!("{access_key}/20260101/us-east-1/ssm");
    send(ssm, &format!("AmazonSSM.{operation}"), &scope, &body.to_string(), PATIENCE).expect("an answer")
}

fn ask_in(ssm: &Ssm, region: &str, operation: &str, body: &Value, patience: Duration) -> io::Result<Got> {
    let scope = format!("test/20260101/{region}/ssm");
    send(ssm, &format!("AmazonSSM.{operation}"), &scope, &body.to_string(), patience)
}

fn send(ssm: &Ssm, target: &str, scope: &str, body: &str, patience: Duration) -> io::Result<Got> {
    let (received, end) = exchange(ssm, target, scope, body, patience)?;
    end?;
    let text = String::from_utf8(received).expect("the answer is text");
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Ok(Got { status, head: head.to_owned(), body: body.to_owned() })
}

/// Sends one request on a connection, and returns what arrived and how it ended.
fn exchange(
    ssm: &Ssm,
    target: &str,
    scope: &str,
    body: &str,
    patience: Duration,
) -> io::Result<(Vec<u8>, io::Result<()>)> {
    let mut stream = TcpStream::connect(ssm.endpoint().trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-amz-target: {target}\r\n\
         authorization: AWS4-HMAC-SHA256 Credential={scope}/aws4_request, Signature=0\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received).map(drop);
    Ok((received, end))
}

/// A service with one `String` and one `SecureString` below `/a`.
fn small() -> Ssm {
    let ssm = Ssm::start();
    ssm.put("/a/plain", "value");
    ssm.put_secure("/a/secret", "hunter2");
    ssm
}

/// Requests one page of `/a`.
fn page(ssm: &Ssm, token: Option<&str>) -> Got {
    let mut body = json!({ "Path": "/a", "Recursive": true, "WithDecryption": true });
    if let Some(token) = token {
        body["NextToken"] = token.into();
    }
    ask(ssm, "GetParametersByPath", &body)
}

/// Lists all names of `/a`, page by page.
fn sweep(ssm: &Ssm) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = None;
    loop {
        let got = page(ssm, token.as_deref());
        pages.push(got.names());
        token = got.token();
        if token.is_none() {
            return pages;
        }
    }
}

/// A service with this many parameters `/a/000`, `/a/001`, ... with equal values.
fn filled(count: usize) -> Ssm {
    let ssm = Ssm::start();
    for number in 0..count {
        ssm.put(&format!("/a/{number:03}"), "v");
    }
    ssm
}
