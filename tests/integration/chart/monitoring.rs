//! The `PrometheusRule` of the chart: the alerts of `files/alerts.yaml`, with the switches of the values. The dashboard links to the same
//! runbook.

use std::fs;

use parameter_mirror_test_support::Scratch;
use parameter_mirror_test_support::installation::IMAGE;
use serde_json::{Value, json};

use super::{chart, rendered};
use crate::observability::promtool;
use crate::world::{cluster, root};

/// Returns the rules of the chart with these settings.
async fn rules(settings: &[&str]) -> Vec<Value> {
    let settings = [&["metrics.prometheusRule.enabled=true"], settings].concat();
    let objects = rendered(cluster().await, &settings).await;
    let object = objects.iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    let scratch = Scratch::new("rules").unwrap();
    let file = scratch.path().join("rules.yaml");
    fs::write(&file, object["spec"].to_string()).unwrap();
    promtool(&["check", "rules", "--lint-fatal", file.to_str().unwrap()], "").unwrap();
    object["spec"]["groups"][0]["rules"].as_array().unwrap().clone()
}

fn rule<'a>(rules: &'a [Value], name: &str) -> &'a Value {
    rules.iter().find(|rule| rule["alert"] == name).unwrap_or_else(|| panic!("there is no {name}"))
}

#[tokio::test]
async fn alerts_are_those_of_the_file_and_link_to_a_runbook_only_where_it_is_published() {
    let file = fs::read_to_string(root().join("charts/parameter-mirror/files/alerts.yaml")).unwrap();
    let file: Value = serde_yaml::from_str(&file).unwrap();
    let by_default = rules(&[]).await;
    assert_eq!(json!(by_default), file["groups"][0]["rules"]);

    let linked = rules(&["metrics.prometheusRule.runbookUrl=https://wiki.example/runbook"]).await;
    assert_eq!(linked.len(), by_default.len());
    for mut rule in linked {
        let name = rule["alert"].as_str().unwrap().to_lowercase();
        let link = rule["annotations"].as_object_mut().unwrap().remove("runbook_url").unwrap();
        assert_eq!(link, format!("https://wiki.example/runbook#{name}"));
        assert!(by_default.contains(&rule), "{rule:#}");
    }
}

#[tokio::test]
async fn the_dashboard_links_to_the_runbook_where_it_is_published() {
    let runbook = async |settings: &[&str]| {
        let settings = [&["metrics.grafanaDashboard.enabled=true"], settings].concat();
        let objects = rendered(cluster().await, &settings).await;
        let is_dashboard = |object: &&Value| object["data"]["parameter-mirror.json"].is_string();
        let text =
            objects.iter().find(is_dashboard).unwrap()["data"]["parameter-mirror.json"].as_str().unwrap();
        let dashboard: Value = serde_json::from_str(text).unwrap();
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        variables.iter().find(|variable| variable["name"] == "runbook").unwrap()["query"].clone()
    };
    assert_eq!(runbook(&[]).await, "docs/operations/runbook.md");
    let url = "https://wiki.example/runbook";
    assert_eq!(runbook(&[&format!("metrics.prometheusRule.runbookUrl={url}")]).await, url);
}

#[tokio::test]
async fn each_alert_can_be_switched_off_and_changed() {
    let of = "metrics.prometheusRule";
    let settings = [
        format!("{of}.disabled.ParameterMirrorDegraded=true"),
        format!("{of}.disabled.ParameterMirrorStale=false"),
        format!("{of}.customRules.ParameterMirrorStale.for=30m"),
        format!("{of}.customRules.ParameterMirrorOperatorAbsent.severity=page"),
        format!("{of}.additionalRuleLabels.team=platform"),
    ];
    let by_default = rules(&[]).await;
    let changed = rules(&settings.each_ref().map(String::as_str)).await;
    assert_eq!(changed.len(), by_default.len() - 1);
    assert!(changed.iter().all(|rule| rule["alert"] != "ParameterMirrorDegraded"), "{changed:#?}");
    assert!(changed.iter().all(|rule| rule["labels"]["team"] == "platform"), "{changed:#?}");
    let stale = rule(&changed, "ParameterMirrorStale");
    assert_eq!(stale["for"], "30m");
    assert_eq!(stale["labels"]["severity"], rule(&by_default, "ParameterMirrorStale")["labels"]["severity"]);
    let absent = rule(&changed, "ParameterMirrorOperatorAbsent");
    assert_eq!(absent["labels"]["severity"], "page");
    assert_eq!(absent["for"], rule(&by_default, "ParameterMirrorOperatorAbsent")["for"]);
}

/// A switch for an alert that does not exist would be believed to work.
#[tokio::test]
async fn a_switch_names_an_alert_that_exists() {
    for switch in ["disabled.ParameterMirrorStael=true", "customRules.ParameterMirrorStael.for=1h"] {
        let switch = format!("metrics.prometheusRule.enabled=true,metrics.prometheusRule.{switch}");
        let template = ["template", "typo", &chart(), "--set", IMAGE, "--set", &switch];
        let output = cluster().await.try_helm(&template).await;
        let says = "there is no alert ParameterMirrorStael. There are: ParameterMirror";
        assert!(!output.status.success() && output.stderr.contains(says), "{}", output.stderr);
    }
}
