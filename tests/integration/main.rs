//! Integration tests against real parts: one binary, because each further one links the AWS and Kubernetes
//! crates again.
//!
//! | module | what it shows |
//! |---|---|
//! | [`world`] | helper: the parts that a test uses |
//! | [`main_job`] | the story of the product in one test |
//! | [`selecting`] | what is selected, and what arrives |
//! | [`targets`] | who owns targets, what heals them, when they are deleted |
//! | [`fault_matrix`] | all faults of SSM, one row each |
//! | [`outage`] | the effects of an outage beyond its reason |
//! | [`credentials`] | credentials expire while STS is down |
//! | [`grants`] | who may read what |
//! | [`hostile`] | a tenant who tries everything, and what stays unchanged |
//! | [`worst_case`] | the largest valid objects and the worst clients, under the memory limit of the chart |
//! | [`admission`] | invalid specs are refused with field and remedy |
//! | [`lost_keys`] | the operator's keys are lost, restored, replaced |
//! | [`rotation`] | the operator's key is rotated while readers run |
//! | [`quiet`] | the cost of a cycle, in exact counts |
//! | [`process`] | starting, settings, endpoints, logs, stopping |
//! | [`security`] | docs/security/threat-model.md and docs/security/evidence.md have the same rows, one for each field, and name tests that exist |
//! | [`silence`] | no value in any output, and no code that could print one |
//! | [`causes`] | the causes that conditions and events name, and the commands that they print |
//! | [`chart`] | the chart installs, uninstalls, and installs again |
//! | [`chart_renders`] | what the chart renders, and that a real API server accepts it |
//! | [`observability`] | metrics, alerts and dashboard are as documented, and work in a real Prometheus |
//! | [`docs`] | every command of README and docs/ is run; every link is checked |
//! | [`layers`] | modules use each other in one direction |
//! | [`release`] | release artifacts: one version, bills of materials, archives |
//! | [`reliability`] | docs/security/evidence.md names tests that exist |
//! | [`verify`] | the report of `verify` in good and bad situations |
//! | [`explain`] | every field has a description, and every command a page |
//! | [`story`] | what kubectl shows: columns, waiting, the events of an outage |
//! | [`inventories`] | inventories of real naming habits, with each key format |
//! | [`kstatus`] | how Flux, Helm and Argo CD classify a mirror |
//! | [`convert`] | objects of External Secrets Operator, converted |
//! | [`migration`] | docs/guides/migrate-from-eso.md, run: a Secret changes hands |
//! | [`kubernetes_faults`] | permissions, webhooks and deletions in an outage |
//! | [`watches`] | watches that lag, skip and restart, on a real API server |
//! | [`replicas`] | two operators, one leads |
//! | [`redis_cluster`] | a Redis Cluster: nodes that fail, slots that move |
//! | [`redis_faults`] | all faults of Redis and of the network to it |
//! | [`redis_access`] | TLS, users, permissions, rotated passwords |
//! | [`elasticache`] | signing in with the operator's AWS identity, to a cache that verifies each token |
//! | [`redis_store`] | the Redis script and its store, without an operator |
//! | [`simulation`] | hours and days, crashes and chaos, in virtual time |
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types,
    clippy::significant_drop_tightening,
    clippy::significant_drop_in_scrutinee,
    reason = "a test may fail wherever it stands, in its own functions too"
)]

mod admission;
mod causes;
mod chart;
mod chart_renders;
mod convert;
mod credentials;
mod docs;
mod elasticache;
mod explain;
mod fault_matrix;
mod grants;
mod hostile;
mod inventories;
mod kstatus;
mod kubernetes_faults;
mod layers;
mod lost_keys;
mod main_job;
mod migration;
mod observability;
mod outage;
mod process;
mod quiet;
mod redis_access;
mod redis_cluster;
mod redis_faults;
mod redis_store;
mod release;
mod reliability;
mod replicas;
mod rotation;
mod security;
mod selecting;
mod silence;
mod simulation;
mod story;
mod targets;
mod verify;
mod watches;
mod world;
mod worst_case;
