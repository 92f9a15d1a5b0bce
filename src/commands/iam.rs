//! `iam`: prints the IAM policies that the sources and their grants need, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use kube::Api;
use kube::api::ListParams;
use kube::core::Selector;
use parameter_mirror_format::content::coverage::is_at_or_below;
use parameter_mirror_ssm::Partition;
use serde_json::{Value, json};

use crate::api::{ParameterSource, ParameterSourceSpec};
use crate::cli::IamArgs;
use crate::commands::manifests::accepted;
use crate::kubernetes::client::connect;
use crate::kubernetes::client::with_timeout;
use crate::targets::redis::token::Service;

/// The name of the operator's own identity among the policies.
pub const OPERATOR: &str = "operator";

/// Returns the policies as JSON, and prints warnings on standard error.
pub async fn iam(args: &IamArgs) -> anyhow::Result<String> {
    let sources = match &args.file {
        Some(file) => from_file(file)?,
        None => from_cluster(args).await?,
    };
    if let Some(key) = args.kms_keys.iter().find(|key| !is_key_arn(key)) {
        bail!("--kms-key {key}: not the ARN of a KMS key (arn:aws:kms:REGION:ACCOUNT:key/ID)");
    }
    let mut policies = Policies::of(&sources, &args.account, &args.kms_keys)?;
    policies.sign_in(&args.redis_arns)?;
    eprint!("{}", policies.warnings());
    let printed = match &args.identity {
        None => serde_json::to_string_pretty(&policies.documents())?,
        Some(identity) => {
            let mut documents = policies.documents();
            let document = documents.remove(identity.as_str()).ok_or_else(|| {
                anyhow!("no source needs anything of {identity}. There are: {}", policies.identities())
            })?;
            serde_json::to_string_pretty(&document)?
        }
    };
    Ok(printed + "\n")
}

fn from_file(file: &Path) -> anyhow::Result<Vec<ParameterSource>> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).context("standard input cannot be read")?
    } else {
        std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?
    };
    let documents: Vec<Value> = serde_yaml::from_multiple(&text).context("this is not YAML")?;
    let items = documents.into_iter().flat_map(|mut document| match document.get_mut("items") {
        Some(Value::Array(items)) => std::mem::take(items),
        _ => vec![document],
    });
    let sources = items.filter(|object| object["kind"] == "ParameterSource");
    let read = |object: Value| {
        accepted(&object)?;
        serde_json::from_value(object).context("not a ParameterSource")
    };
    sources.map(read).collect()
}

async fn from_cluster(args: &IamArgs) -> anyhow::Result<Vec<ParameterSource>> {
    let sources: Api<ParameterSource> = Api::all(connect(&(&args.cluster).into()).await?);
    let found = with_timeout(sources.list(&ListParams::default())).await.map_err(|problem| {
        anyhow!("sources cannot be listed: {problem}. You need permission to list parametersources, or give them with --file")
    })?;
    Ok(found.items)
}

fn is_key_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    matches!(parts[..], ["arn", partition, "kms", region, account, key]
        if partition.starts_with("aws") && !region.is_empty() && account.len() == 12 && key.starts_with("key/"))
}

/// The permissions that each identity needs.
#[derive(Debug, Default)]
pub struct Policies(BTreeMap<String, Needs>);

/// The permissions that one identity needs.
#[derive(Debug, Default)]
struct Needs {
    /// ARNs of parameters.
    parameters: BTreeSet<String>,
    /// ARNs of KMS keys, by the region of the SSM that may use them.
    keys: BTreeMap<String, BTreeSet<String>>,
    /// ARNs of roles to assume.
    roles: BTreeSet<String>,
    /// ARNs of caches and of the users to sign in as, by IAM action.
    sign_ins: BTreeMap<&'static str, BTreeSet<String>>,
    /// Each granted path with its reader, for the warnings.
    grants: BTreeSet<(String, String)>,
}

impl Policies {
    /// Collects what these sources need. `account` is that of the operator's own identity; a key applies to the sources in its Region.
    pub fn of(sources: &[ParameterSource], account: &str, keys: &[String]) -> anyhow::Result<Self> {
        if sources.is_empty() {
            bail!("there is no ParameterSource: without one, nothing is read and nothing has to be allowed");
        }
        let mut policies = Self::default();
        let mut unused: BTreeSet<&String> = keys.iter().collect();
        for source in sources {
            let spec = &source.spec;
            let role = spec.role_arn.as_deref();
            let account = role.and_then(|role| role.split(':').nth(4)).unwrap_or(account);
            let needs = policies.0.entry(role.unwrap_or(OPERATOR).to_owned()).or_default();
            for grant in &spec.grants {
                for path in &grant.paths {
                    needs.parameters.extend(parameter_arns(spec, account, path));
                    needs.grants.extend(readers(grant).map(|reader| (normal(path).to_owned(), reader)));
                }
            }
            for key in keys.iter().filter(|key| key.split(':').nth(3) == Some(spec.region.as_str())) {
                unused.remove(key);
                needs.keys.entry(spec.region.clone()).or_default().insert(key.clone());
            }
            if let Some(role) = role {
                policies.0.entry(OPERATOR.to_owned()).or_default().roles.insert(role.to_owned());
            }
        }
        if let Some(key) = unused.first() {
            bail!(
                "--kms-key {key} is in the Region of no source: write an ARN like arn:aws:kms:us-east-1:111122223333:key/..."
            );
        }
        Ok(policies)
    }

    /// Lets the operator sign in to the caches among these ARNs, as the users among them. IAM requires both.
    pub fn sign_in(&mut self, arns: &[String]) -> anyhow::Result<()> {
        let mut found = BTreeMap::<&'static str, (usize, usize)>::new();
        for arn in arns {
            let (action, is_user) = sign_in_arn(arn).ok_or_else(|| {
                anyhow!(
                    "--redis-arn {arn}: write an ARN like arn:aws:elasticache:us-east-1:111122223333:replicationgroup:shop, or of a \
                     serverlesscache, a user, or a cluster or user of memorydb"
                )
            })?;
            let (caches, users) = found.entry(action).or_default();
            *if is_user { users } else { caches } += 1;
            let operator = self.0.entry(OPERATOR.to_owned()).or_default();
            operator.sign_ins.entry(action).or_default().insert(arn.clone());
        }
        if let Some((action, _)) = found.iter().find(|(_, (caches, users))| *caches == 0 || *users == 0) {
            bail!("{action} takes the ARN of a cache and the ARN of its user: give --redis-arn for each");
        }
        Ok(())
    }

    /// Returns the policy document of each identity: `operator`, or the ARN of a role.
    #[must_use]
    pub fn documents(&self) -> serde_json::Map<String, Value> {
        self.0.iter().map(|(identity, needs)| (identity.clone(), needs.document())).collect()
    }

    fn identities(&self) -> String {
        self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Returns the warnings: what no policy can prevent, and which identities have no KMS key.
    #[must_use]
    pub fn warnings(&self) -> String {
        let mut warnings = String::from(
            "Anyone who may call GetParametersByPath on /a gets everything below it, /a/b included, even where /a/b is explicitly denied. \
             This cannot be fixed in IAM: give each team a role of its own (roleArn), and a path that no other team's path is below.\n",
        );
        for (identity, needs) in &self.0 {
            for (above, reader) in &needs.grants {
                let below = needs
                    .grants
                    .iter()
                    .find(|(path, other)| path != above && other != reader && is_at_or_below(path, above));
                if let Some((path, other)) = below {
                    warnings.extend([format!(
                        "{identity}: {above} (for {reader}) is above {path} (for {other}), and one identity reads both.\n"
                    )]);
                }
            }
            if needs.keys.is_empty() && !needs.parameters.is_empty() {
                warnings.extend([format!(
                    "{identity}: no --kms-key. SecureStrings under the key aws/ssm need none; those under keys of your own do.\n"
                )]);
            }
        }
        warnings
    }
}

impl Needs {
    fn document(&self) -> Value {
        let mut statements = Vec::new();
        if !self.parameters.is_empty() {
            let actions = ["ssm:GetParametersByPath", "ssm:GetParameters"];
            statements.push(json!({"Effect": "Allow", "Action": actions, "Resource": self.parameters}));
        }
        for (region, keys) in &self.keys {
            let condition = json!({"StringEquals": {"kms:ViaService": services(region)}});
            statements.push(
                json!({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": keys, "Condition": condition}),
            );
        }
        if !self.roles.is_empty() {
            statements.push(json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": self.roles}));
        }
        for (action, arns) in &self.sign_ins {
            statements.push(json!({"Effect": "Allow", "Action": action, "Resource": arns}));
        }
        json!({"Version": "2012-10-17", "Statement": statements})
    }
}

/// Returns the IAM action for signing in to the cache, or as the user, that this ARN names, and whether it is a user.
fn sign_in_arn(arn: &str) -> Option<(&'static str, bool)> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let &["arn", _, service, _, _, resource] = parts.as_slice() else { return None };
    let kind = resource.split([':', '/']).next().unwrap_or_default();
    let service = match (service, kind) {
        ("elasticache", "replicationgroup" | "user") => Service::ElastiCache,
        ("elasticache", "serverlesscache") => Service::ElastiCacheServerless,
        ("memorydb", "cluster" | "user") => Service::MemoryDb,
        _ => return None,
    };
    Some((service.action(), kind == "user"))
}

/// Returns the ARN of the path itself, which a listing needs, and of everything below it, which `GetParameters` needs.
fn parameter_arns(spec: &ParameterSourceSpec, account: &str, path: &str) -> Vec<String> {
    let partition = partition(spec);
    // One segment of a grant can stand for the name of each namespace. IAM has no such segment: its `*` also spans slashes.
    let path = &path.replace("{namespace}", "*");
    let arn = |path: &str| format!("arn:{partition}:ssm:{}:{account}:parameter{path}", spec.region);
    match normal(path) {
        "/" => vec![arn("/*")],
        // Public parameters belong to no account.
        path if is_at_or_below(path, "/aws") => {
            let public = format!("arn:{partition}:ssm:{}:*:parameter{path}", spec.region);
            vec![format!("{public}/*"), public]
        }
        path => vec![arn(path), arn(&format!("{path}/*"))],
    }
}

fn partition(spec: &ParameterSourceSpec) -> &str {
    let of_the_role = spec.role_arn.as_deref().and_then(|role| role.split(':').nth(1));
    of_the_role.unwrap_or_else(|| Partition::of(&spec.region).name)
}

/// Returns the names by which KMS knows SSM. Where the partition has an ending of its own, either may apply.
fn services(region: &str) -> BTreeSet<String> {
    let endings = ["amazonaws.com", Partition::of(region).dns_suffix];
    endings.iter().map(|ending| format!("ssm.{region}.{ending}")).collect()
}

fn readers(grant: &crate::api::GrantSpec) -> impl Iterator<Item = String> {
    let selector = grant.namespace_selector.clone().and_then(|selector| Selector::try_from(selector).ok());
    let by_labels = selector.filter(|selector| !selector.selects_all());
    let by_labels = by_labels.map(|selector| format!("namespaces with {selector}"));
    grant.namespaces.iter().map(|name| format!("namespace {name}")).chain(by_labels)
}

/// `/prod/` becomes `/prod`.
fn normal(path: &str) -> &str {
    path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ROLE: &str = "arn:aws:iam::444455556666:role/payments-read";

    fn source(region: &str, role: Option<&str>, grants: &Value) -> ParameterSource {
        let spec = json!({"region": region, "roleArn": role, "grants": grants});
        ParameterSource::new("s", serde_json::from_value(spec).unwrap())
    }

    fn grant(namespace: &str, paths: &[&str]) -> Value {
        json!({"namespaces": [namespace], "paths": paths})
    }

    #[test]
    fn each_identity_may_read_what_is_granted_through_it_and_no_more() {
        let key = "arn:aws:kms:us-east-1:111122223333:key/1".to_owned();
        let sources = [
            source("us-east-1", None, &json!([grant("shop", &["/prod/checkout/", "/shared"])])),
            source("eu-west-1", Some(ROLE), &json!([grant("pay", &["/pay"])])),
        ];
        let documents =
            Policies::of(&sources, "111122223333", std::slice::from_ref(&key)).unwrap().documents();
        let own = "arn:aws:ssm:us-east-1:111122223333:parameter";
        let theirs = "arn:aws:ssm:eu-west-1:444455556666:parameter";
        let read = json!(["ssm:GetParametersByPath", "ssm:GetParameters"]);
        assert_eq!(
            Value::from(documents),
            json!({
                "operator": {"Version": "2012-10-17", "Statement": [
                    {"Effect": "Allow", "Action": read, "Resource": [
                        format!("{own}/prod/checkout"), format!("{own}/prod/checkout/*"), format!("{own}/shared"), format!("{own}/shared/*"),
                    ]},
                    {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": [key],
                     "Condition": {"StringEquals": {"kms:ViaService": ["ssm.us-east-1.amazonaws.com"]}}},
                    {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": [ROLE]},
                ]},
                ROLE: {"Version": "2012-10-17", "Statement": [
                    {"Effect": "Allow", "Action": read, "Resource": [format!("{theirs}/pay"), format!("{theirs}/pay/*")]},
                ]},
            })
        );
    }

    #[rstest]
    #[case::commercial("us-east-1", None, "/a", "arn:aws:ssm:us-east-1:*:parameter/a")]
    #[case::china("cn-north-1", None, "/a", "arn:aws-cn:ssm:cn-north-1:*:parameter/a")]
    #[case::government("us-gov-west-1", None, "/a/", "arn:aws-us-gov:ssm:us-gov-west-1:*:parameter/a")]
    #[case::by_role(
        "cn-north-1",
        Some("arn:aws-cn:iam::444455556666:role/r"),
        "/a",
        "arn:aws-cn:ssm:cn-north-1:444455556666:parameter/a"
    )]
    #[case::sovereign("eusc-de-east-1", None, "/a", "arn:aws-eusc:ssm:eusc-de-east-1:*:parameter/a")]
    #[case::isolated("us-isob-east-1", None, "/a", "arn:aws-iso-b:ssm:us-isob-east-1:*:parameter/a")]
    #[case::root("us-east-1", None, "/", "arn:aws:ssm:us-east-1:*:parameter/*")]
    #[case::public("us-east-1", Some(ROLE), "/aws/service", "arn:aws:ssm:us-east-1:*:parameter/aws/service")]
    fn arns_are_those_of_partition_and_account(
        #[case] region: &str,
        #[case] role: Option<&str>,
        #[case] path: &str,
        #[case] expected: &str,
    ) {
        let sources = [source(region, role, &json!([grant("shop", &[path])]))];
        let documents = Policies::of(&sources, "*", &[]).unwrap().documents();
        let allowed = documents[role.unwrap_or(OPERATOR)]["Statement"][0]["Resource"].to_string();
        assert!(allowed.contains(&format!("\"{expected}\"")), "{allowed}");
    }

    #[test]
    fn to_sign_in_takes_the_cache_and_the_user() {
        let allowed = |arns: &[&str]| {
            let mut policies = Policies::default();
            policies.sign_in(&arns.iter().map(|&arn| arn.to_owned()).collect::<Vec<_>>())?;
            Ok::<_, anyhow::Error>(policies.documents().remove(OPERATOR))
        };
        let user = "arn:aws-cn:elasticache:cn-north-1:111122223333:user:parameter-mirror";
        for cache in ["replicationgroup", "serverlesscache"] {
            let cache = format!("arn:aws-cn:elasticache:cn-north-1:111122223333:{cache}:shop");
            let statement =
                json!([{"Effect": "Allow", "Action": "elasticache:Connect", "Resource": [&cache, user]}]);
            assert_eq!(allowed(&[user, &cache]).unwrap().unwrap()["Statement"], statement);
            assert!(allowed(&[&cache]).unwrap_err().to_string().contains("the ARN of its user"));
        }
        let memorydb = [
            "arn:aws:memorydb:us-east-1:111122223333:cluster/shop",
            "arn:aws:memorydb:us-east-1:111122223333:user/parameter-mirror",
        ];
        assert_eq!(allowed(&memorydb).unwrap().unwrap()["Statement"][0]["Action"], json!("memorydb:Connect"));
        assert!(allowed(&["arn:aws:elasticache:us-east-1:111122223333:cluster:shop", user]).is_err());
        assert!(allowed(&["shop"]).is_err());
        assert_eq!(allowed(&[]).unwrap(), None);
    }

    #[test]
    fn kms_accepts_either_name_of_the_service() {
        let names = |region| services(region).into_iter().collect::<Vec<_>>();
        assert_eq!(names("us-gov-west-1"), ["ssm.us-gov-west-1.amazonaws.com"]);
        assert_eq!(names("cn-north-1"), ["ssm.cn-north-1.amazonaws.com", "ssm.cn-north-1.amazonaws.com.cn"]);
        assert_eq!(
            names("eusc-de-east-1"),
            ["ssm.eusc-de-east-1.amazonaws.com", "ssm.eusc-de-east-1.amazonaws.eu"]
        );
    }

    #[test]
    fn a_path_above_somebody_elses_is_named() {
        let together = source(
            "us-east-1",
            None,
            &json!([grant("platform", &["/prod"]), grant("shop", &["/prod/checkout"])]),
        );
        let warnings = Policies::of(&[together], "*", &[]).unwrap().warnings();
        assert!(
            warnings.contains(
                "operator: /prod (for namespace platform) is above /prod/checkout (for namespace shop)"
            ),
            "{warnings}"
        );
        let apart = source(
            "us-east-1",
            None,
            &json!([grant("platform", &["/prod"]), grant("shop", &["/production"])]),
        );
        assert!(!Policies::of(&[apart], "*", &[]).unwrap().warnings().contains("is above"));
    }

    #[test]
    fn a_key_of_another_region_is_a_mistake() {
        let key = "arn:aws:kms:eu-west-1:111122223333:key/1".to_owned();
        let sources = [source("us-east-1", None, &json!([grant("shop", &["/a"])]))];
        assert!(Policies::of(&sources, "*", &[key]).unwrap_err().to_string().contains("Region of no source"));
        assert!(Policies::of(&[], "*", &[]).is_err());
    }
}
