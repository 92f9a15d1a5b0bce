//! A hostile tenant: many mirrors in one namespace, all at once, each an attempt to reach a foreign value or
//! a foreign object. A victim in another namespace must not change by a byte.

mod attempts;
mod flood;
mod foreign_secrets;
mod past;

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use parameter_mirror::api::{ParameterMirror, ParameterSource};
use parameter_mirror_test_support::copies;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{Setup, World, cluster};

use self::attempts::{Attempt, End, attempts};
use self::past::Past;

/// Part of every value that the tenant may not have.
const FOREIGN: &str = "not-the-tenants";
/// Part of every value that the tenant may have.
const OWN: &str = "the-tenants";

/// Fills SSM with the tenant's part, the victim's, and the public one of AWS.
fn fill_ssm(world: &World) {
    for name in ["/tenant/a", "/tenant/db/host", "/tenant/victim/config"] {
        world.ssm.put(name, OWN);
    }
    for name in
        ["/tenantry/a", "/Tenant/a", "/victim/config", "/tenant.victim/a", "/tenant-victim", "/victim2"]
    {
        world.ssm.put(name, FOREIGN);
    }
    world.ssm.put_secure("/victim/db/password", FOREIGN);
    world.ssm.label("/victim/db/password", 1, "live");
    let far = world.ssm.region("eu-west-1");
    far.put("/tenant/a", OWN);
    // SSM itself would not accept such a parameter: the names belong to AWS.
    far.change(|shelf| shelf.put_public("/aws/reference/secretsmanager/victim", FOREIGN)).unwrap();
}

async fn apply_source(world: &World, name: &str, region: &str, grants: Value) {
    let source = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": name},
        "spec": {"region": region, "grants": grants},
    });
    world.cluster.kubectl_apply(&source.to_string()).await;
}

/// Returns everything of the victim that an attempt could reach, as stored.
async fn of_the_victim(world: &World, victim: &str) -> (Value, BTreeMap<String, Vec<u8>>, Vec<Value>) {
    let secrets = |namespace: &str| Api::<Secret>::namespaced(world.client.clone(), namespace);
    let secret = json!(secrets(victim).get("config").await.unwrap());
    let hash = still(world, &format!("pm:{{{victim}/config}}")).await;
    let mut others = vec![json!(secrets(&world.home).get("parameter-mirror-keys").await.unwrap())];
    others.push(json!(secrets(&world.namespace).get("release").await.unwrap()));
    others.push(json!(secrets(victim).list(&ListParams::default()).await.unwrap().items.len()));
    (secret, hash, others)
}

/// Returns the content of a hash, without the fields that change without a write.
async fn still(world: &World, key: &str) -> BTreeMap<String, Vec<u8>> {
    let mut hash = world.redis.hash(key).await;
    for moving in ["@fence", "@checkedAt", "@checkedMac", "@status", "@statusAt"] {
        hash.remove(moving);
    }
    hash
}

/// Returns every value in the tenant's Secrets and hashes with its place, decrypted as by a reader with all
/// keys.
async fn everything_the_tenant_has(world: &World) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for secret in world.secrets().list(&ListParams::default()).await.unwrap() {
        let name = secret.metadata.name.clone().unwrap();
        let data = secret.data.unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        found.extend(data.into_iter().map(|(key, value)| (format!("Secret {name}: {key}"), text(value.0))));
    }
    let keys = copies::keys(&world.client, &world.home).await;
    for key in world.redis.cli(&["--raw", "keys", "*"]).await.lines() {
        if key.starts_with(&format!("pm:{{{}/", world.namespace)) {
            let content = copies::redis_content(&world.redis, key, &keys).await;
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            found.extend(content.into_iter().map(|(field, value)| (format!("{key}: {field}"), text(value))));
        }
    }
    found
}

fn mirror(name: &str, spec: &Value) -> DynamicObject {
    let mirror = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror", "metadata": {"name": name}, "spec": spec,
    });
    serde_json::from_value(mirror).unwrap()
}

/// Checks the result of an attempt; `Err` if it is not as expected.
async fn end_of(world: &World, attempt: &Attempt, past: &Past) -> Result<(), String> {
    let (type_, status, reason) = match attempt.end {
        End::Refused(_) => return Ok(()),
        End::Denied(reason) => ("Stalled", "True", reason),
        End::NeverHad(reason) => ("Degraded", "True", reason),
        End::Own => ("Ready", "True", "Synced"),
    };
    world.condition(&attempt.name, type_, status, reason).await;
    let data = world.data(attempt.secret()).await.unwrap_or_default();
    let is_fine = match attempt.end {
        End::Own => !data.is_empty() && data.values().all(|value| value == OWN),
        _ if attempt.secret() == "release" => true,
        _ => data.is_empty() && past.is_unchanged(world, &world.key(&attempt.name)).await,
    };
    if is_fine { Ok(()) } else { Err(format!("{}: {data:?}", attempt.what)) }
}

/// Once as a new tenant, and once as a tenant who had been granted everything and has copies of it.
#[rstest]
#[case::without_a_past(false)]
#[case::with_a_past(true)]
#[tokio::test]
async fn a_hostile_tenant_gets_nothing_and_touches_nothing(#[case] has_a_past: bool) {
    let victim = cluster().await.namespace("victim").await;
    let mut world = World::with(Setup { neighbours: vec![victim.clone()], ..Setup::default() }).await;
    fill_ssm(&world);
    let to = |namespace: &str, paths: &[&str]| json!({"namespaces": [namespace], "paths": paths});
    let tenant = world.namespace.clone();
    let sources = [tenant.clone(), format!("{tenant}-of-others"), format!("{tenant}-wide")];
    let grants = json!([to(&tenant, &["/tenant"]), to(&victim, &["/victim"])]);
    apply_source(&world, &sources[0], "us-east-1", grants.clone()).await;
    apply_source(&world, &sources[1], "us-east-1", json!([to(&victim, &["/"])])).await;
    apply_source(&world, &sources[2], "eu-west-1", json!([to(&tenant, &["/"])])).await;
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": {"THEIRS": "precious"},
        "metadata": {"name": "release", "namespace": tenant, "labels": {"app.kubernetes.io/managed-by": "Helm"}},
    });
    world.cluster.kubectl_apply(&foreign.to_string()).await;

    let resource = ApiResource::erase::<ParameterMirror>(&());
    let mirrors =
        |namespace: &str| Api::<DynamicObject>::namespaced_with(world.client.clone(), namespace, &resource);
    let spec = json!({
        "sourceRef": {"name": sources[0]}, "interval": "10s", "secret": {}, "redis": {},
        "parameters": [{"path": "/victim"}],
    });
    mirrors(&victim).create(&PostParams::default(), &mirror("config", &spec)).await.unwrap();
    let ready = ["wait", "--for=condition=Ready", "pmirror/config", "-n", &victim, "--timeout=30s"];
    world.cluster.kubectl(&ready).await;
    let before = of_the_victim(&world, &victim).await;

    let attempts = attempts(&sources, &victim);
    assert!(attempts.len() >= 60, "{} attempts", attempts.len());
    let past = if has_a_past { Past::lived(&world, &sources[0], &attempts).await } else { Past::default() };
    if has_a_past {
        apply_source(&world, &sources[0], "us-east-1", grants).await;
        past.ends(&world).await;
    }
    for attempt in &attempts {
        let made = past.apply(&mirrors(&tenant), mirror(&attempt.name, &attempt.spec)).await;
        match (&attempt.end, made) {
            (End::Refused(why), Err(error)) => {
                assert!(error.to_string().contains(why), "{}: {error}", attempt.what);
            }
            (End::Refused(_), Ok(_)) => panic!("{}: admitted", attempt.what),
            (_, made) => drop(made.unwrap_or_else(|error| panic!("{}: {error}", attempt.what))),
        }
    }
    let ends: Vec<_> = join_all(attempts.iter().map(|attempt| end_of(&world, attempt, &past))).await;
    let wrong: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    storm_and_forge(&world, &attempts, &victim).await;
    world.operator.crash_and_restart().await;
    // A mirror created while SSM is down does not get the victim's values either.
    world.ssm.refuse();
    let late = json!({"sourceRef": {"name": sources[0]}, "interval": "10s", "secret": {}, "redis": {}, "parameters": [{"path": "/victim"}]});
    mirrors(&tenant).create(&PostParams::default(), &mirror("late", &late)).await.unwrap();
    world.condition("late", "Stalled", "True", "NotGranted").await;
    world.ssm.listen_again();
    let own = attempts.iter().find(|attempt| matches!(attempt.end, End::Own)).unwrap();
    world.sync(&own.name).await;

    let has = everything_the_tenant_has(&world).await;
    assert!(has.iter().any(|(_, value)| value == OWN), "nothing is there at all: {has:?}");
    let past_keys = past.unchanged(&world).await;
    let is_past = |place: &str| past_keys.iter().any(|key| place.starts_with(key.as_str()));
    let stolen: Vec<_> =
        has.iter().filter(|(place, value)| value.contains(FOREIGN) && !is_past(place)).collect();
    assert!(stolen.is_empty(), "{stolen:#?}");
    assert_eq!(of_the_victim(&world, &victim).await, before, "the victim's targets changed");
    let visible = world.cluster.kubectl(&["get", "pmirror,events", "-n", &tenant, "-o", "json"]).await;
    assert!(!visible.contains(FOREIGN) && !world.operator.log().contains(FOREIGN));
    let of_sources: Api<ParameterSource> = Api::all(world.client.clone());
    assert!(of_sources.get(&sources[1]).await.is_ok(), "sources are not the tenant's");
}

/// Triggers many reads, and forges a status that claims the targets of others, so that they would be deleted
/// as the tenant's own.
async fn storm_and_forge(world: &World, attempts: &[Attempt], victim: &str) {
    let own: Vec<_> = attempts.iter().filter(|attempt| matches!(attempt.end, End::Own)).collect();
    for _ in 0..5 {
        join_all(own.iter().map(|attempt| world.ask(&attempt.name))).await;
    }
    let claim = json!({"status": {
        "secret": {"name": "release", "revision": "0123456789ab", "deletionPolicy": "Delete"},
        "redis": {"key": format!("pm:{{{victim}/config}}"), "revision": "0123456789ab", "deletionPolicy": "Delete"},
    }});
    for attempt in &own {
        let params = PatchParams::default();
        world.mirrors().patch_status(&attempt.name, &params, &Patch::Merge(&claim)).await.unwrap();
    }
    let gone = &own.last().unwrap().name;
    world.cluster.kubectl(&["delete", "pmirror", gone, "-n", &world.namespace, "--timeout=20s"]).await;
}
