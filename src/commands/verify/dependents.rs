//! Secrets that are left without a mirror, and Secrets that the operator itself depends on.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PodSpec, Secret};
use kube::api::{Api, ListParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Client, ResourceExt};
use parameter_mirror_format::humanize::few;
use parameter_mirror_format::secret::{LABEL, OWNER};

use crate::api::ParameterMirror;
use crate::commands::verify::facts::Home;
use crate::commands::verify::finding::{Finding, Level};
use crate::kubernetes::client::with_timeout;

/// Returns the Secrets, as `namespace/name`, whose mirror of this cluster is gone or writes another Secret. Nothing is returned if the
/// caller may not list Secrets.
pub(super) async fn orphans<'m>(
    client: &Client,
    namespaces: &[String],
    cluster: &str,
    mirrors: impl Iterator<Item = &'m DeserializeGuard<ParameterMirror>>,
) -> Vec<String> {
    let written: BTreeSet<String> = mirrors.filter_map(secret_of).collect();
    let (label, value) = LABEL;
    let ours = ListParams::default().labels(&format!("{label}={value}"));
    let mut orphans = Vec::new();
    let scopes = if namespaces.is_empty() {
        vec![Api::<Secret>::all(client.clone())]
    } else {
        namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
    };
    for api in scopes {
        let Ok(found) = with_timeout(api.list_metadata(&ours)).await else { continue };
        let is_orphan = |secret: &&PartialObjectMeta<Secret>| {
            let is_of_cluster = secret
                .annotations()
                .get(OWNER)
                .is_some_and(|owner| owner.starts_with(&format!("{cluster}/")));
            is_of_cluster && !written.contains(&place(*secret))
        };
        orphans.extend(found.items.iter().filter(is_orphan).map(place));
    }
    orphans
}

fn place(object: &impl ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// The Secret of a mirror. One that does not decode may write any, and is taken to write that of its own name.
fn secret_of(mirror: &DeserializeGuard<ParameterMirror>) -> Option<String> {
    let namespace = mirror.namespace().unwrap_or_default();
    let Ok(object) = &mirror.0 else { return Some(format!("{namespace}/{}", mirror.name_any())) };
    let secret = object.spec.secret.as_ref()?;
    Some(format!("{namespace}/{}", secret.name_for(&object.name_any())))
}

/// Returns the names of the Secrets that the operator's own pods use.
pub(super) async fn used_by_the_operator(client: &Client, home: &Home) -> BTreeSet<String> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &home.namespace);
    let ours = ListParams::default().labels("app.kubernetes.io/name=parameter-mirror");
    let Ok(found) = with_timeout(deployments.list(&ours)).await else { return BTreeSet::new() };
    let pods = found.items.into_iter().filter_map(|deployment| deployment.spec?.template.spec);
    pods.flat_map(|pod| secrets_of(&pod)).collect()
}

fn secrets_of(pod: &PodSpec) -> Vec<String> {
    let volumes = pod.volumes.iter().flatten().flat_map(|volume| {
        let plain = volume.secret.as_ref().and_then(|secret| secret.secret_name.clone());
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        let projected = projected.filter_map(|source| Some(source.secret.as_ref()?.name.clone()));
        plain.into_iter().chain(projected)
    });
    let containers = pod.containers.iter().flat_map(|container| {
        let all = container
            .env_from
            .iter()
            .flatten()
            .filter_map(|from| Some(from.secret_ref.as_ref()?.name.clone()));
        let single =
            container.env.iter().flatten().filter_map(|variable| {
                Some(variable.value_from.as_ref()?.secret_key_ref.as_ref()?.name.clone())
            });
        all.chain(single)
    });
    volumes.chain(containers).collect()
}

pub(super) fn judge(orphans: &[String]) -> Option<Finding> {
    (!orphans.is_empty()).then(|| {
        let text = format!(
            "nothing updates Secret {} any more: the mirror is gone, or writes another Secret. Delete what no pod uses",
            few(orphans)
        );
        Finding::new(Level::Warn, "orphans", text)
    })
}
