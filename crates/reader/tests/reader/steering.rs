//! Parameters whose names could choose what runs, and signals that a program must receive.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use parameter_mirror_format::content::entry::ParameterType::String as Plain;
use parameter_mirror_test_support::{Scratch, eventually};

use crate::world::{SOON, Set, World, has_said, program, set, usual};

/// A set with one more parameter, named like the variable it would become.
fn with(key: &str, value: &str, is_key_given: bool) -> Set {
    let mut set = set(&[("/app/db/host", Plain, "db.internal"), ("/app/steers", Plain, value)]);
    let entry = set.entries.get_mut("/app/steers").unwrap();
    entry.key = Some(key.to_owned());
    entry.is_key_given = is_key_given;
    set
}

/// Creates a folder with an attacker's program.
fn trap(scratch: &Scratch) -> String {
    let file = scratch.path().join("sh");
    std::fs::write(&file, "#!/bin/sh\necho the attacker runs\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    scratch.path().to_str().unwrap().to_owned()
}

const RUNS: [&str; 6] = [
    "exec -- sh -c true",
    "watch -- sh -c true",
    "export",
    "export --format dotenv",
    "export --format json",
    "export --format yaml",
];

#[tokio::test]
async fn a_parameter_that_is_called_path_does_not_choose_the_program() {
    let world = World::start().await;
    let scratch = Scratch::new("trap").unwrap();
    world.publish(&with("PATH", &trap(&scratch), false)).await;
    for arguments in RUNS {
        let ended = world.reader(arguments).run().await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(16), ""), "{arguments}: {ended:?}");
        assert!(
            ended.err.contains("/app/steers would be the variable PATH, which steers shells"),
            "{ended:?}"
        );
    }
    assert_eq!(world.reader("get DB_HOST").run().await.good(), "db.internal\n");
    // `verify` reports it before a program is started.
    let verify = world.reader("verify").run().await;
    let line = verify.out.lines().find(|line| line.contains("the variable PATH"));
    assert!(verify.code == Some(3) && line.is_some_and(|line| line.starts_with("FAIL")), "{verify:?}");
}

/// A mirror may set the `PATH` of a program. The program itself is resolved before.
#[tokio::test]
async fn a_path_that_the_mirror_gives_by_name_is_passed_on_and_finds_nothing_for_us() {
    let world = World::start().await;
    let scratch = Scratch::new("trap").unwrap();
    let folder = trap(&scratch);
    world.publish(&with("PATH", &folder, true)).await;
    let ended = world.reader("exec -- sh -c").and("echo $PATH as $0").run().await;
    assert_eq!(ended.good(), format!("{folder} as sh\n"));
    let mut command = std::process::Command::new(program());
    command.args(["watch", "--", "sh", "-c", "echo PATH is $PATH"]).envs(world.settings());
    let watching = world.start_program(&command, &format!("PATH is {folder}")).await;
    assert!(!watching.log().contains("the attacker runs"), "{}", watching.log());
}

#[tokio::test]
async fn nothing_that_steers_loader_shell_runtime_sdk_or_reader_is_passed_on() {
    let world = World::start().await;
    for key in [
        "LD_PRELOAD",
        "BASH_ENV",
        "NODE_OPTIONS",
        "PYTHONSTARTUP",
        "JAVA_TOOL_OPTIONS",
        "AWS_ENDPOINT_URL_SSM",
        "AWS_SESSION_TOKEN",
        "https_proxy",
        "PARAMETER_MIRROR_REDIS_URL",
    ] {
        world.publish(&with(key, "x", false)).await;
        let ended = world.reader("exec -- env").run().await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(16), ""), "{key}: {ended:?}");
        assert!(ended.err.contains(key), "{ended:?}");
        world.publish(&with(key, "x", true)).await;
        let out = world.reader("exec -- env").run().await.good();
        assert!(out.lines().any(|line| line == format!("{key}=x")), "{key}: {out}");
    }
}

#[tokio::test]
async fn a_missing_program_is_reported_before_anything_is_read() {
    let world = World::start().await;
    for arguments in ["exec -- no-such-program", "watch -- no-such-program"] {
        let ended = world.reader(arguments).run().await;
        assert_eq!(ended.code, Some(127), "no mirror is there either: {ended:?}");
    }
}

/// Process 1 of a container receives only the signals that it handles, so `watch` handles them.
#[tokio::test]
async fn watch_ends_at_a_signal_and_passes_it_on() {
    let world = World::usual().await;
    let idle = world.start_reader("watch --refresh 50ms", &[], "shop/checkout revision").await;
    assert_eq!(idle.terminate(SOON).await.code(), Some(0), "{}", idle.log());

    let mut command = std::process::Command::new(program());
    let script =
        "trap 'echo the hook was notified; exit 0' TERM; echo the hook runs; while :; do sleep 0.05; done";
    command.args(["watch", "--", "sh", "-c", script]).envs(world.settings());
    let busy = world.start_program(&command, "the hook runs").await;
    let ended = busy.terminate(SOON).await;
    assert_eq!(ended.code(), Some(0), "{}", busy.log());
    has_said(&busy, "the hook was notified").await;

    // A hook that ignores the signal is abandoned, because its container must end.
    let script = "trap '' TERM; echo the hook is deaf; while :; do sleep 0.05; done";
    let mut command = std::process::Command::new(program());
    command.args(["watch", "--", "sh", "-c", script]).envs(world.settings());
    let deaf = world.start_program(&command, "the hook is deaf").await;
    let began = std::time::Instant::now();
    assert_eq!(deaf.terminate(SOON).await.code(), Some(0), "{}", deaf.log());
    assert!(began.elapsed() >= Duration::from_secs(4), "it was given time");
}

/// Also before the first mirror is read, because Redis may stay silent for the whole budget.
#[tokio::test]
async fn watch_ends_at_a_signal_while_it_waits_for_redis() {
    let world = World::usual().await;
    world.publish(&usual()).await;
    world.redis.freeze();
    let mut command = std::process::Command::new(program());
    command.args(["watch", "--budget", "1h"]).envs(world.settings());
    let waiting = world.start_program(&command, "").await;
    let status = format!("/proc/{}/status", waiting.pid());
    eventually("it listens to SIGTERM", SOON, async || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        if caught >> 14 & 1 == 1 { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(waiting.terminate(SOON).await.code(), Some(0), "{}", waiting.log());
    world.redis.thaw();
}
