//! Shapes from the field: each file of `field/` follows public configuration. The table says what a user gets for each; the golden beside
//! a file is what is printed (`UPDATE=1` writes it).

use parameter_mirror_test_support::Scratch;
use rstest::rstest;
use serde_json::{Value, json};

use super::{convert, documents, text};
use crate::world::{cluster, root};

/// The objects and fields that are named as lost, in order.
fn lost(output: &str) -> Vec<&str> {
    output.lines().filter_map(|line| line.strip_prefix("NOT CARRIED OVER  ")).collect()
}

/// Converts a file of `field/eso`, compares what is printed with its golden and what is lost with `expected`: the beginnings of all
/// lines, in order. Returns standard error.
fn assert_converts(name: &str, arguments: &[&str], code: i32, summary: &str, expected: &[&str]) -> String {
    let file = format!("field/eso/{name}.yaml");
    let output = convert(&[&["--file", &file], arguments].concat());
    let stderr = text(&output.stderr).to_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().last(), Some(summary), "{stderr}");
    let lost = lost(&stderr);
    assert_eq!(lost.len(), expected.len(), "{stderr}");
    for (line, expected) in lost.iter().zip(expected) {
        assert!(line.starts_with(expected), "{expected:?} is not the beginning of {line:?}");
    }
    let golden = root().join(format!("tests/integration/convert/field/eso/{name}.expected.yaml"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&golden, &output.stdout).unwrap();
    }
    assert_eq!(text(&output.stdout), std::fs::read_to_string(golden).unwrap(), "{name}");
    stderr
}

#[rstest]
#[case::flat_names(
    "01-flat-names",
    "Converted 2 of 2 ExternalSecrets completely; 1 of 1 store converted",
    &["spec.provider.aws.auth: the operator reads with its own AWS identity: let that assume arn:aws:iam::111122223333:role/cluster-read-parameters"]
)]
#[case::many_namespaces(
    "02-many-namespaces",
    "Converted 5 of 5 ExternalSecrets completely; 1 of 1 store converted",
    &["spec.provider.aws.auth"]
)]
// Nothing is dropped, and SSM may well have a label of that name.
#[case::versions_and_labels(
    "17-versions-labels",
    "Converted 1 of 1 ExternalSecret completely; 1 of 1 store converted",
    &["spec.data[4].remoteRef.version: SSM has a label `latest` only if somebody has attached it"]
)]
fn everything_is_carried_over(#[case] name: &str, #[case] summary: &str, #[case] notes: &[&str]) {
    let stderr = assert_converts(name, &[], 0, summary, &[]);
    for note in notes {
        assert!(stderr.contains(note), "{note}\n{stderr}");
    }
}

#[rstest]
#[case::prefix_by_regexp(
    "03-prefix-by-regexp",
    "Converted 1 of 2 ExternalSecrets completely; 1 not at all (see NOT CARRIED OVER); 1 of 1 store converted",
    &[
        "ExternalSecret catalog/catalog-platform: spec.dataFrom[0].rewrite: keys would differ",
        "ExternalSecret catalog/catalog-platform: spec: nothing of it can be mirrored",
    ],
    &["spec.dataFrom[0].find.name.regexp: ^/catalog/ is everything below the path /catalog"]
)]
#[case::hooks_and_three_rewrites(
    "04-hooks-three-rewrites",
    "Converted 0 of 1 ExternalSecret completely; 1 not at all (see NOT CARRIED OVER); 0 of 1 store converted",
    &[
        "ExternalSecret default/forms-api-params: spec.dataFrom[0].rewrite: keys would differ",
        "ExternalSecret default/forms-api-params: spec: nothing of it can be mirrored",
    ],
    &[
        "SecretStore default/forms-api: metadata.annotations: argocd.argoproj.io/hook",
        "ExternalSecret default/forms-api-params: metadata.annotations: argocd.argoproj.io/hook",
    ]
)]
#[case::generated_json_members(
    "05-generated-json-members",
    "Converted 0 of 1 ExternalSecret completely; 1 partially (see NOT CARRIED OVER); 1 of 1 store converted; 3 objects of other kinds passed over (Namespace, Service, StatefulSet)",
    &[
        "ExternalSecret radio/radio-db: spec.target.template.data: it puts in place of what is read the keys POSTGRES_PASSWORD, POSTGRES_USER, REPLICATION_PASSWORD",
        "ExternalSecret radio/radio-db: spec.data[0].remoteRef.property: dbUser is the member username",
        "ExternalSecret radio/radio-db: spec.data[1].remoteRef.property: dbPassword is the member password",
    ],
    &[]
)]
#[case::repository_credentials(
    "06-repo-credentials",
    "Converted 1 of 3 ExternalSecrets completely; 2 partially (see NOT CARRIED OVER); 1 of 1 store converted",
    &[
        "ExternalSecret argocd/repo-manifests: spec.target.template.data: it puts in place of what is read the keys sshPrivateKey, type, url",
        "ExternalSecret argocd/repo-charts: spec.target.template.data: it adds the keys enableOCI, name, type, url",
        "ExternalSecret argocd/repo-charts: spec.target.template.metadata.labels.team: a template",
    ],
    &[]
)]
#[case::json_extract(
    "07-json-extract",
    "Converted 1 of 2 ExternalSecrets completely; 1 partially (see NOT CARRIED OVER); 1 of 1 store converted",
    &[
        "ExternalSecret radio/radio-bot: spec.dataFrom[0].extract: it makes keys of the members of JSON in the parameter /k8s/radio/bot:1;",
        "ExternalSecret radio/radio-bot: spec.dataFrom[1].extract: it makes keys of the members of JSON in the parameter /k8s/radio/shared;",
    ],
    &[]
)]
#[case::decoding(
    "08-decoding",
    "Converted 1 of 3 ExternalSecrets completely; 1 partially; 1 not at all (see NOT CARRIED OVER); 1 of 1 store converted",
    &[
        "ExternalSecret ledger/ledger-keystore: spec.data[0].remoteRef.decodingStrategy: Base64:",
        "ExternalSecret ledger/ledger-keystore: spec.data[2].remoteRef.decodingStrategy: Auto:",
        "ExternalSecret ledger/ledger-keystore: spec.data[3].remoteRef.decodingStrategy: Base64URL:",
        "ExternalSecret ledger/ledger-certificates: spec.dataFrom[0].find.decodingStrategy: Auto:",
        "ExternalSecret ledger/ledger-certificates: spec: nothing of it can be mirrored",
    ],
    &[]
)]
#[case::underscore_rewrite(
    "09-underscore-rewrite",
    "Converted 1 of 5 ExternalSecrets completely; 4 not at all (see NOT CARRIED OVER); 1 of 1 store converted",
    &[
        "ExternalSecret mailer/mailer-old-rewrite: spec.dataFrom[0].rewrite: keys would differ",
        "ExternalSecret mailer/mailer-old-rewrite: spec: nothing",
        "ExternalSecret mailer/mailer-no-rewrite: spec.dataFrom[0].rewrite: keys would differ",
        "ExternalSecret mailer/mailer-no-rewrite: spec: nothing",
        "ExternalSecret mailer/mailer-unicode: spec.dataFrom[0].rewrite: keys would differ",
        "ExternalSecret mailer/mailer-unicode: spec: nothing",
        "ExternalSecret mailer/mailer-indented: spec.dataFrom[0].find.rewrite: there is no such field, so the API server drops it: it stands beside `find`",
        "ExternalSecret mailer/mailer-indented: spec.dataFrom[0].rewrite: keys would differ",
        "ExternalSecret mailer/mailer-indented: spec: nothing",
    ],
    &["ESO makes _eks_mailer_db_host,", "ESO makes _U002f_eks_U002f_mailer_U002f_db_U002f_host,"]
)]
#[case::store_prefix(
    "10-store-prefix",
    "Converted 3 of 4 ExternalSecrets completely; 1 not at all (see NOT CARRIED OVER); 2 of 2 stores converted",
    &["ExternalSecret search/search-admin: ParameterMirror is refused: spec.parameters[0].name: \"/prod//prod/search/admin\": a name has only letters"],
    &[
        "ExternalSecret search/search-index: spec.data[1].remoteRef.key: the prefix /prod of the store and the key search/index_url make /prodsearch/index_url,",
        "ExternalSecret search/search-admin: spec.data[0].remoteRef.key: the prefix /prod/ of the store and the key /prod/search/admin make /prod//prod/search/admin,",
    ]
)]
#[case::store_variants(
    "11-store-variants",
    "Converted 4 of 5 ExternalSecrets completely; 1 partially (see NOT CARRIED OVER); 5 of 6 stores converted",
    &[
        "ClusterSecretStore through-two-roles: spec.provider.aws.additionalRoles",
        "ClusterSecretStore through-two-roles: spec.provider.aws.sessionTags",
        "ClusterSecretStore through-two-roles: spec.provider.aws.transitiveTagKeys",
        "ExternalSecret billing/five: spec.secretStoreRef: ClusterSecretStore through-two-roles is not carried over whole",
    ],
    &[
        "ClusterSecretStore left-over: kind: no mirror here reads from it",
        "ClusterSecretStore for-some: spec.conditions",
        "SecretStore billing/by-service-account: spec.provider.aws.auth",
        "SecretStore billing/by-keys: spec.provider.aws.auth",
    ]
)]
#[case::secret_types(
    "12-secret-types",
    "Converted 5 of 7 ExternalSecrets completely; 2 not at all (see NOT CARRIED OVER); 1 of 1 store converted",
    &[
        "ExternalSecret web/registry-made: spec.target.template.data: it puts in place of what is read the keys .dockerconfigjson;",
        "ExternalSecret web/registry-made: ParameterMirror is refused: spec.secret.type: a Secret of type kubernetes.io/dockerconfigjson needs the key .dockerconfigjson",
        "ExternalSecret web/load-balancer-login: ParameterMirror is refused: spec.secret.type: \"load-balancer.example/login\": supported values: \"Opaque\"",
    ],
    &[]
)]
#[case::connection_strings(
    "13-connection-strings",
    "Converted 1 of 4 ExternalSecrets completely; 3 partially (see NOT CARRIED OVER); 1 of 1 store converted; 1 object of other kinds passed over (ConfigMap)",
    &[
        "ExternalSecret match/match-db: spec.target.template.data: it puts in place of what is read the keys DATABASE_URL, REDIS_URL, hosts.yaml",
        "ExternalSecret match/match-alerts: spec.target.template.templateFrom",
        "ExternalSecret match/match-login: spec.target.template.data: it adds the keys LOGIN_URL",
    ],
    &[]
)]
#[case::merge_into_existing(
    "14-merge-into-existing",
    "Converted 0 of 6 ExternalSecrets completely; 4 partially; 2 not at all (see NOT CARRIED OVER); 1 of 2 stores converted; 1 object of other kinds passed over (Secret)",
    &[
        "ExternalSecret course/course-app-db: spec.secretStoreRef: ClusterSecretStore secrets-manager is of AWS Secrets Manager: it stays with External Secrets Operator",
        "ExternalSecret course/course-app-settings: spec.target.creationPolicy: Merge",
        "ExternalSecret course/course-app-settings: spec.target.name: ExternalSecret course/course-app-db writes the Secret course-app too",
        "ExternalSecret course/course-worker-a: spec.target.name: ExternalSecret course/course-worker-b writes the Secret course-worker too. A Secret has one mirror",
        "ExternalSecret course/course-worker-b: spec.target.name: ExternalSecret course/course-worker-a writes the Secret course-worker too. A Secret has one mirror",
        "ExternalSecret course/course-mail: spec.target.creationPolicy: CreateOrMerge",
        "ExternalSecret course/course-probe: spec.target.creationPolicy: None",
    ],
    &[]
)]
#[case::two_stores_one_secret(
    "15-two-stores-one-secret",
    "Converted 1 of 3 ExternalSecrets completely; 1 partially; 1 not at all (see NOT CARRIED OVER); 1 of 3 stores converted",
    &[
        "ClusterSecretStore secrets: spec.provider: it is of AWS Secrets Manager: it stays with External Secrets Operator",
        "ExternalSecret tickets/tickets: spec.secretStoreRef: its entries read from ClusterSecretStore params and ClusterSecretStore secrets",
        "ExternalSecret tickets/tickets-search: spec.data[1].sourceRef: ClusterSecretStore params-old-region",
    ],
    &["ClusterSecretStore params-old-region: kind: no mirror here reads from it"]
)]
#[case::arn_keys(
    "16-arn-keys",
    "Converted 0 of 4 ExternalSecrets completely; 2 partially; 2 not at all (see NOT CARRIED OVER); 1 of 2 stores converted",
    &[
        "ExternalSecret shipping/shipping: spec.data[0].remoteRef.key: an ARN: write the name /shared/carrier/token. It is a parameter of account 444455556666",
        "ExternalSecret shipping/shipping: spec.data[1].remoteRef.key: an ARN: write the name /shipping/db/host.",
        "ExternalSecret shipping/shipping: spec.data[2].remoteRef.key: an ARN: write the name /shipping/db/password:2.",
        "ExternalSecret shipping/shipping: spec.data[3].remoteRef.key: an ARN: write the name shipping-db-name (or /shipping-db-name: both look the same in an ARN)",
        "ExternalSecret shipping/shipping-gov: spec.data[0].remoteRef.key: an ARN: write the name /shared/carrier/token.",
        "ExternalSecret shipping/shipping-gov: spec: nothing",
        "ExternalSecret shipping/images: spec.data[1].remoteRef.key: an ARN: write the name /aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        "ExternalSecret shipping/payments: spec.data[0].remoteRef.key: /aws/reference/secretsmanager/payments/api-key is a secret of Secrets Manager",
        "ExternalSecret shipping/payments: spec: nothing",
    ],
    &[]
)]
#[case::old_versions(
    "20-old-versions",
    "Converted 0 of 1 ExternalSecret completely; 1 partially (see NOT CARRIED OVER); 3 unsupported objects skipped",
    &[
        "ExternalSecret shop/shop-half-moved: spec.secretStoreRef: SecretStore shop/ssm is not among the objects that are read",
        "ExternalSecret shop/shop-half-moved: spec.data[0].key: a field that convert does not know",
        "ExternalSecret shop/shop-half-moved: spec.data[0].name: a field that convert does not know",
        "ExternalSecret shop/shop-half-moved: spec.data[0].secretKey: it names no key",
        "ExternalSecret shop/shop-half-moved: spec.backendType: a field that convert does not know",
        "ExternalSecret shop/shop-half-moved: spec.region: a field that convert does not know",
        "ExternalSecret shop/shop-half-moved: spec.roleArn: a field that convert does not know",
        "ExternalSecret shop/legacy-shop: kind: kubernetes-client.io/v1 is of kubernetes-external-secrets, the predecessor",
        "SecretStore shop/ssm: kind: external-secrets.io/v1alpha1 is not read",
        "ExternalSecret shop/shop-alpha: kind: external-secrets.io/v1alpha1 is not read",
    ],
    &[]
)]
#[case::push_cluster_and_generators(
    "21-push-cluster-generators",
    "Converted 1 of 2 ExternalSecrets completely; 1 partially (see NOT CARRIED OVER); 1 of 1 store converted; 4 unsupported objects skipped",
    &[
        "ExternalSecret shop/shop-admin: spec.dataFrom[0].sourceRef: a generator",
        "PushSecret shop/push-ca: kind: parameters are read and never written",
        "ClusterExternalSecret registry-login: kind: a mirror is made per namespace",
        "Password shop/shop-admin: kind: a generator",
        "ECRAuthorizationToken shop/ecr: kind: a generator",
    ],
    &[]
)]
#[case::refresh_and_immutability(
    "22-refresh-and-immutability",
    "Converted 4 of 10 ExternalSecrets completely; 6 partially (see NOT CARRIED OVER); 1 of 1 store converted",
    &[
        "ExternalSecret dump/disk-key: spec.refreshInterval: 0 means once",
        "ExternalSecret dump/disk-key: spec.target.immutable",
        "ExternalSecret dump/salt: spec.refreshInterval: 0s means once",
        "ExternalSecret dump/first-value: spec.refreshPolicy: CreatedOnce",
        "ExternalSecret dump/by-hand: spec.refreshPolicy: OnChange",
        "ExternalSecret dump/invitation: spec.target.deletionPolicy: Delete",
        "ExternalSecret dump/at-night: spec.syncWindows",
    ],
    &[
        "ExternalSecret dump/hasty: spec.refreshInterval: 5s is less than the shortest interval, 10s",
        "ExternalSecret dump/weekly: spec.refreshInterval: 168h is more than the longest interval, 24h",
    ]
)]
fn what_is_lost_is_named_and_nothing_else_suffers(
    #[case] name: &str,
    #[case] summary: &str,
    #[case] lost: &[&str],
    #[case] notes: &[&str],
) {
    let stderr = assert_converts(name, &[], 3, summary, lost);
    for note in notes {
        assert!(stderr.contains(note), "{note}\n{stderr}");
    }
}

/// A base and its patches in one stream: the base is in the namespace of `--namespace`, and comes out as it would alone.
#[test]
fn a_patch_beside_its_base_is_named() {
    let summary = "Converted 1 of 3 ExternalSecrets completely; 2 not at all (see NOT CARRIED OVER); 1 of 1 store converted; 1 object of other kinds passed over (Kustomization)";
    let lost = [
        "ExternalSecret staging/external-secret: metadata.name: one of 2 of this name, and without a store: a patch? Convert what `kustomize build` prints",
        "ExternalSecret bot/bot-${ENVIRONMENT}: ParameterMirror is refused: metadata.name: \"bot-${ENVIRONMENT}\"",
        "ExternalSecret bot/bot-${ENVIRONMENT}: ParameterMirror is refused: spec.parameters[0].name: \"/${ENVIRONMENT}/bot/search-token\"",
        "ExternalSecret bot/bot-${ENVIRONMENT}: ParameterMirror is refused: spec.secret.name",
    ];
    let stderr =
        assert_converts("19-kustomize-base-and-patches", &["--namespace", "staging"], 3, summary, &lost);
    assert!(stderr.contains("Flux or envsubst"), "{stderr}");
}

#[test]
fn a_chart_that_is_not_rendered_is_refused() {
    let output = convert(&["--file", "field/eso/18-helm-unrendered.yaml"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    let stderr = text(&output.stderr);
    assert!(
        stderr.starts_with(
            "error: input is a template of Helm that is not rendered; convert what `helm template` prints"
        ),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// Files of ECS, Lambda and Compose are not read, and nothing of them is printed.
#[test]
fn files_of_other_services_are_refused_in_one_line() {
    let folder = root().join("tests/integration/convert/field/ecs");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 12);
    for file in files {
        let output = convert(&["--file", file.to_str().unwrap()]);
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{stderr}");
        assert_eq!(stderr, "error: input contains no Kubernetes objects\n", "{}", file.display());
    }
}

/// The API server accepts everything that is printed, including the admission rules.
#[tokio::test]
async fn the_api_server_accepts_what_is_printed() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("convert").await;
    let scratch = Scratch::new("convert").unwrap();
    let folder = root().join("tests/integration/convert");
    let mut objects = Vec::new();
    for folder in [folder.join("field/eso"), folder] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "yaml")
                && !file.to_str().unwrap().contains(".expected.")
            {
                objects.extend(documents(text(&convert(&["--file", file.to_str().unwrap()]).stdout)));
            }
        }
    }
    assert!(objects.len() > 70, "only {} objects", objects.len());
    for object in objects.iter_mut().filter(|object| object["kind"] == "ParameterMirror") {
        object["metadata"]["namespace"] = json!(namespace);
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": Value::Array(objects)});
    let file = scratch.path().join("list.json");
    std::fs::write(&file, list.to_string()).unwrap();
    let applied = cluster.try_kubectl(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]).await;
    assert!(applied.status.success(), "{}", applied.stderr);
}
