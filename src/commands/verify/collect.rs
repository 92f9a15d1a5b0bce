//! Collects the facts from the API server and Redis, with the caller's permissions.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::future::join_all;
use futures::{StreamExt as _, stream};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Client, ResourceExt};
use parameter_mirror_format::FORMAT;
use parameter_mirror_format::crypto::keys::{KeyError, KeyRing};
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_format::hash::{self, Fence, redis_key};
use parameter_mirror_redis::{ConnectionError, RedisClient};
use redis::aio::MultiplexedConnection;

use crate::api::{BACKED_UP, ParameterMirror, ParameterSource};
use crate::cli::VerifyArgs;
use crate::commands::verify::facts::{Facts, FoundMirror, Home, Leader, MirrorFacts, RedisFacts};
use crate::commands::verify::{dependents, dry_read};
use crate::kubernetes::client::{ApiError, with_timeout};
use crate::kubernetes::election::generated_identity;
use crate::mirror::plan::{Plan, PlanInput};
use crate::process::redis_auth;
use crate::ssm::SsmReader;
use crate::targets::KINDS;
use crate::targets::redis::copy::WRITE;
use crate::targets::redis::{Guard, HashStore, Heartbeat, RedisStore, ScriptOutcome};
use crate::targets::secret::SecretStore;
use crate::targets::target::Outside;
use parameter_mirror_clock::Clock;
use parameter_mirror_ssm::credentials::OperatorIdentity;

/// How many mirrors are observed at the same time.
const AT_ONCE: usize = 8;

/// Collects all facts. An error means that nothing can be checked.
pub async fn collect(args: &VerifyArgs, client: Client) -> anyhow::Result<Facts> {
    let home = Home {
        namespace: args.keys.namespace.clone(),
        key_secret: args.keys.key_secret.clone(),
        lease: args.lease.clone(),
    };
    let objects = mirrors(args, &client).await?;
    let cluster = match &args.cluster_name {
        Some(name) => name.clone(),
        None => cluster_uid(&client).await?,
    };
    let orphans = if args.mirrors.is_empty() {
        let mirrors = objects.iter().filter_map(|(_, object)| object.as_ref());
        dependents::orphans(&client, &args.watch_namespaces, &cluster, mirrors).await
    } else {
        Vec::new()
    };
    let (keys, backed_up) = match keys(&client, &home).await {
        Ok(Some((ring, backed_up))) => (Ok(Some(ring)), backed_up),
        Ok(None) => (Ok(None), None),
        Err(error) => (Err(error), None),
    };
    let (redis, store) = redis(args).await?;
    let around = Around {
        secrets: SecretStore::new(client.clone()),
        client: client.clone(),
        cluster,
        prefix: args.redis.redis_prefix.clone(),
        home: home.clone(),
        ring: match &keys {
            Ok(Some(Ok(ring))) => Some(ring.clone()),
            _ => None,
        },
        store,
        ssm: args.read_ssm.then(dry_read::reader),
    };
    let mut mirrors: Vec<MirrorFacts> =
        stream::iter(objects).map(|object| around.facts(object)).buffered(AT_ONCE).collect().await;
    mirrors.sort_by(|one, other| one.name().cmp(other.name()));
    Ok(Facts {
        api_server_ahead: api_server_ahead(&client).await,
        lease: leader(&client, &home).await,
        used_by_the_operator: dependents::used_by_the_operator(&client, &home).await,
        orphans,
        now: Timestamp::now(),
        home,
        keys,
        backed_up,
        redis,
        mirrors,
    })
}

impl MirrorFacts {
    fn name(&self) -> &str {
        match self {
            Self::Absent(name) | Self::Unreadable(name, _) => name,
            Self::There(mirror) => &mirror.name,
        }
    }
}

/// A requested mirror, by name; `None` if it does not exist.
type Requested = (String, Option<DeserializeGuard<ParameterMirror>>);

/// Returns the mirrors that were named, otherwise all mirrors of the watched namespaces.
async fn mirrors(args: &VerifyArgs, client: &Client) -> anyhow::Result<Vec<Requested>> {
    let mut found = Vec::new();
    for mirror in &args.mirrors {
        let api: Api<DeserializeGuard<ParameterMirror>> = Api::namespaced(client.clone(), mirror.namespace());
        let object =
            with_timeout(api.get_opt(mirror.name())).await.map_err(|problem| cannot_list(&problem))?;
        found.push((mirror.to_string(), object));
    }
    if !args.mirrors.is_empty() {
        return Ok(found);
    }
    let named = args.watch_namespaces.iter().filter(|name| !name.is_empty());
    let mut scopes: Vec<Api<DeserializeGuard<ParameterMirror>>> =
        named.map(|namespace| Api::namespaced(client.clone(), namespace)).collect();
    if scopes.is_empty() {
        scopes.push(Api::all(client.clone()));
    }
    for api in scopes {
        let list =
            with_timeout(api.list(&ListParams::default())).await.map_err(|problem| cannot_list(&problem))?;
        found.extend(list.items.into_iter().map(|object| {
            let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
            (name, Some(object))
        }));
    }
    Ok(found)
}

fn cannot_list(problem: &ApiError) -> anyhow::Error {
    let remedy = match problem {
        ApiError::NotFound => "The CRDs are not there: kubectl apply -f crds/",
        ApiError::Refused { code: 401 | 403, .. } => {
            "You need permission to get and list parametermirrors and parametersources, and to get the Secrets of mirrors"
        }
        _ => "Is this the right kubeconfig?",
    };
    anyhow!("mirrors cannot be listed: {problem}. {remedy}")
}

async fn cluster_uid(client: &Client) -> anyhow::Result<String> {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let found = with_timeout(namespaces.get_metadata("kube-system")).await;
    let found = found.map_err(|problem| {
        anyhow!("the namespace kube-system: {problem}. Give the operator's --cluster-name instead")
    })?;
    found.uid().context("the namespace kube-system has no UID; give the operator's --cluster-name")
}

/// The `Date` of a response has whole seconds, and was set at some time between request and response.
async fn api_server_ahead(client: &Client) -> Option<SignedDuration> {
    let request = http::Request::get("/version").body(kube::client::Body::empty()).ok()?;
    let asked = Timestamp::now();
    let answer = with_timeout(client.send(request)).await.ok()?;
    let answered = Timestamp::now();
    let date = rfc2822::parse(answer.headers().get(http::header::DATE)?.to_str().ok()?).ok()?.timestamp();
    Some(ahead(date + SignedDuration::from_millis(500), asked, answered))
}

/// Returns how far `theirs` was ahead halfway between request and response.
fn ahead(theirs: Timestamp, asked: Timestamp, answered: Timestamp) -> SignedDuration {
    theirs.duration_since(asked + answered.duration_since(asked) / 2)
}

async fn leader(client: &Client, home: &Home) -> Result<Option<Leader>, ApiError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &home.namespace);
    let spec = with_timeout(leases.get_opt(&home.lease)).await?.map(|lease| lease.spec.unwrap_or_default());
    Ok(spec.map(|spec| Leader {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        renewed: spec.renew_time.map(|time| time.0),
        lasts: Duration::from_secs(spec.lease_duration_seconds.unwrap_or(15).try_into().unwrap_or(15)),
    }))
}

/// Returns the keys, and the key that the last recorded backup of them signs with.
async fn keys(
    client: &Client,
    home: &Home,
) -> Result<Option<(Result<KeyRing, KeyError>, Option<String>)>, ApiError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &home.namespace);
    let Some(found) = with_timeout(secrets.get_opt(&home.key_secret)).await? else { return Ok(None) };
    let data = found.data.iter().flatten().map(|(name, ByteString(bytes))| (name.as_str(), bytes.as_slice()));
    Ok(Some((KeyRing::from_data(data), found.annotations().get(BACKED_UP).cloned())))
}

/// Returns the state of Redis, and a store that uses it.
async fn redis(args: &VerifyArgs) -> anyhow::Result<(RedisFacts, Option<RedisStore>)> {
    let Some(settings) = args.redis.settings() else { return Ok((RedisFacts::NotConfigured, None)) };
    let base = OperatorIdentity::new(Clock::start());
    let settings = match redis_auth::settled(settings, &args.redis_iam, &base).await {
        Ok(settings) => settings,
        Err(error) => return Ok((RedisFacts::Unusable(error.to_string()), None)),
    };
    let servers = RedisClient::new(settings);
    let store = RedisStore::new(servers.clone());
    // A name that no mirror can have.
    let key = redis_key(&args.redis.redis_prefix, "verify", &format!("{} ", generated_identity()));
    let facts = RedisFacts::Asked {
        permissions: permissions(&servers, &store, &key).await,
        eviction: store.eviction(WRITE).await,
        ahead: redis_ahead(&servers, &key).await,
    };
    Ok((facts, Some(store)))
}

/// Does to a scratch hash what the operator does to a mirror's, and deletes it. Nothing else shows whether this user may.
async fn permissions(servers: &RedisClient, store: &RedisStore, key: &str) -> Result<(), ConnectionError> {
    // The operator's scripts are usually cached, so nobody needs to load them until Redis restarts. This tests it anyway.
    let load = |mut connection: MultiplexedConnection| async move {
        redis::cmd("SCRIPT").arg("LOAD").arg("return 1").exec_async(&mut connection).await
    };
    servers.write(key, WRITE, load).await?;
    let mut fields = Fields::default();
    fields.insert(hash::FORMAT, FORMAT.to_string());
    let written = done(store.swap(guard(key, &Fence::ABSENT), &fields, false, WRITE).await?)?;
    let used = use_hash(store, key, &written).await;
    let last = used.as_ref().unwrap_or(&written);
    let removed = store.remove(guard(key, last), WRITE).await;
    used?;
    done(removed?).map(|_| ())
}

/// Uses the hash between its first write and its deletion.
async fn use_hash(store: &RedisStore, key: &str, written: &Fence) -> Result<Fence, ConnectionError> {
    store.check(&[key], WRITE).await?;
    store.observe(key, WRITE).await?;
    done(store.heartbeat(guard(key, written), Heartbeat::Failed, None, WRITE).await?)
}

fn guard<'a>(key: &'a str, fence: &'a Fence) -> Guard<'a> {
    let now = Timestamp::now().as_millisecond();
    Guard { key, owner: "parameter-mirror verify", fence, mac: None, now, least: now }
}

fn done(outcome: ScriptOutcome) -> Result<Fence, ConnectionError> {
    match outcome {
        ScriptOutcome::Done { fence, .. } => Ok(fence),
        other => Err(ConnectionError::Other(format!("a hash of our own was not written: {other:?}"))),
    }
}

async fn redis_ahead(servers: &RedisClient, key: &str) -> Result<SignedDuration, ConnectionError> {
    let asked = Timestamp::now();
    let ask = |mut connection: MultiplexedConnection| async move {
        redis::cmd("TIME").query_async::<(i64, i64)>(&mut connection).await
    };
    let (seconds, micros) = servers.read(key, WRITE, ask).await?;
    let answered = Timestamp::now();
    let theirs = Timestamp::from_microsecond(seconds.saturating_mul(1_000_000).saturating_add(micros));
    let theirs = theirs.map_err(|_| ConnectionError::Other("TIME answered with no time".to_owned()))?;
    Ok(ahead(theirs, asked, answered))
}

/// What is needed to observe a mirror.
struct Around {
    client: Client,
    secrets: SecretStore,
    store: Option<RedisStore>,
    /// Reads SSM, if that is wanted.
    ssm: Option<SsmReader>,
    ring: Option<KeyRing>,
    cluster: String,
    prefix: String,
    home: Home,
}

impl Around {
    async fn facts(&self, (name, object): Requested) -> MirrorFacts {
        match object {
            None => MirrorFacts::Absent(name),
            Some(DeserializeGuard(Err(invalid))) => MirrorFacts::Unreadable(name, invalid.error),
            Some(DeserializeGuard(Ok(object))) => {
                MirrorFacts::There(Box::new(self.mirror(name, object).await))
            }
        }
    }

    async fn mirror(&self, name: String, object: ParameterMirror) -> FoundMirror {
        let namespace = object.namespace().unwrap_or_default();
        let sources: Api<ParameterSource> = Api::all(self.client.clone());
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let owner = format!("{}/{name}", self.cluster);
        let outside = Outside {
            secrets: &self.secrets,
            redis: self.store.as_ref().map(|store| store as &dyn HashStore),
            redis_prefix: &self.prefix,
            keys: self.ring.as_ref(),
        };
        let inspections = KINDS.iter().map(|kind| kind.inspect(&object, &owner, &outside));
        let (source, labels, targets) = tokio::join!(
            with_timeout(sources.get_opt(&object.spec.source_ref.name)),
            with_timeout(namespaces.get_metadata(&namespace)),
            join_all(inspections)
        );
        let labels = labels.map(|namespace| namespace.labels().clone());
        let plan = source.as_ref().ok().zip(labels.ok());
        let plan = plan.map(|(source, labels)| self.plan(&object, &namespace, source.as_ref(), &labels));
        let targets = targets.into_iter().flatten().collect();
        let dry_read = match (&self.ssm, &plan) {
            (Some(ssm), Some(Ok(plan))) => dry_read::read(ssm, plan).await,
            _ => None,
        };
        FoundMirror { name, object, source, plan, targets, dry_read }
    }

    fn plan(
        &self,
        object: &ParameterMirror,
        namespace: &str,
        source: Option<&ParameterSource>,
        labels: &BTreeMap<String, String>,
    ) -> Result<Plan, crate::mirror::plan::PlanError> {
        let around = PlanInput {
            cluster: &self.cluster,
            namespace,
            namespace_labels: labels,
            mirror: &object.name_any(),
            source: source.map(|source| &source.spec),
            drill_until: None,
            redis_prefix: &self.prefix,
            key_secret: (namespace == self.home.namespace).then_some(&self.home.key_secret),
        };
        Plan::new(&object.spec, &around)
    }
}
