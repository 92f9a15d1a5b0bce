//! The causes that conditions and events name are the real ones, and the commands that they print can be run.

use parameter_mirror_test_support::ssm::{Fault, When};
use serde_json::json;

use crate::world::{LATER, SOON, World, eventually};

const ADOPT_BY: &str = "parameter-mirror.dev/adopt-by";

/// `kubectl annotate secret` as a tenant would.
async fn consent(world: &World, secret: &str, mirror: &str) {
    world.edit_secret(secret, json!({"metadata": {"annotations": {ADOPT_BY: mirror}}})).await;
}

/// The Secret of a mirror that exists is never taken over, whatever its annotations say: the mirror would lose its live
/// data. Once that mirror is gone, its Secret can be handed over.
#[tokio::test]
async fn a_secret_is_not_taken_over_while_its_mirror_exists() {
    let world = World::start().await;
    for name in ["a", "b", "other/c"] {
        world.ssm.put(&format!("/app/{name}"), "1");
    }
    world.mirror("first", json!({"parameters": [{"path": "/app"}], "secret": {"name": "config"}})).await;
    world.ready("first", "Synced").await;
    let before = world.data("config").await.unwrap();
    let second = json!({"parameters": [{"path": "/app/other"}], "secret": {"name": "config"}});
    world.mirror("second", second).await;
    let refused = world.condition("second", "Ready", "False", "SecretConflict").await;
    assert!(refused.message.contains("belongs to another ParameterMirror"), "{}", refused.message);
    assert!(!refused.message.contains("adopt-by"), "a command that destroys: {}", refused.message);

    consent(&world, "config", "second").await;
    world.sync("second").await;
    world.sync("first").await;
    world.condition("second", "Ready", "False", "SecretConflict").await;
    world.ready("first", "Synced").await;
    assert_eq!(world.data("config").await.unwrap(), before);

    world.cluster.kubectl(&["delete", "pmirror", "first", "--namespace", &world.namespace]).await;
    consent(&world, "config", "second").await;
    world.sync("second").await;
    world.holds("config", &[("C", "1")]).await;
    assert!(world.event("second", "Adopted").await.contains("Secret config belongs to this mirror now"));
}

/// Three incidents within minutes are three events, each with its cause.
#[tokio::test]
async fn each_incident_is_an_event_with_its_own_cause() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.ssm.fail(When::any(), Fault::unavailable());
    world.sync("config").await;
    world.degraded("config", "SourceUnavailable").await;
    world.ssm.clear_all();
    world.sync("config").await;
    world.healthy("config").await;

    world.redis.freeze();
    world.sync("config").await;
    world.degraded("config", "RedisUnavailable").await;
    world.redis.thaw();
    world.healthy("config").await;

    world.edit_secret("config", json!({"stringData": {"A": "edited"}})).await;
    world.holds("config", &[("A", "1")]).await;
    world.delete_secret("config").await;
    world.holds("config", &[("A", "1")]).await;
    let events = eventually("every incident is reported", LATER, async || {
        let events = world.events("config").await;
        let has =
            |reason: &str, part: &str| events.iter().any(|(is, note)| is == reason && note.contains(part));
        let expected = [
            ("SourceUnavailable", "HTTP 503"),
            ("Recovered", "Recovered from SourceUnavailable"),
            ("RedisUnavailable", "Redis pm:"),
            ("Recovered", "Recovered from RedisUnavailable"),
            ("Healed", "was edited"),
            ("Healed", "was missing"),
        ];
        let missing: Vec<_> = expected.into_iter().filter(|(reason, part)| !has(reason, part)).collect();
        if missing.is_empty() { Ok(events) } else { Err(format!("{missing:?} of {}", world.seen(&events))) }
    })
    .await;
    assert_eq!(events.iter().filter(|(reason, _)| reason == "Healed").count(), 2, "{events:?}");
}

/// A second incident with the same reason is counted in the event of the first one, which then has the words of the second.
#[tokio::test]
async fn a_repeated_event_has_the_words_of_its_latest_incident() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    for fault in [Fault::unavailable(), Fault::internal()] {
        world.ssm.fail(When::any(), fault);
        world.sync("config").await;
        world.degraded("config", "SourceUnavailable").await;
        world.ssm.clear_all();
        world.sync("config").await;
        world.healthy("config").await;
    }
    eventually("one event of two incidents", LATER, async || {
        let events = world.events("config").await;
        let of_ssm: Vec<_> = events.iter().filter(|(reason, _)| reason == "SourceUnavailable").collect();
        match of_ssm.as_slice() {
            [(_, note)] if note.contains("HTTP 500") && !note.contains("HTTP 503") => Ok(()),
            _ => Err(world.seen(&events)),
        }
    })
    .await;
    let described =
        world.cluster.kubectl(&["describe", "pmirror", "config", "--namespace", &world.namespace]).await;
    let line = described.lines().find(|line| line.contains("SourceUnavailable") && line.contains("Warning"));
    assert!(line.is_some_and(|line| line.contains("(x2 over")), "{described}");
}

/// The deletion of a mirror that has to delete its hash first waits for Redis, and says so while it waits.
#[tokio::test]
async fn a_deletion_that_waits_for_redis_says_so() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    let spec = json!({"parameters": [{"path": "/app"}], "redis": {"deletionPolicy": "Delete"}});
    world.mirror("config", spec).await;
    world.ready("config", "Synced").await;
    world.redis.freeze();
    let delete = ["delete", "pmirror", "config", "--namespace", &world.namespace];
    world.cluster.kubectl(&[&delete[..], &["--wait=false"]].concat()).await;
    let degraded = world.degraded("config", "DeletionWaiting").await;
    for part in ["being deleted", &world.key("config"), "keeps trying", "leaves the target behind"] {
        assert!(degraded.message.contains(part), "{part:?} is not in {}", degraded.message);
    }
    assert_eq!(world.event("config", "DeletionWaiting").await, degraded.message);
    world.redis.thaw();
    world.cluster.kubectl(&[&delete[..], &["--ignore-not-found", "--timeout=60s"]].concat()).await;
    assert_eq!(
        world.redis.cli(&["exists", &world.key("config")]).await,
        "0",
        "the hash is gone with its mirror"
    );
}

/// A source has events of its own.
#[tokio::test]
async fn a_source_reports_drills_and_its_availability_as_events() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let drill = |until: &str| format!("parameter-mirror.dev/drill-until={until}");
    let annotate = ["annotate", "--overwrite", "psource", &world.source];
    world.cluster.kubectl(&[&annotate[..], &[&drill("2099-01-01T00:00:00Z")]].concat()).await;
    let reported = async |reason: &str| {
        eventually(&format!("an event {reason} of the source"), LATER, async || {
            let about = format!("involvedObject.name={}", world.source);
            let columns = "custom-columns=R:.reason,M:.message";
            let query =
                ["get", "events", "--namespace", "default", "--field-selector", &about, "-o", columns];
            let events = world.cluster.kubectl(&query).await;
            let found = events.lines().find(|line| line.starts_with(reason)).map(str::to_owned);
            found.ok_or_else(|| world.seen(&events))
        })
        .await
    };
    assert!(reported("DrillRefused").await.contains("is no time within the next hour"));
    world.ssm.fail(When::any(), Fault::unavailable());
    world.sync("config").await;
    assert!(reported("SourceUnavailable").await.contains("Mirrors of this source serve what they hold"));
    world.ssm.clear_all();
    world.sync("config").await;
    reported("Available").await;
}

/// A policy refuses the Secret: its text is passed on, unless it quotes a value.
#[tokio::test]
async fn a_refusal_of_the_api_server_is_passed_on_in_its_words() {
    let world = World::start().await;
    world.ssm.put("/app/a", "a-value-to-hide");
    let scope = json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace}});
    let policy = |message: &str| {
        let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}]);
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": world.namespace},
            "spec": {
                "matchConstraints": {"namespaceSelector": scope, "resourceRules": rules},
                "validations": [{"expression": "has(object.metadata.labels) && 'team' in object.metadata.labels", "messageExpression": message}],
            },
        })
    };
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": world.namespace},
        "spec": {"policyName": world.namespace, "validationActions": ["Deny"]},
    });
    world.cluster.kubectl_apply(&policy("'the label team is required'").to_string()).await;
    world.cluster.kubectl_apply(&binding.to_string()).await;
    eventually("the policy is in force", LATER, async || {
        let probe =
            ["create", "secret", "generic", "probe", "--dry-run=server", "--namespace", &world.namespace];
        let output = world.cluster.try_kubectl(&probe).await;
        if output.stderr.contains("team is required") { Ok(()) } else { Err(output.stderr) }
    })
    .await;
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}})).await;
    let refused = world.condition("config", "Ready", "False", "SecretWriteFailed").await;
    for part in ["422", "the label team is required", "It holds nothing of this mirror"] {
        assert!(refused.message.contains(part), "{part:?} is not in {}", refused.message);
    }
    assert!(!refused.message.contains("immutable"), "{}", refused.message);

    let quoting = policy("'key A holds ' + string(object.data.A)");
    world.cluster.kubectl_apply(&quoting.to_string()).await;
    eventually("a text with a value is left out", LATER, async || {
        world.ask("config").await;
        let message = world.condition("config", "Ready", "False", "SecretWriteFailed").await.message;
        assert!(!message.contains("a-value-to-hide"), "{message}");
        if message.contains("team is required") { Err(message) } else { Ok(()) }
    })
    .await;
    world.change("config", json!({"secret": {"labels": {"team": "shop"}}})).await;
    world.holds("config", &[("A", "a-value-to-hide")]).await;
}

/// One of several paths selects nothing: it is named, and the rest is published.
#[tokio::test]
async fn an_empty_path_among_several_is_named() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    let spec = json!({"parameters": [{"path": "/app"}, {"path": "/app/typo"}], "secret": {}});
    world.mirror("config", spec).await;
    let degraded = world.degraded("config", "NoParameters").await;
    assert!(degraded.message.contains("nothing below /app/typo"), "{}", degraded.message);
    world.holds("config", &[("A", "1")]).await;
    world.ready("config", "Synced").await;
    let optional = json!([{"path": "/app"}, {"path": "/app/typo/", "optional": true}]);
    world.change("config", json!({"parameters": optional})).await;
    world.healthy("config").await;
}

/// IAM denies one of three paths: it is named.
#[tokio::test]
async fn the_selection_that_fails_is_named() {
    let world = World::start().await;
    for name in ["one", "two", "three"] {
        world.ssm.put(&format!("/app/{name}/a"), "1");
    }
    world.ssm.fail(When::any().path("/app/two"), Fault::access_denied_iam("ssm:GetParametersByPath"));
    let paths = ["one", "two", "three"].map(|name| json!({"path": format!("/app/{name}")}));
    world.mirror("config", json!({"parameters": paths, "secret": {}})).await;
    let degraded = world.degraded("config", "AccessDenied").await;
    assert!(degraded.message.contains("the selection of /app/two"), "{}", degraded.message);
}

/// Two parameters come to share a variable. The reader would refuse every start, so the hash keeps the last usable set.
#[tokio::test]
async fn a_set_that_no_program_can_be_started_with_does_not_reach_redis() {
    let world = World::start().await;
    world.ssm.put("/app/foo-bar", "1");
    world.ssm.put("/app/ok", "1");
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "redis": {}})).await;
    world.ready("config", "Synced").await;
    world.ssm.put("/app/foo.bar", "1");
    world.ssm.put("/app/ok", "2");
    world.sync("config").await;
    let degraded = world.degraded("config", "RedisNotUsable").await;
    for part in ["/app/foo-bar", "/app/foo.bar", "FOO_BAR", "held whole"] {
        assert!(degraded.message.contains(part), "{part:?} is not in {}", degraded.message);
    }
    assert_eq!(world.values("config").await.len(), 2);
    assert_eq!(world.field("config", "/app/ok").await.as_deref(), Some("1"));
    let keys = json!([{"path": "/app"}, {"name": "/app/foo.bar", "key": "FOO_DOT_BAR"}]);
    world.change("config", json!({"parameters": keys})).await;
    world.field_is("config", "/app/ok", "2").await;
    world.healthy("config").await;
}

/// A suspended mirror is shown as such, and is not Ready when its Secret is gone.
#[tokio::test]
async fn a_suspended_mirror_whose_secret_is_gone_is_not_ready() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.change("config", json!({"suspend": true})).await;
    world.ready("config", "Suspended").await;
    world.condition("config", "Suspended", "True", "Suspended").await;
    let columns = world.cluster.kubectl(&["get", "pmirror", "config", "--namespace", &world.namespace]).await;
    assert!(columns.contains("SUSPENDED") && columns.contains("true"), "{columns}");
    world.delete_secret("config").await;
    let gone = world.condition("config", "Ready", "False", "Suspended").await;
    assert!(gone.message.contains("Secret config holds nothing"), "{}", gone.message);
    let series =
        format!(r#"parameter_mirror_mirror_suspended{{namespace="{}",mirror="config"}}"#, world.namespace);
    assert_eq!(world.operator.metric(&series).await, 1);
    world.change("config", json!({"suspend": false})).await;
    world.holds("config", &[("A", "1")]).await;
    world.ready("config", "Synced").await;
    let conditions = world.status("config").await.conditions;
    assert!(conditions.iter().all(|condition| condition.type_ != "Suspended"), "{conditions:?}");
    let labels = world.secrets().get("config").await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels["parameter-mirror.dev/mirror"], "config", "orphans can be listed");
    let listed = eventually("no mirror is without a reason", SOON, async || {
        let query =
            ["get", "pmirror", "config", "--namespace", &world.namespace, "-o", "jsonpath={.status.reason}"];
        let reason = world.cluster.kubectl(&query).await;
        if reason == "Synced" { Ok(reason) } else { Err(reason) }
    });
    listed.await;
}
