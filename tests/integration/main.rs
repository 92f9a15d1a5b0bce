//! Integration tests against real parts: one binary, because each further one links the AWS and Kubernetes crates again.
//!
//! | module | what it shows |
//! |---|---|
//! | [`world`] | nothing by itself: the parts that a test stands on |
//! | [`main_job`] | the story of the product in one test |
//! | [`selecting`] | what is selected, and what arrives |
//! | [`targets`] | whose targets are, what heals them, when they go |
//! | [`fault_matrix`] | everything that can be wrong with SSM, a row for each |
//! | [`outage`] | what an outage means beyond its reason |
//! | [`credentials`] | credentials end while STS is down |
//! | [`grants`] | who may read what |
//! | [`hostile`] | a tenant who tries everything, and what stays untouched |
//! | [`admission`] | bad specs are refused with field and remedy |
//! | [`lost_keys`] | the operator's keys are lost, restored, replaced |
//! | [`rotation`] | the operator's key is replaced under the eyes of readers |
//! | [`quiet`] | what a cycle costs, in exact counts |
//! | [`process`] | starting, settings, endpoints, logs, stopping |
//! | [`security`] | docs/security.md has a row for each field, and tests that exist |
//! | [`silence`] | no value in any output, and no code that could print one |
//! | [`chart`] | the chart installs, uninstalls, and installs again |
//! | [`chart_renders`] | what the chart renders, and that a real API server takes it |
//! | [`observability`] | metrics, alerts and dashboard are as documented, and work in a real Prometheus |
//! | [`docs`] | every command of README and docs/, run; every link, followed |
//! | [`layers`] | modules use each other in one direction |
//! | [`release`] | what is handed out: one version, bills of materials, archives |
//! | [`reliability`] | docs/reliability.md names tests that exist |
//! | [`verify`] | what `verify` says of what is well and what is not |
//! | [`explain`] | every field has its words, and every command its page |
//! | [`story`] | what kubectl shows: columns, waiting, the events of an outage |
//! | [`kstatus`] | what Flux, Helm and Argo CD take a mirror for |
//! | [`convert`] | objects of External Secrets Operator, converted |
//! | [`migration`] | docs/migration.md, run: a Secret changes hands |
//! | [`kubernetes_faults`] | rights, webhooks and deletions in an outage |
//! | [`watches`] | watches that lag, skip and begin anew, on a real API server |
//! | [`replicas`] | two operators, one leads |
//! | [`redis_cluster`] | the same on a cluster: nodes that fail, slots that move |
//! | [`redis_faults`] | everything that can be wrong with Redis and on the way to it |
//! | [`redis_access`] | TLS, users, rights, rotated passwords |
//! | [`elasticache`] | signing in with the operator's AWS identity, to a cache that checks each token |
//! | [`redis_store`] | the Redis script and its store, without an operator |
//! | [`simulation`] | hours and days, crashes and chaos, in virtual time |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types,
    clippy::significant_drop_tightening,
    clippy::significant_drop_in_scrutinee,
    reason = "a test may fail wherever it stands, in its own functions too"
)]

mod admission;
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
