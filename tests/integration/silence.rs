//! No value appears in any output. The actual output of a test is searched for the values of its world; the
//! possible output is checked in the sources.

mod panics;
mod redis;
mod sts;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams};
use parameter_mirror_test_support::Canaries;

use crate::world::{World, root};

/// Returns all output about this world, by place: for people, for machines, and for other users of the
/// machine.
pub async fn said(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut said = vec![("the log".to_owned(), world.operator.log().into_bytes())];
    for path in ["/metrics", "/readyz", "/livez"] {
        if let Some((_, text)) = world.operator.get(path).await {
            said.push((path.to_owned(), text.into_bytes()));
        }
    }
    for namespace in [&world.namespace, &world.home] {
        let kinds = "pmirror,psource,events,leases,configmaps";
        let listed = ["get", kinds, "--show-managed-fields", "-o", "json", "-n", namespace];
        said.push((format!("objects of {namespace}"), world.cluster.kubectl(&listed).await.into_bytes()));
    }
    let secrets: Api<Secret> = world.secrets();
    for secret in secrets.list(&ListParams::default()).await.unwrap() {
        let metadata = serde_json::to_vec(&secret.metadata).unwrap();
        said.push((format!("metadata of the Secret {:?}", secret.metadata.name), metadata));
    }
    let pid = world.operator.process().pid();
    if let Ok(arguments) = std::fs::read(format!("/proc/{pid}/cmdline")) {
        said.push(("the command line".to_owned(), arguments));
    }
    // Errors are ignored: when Redis fails, the other places are still searched.
    for key in world.redis.try_cli(&["keys", "pm:*"]).await.unwrap_or_default().lines() {
        for (field, bytes) in world.redis.hash(key).await {
            said.push((format!("the name of the field {field} in Redis"), field.clone().into_bytes()));
            if field.starts_with('@') {
                said.push((format!("the field {field} in Redis"), bytes));
            }
        }
    }
    said
}

/// Returns what Redis would write to its disk, uncompressed.
async fn dump(world: &World) -> Vec<u8> {
    let file = world.redis.process().dir().join("looked-at.rdb");
    world.redis.cli(&["config", "set", "rdbcompression", "no"]).await;
    // Do not wait for further replicas.
    world.redis.cli(&["config", "set", "repl-diskless-sync-delay", "0"]).await;
    world.redis.cli(&["--rdb", file.to_str().unwrap()]).await;
    std::fs::read(file).unwrap()
}

/// Asserts that no value of this world appears where values do not belong.
pub async fn says_nothing(world: &World) {
    says_nothing_of(world, &[&world.canaries]).await;
}

/// Asserts the same of other secrets: passwords, keys.
pub async fn says_nothing_of(world: &World, canaries: &[&Canaries]) {
    for (place, bytes) in said(world).await {
        for canaries in canaries {
            assert_eq!(canaries.found_in(&bytes), None, "what nobody may repeat stands in {place}");
        }
    }
}

/// Asserts the same, and that Redis has no `SecureString` in plain text. The world has both kinds, in both
/// targets.
pub async fn keeps(world: &World) {
    says_nothing(world).await;
    let dump = dump(world).await;
    assert_eq!(world.canaries.sealed_in(&dump), None, "a SecureString stands in a dump of Redis");
    // Control: the search does find values that are there.
    assert!(world.canaries.found_in(&dump).is_some(), "the Strings are not in the dump of Redis");
    let secrets = serde_json::to_vec(&world.secrets().list(&ListParams::default()).await.unwrap()).unwrap();
    assert!(world.canaries.sealed_in(&secrets).is_some(), "the SecureStrings are not in the Secret");
}

/// Where `{:?}` or an equivalent is allowed outside tests, with the reason.
const FORMATTED: [(&str, &str, &str); 8] = [
    ("src/mirror/secret_keys.rs", "{key:?}", "the key of a Secret, made of a parameter's name"),
    ("src/mirror/plan/mod.rs", "{:?}", "an encryption mode of the spec"),
    ("src/mirror/plan/selections.rs", "{path:?}", "a path of the spec"),
    ("src/mirror/plan/selections.rs", "{name:?}", "a name of the spec"),
    ("src/mirror/plan/selections.rs", "{relative:?}", "an exclude of the spec"),
    (
        "src/commands/verify/collect.rs",
        "{other:?}",
        "what became of a script, whose parts are numbers and an owner",
    ),
    ("crates/format/src/hash/encode.rs", "{0:?}", "a parameter's name"),
    ("crates/format/src/crypto/keys.rs", "{0:?}", "the name of a data key of the key Secret"),
];

/// Types of the SDK and of its credentials whose texts quote the bodies of answers.
const QUOTING: [&str; 3] = ["SdkError", "CredentialsError", "DisplayErrorContext"];

/// Returns the sources of operator and reader without their tests, by path from the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = [
        "src",
        "crates/clock/src",
        "crates/format/src",
        "crates/redis/src",
        "crates/reader/src",
        "crates/ssm/src",
    ]
    .map(|folder| root().join(folder))
    .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let is_test = name.contains("/tests/")
                || ["tests.rs", "fixtures.rs", "vectors.rs", "testing.rs"]
                    .iter()
                    .any(|end| name.ends_with(end));
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
                let text = std::fs::read_to_string(&path).unwrap();
                // Tests are at the end, or in their own files.
                let (code, _) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&text, ""));
                let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                found.push((name, code.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(found.len() > 100, "only {} files were found", found.len());
    found
}

/// Returns every use of `{:?}` in a format string. The sigil of tracing and `dbg!` are for clippy.
fn formatted(code: &str) -> Vec<String> {
    code.split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .filter(|(inside, _)| {
            inside.ends_with('?') && inside.contains(':') && !inside.contains(char::is_whitespace)
        })
        .map(|(inside, _)| format!("{{{inside}}}"))
        .collect()
}

/// The output of `Debug` is not specified: for an SDK error it is the body of an answer.
#[test]
fn nothing_is_formatted_with_debug_without_a_reason() {
    assert_eq!(formatted("f!(\"{a:?} {:#?} {b}\", c); z?; a ? b"), ["{a:?}", "{:#?}"]);
    let mut used = Vec::new();
    for (file, code) in sources() {
        for format in formatted(&code) {
            let allowed = FORMATTED.iter().position(|(place, text, _)| *place == file && *text == format);
            used.push(allowed.unwrap_or_else(|| {
                panic!("{file} formats {format}: print what is meant, or give a reason in FORMATTED")
            }));
        }
    }
    for (n, (file, text, _)) in FORMATTED.iter().enumerate() {
        assert!(used.contains(&n), "{file} no longer formats {text}");
    }
}

/// SDK errors are inspected only where they become reasons, and nothing there prints one.
#[test]
fn errors_of_the_sdk_become_reasons_and_are_never_printed() {
    let mut files = Vec::new();
    for (file, code) in sources() {
        if !QUOTING.iter().any(|name| code.contains(name)) {
            continue;
        }
        assert!(!code.contains("DisplayErrorContext"), "{file} asks the SDK for the text of an error");
        for printed in
            ["{error}", "{error:", "{cause}", "{cause:", "error.to_string()", "cause.to_string()", "%error"]
        {
            assert!(!code.contains(printed), "{file} prints {printed} and knows errors of the SDK");
        }
        files.push(file);
    }
    files.sort();
    let expected = ["client.rs", "credentials/mod.rs", "credentials/sources.rs", "error.rs"];
    assert_eq!(
        files,
        expected.map(|file| format!("crates/ssm/src/{file}")),
        "errors of the SDK are for these files"
    );
}

/// Each type with secret bytes implements `Debug` by hand. Where the text of a value is read, clippy asks for a reason
/// (`disallowed-methods`).
#[test]
fn types_with_secret_bytes_derive_no_debug() {
    for (file, code) in sources() {
        for item in code.split("\n\n").filter(|item| item.contains("struct ") || item.contains("enum ")) {
            let head = item.split("fn ").next().unwrap_or_default();
            let is_secret = ["Zeroizing<", "LessSafeKey", "hmac::Key", "hkdf::Prk"]
                .iter()
                .any(|bytes| head.contains(bytes));
            let derived = head.lines().any(|line| line.contains("derive(") && line.contains("Debug"));
            assert!(!(is_secret && derived), "{file} derives Debug for secret bytes:\n{head}");
            let printed = head.lines().any(|line| {
                line.contains("derive(") && (line.contains("Serialize") || line.contains("Display"))
            });
            assert!(!(is_secret && printed), "{file} derives a way to print secret bytes:\n{head}");
        }
    }
}
