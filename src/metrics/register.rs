//! Creates metrics and registers them.

use prometheus_client::registry::{Metric, Registry, Unit};

/// Creates a metric and registers it.
pub(super) fn register<M: Metric + Clone + Default>(name: &str, help: &str, registry: &mut Registry) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// The same for a metric with a unit, which ends its name.
pub(super) fn register_with_unit<M: Metric + Clone + Default>(
    unit: Unit,
    name: &str,
    help: &str,
    registry: &mut Registry,
) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}
