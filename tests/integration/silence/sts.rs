//! AWS credentials, and the errors of STS.

use parameter_mirror_test_support::Canaries;
use parameter_mirror_test_support::ssm::{Fault, Operation, When};
use serde_json::json;

use super::{keeps, says_nothing_of};
use crate::world::{LATER, Setup, World, eventually};

/// The account of the roles.
const THEIRS: &str = "444455556666";

/// Makes the world's source use this role, for which there is no session yet.
async fn with_role(world: &World, role: &str) {
    let grant = json!({"namespaces": [world.namespace], "paths": ["/app"]});
    let role = format!("arn:aws:iam::{THEIRS}:role/{role}");
    world.source_with(json!({"region": "us-east-1", "roleArn": role, "grants": [grant]})).await;
}

/// Keys and tokens of the operator and of its sessions, and STS errors that quote secrets.
#[tokio::test]
async fn neither_what_sts_hands_out_nor_what_it_says_is_printed() {
    let identity = Canaries::default();
    let secret = identity.sealed_marker();
    let environment = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    let environment = environment.map(|name| (name.to_owned(), secret.to_owned())).to_vec();
    let arguments = vec!["--log=trace".to_owned()];
    let world = World::with(Setup { arguments, environment, ..Setup::default() }).await;
    world.ssm.sessions_hold(secret);
    world.ssm.quotes(&world.canaries.sealed());
    let theirs = world.ssm.account(THEIRS);
    theirs.put_secure("/app/a", &world.canaries.sealed());
    theirs.put("/app/b", &world.canaries.plain());
    let marker = world.canaries.sealed_marker();
    let faults = [
        ("refused", Fault::coded(403, "AccessDenied", marker)),
        ("unknown", Fault::coded(400, marker, marker)),
        ("broken", Fault::coded(500, "InternalFailure", marker)),
        ("no-answer", Fault::GarbageOk),
    ];
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    for (role, fault) in faults {
        let fault = world.ssm.fail(When::any().operation(Operation::AssumeRole), fault);
        with_role(&world, role).await;
        eventually(&format!("the mirror says that it cannot be {role}"), LATER, async || {
            world.sync("config").await;
            let degraded = world.degraded("config", "CredentialsUnavailable").await;
            if degraded.message.contains(&format!("role/{role}:")) { Ok(()) } else { Err(degraded.message) }
        })
        .await;
        assert!(world.ssm.hits(fault) > 0, "STS was not asked");
        says_nothing_of(&world, &[&world.canaries, &identity]).await;
        world.ssm.clear_all();
    }
    with_role(&world, "reader").await;
    world.healthy("config").await;
    world.ssm.end_sessions();
    theirs.put_secure("/app/a", &world.canaries.sealed());
    world.sync("config").await;
    world.healthy("config").await;
    says_nothing_of(&world, &[&identity]).await;
    keeps(&world).await;
}
