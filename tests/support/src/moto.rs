//! moto, a stand-in for AWS that keeps parameters, keys and roles in memory.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::port::{self, Port};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::ssm_client::SsmClient;
use crate::{eventually, programs};

/// The time limit of a start. Python imports all of AWS first: one second alone, many when every test starts
/// at once.
const STARTED: Duration = Duration::from_mins(1);

/// A moto server on its own port. Every AWS service is below one endpoint; regions are kept apart.
#[derive(Debug)]
pub struct Moto {
    port: Port,
    process: Process,
}

impl Moto {
    /// Starts a server and waits until it answers.
    pub async fn start() -> Self {
        let scratch = Arc::new(Scratch::new("moto").expect("a temporary folder"));
        let port = Port::take();
        let moto = Self { process: serve(&scratch, &port), port };
        moto.answers().await;
        moto
    }

    /// Returns `http://127.0.0.1:port`, or the address of [`port`].
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", port::address(), self.port.number())
    }

    /// Returns its SSM in one region.
    #[must_use]
    pub fn ssm(&self, region: &str) -> SsmClient {
        SsmClient::new(&self.endpoint(), region)
    }

    /// Freezes it: it stops answering while its connections stay open, like a black hole.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Resumes a frozen server.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Kills it: connections are refused, and its data is lost.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Kills it if it still runs, and starts it again on the same port, empty.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = serve(self.process.scratch(), &self.port);
        self.answers().await;
    }

    /// Returns the process, for its id and its log.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn answers(&self) {
        let ssm = self.ssm("us-east-1");
        eventually("moto answers", STARTED, async || {
            assert!(self.process.exited().is_none(), "moto ended:\n{}", self.process.log());
            ssm.try_call("DescribeParameters", &json!({})).await
        })
        .await;
    }
}

fn serve(scratch: &Arc<Scratch>, port: &Port) -> Process {
    let mut command = Command::new(programs::path("moto_server"));
    command.args(["-H", &port::address().to_string(), "-p", &port.number().to_string()]);
    Process::start(scratch, "moto", &command).expect("moto starts")
}
