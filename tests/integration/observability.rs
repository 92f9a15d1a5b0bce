//! Metrics, alerts and dashboard: compared with the documentation, and checked with promtool and a real
//! Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use parameter_mirror_test_support::ssm::{Fault, When};
use parameter_mirror_test_support::{Prometheus, Scratch, programs};
use serde_json::{Value, json};

use crate::world::{LATER, World, eventually, root};

/// A world in which every metric has a series: one mirror is in sync and was healed, another is degraded.
async fn eventful() -> World {
    let world = World::start().await;
    world.ssm.put_secure("/app/good/a", "1");
    world.ssm.put("/app/bad/b", "2");
    for name in ["good", "bad"] {
        let parameters = json!([{"path": format!("/app/{name}")}]);
        world.mirror(name, json!({"parameters": parameters, "secret": {}, "redis": {}})).await;
        world.ready(name, "Synced").await;
    }
    // A new version with the same value: a change, with its delay.
    world.ssm.put_secure("/app/good/a", "1");
    world.sync("good").await;
    world.delete_secret("good").await;
    world.holds("good", &[("A", "1")]).await;
    world.ssm.fail(When::any().path("/app/bad"), Fault::access_denied_iam("ssm:GetParametersByPath"));
    world.sync("bad").await;
    world.degraded("bad", "AccessDenied").await;
    world
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs promtool; returns its output if it succeeds.
pub fn promtool(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new(programs::path("promtool"));
    command
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The variables by which the dashboard selects mirrors.
const SELECTION: [&str; 3] = ["$cluster", "$namespace", "$mirror"];

/// The type and labels of each metric, by name.
type Figures = BTreeMap<String, (String, BTreeSet<String>)>;

/// Returns the table in docs/reference/metrics.md.
fn documented() -> Figures {
    let text = read("docs/reference/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `parameter_mirror_"));
    rows.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let labels = cells[2].split_whitespace().map(|label| label.trim_matches('`').to_owned()).collect();
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels))
    })
    .collect()
}

/// Parses an answer of `/metrics` in the text format.
fn shown(text: &str) -> Figures {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut figures: Figures =
        types.map(|(name, type_)| (name.to_owned(), (type_.to_owned(), BTreeSet::new()))).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        // The series of a histogram have names and a label of their own.
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let name = family.filter(|family| figures.contains_key(*family)).unwrap_or(name);
        let (_, seen) = figures.get_mut(name).unwrap_or_else(|| panic!("{line} has no type"));
        let pairs = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
        let labels = pairs.map(|pair| pair.split_once('=').unwrap().0.to_owned());
        seen.extend(labels.filter(|label| label != "le"));
    }
    figures.retain(|name, _| name.starts_with("parameter_mirror_"));
    figures
}

#[tokio::test]
async fn the_documentation_lists_every_metric_with_its_type_and_labels_and_no_other() {
    let world = eventful().await;
    world.change("good", json!({"suspend": true})).await;
    // Only a degraded mirror has a reason, and metrics contain only the names of mirrors.
    let expected = format!(
        r#"parameter_mirror_mirror_degraded{{namespace="{}",mirror="bad",reason="AccessDenied"}} 1"#,
        world.namespace
    );
    eventually("the figures show the one mirror that is degraded, and why", LATER, async || {
        let (_, text) = world.operator.get("/metrics").await.unwrap();
        let is_degraded = |line: &&str| line.starts_with("parameter_mirror_mirror_degraded{");
        if text.lines().filter(is_degraded).eq([expected.as_str()]) { Ok(()) } else { Err(text) }
    })
    .await;
    let until = (Timestamp::now() + SignedDuration::from_mins(10)).to_string();
    let drill = format!("parameter-mirror.dev/drill-until={until}");
    world.cluster.kubectl(&["annotate", "psource", &world.source, &drill]).await;
    // The operator's metrics reflect what its own watch has delivered.
    let text = eventually("the figures show what is degraded, suspended and rehearsed", LATER, async || {
        let (_, text) = world.operator.get("/metrics").await.unwrap();
        let all = ["mirror_degraded{", "mirror_suspended{", "source_drill{"];
        let has_all = all.iter().all(|series| text.contains(&format!("\nparameter_mirror_{series}")));
        if has_all { Ok(text) } else { Err(text) }
    })
    .await;
    let process = ["cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds", "max_fds"];
    for name in process.map(|name| format!("process_{name}")) {
        assert!(
            text.contains(&format!("\n{name} ")) && read("docs/reference/metrics.md").contains(&name),
            "{name}: {text}"
        );
    }
    assert_eq!(shown(&text), documented(), "docs/reference/metrics.md and the operator differ");
    let complaints = promtool(&["check", "metrics"], &text);
    assert_eq!(complaints, Ok(String::new()), "promtool complains");
    let ready = |mirror: &str| format!(r#"{{namespace="{}",mirror="{mirror}"}}"#, world.namespace);
    let limit = format!("parameter_mirror_staleness_limit_seconds{}", ready("good"));
    assert_eq!(world.operator.metric(&limit).await, 3600, "three intervals of 10 s are less than an hour");
    for (target, heals) in [("secret", 1), ("redis", 0)] {
        let series = format!(r#"parameter_mirror_target_heals_total{{target="{target}"}}"#);
        assert_eq!(world.operator.metric(&series).await, heals, "{series}");
    }
    // A deleted mirror's series disappear.
    world.cluster.kubectl(&["delete", "pmirror", "bad", "-n", &world.namespace]).await;
    eventually("the series of a deleted mirror are gone", LATER, async || {
        let (_, text) = world.operator.get("/metrics").await.unwrap();
        if text.contains(r#"mirror="bad""#) { Err(text) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn every_query_of_the_dashboard_finds_something_in_a_real_prometheus() {
    let world = eventful().await;
    let rules = root().join("charts/parameter-mirror/files/alerts.yaml");
    let prometheus = Prometheus::start(&[world.operator.address()], &rules).await;
    let dashboard: Value =
        serde_json::from_str(&read("charts/parameter-mirror/files/dashboard.json")).unwrap();
    let is_row = |panel: &&Value| panel["type"] == "row";
    let (rows, panels): (Vec<_>, Vec<_>) = dashboard["panels"].as_array().unwrap().iter().partition(is_row);
    assert!(rows.len() > 3 && panels.len() > 20, "{} rows, {} panels", rows.len(), panels.len());
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{} has no query", panel["title"]);
        for target in targets {
            // As Grafana fills in the variables, for two scrapes per second and all mirrors.
            let mut query = target["expr"].as_str().unwrap().to_owned();
            let variables = [("$__rate_interval", "10s"), ("$__range", "1m")];
            for (variable, value) in variables.into_iter().chain(SELECTION.map(|variable| (variable, ".*"))) {
                query = query.replace(variable, value);
            }
            eventually(&format!("{}: {query} finds something", panel["title"]), LATER, async || {
                match prometheus.query(&query).await {
                    Ok(series) if series.is_empty() => Err("nothing".to_owned()),
                    Ok(_) => Ok(()),
                    Err(refused) => Err(refused),
                }
            })
            .await;
        }
    }

    // The rules use the same metrics: only the degraded mirror has a pending alert.
    let active = eventually("the rules are evaluated", LATER, async || {
        let rules = prometheus.rules().await;
        let healthy = rules.iter().filter(|rule| rule["health"] == "ok").count();
        let active: Vec<_> = rules.iter().filter(|rule| rule["state"] != "inactive").cloned().collect();
        let names: Vec<_> = active.iter().map(|rule| rule["name"].as_str().unwrap()).collect();
        // A scrape that took too long is a gap, in which the operator counts as absent.
        let is_said = healthy == alerts().len() && names == ["ParameterMirrorActionRequired"];
        if is_said { Ok(active) } else { Err(json!(rules).to_string()) }
    })
    .await;
    let alert = &active[0]["alerts"][0];
    assert_eq!((&alert["labels"]["mirror"], &alert["state"]), (&json!("bad"), &json!("pending")));
    let description = alert["annotations"]["description"].as_str().unwrap();
    assert!(description.contains("The reason is AccessDenied"), "{description}");
}

fn alerts() -> Vec<Value> {
    let rules: Value = serde_yaml::from_str(&read("charts/parameter-mirror/files/alerts.yaml")).unwrap();
    rules["groups"][0]["rules"].as_array().unwrap().clone()
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let checked =
        promtool(&["check", "rules", "--lint-fatal", "charts/parameter-mirror/files/alerts.yaml"], "");
    checked.unwrap_or_else(|said| panic!("{said}"));
    let files = ["tests/integration/alerts/tests.yaml", "tests/integration/alerts/outages.yaml"];
    let tested = promtool(&[&["test", "rules"][..], &files].concat(), "");
    tested.unwrap_or_else(|said| panic!("{said}"));
    // Each alert has a case in which it fires, and one in which it does not.
    let tests: Value = serde_yaml::from_str(&read(files[0])).unwrap();
    let tests = tests["tests"].as_array().unwrap().iter();
    let cases: Vec<_> = tests.filter_map(|test| test["alert_rule_test"].as_array()).flatten().collect();
    for alert in alerts() {
        let of_it: Vec<_> = cases.iter().filter(|case| case["alertname"] == alert["alert"]).collect();
        let is_silent = |case: &&&&Value| case["exp_alerts"].as_array().unwrap().is_empty();
        let silent = of_it.iter().filter(is_silent).count();
        assert!(silent > 0 && silent < of_it.len(), "{} is tried one way only", alert["alert"]);
    }
}

#[test]
fn each_alert_has_a_severity_and_a_chapter_of_the_runbook() {
    let headings: BTreeSet<String> = read("docs/operations/runbook.md")
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .collect();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap().to_lowercase();
        // The chart adds it where the runbook is published.
        assert!(alert["annotations"].get("runbook_url").is_none(), "{name} has a link that leads nowhere");
        assert!(headings.contains(&name), "docs/operations/runbook.md has no heading {}", alert["alert"]);
        assert!(
            ["critical", "warning", "info"].map(Value::from).contains(&alert["labels"]["severity"]),
            "{name}"
        );
    }
}

/// Alertmanager reports neither a misspelt alert nor a rule that matches none.
#[test]
fn each_inhibit_rule_names_alerts_that_exist() {
    let names: Vec<String> =
        alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect();
    let file: Value =
        serde_yaml::from_str(&read("charts/parameter-mirror/files/inhibit-rules.yaml")).unwrap();
    let rules = file["inhibit_rules"].as_array().unwrap();
    assert!(!rules.is_empty());
    for rule in rules {
        assert!(rule["equal"].as_array().unwrap().contains(&json!("cluster")), "{rule}");
        for side in ["source_matchers", "target_matchers"] {
            for matcher in rule[side].as_array().unwrap() {
                let (_, quoted) = matcher.as_str().unwrap().split_once('"').unwrap();
                let pattern = quoted.trim_end_matches('"');
                let (start, endings) = pattern.split_once('(').unwrap_or((pattern, ""));
                for ending in endings.trim_end_matches(')').split('|') {
                    let name = format!("{start}{ending}");
                    assert!(names.contains(&name), "{matcher}: there is no alert {name}");
                }
            }
        }
    }
}

/// A missing series would make an alert that never fires, or an empty panel.
#[test]
fn alerts_and_dashboard_ask_for_documented_metrics_only() {
    let known = documented();
    for path in ["charts/parameter-mirror/files/alerts.yaml", "charts/parameter-mirror/files/dashboard.json"]
    {
        let text = read(path);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: BTreeSet<_> = words.filter(|word| word.starts_with("parameter_mirror_")).collect();
        assert!(asked.len() > 7, "{path}");
        for name in asked {
            // The series of a histogram.
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_known = known.contains_key(family.unwrap_or(name));
            assert!(is_known, "{path} asks for {name}, which docs/reference/metrics.md does not list");
        }
    }
}

#[test]
fn the_scrape_configuration_of_the_documentation_is_one() {
    let text = read("docs/reference/metrics.md");
    let (_, rest) = text.split_once("<!-- promtool -->\n```yaml\n").unwrap();
    let (config, _) = rest.split_once("```").unwrap();
    // Debian's Prometheus is built without Kubernetes support.
    let pods = "kubernetes_sd_configs:\n      - {role: pod, namespaces: {names: [parameter-mirror]}}";
    assert!(config.contains(pods), "{config}");
    assert!(config.contains("regex: metrics,"), "it keeps no port");
    let pod = read("tests/integration/golden/chart/defaults.yaml");
    assert!(pod.contains("{name: metrics, containerPort: 8080}"), "the chart names its port otherwise");
    let config = config.replace(pods, "static_configs:\n      - {targets: [127.0.0.1:8080]}");
    let scratch = Scratch::new("scrape").unwrap();
    let file = scratch.path().join("prometheus.yml");
    fs::write(&file, config).unwrap();
    let checked = promtool(&["check", "config", "--syntax-only", file.to_str().unwrap()], "");
    checked.unwrap_or_else(|said| panic!("{said}"));
}

/// Checks the table of alerts in docs/reference/metrics.md.
#[test]
fn the_documentation_lists_every_alert() {
    let text = read("docs/reference/metrics.md");
    let listed: BTreeSet<(String, String)> = text
        .lines()
        .filter(|line| line.starts_with("| `ParameterMirror"))
        .map(|line| {
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .map(|cells: Vec<String>| (cells[0].clone(), cells[1].clone()))
        .collect();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let made =
        alerts().iter().map(|alert| (text(&alert["alert"]), text(&alert["labels"]["severity"]))).collect();
    assert_eq!(listed, made);
}
