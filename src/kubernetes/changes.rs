//! Which changes of sources and namespaces concern their mirrors.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

use crate::api::{DRILL_UNTIL, ParameterSource};

/// Returns what of a source concerns its mirrors: its spec, which the generation counts, and a drill. Its status does
/// not: the operator writes it after reads, and would wake all mirrors each time that one of them was read.
pub fn of_source(source: &DeserializeGuard<ParameterSource>) -> impl PartialEq + Clone + Send + use<> {
    let metadata = source.meta();
    (metadata.uid.clone(), metadata.generation, source.annotations().get(DRILL_UNTIL).cloned())
}

/// Returns what of a namespace concerns its mirrors. Other controllers may annotate it as often as they like.
pub fn of_namespace(namespace: &PartialObjectMeta<Namespace>) -> impl PartialEq + Clone + Send + use<> {
    let metadata = namespace.meta();
    (metadata.uid.clone(), metadata.labels.clone(), metadata.deletion_timestamp.clone())
}

/// Passes on changes of what `concerns` returns, and the creation and deletion of an object: one that the store does
/// not hold was deleted, or is new.
pub fn on_news<K, C>(
    store: Store<K>,
    concerns: impl Fn(&K) -> C + Send + 'static,
    act: impl Fn(K) + Send + 'static,
) -> impl FnMut(K) + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    C: PartialEq + Clone + Send + 'static,
{
    let mut known: HashMap<String, C> = HashMap::new();
    move |changed: K| {
        let (name, now) = (changed.name_any(), concerns(&changed));
        let is_news = if store.get(&ObjectRef::new(&name)).is_some() {
            known.insert(name, now.clone()) != Some(now)
        } else {
            known.remove(&name);
            true
        };
        if is_news {
            act(changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::runtime::{reflector, watcher};
    use serde_json::{Value as Json, json};

    use super::*;

    fn source(generation: i64, change: impl Fn(&mut Json)) -> DeserializeGuard<ParameterSource> {
        let mut source = json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource",
            "metadata": {"name": "default", "uid": "u", "generation": generation, "annotations": {}},
            "spec": {"region": "us-east-1", "grants": []},
        });
        change(&mut source);
        serde_json::from_value(source).unwrap()
    }

    /// The reads of one mirror fail and those of another succeed: the status of their source changes each time, and wakes no mirror.
    #[test]
    fn a_source_wakes_its_mirrors_when_its_spec_or_a_drill_changes_and_when_it_comes_or_goes() {
        let (store, mut writer) = reflector::store();
        let woken = Arc::new(AtomicUsize::new(0));
        let mut on_change = on_news(store, of_source, {
            let woken = Arc::clone(&woken);
            move |_| {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut wakes = |event: watcher::Event<DeserializeGuard<ParameterSource>>| {
            writer.apply_watcher_event(&event);
            let (watcher::Event::Apply(object) | watcher::Event::Delete(object)) = event else {
                unreachable!()
            };
            on_change(object);
            woken.swap(0, Ordering::Relaxed) > 0
        };
        let apply =
            |generation, change: &dyn Fn(&mut Json)| watcher::Event::Apply(source(generation, change));
        assert!(wakes(apply(1, &|_| ())), "it comes");
        for breaker in ["Closed", "Open", "Closed"] {
            assert!(!wakes(apply(1, &|source| source["status"] = json!({"breaker": breaker}))), "{breaker}");
        }
        assert!(wakes(apply(2, &|source| source["spec"]["region"] = json!("eu-west-1"))));
        assert!(wakes(apply(2, &|source| source["metadata"]["annotations"][DRILL_UNTIL] = json!("soon"))));
        assert!(!wakes(apply(2, &|source| {
            source["metadata"]["annotations"] = json!({DRILL_UNTIL: "soon", "note": "x"});
        })));
        assert!(wakes(apply(2, &|_| ())), "the drill ends");
        assert!(
            wakes(apply(3, &|source| source["spec"]["region"] = json!(7))),
            "it does not decode any more"
        );
        assert!(wakes(watcher::Event::Delete(source(3, |_| ()))), "it goes");
        assert!(wakes(apply(3, &|source| source["metadata"]["uid"] = json!("v"))), "another one comes");
    }
}
