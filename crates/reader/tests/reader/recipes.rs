//! The recipes of the guides, run as far as possible without their platforms.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use axum::http::{Method, StatusCode};
use parameter_mirror_test_support::Scratch;
use serde_json::Value as Json;

use crate::serve::send;
use crate::world::{KEY, World, endpoint, has_said, program};

const READER: &str = "/usr/local/bin/parameter-mirror-reader";

/// The markers of blocks that tests read, each with the page of the block.
const BLOCKS: [(&str, &str); 6] = [
    ("recipe: ecs", "docs/guides/ecs-and-lambda.md"),
    ("recipe: lambda-image", "docs/guides/ecs-and-lambda.md"),
    ("recipe: sidecar", "docs/guides/sdk-endpoint.md"),
    ("recipe: systemd", "docs/guides/vms.md"),
    ("recipe: compose", "docs/guides/vms.md"),
    ("rights", "docs/reference/reader.md"),
];

/// Returns the block with this marker.
pub fn block(marker: &str) -> String {
    let page = BLOCKS.iter().find(|(known, _)| *known == marker).map(|(_, page)| *page);
    let page = page.unwrap_or_else(|| panic!("no page has {marker}"));
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
    let text = std::fs::read_to_string(text).unwrap();
    let (_, rest) = text
        .split_once(&format!("<!-- {marker} -->\n```"))
        .unwrap_or_else(|| panic!("{page} has no {marker}"));
    let (_, block) = rest.split_once('\n').unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// A program as a recipe starts it, with exactly the recipe's arguments and environment.
struct Start {
    words: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Start {
    /// Returns what the program prints.
    async fn run(self, world: &World) -> String {
        let scratch = Scratch::new("recipe").unwrap();
        let script = scratch.path().join("checkout");
        std::fs::write(&script, "#!/bin/sh\necho \"$DB_HOST $DB_PASSWORD\"\n").unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(scratch.path().join("sub-key"), world.sub_key(KEY) + "\n").unwrap();
        let filled =
            |text: &str| fill(text, world, scratch.path()).replace("PROGRAM", script.to_str().unwrap());
        assert_eq!(self.words[0], READER);
        let mut command = tokio::process::Command::new(program());
        command.args(self.words[1..].iter().map(|word| filled(word))).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, filled(value))));
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Fills in the placeholders in capitals, and the folders where a platform puts files.
fn fill(text: &str, world: &World, files: &Path) -> String {
    let files = files.to_str().unwrap();
    text.replace("REDIS_URL", &world.redis.url()).replace("/run/secrets", files).replace("%d", files)
}

fn texts(list: &Json) -> impl Iterator<Item = String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned())
}

#[test]
fn every_recipe_is_on_its_page() {
    for (marker, page) in BLOCKS {
        assert!(!block(marker).is_empty(), "{page}: {marker}");
    }
}

#[tokio::test]
async fn ecs_systemd_and_compose_start_the_program() {
    let world = World::usual().await;

    let ecs: Json = serde_json::from_str(&block("recipe: ecs")).unwrap();
    let container = &ecs["containerDefinitions"][0];
    let pair = |variable: &Json| {
        ["name", "value"].map(|member| variable[member].as_str().unwrap().to_owned()).into()
    };
    let mut environment: BTreeMap<_, _> =
        container["environment"].as_array().unwrap().iter().map(pair).collect();
    // ECS adds the lines of the environment file.
    assert_eq!(container["environmentFiles"].as_array().unwrap().len(), 1);
    environment.insert("PARAMETER_MIRROR_REDIS_URL".to_owned(), "REDIS_URL".to_owned());
    environment.insert("PARAMETER_MIRROR_SUB_KEYS".to_owned(), world.sub_key(KEY));
    assert!(container["secrets"].is_null(), "a start would depend on Secrets Manager or SSM");
    let words = texts(&container["entryPoint"]).chain(texts(&container["command"])).collect();
    assert_eq!(Start { words, environment }.run(&world).await, "db.internal hunter2\n");

    let unit = block("recipe: systemd");
    let all = |key: &str| {
        unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('=')).collect::<Vec<_>>()
    };
    let environment = all("Environment").into_iter().map(|line| line.split_once('=').unwrap());
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let words = all("ExecStart")[0].split(' ').map(str::to_owned).collect();
    assert!(all("LoadCredential")[0].starts_with("sub-key:"), "{unit}");
    assert_eq!(Start { words, environment }.run(&world).await, "db.internal hunter2\n");

    let compose: Json = serde_yaml::from_str(&block("recipe: compose")).unwrap();
    let service = &compose["services"]["checkout"];
    let environment = service["environment"].as_object().unwrap().iter();
    let environment =
        environment.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    let words = texts(&service["entrypoint"]).chain(texts(&service["command"])).collect();
    assert_eq!(service["secrets"][0], "sub-key");
    assert_eq!(Start { words, environment }.run(&world).await, "db.internal hunter2\n");
}

/// The operator's own tests show that the API server accepts the pod.
#[tokio::test]
async fn the_sidecar_serves_the_program_beside_it() {
    let world = World::usual().await;
    let pod: Json = serde_yaml::from_str(&block("recipe: sidecar")).unwrap();
    let sidecar = &pod["spec"]["initContainers"][0];
    let words: Vec<String> = texts(&sidecar["command"]).collect();
    let mut command = Command::new(program());
    command.args(&words[1..]).env("PARAMETER_MIRROR_LISTEN", "127.0.0.1:0");
    for variable in sidecar["env"].as_array().unwrap() {
        let value = variable["value"]
            .as_str()
            .map_or_else(|| world.sub_key(KEY), |value| fill(value, &world, Path::new("")));
        command.env(variable["name"].as_str().unwrap(), value);
    }
    let process = world.start_program(&command, "listening on ").await;
    has_said(&process, "2 parameters of shop/checkout").await;
    let endpoint = endpoint(&process).await;
    let (status, _) = send(Method::GET, &format!("{endpoint}/healthz"), &[], "").await;
    assert_eq!(status, StatusCode::OK);
    let variable = &pod["spec"]["containers"][0]["env"][0];
    assert_eq!(
        (variable["name"].as_str(), variable["value"].as_str()),
        (Some("AWS_ENDPOINT_URL_SSM"), Some("http://127.0.0.1:2773"))
    );
    let help = world.reader("serve --help").run().await.good();
    assert!(help.contains("127.0.0.1") && help.contains("[default: 2773]"), "{help}");
}
