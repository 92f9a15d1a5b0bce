use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parameter_mirror_format::value::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::Setting;

/// A server under the test's control. It answers a limited number of commands of each connection with
/// `answer`, and counts connections.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
    answers: Arc<AtomicUsize>,
    answer: Arc<Mutex<&'static [u8]>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("redis://{}", listener.local_addr().unwrap()),
            connections: Arc::default(),
            answers: Arc::new(AtomicUsize::new(ALL)),
            answer: Arc::new(Mutex::new(b"+PONG\r\n")),
        };
        let (connections, answers, answer) =
            (Arc::clone(&server.connections), Arc::clone(&server.answers), Arc::clone(&server.answer));
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (answers, answer) = (Arc::clone(&answers), Arc::clone(&answer));
                tokio::spawn(async move {
                    let (mut buffer, mut asked) = ([0; 1024], 0);
                    while let Ok(read @ 1..) = peer.read(&mut buffer).await {
                        // Each command contains exactly one `*`, at its start; no argument contains another.
                        let commands = buffer[..read].split(|byte| *byte == b'*').count() - 1;
                        let bytes = answer.lock().repeat(commands);
                        if bytes.is_empty() {
                            return;
                        }
                        asked += commands;
                        let speaks = asked <= answers.load(Ordering::SeqCst);
                        if speaks && peer.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    fn connection(&self) -> Connection {
        let mut settings = RedisSettings::new(Setting::Value(Value::from(self.url.as_str())));
        settings.connect_timeout = Duration::from_millis(300);
        Connection::new(settings)
    }

    fn answers(&self, answer: &'static [u8]) {
        *self.answer.lock() = answer;
    }

    fn answers_first(&self, commands: usize) {
        self.answers.store(commands, Ordering::SeqCst);
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Answers all commands of a connection.
const ALL: usize = usize::MAX;
const DEADLINE: Duration = Duration::from_millis(100);
/// The deadline of operations that are expected to be answered, on a machine under load.
const AMPLE: Duration = Duration::from_secs(20);

async fn ask(connection: &Connection, within: Duration) -> Result<String, ConnectionError> {
    let ping = |mut connection: MultiplexedConnection| async move {
        redis::cmd("GET").arg("x").query_async(&mut connection).await
    };
    connection.write(within, ping).await
}

#[tokio::test]
async fn many_callers_share_one_connection() {
    let server = Server::start().await;
    let connection = server.connection();
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { ask(&connection, AMPLE).await })
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
    let connection = server.connection();
    ask(&connection, AMPLE).await.unwrap();
    server.answers_first(0);
    assert_eq!(ask(&connection, DEADLINE).await, Err(ConnectionError::Timeout));
    server.answers_first(ALL);
    assert_eq!(ask(&connection, AMPLE).await, Ok("PONG".to_owned()));
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_costs_one_deadline_each_and_then_nothing() {
    let server = Server::start().await;
    server.answers_first(0);
    let connection = server.connection();
    let begun = std::time::Instant::now();
    assert_eq!(ask(&connection, DEADLINE).await, Err(ConnectionError::Timeout));
    assert!(begun.elapsed() >= DEADLINE);
    // This call outlasts the attempt; after it, the failure is known.
    assert_eq!(ask(&connection, AMPLE).await, Err(ConnectionError::Timeout));
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(ask(&connection, AMPLE).await, Err(ConnectionError::Timeout));
    }
    assert!(begun.elapsed() < FIRST_PAUSE);
    assert_eq!(server.connections(), 1);
}

#[test]
fn the_pause_grows_and_ends_with_a_success() {
    let mut state = State::default();
    for pause in [1, 2, 4, 5, 5] {
        assert_eq!(state.break_off(ConnectionError::Timeout).0, Duration::from_secs(pause));
    }
    state.succeeded();
    assert_eq!(state.break_off(ConnectionError::Timeout).0, FIRST_PAUSE);
}

/// The path lets only the first answer through: connecting works, every later command fails.
#[tokio::test]
async fn connections_that_fail_one_after_the_other_are_not_made_for_every_caller() {
    let server = Server::start().await;
    let connection = server.connection();
    server.answers_first(1);
    for _ in 0..FAILURES {
        assert_eq!(connection.broken(), None);
        assert_eq!(ask(&connection, DEADLINE).await, Err(ConnectionError::Timeout));
    }
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(ask(&connection, AMPLE).await, Err(ConnectionError::Timeout));
    }
    assert!(begun.elapsed() < FIRST_PAUSE);
    assert_eq!(server.connections(), 3);
}

/// The background attempt reconnects, so the next caller finds the connection open without failing first.
#[tokio::test]
async fn a_server_that_serves_again_is_found_without_being_asked() {
    let server = Server::start().await;
    let connection = server.connection();
    server.answers(b"-LOADING Redis is loading the dataset in memory\r\n");
    let loading = Err(ConnectionError::Refused("LOADING".to_owned()));
    assert_eq!(ask(&connection, AMPLE).await, loading);
    assert_eq!(ask(&connection, AMPLE).await, loading);
    server.answers(b"+PONG\r\n");
    let found = async {
        while connection.broken().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(AMPLE, found).await.unwrap();
    assert_eq!(ask(&connection, AMPLE).await, Ok("PONG".to_owned()));
}

#[tokio::test]
async fn a_closed_connection_is_replaced_at_once_for_a_read() {
    let server = Server::start().await;
    let connection = server.connection();
    ask(&connection, AMPLE).await.unwrap();
    // The server hangs up on the next command, then serves again.
    server.answers(b"");
    assert!(matches!(ask(&connection, AMPLE).await, Err(ConnectionError::Unavailable(_))));
    server.answers(b"+PONG\r\n");
    assert_eq!(ask(&connection, AMPLE).await, Ok("PONG".to_owned()));

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
    assert_eq!(connection.read(AMPLE, read).await, Ok("PONG".to_owned()));
    assert_eq!(server.connections(), 3);
}

/// An operation in progress finishes on the connection it started on.
#[tokio::test]
async fn a_connection_has_a_successor_at_the_end_of_its_lifetime() {
    let server = Server::start().await;
    let mut settings = RedisSettings::new(Setting::Value(Value::from(server.url.as_str())));
    settings.lifetime = Some(Duration::from_hours(11));
    let connection = Connection::new(settings);
    ask(&connection, AMPLE).await.unwrap();
    let Ok((first, mut old)) = connection.connection().await else { panic!("it is open") };
    let pass = async |time| {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    };
    pass(Duration::from_hours(10)).await;
    ask(&connection, AMPLE).await.unwrap();
    assert_eq!(server.connections(), 1);

    pass(Duration::from_hours(1)).await;
    let renewed = async {
        while connection.0.state.lock().serial == first {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(AMPLE, renewed).await.unwrap();
    assert_eq!(ask(&connection, AMPLE).await, Ok("PONG".to_owned()));
    let answer = redis::cmd("GET").arg("x").query_async::<String>(&mut old.connection).await;
    assert_eq!(answer.unwrap(), "PONG");
    assert_eq!(server.connections(), 2);

    pass(Duration::from_hours(11)).await;
    let again = async {
        while server.connections() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(AMPLE, again).await.unwrap();
}

#[tokio::test]
async fn a_demoted_primary_and_a_lost_login_are_left_but_not_hammered() {
    for (answer, expected) in [
        (b"-READONLY You can't write against a read only replica.\r\n".as_slice(), ConnectionError::ReadOnly),
        (b"-NOAUTH Authentication required.\r\n", ConnectionError::Unauthenticated),
    ] {
        let server = Server::start().await;
        let connection = server.connection();
        ask(&connection, AMPLE).await.unwrap();
        server.answers(answer);
        for _ in 0..10 {
            assert_eq!(ask(&connection, AMPLE).await, Err(expected.clone()));
        }
        assert_eq!(server.connections(), 1);
        assert_eq!(connection.broken(), Some(expected));
    }
}

#[tokio::test]
async fn an_error_about_the_data_keeps_the_connection() {
    let server = Server::start().await;
    let connection = server.connection();
    ask(&connection, AMPLE).await.unwrap();
    server.answers(b"-WRONGTYPE Operation against a key\r\n");
    assert_eq!(ask(&connection, AMPLE).await, Err(ConnectionError::WrongType));
    server.answers(b"+PONG\r\n");
    assert_eq!(ask(&connection, AMPLE).await, Ok("PONG".to_owned()));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn wrong_settings_are_said_and_nothing_is_tried() {
    let connection = Connection::new(RedisSettings::new(Setting::Value(Value::from("http://:hunter2@host"))));
    let error = ask(&connection, AMPLE).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Settings(_)));
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(!format!("{connection:?}").contains("hunter2"));
}
