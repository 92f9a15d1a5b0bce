use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::value::Value;

/// A server under the test's control: answers every command with `answer` while `speaking`, and counts connections.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
    speaking: Arc<AtomicBool>,
    answer: Arc<Mutex<&'static [u8]>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("redis://{}", listener.local_addr().unwrap()),
            connections: Arc::default(),
            speaking: Arc::new(AtomicBool::new(true)),
            answer: Arc::new(Mutex::new(b"+PONG\r\n")),
        };
        let (connections, speaking, answer) =
            (Arc::clone(&server.connections), Arc::clone(&server.speaking), Arc::clone(&server.answer));
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (speaking, answer) = (Arc::clone(&speaking), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = peer.read(&mut buffer).await {
                        // Each command begins with one star, and none of its arguments has another.
                        let commands = buffer[..read].split(|byte| *byte == b'*').count() - 1;
                        let bytes = answer.lock().unwrap().repeat(commands);
                        if bytes.is_empty() {
                            return;
                        }
                        if speaking.load(Ordering::SeqCst) && peer.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    fn link(&self) -> Link {
        let mut settings = RedisSettings::new(Setting::Value(Value::from(self.url.as_str())));
        settings.connect_timeout = Duration::from_millis(300);
        Link::new(settings)
    }

    fn answers(&self, answer: &'static [u8]) {
        *self.answer.lock().unwrap() = answer;
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

const DEADLINE: Duration = Duration::from_millis(100);
/// For operations that are expected to be answered, on a machine under load.
const AMPLE: Duration = Duration::from_secs(20);

async fn ask(link: &Link, within: Duration) -> Result<String, LinkError> {
    let ping = |mut connection: MultiplexedConnection| async move {
        redis::cmd("GET").arg("x").query_async(&mut connection).await
    };
    link.write(within, ping).await
}

#[tokio::test]
async fn many_callers_share_one_connection() {
    let server = Server::start().await;
    let link = server.link();
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move { ask(&link, AMPLE).await })
        })
        .collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), Ok("PONG".to_owned()));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_silent_connection_is_replaced() {
    let server = Server::start().await;
    let link = server.link();
    ask(&link, AMPLE).await.unwrap();
    server.speaking.store(false, Ordering::SeqCst);
    assert_eq!(ask(&link, DEADLINE).await, Err(LinkError::Timeout));
    server.speaking.store(true, Ordering::SeqCst);
    assert_eq!(ask(&link, AMPLE).await, Ok("PONG".to_owned()));
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_costs_one_deadline_each_and_then_nothing() {
    let server = Server::start().await;
    server.speaking.store(false, Ordering::SeqCst);
    let link = server.link();
    let begun = std::time::Instant::now();
    assert_eq!(ask(&link, DEADLINE).await, Err(LinkError::Timeout));
    assert!(begun.elapsed() >= DEADLINE);
    // This one outlasts the attempt, and from then on the failure is known.
    assert_eq!(ask(&link, AMPLE).await, Err(LinkError::Timeout));
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(ask(&link, AMPLE).await, Err(LinkError::Timeout));
    }
    assert!(begun.elapsed() < FIRST_PAUSE);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_pause_ends_and_grows() {
    let mut settings = RedisSettings::new(Setting::Value(Value::from("redis://127.0.0.1:1")));
    settings.connect_timeout = AMPLE;
    let link = Link::new(settings);
    for pause in [1, 2, 4, 5, 5] {
        assert!(matches!(ask(&link, AMPLE).await, Err(LinkError::Unavailable(_))));
        assert_eq!(link.0.lock().pause, Duration::from_secs(pause));
        // As if the pause were over.
        if let Phase::Pausing { until, .. } = &mut link.0.lock().phase {
            *until = Instant::now();
        }
    }
}

#[tokio::test]
async fn a_closed_connection_is_replaced_at_once_for_a_read() {
    let server = Server::start().await;
    let link = server.link();
    ask(&link, AMPLE).await.unwrap();
    // The server hangs up on the next command, then serves again.
    server.answers(b"");
    assert!(matches!(ask(&link, AMPLE).await, Err(LinkError::Unavailable(_))));
    server.answers(b"+PONG\r\n");
    assert_eq!(ask(&link, AMPLE).await, Ok("PONG".to_owned()));

    let hung_up = AtomicBool::new(false);
    let read = |mut connection: MultiplexedConnection| {
        server.answers(if hung_up.swap(true, Ordering::SeqCst) { b"+PONG\r\n" } else { b"" });
        let speaks_again = &server;
        async move {
            let answer = redis::cmd("GET").arg("x").query_async::<String>(&mut connection).await;
            speaks_again.answers(b"+PONG\r\n");
            answer
        }
    };
    assert_eq!(link.read(AMPLE, read).await, Ok("PONG".to_owned()));
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_demoted_primary_and_a_lost_login_are_left_but_not_hammered() {
    for (answer, expected) in [
        (b"-READONLY You can't write against a read only replica.\r\n".as_slice(), LinkError::ReadOnly),
        (b"-NOAUTH Authentication required.\r\n", LinkError::Unauthenticated),
    ] {
        let server = Server::start().await;
        let link = server.link();
        ask(&link, AMPLE).await.unwrap();
        server.answers(answer);
        for _ in 0..10 {
            assert_eq!(ask(&link, AMPLE).await, Err(expected.clone()));
        }
        assert_eq!(server.connections(), 1);
        assert!(matches!(link.0.lock().phase, Phase::Pausing { .. }));
    }
}

#[tokio::test]
async fn an_error_about_the_data_keeps_the_connection() {
    let server = Server::start().await;
    let link = server.link();
    ask(&link, AMPLE).await.unwrap();
    server.answers(b"-WRONGTYPE Operation against a key\r\n");
    assert_eq!(ask(&link, AMPLE).await, Err(LinkError::WrongType));
    server.answers(b"+PONG\r\n");
    assert_eq!(ask(&link, AMPLE).await, Ok("PONG".to_owned()));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn wrong_settings_are_said_and_nothing_is_tried() {
    let link = Link::new(RedisSettings::new(Setting::Value(Value::from("http://:hunter2@host"))));
    let error = ask(&link, AMPLE).await.unwrap_err();
    assert!(matches!(error, LinkError::Settings(_)));
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(!format!("{link:?}").contains("hunter2"));
}
