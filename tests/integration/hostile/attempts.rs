//! The attempts of the hostile tenant, who is granted `/tenant` in one region, and everything except AWS's
//! own parameters in another.

use serde_json::{Value, json};

/// The expected result of an attempt.
pub enum End {
    /// Refused at admission, with this in the message.
    Refused(&'static str),
    /// Stalled with this reason, and empty targets.
    Denied(&'static str),
    /// Degraded with this reason, and empty targets.
    NeverHad(&'static str),
    /// Allowed for every tenant: own values in own targets.
    Own,
}

pub struct Attempt {
    pub what: &'static str,
    pub name: String,
    pub spec: Value,
    pub end: End,
}

impl Attempt {
    /// Returns the name of the requested Secret.
    pub fn secret(&self) -> &str {
        self.spec["secret"]["name"].as_str().unwrap_or(&self.name)
    }
}

use End::{Denied, NeverHad, Own, Refused};

/// Selections, each of which tries to escape from `/tenant`. To the operator they are plain text.
fn selections() -> Vec<(&'static str, Value, End)> {
    let path = |path: &str| json!([{"path": path}]);
    let name = |name: &str| json!([{"name": name}]);
    vec![
        ("a path of others", path("/victim"), Denied("NotGranted")),
        ("below a path of others", path("/victim/db"), Denied("NotGranted")),
        ("everything", path("/"), Denied("NotGranted")),
        ("the same letters, another segment", path("/tenantry"), Denied("NotGranted")),
        ("the same letters and a dot", path("/tenant.victim"), Denied("NotGranted")),
        ("the same letters and a dash, by name", name("/tenant-victim"), Denied("NotGranted")),
        ("another case", path("/Tenant"), Denied("NotGranted")),
        ("up and down again", path("/tenant/../victim"), Refused("no . or .. segments")),
        ("up to the root", path("/tenant/.."), Refused("no . or .. segments")),
        ("a dot", path("/./victim"), Refused("no . or .. segments")),
        ("a dot that is not one", path("/.../victim"), Denied("NotGranted")),
        ("two slashes", path("//victim"), Refused("a path starts with /")),
        ("two slashes in the middle", path("/tenant//../victim"), Refused("a path starts with /")),
        ("a slash at the end", path("/victim/"), Denied("NotGranted")),
        ("no slash", path("victim"), Refused("a path starts with /")),
        ("nothing", path(""), Refused("path")),
        ("percent-encoded", path("/tenant%2f..%2fvictim"), Refused("a path starts with /")),
        ("a slash of full width", path("/tenant\u{ff0f}..\u{ff0f}victim"), Refused("a path starts with /")),
        ("a letter of another alphabet", path("/ten\u{430}nt"), Refused("a path starts with /")),
        ("nothing to see", path("/tenant\u{200b}"), Refused("a path starts with /")),
        ("a second line", path("/tenant\n/victim"), Refused("a path starts with /")),
        ("a line's end", path("/victim\n"), Refused("a path starts with /")),
        ("a byte of zero", path("/victim\u{0}"), Refused("a path starts with /")),
        ("a pattern", path("/tenant*"), Refused("a path starts with /")),
        ("a selector on a path", path("/tenant:1"), Refused("a path starts with /")),
        (
            "an ARN for a path",
            path("arn:aws:ssm:us-east-1:111122223333:parameter/victim"),
            Refused("ARNs are not accepted"),
        ),
        (
            "an ARN for a name",
            name("arn:aws:ssm:us-east-1:111122223333:parameter/victim/config"),
            Refused("ARNs are not accepted"),
        ),
        (
            "an ARN in capitals",
            name("ARN:aws:ssm:us-east-1:111122223333:parameter/victim/config"),
            Refused("what follows the colon is a version"),
        ),
        ("an ARN behind a slash", name("/arn:aws"), Denied("NotGranted")),
        ("a name of others", name("/victim/config"), Denied("NotGranted")),
        ("the same without a slash", name("victim/config"), Refused("a name has only letters")),
        (
            "a name of others, that may be absent",
            json!([{"name": "/victim/config", "optional": true}]),
            Denied("NotGranted"),
        ),
        ("a version of others", name("/victim/db/password:1"), Denied("NotGranted")),
        ("a label of others", name("/victim/db/password:live"), Denied("NotGranted")),
        (
            "a label of others, with a dot segment's look",
            name("victim/db/password:.."),
            Refused("a name has only letters"),
        ),
        ("a name up and down", name("/tenant/../victim/config"), Denied("InvalidSpec")),
        (
            "a name for a selector",
            name("/tenant/a:/victim/config"),
            Refused("what follows the colon is a version"),
        ),
        ("two selectors", name("/tenant/a:1:2"), Refused("what follows the colon is a version")),
        ("only a selector", name(":live"), Refused("a name has only letters")),
        ("many names in one", name("/tenant/a,/victim/config"), Refused("a name has only letters")),
        (
            "one of two that is not granted",
            json!([{"path": "/tenant"}, {"path": "/victim"}]),
            Denied("NotGranted"),
        ),
        (
            "the same hidden in the middle",
            json!([{"path": "/tenant"}, {"name": "/victim2"}, {"name": "/tenant/a"}]),
            Denied("NotGranted"),
        ),
        (
            "leaving out by a way up",
            json!([{"path": "/tenant", "exclude": ["../victim"]}]),
            Refused("an exclude is a relative path"),
        ),
        ("leaving out what looks absolute", json!([{"path": "/tenant", "exclude": ["/victim"]}]), Own),
        ("AWS's own", path("/aws"), Denied("NotGranted")),
        (
            "a path and a name",
            json!([{"path": "/tenant", "name": "/victim/config"}]),
            Refused("either `path` or `name`"),
        ),
        (
            "a hundred and one",
            Value::Array((0..101).map(|n| json!({"path": format!("/tenant/{n}")})).collect()),
            Refused("100"),
        ),
    ]
}

/// Specs with a legitimate selection and a hostile rest.
fn targets(victim: &str) -> Vec<(&'static str, Value, End)> {
    let secret = |secret: Value| json!({"secret": secret});
    let labels = |label: &str| json!({"secret": {"labels": {label: "x"}}});
    let annotations = |annotation: &str| json!({"secret": {"annotations": {annotation: "x"}}});
    vec![
        ("a Secret of somebody else", secret(json!({"name": "release"})), Denied("SecretConflict")),
        ("the name of the victim's Secret", secret(json!({"name": "config"})), Own),
        ("the name of the operator's keys", secret(json!({"name": "parameter-mirror-keys"})), Own),
        (
            "a path for a Secret",
            secret(json!({"name": format!("../../{victim}/secrets/config")})),
            Refused("lower-case DNS name"),
        ),
        (
            "a namespace in the Secret's name",
            secret(json!({"name": format!("{victim}/config")})),
            Refused("lower-case DNS name"),
        ),
        (
            "a Secret's name with a query",
            secret(json!({"name": "config?x=y"})),
            Refused("lower-case DNS name"),
        ),
        ("a namespace for the Secret", json!({"secret": {"name": "elsewhere", "namespace": victim}}), Own),
        ("a key for the hash", json!({"redis": {"key": format!("pm:{{{victim}/config}}")}}), Own),
        (
            "a token of a service account",
            secret(json!({"type": "kubernetes.io/service-account-token"})),
            Refused("spec.secret.type"),
        ),
        ("our MAC", annotations("parameter-mirror.dev/mac"), Refused("are reserved")),
        ("our owner", annotations("parameter-mirror.dev/owner"), Refused("are reserved")),
        ("consent to oneself", annotations("parameter-mirror.dev/adopt-by"), Refused("are reserved")),
        (
            "a service account's name",
            annotations("kubernetes.io/service-account.name"),
            Refused("are reserved"),
        ),
        (
            "what kubectl applied last",
            annotations("kubectl.kubernetes.io/last-applied-configuration"),
            Refused("are reserved"),
        ),
        ("an annotation of Kubernetes", annotations("x.k8s.io/y"), Refused("are reserved")),
        ("who manages it", labels("app.kubernetes.io/managed-by"), Refused("set by the operator")),
        ("a label of ours", labels("parameter-mirror.dev/x"), Refused("set by the operator")),
        (
            "a flood of labels",
            json!({"secret": {"labels": (0..33).map(|n| (format!("l{n}"), json!("x"))).collect::<serde_json::Map<_, _>>()}}),
            Refused("32"),
        ),
        (
            "less encryption than the source demands",
            json!({"redis": {"encryption": "None"}}),
            Denied("InvalidSpec"),
        ),
        ("a nanosecond", json!({"interval": "1ns"}), Refused("30s, 5m or 1h30m")),
        ("a second", json!({"interval": "1s"}), Refused("between 10s and 24h")),
        (
            "a key that is a path",
            json!({"parameters": [{"name": "/tenant/a", "key": "../a"}]}),
            Refused("a Secret key has only"),
        ),
        (
            "a key that hides",
            json!({"parameters": [{"name": "/tenant/a", "key": "..data"}]}),
            Refused("a Secret key has only"),
        ),
        (
            "a key with a slash",
            json!({"parameters": [{"name": "/tenant/a", "key": "a/b"}]}),
            Refused("a Secret key has only"),
        ),
        (
            "a key with a byte of zero",
            json!({"parameters": [{"name": "/tenant/a", "key": "a\u{0}"}]}),
            Refused("a Secret key has only"),
        ),
        (
            "a source by a path",
            json!({"sourceRef": {"name": "../namespaces/kube-system"}}),
            Refused("not the name of a ParameterSource"),
        ),
        (
            "a source with a query",
            json!({"sourceRef": {"name": "default?x=y"}}),
            Refused("not the name of a ParameterSource"),
        ),
        (
            "a source that does not exist",
            json!({"sourceRef": {"name": "of-nobody"}}),
            NeverHad("SourceNotFound"),
        ),
    ]
}

/// Returns all attempts. The sources: of the tenant and the victim, of the victim alone, and of another
/// region.
pub fn attempts(sources: &[String; 3], victim: &str) -> Vec<Attempt> {
    let [both, of_others, wide] = sources;
    let spec = |source: &str, parameters: Value| json!({"sourceRef": {"name": source}, "interval": "10s", "parameters": parameters, "secret": {}, "redis": {}});
    let own = || spec(both, json!([{"path": "/tenant"}]));
    let mut all: Vec<(&'static str, Option<String>, Value, End)> = Vec::new();
    all.extend(
        selections().into_iter().map(|(what, parameters, end)| (what, None, spec(both, parameters), end)),
    );
    all.extend(targets(victim).into_iter().map(|(what, change, end)| {
        let mut spec = own();
        for (member, value) in change.as_object().unwrap() {
            spec[member] = value.clone();
        }
        (what, None, spec, end)
    }));
    let path = |path: &str| json!([{"path": path}]);
    let name = |name: &str| json!([{"name": name}]);
    all.extend([
        ("a source of others", None, spec(of_others, path("/victim")), Denied("NotGranted")),
        ("a source of others, for one's own", None, spec(of_others, path("/tenant")), Denied("NotGranted")),
        ("everything, with AWS's own in it", None, spec(wide, path("/")), Own),
        ("AWS's own by its path", None, spec(wide, path("/aws/reference")), Denied("NotGranted")),
        (
            "a Secret of AWS Secrets Manager",
            None,
            spec(wide, name("/aws/reference/secretsmanager/victim")),
            Refused("references to Secrets Manager"),
        ),
        (
            "the same without a slash",
            None,
            spec(wide, name("aws/reference/secretsmanager/victim")),
            Refused("a name has only letters"),
        ),
        (
            "the same in capitals",
            None,
            spec(wide, name("/AWS/reference/secretsmanager/victim")),
            Refused("references to Secrets Manager"),
        ),
        (
            "the same with a selector",
            None,
            spec(wide, name("/aws/reference/secretsmanager/victim:1")),
            Refused("references to Secrets Manager"),
        ),
    ]);
    for (what, name) in [
        ("a mirror's name that ends the hash tag", "a}{b".to_owned()),
        ("a mirror's name with a colon", format!("{victim}:config")),
        ("a mirror's name that is a path", format!("../{victim}/config")),
        ("a mirror's name in capitals", "Config".to_owned()),
        ("a mirror's name that is too long", "a".repeat(254)),
    ] {
        all.push((what, Some(name), own(), Refused("metadata.name")));
    }
    all.push(("the longest name", Some("a".repeat(253)), own(), Own));
    let named = |(number, (what, name, spec, end)): (usize, (&'static str, Option<String>, Value, End))| {
        Attempt { what, name: name.unwrap_or_else(|| format!("attempt-{number}")), spec, end }
    };
    all.into_iter().enumerate().map(named).collect()
}
