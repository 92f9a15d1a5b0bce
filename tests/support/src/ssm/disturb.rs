//! Applies a fault to an answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::faults::{Body, Fault, When};
use super::protocol::{Answer, ciphertext};
use super::reply::{Content, Delivery, Reply};

/// An answer before it is sent.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The answer, or the error sent instead.
    pub(crate) result: Result<Answer, Reply>,
    delay: Duration,
    delivery: Delivery,
}

impl Outcome {
    pub(crate) fn new(result: Result<Answer, Reply>) -> Self {
        Self { result, delay: Duration::ZERO, delivery: Delivery::Whole }
    }

    /// Applies a fault. `token` is the token of the request.
    pub(crate) fn apply(&mut self, fault: &Fault, when: &When, token: Option<&str>) {
        match fault {
            Fault::Status { code, body } => self.result = Err(Reply::new(*code, bare(*body))),
            Fault::Coded(coded) => self.result = Err(coded.reply()),
            Fault::GarbageOk => self.result = Err(Reply::new(200, Content::Html)),
            Fault::BrokenJson => self.break_json(),
            Fault::Endless { below, per_page } => {
                self.result = Err(Reply::new(200, Content::Json(endless(below, *per_page, token))));
            }
            Fault::Slow(delay) => self.delay = *delay,
            Fault::SlowBody { bytes_per_second } => self.delivery = Delivery::Trickle(*bytes_per_second),
            Fault::StallBody => self.delivery = Delivery::Stall,
            Fault::Truncated => self.delivery = Delivery::Truncated,
            Fault::Reset => self.delivery = Delivery::Reset,
            Fault::Silent => self.delivery = Delivery::Silence,
            _ => {
                if let Ok(answer) = &mut self.result {
                    falsify(answer, fault, when, token);
                }
            }
        }
    }

    /// Whether the caller receives at least a part of the answer's content.
    pub(crate) fn answers(&self) -> bool {
        self.result.is_ok() && !matches!(self.delivery, Delivery::Silence | Delivery::Reset)
    }

    fn break_json(&mut self) {
        if let Ok(answer) = &self.result {
            let text = answer.body.to_string();
            let half = (0..=text.len() / 2).rev().find(|&index| text.is_char_boundary(index));
            self.result = Err(Reply::new(200, Content::Broken(text[..half.unwrap_or(0)].to_owned())));
        }
    }

    pub(crate) fn into_reply(self) -> Reply {
        let reply =
            self.result.map_or_else(|reply| reply, |answer| Reply::new(200, Content::Json(answer.body)));
        Reply { delay: self.delay, delivery: self.delivery, ..reply }
    }
}

fn bare(body: Body) -> Content {
    match body {
        Body::Json => Content::Json(json!({ "__type": "InternalServerError" })),
        Body::Html => Content::Html,
        Body::Empty => Content::Empty,
    }
}

/// Builds the page after `token` of an endless listing.
fn endless(below: &str, per_page: u32, token: Option<&str>) -> Value {
    let page: u32 = token.and_then(|token| token.strip_prefix("page-")?.parse().ok()).unwrap_or_default();
    let parameter = |number: u32| {
        let name = format!("{below}/{page}-{number}");
        json!({"Name": name, "Type": "String", "Value": "v", "Version": 1, "LastModifiedDate": 1.0, "DataType": "text"})
    };
    let parameters: Vec<Value> = (0..per_page).map(parameter).collect();
    json!({"Parameters": parameters, "NextToken": format!("page-{}", page + 1)})
}

/// Changes the content of an answer. Other kinds of faults change nothing here.
fn falsify(answer: &mut Answer, fault: &Fault, when: &When, token: Option<&str>) {
    let body = &mut answer.body;
    match fault {
        Fault::EmptyObject => *body = json!({}),
        Fault::NullParameters if body.get("Parameters").is_some() => body["Parameters"] = Value::Null,
        Fault::MissingValue => each(body, when, |item| remove(item, "Value")),
        Fault::MissingVersion => each(body, when, |item| remove(item, "Version")),
        Fault::WrongTypes => each(body, when, |item| {
            item["Version"] = item["Version"].to_string().into();
            item["LastModifiedDate"] = "2026-01-01T00:00:00Z".into();
        }),
        Fault::CiphertextAsValue => each(body, when, encrypt),
        Fault::DuplicateName => duplicate(body, when),
        Fault::Drop => retain(body, |item| !concerns(item, when)),
        Fault::EmptyPage => {
            if let Some(again) = answer.again.take() {
                *body = json!({ "Parameters": [], "NextToken": again });
                answer.decrypted.clear();
            }
        }
        Fault::RepeatedToken => {
            if let Some(token) = token {
                body["NextToken"] = token.into();
            }
        }
        _ => {}
    }
}

fn concerns(item: &Value, when: &When) -> bool {
    item["Name"].as_str().is_some_and(|name| when.aims_at(name))
}

/// Changes the affected parameters, in a list or alone.
fn each(body: &mut Value, when: &When, change: impl Fn(&mut Value)) {
    if let Some(item) = body.get_mut("Parameter").filter(|item| concerns(item, when)) {
        change(item);
    }
    if let Some(items) = body.get_mut("Parameters").and_then(Value::as_array_mut) {
        items.iter_mut().filter(|item| concerns(item, when)).for_each(change);
    }
}

fn remove(item: &mut Value, member: &str) {
    if let Some(members) = item.as_object_mut() {
        members.remove(member);
    }
}

fn encrypt(item: &mut Value) {
    if item["Type"] == "SecureString" {
        item["Value"] = ciphertext(item).into();
    }
}

fn duplicate(body: &mut Value, when: &When) {
    if let Some(items) = body.get_mut("Parameters").and_then(Value::as_array_mut)
        && let Some(index) = items.iter().position(|item| concerns(item, when))
    {
        items.insert(index, items[index].clone());
    }
}

fn retain(body: &mut Value, keep: impl Fn(&Value) -> bool) {
    if let Some(items) = body.get_mut("Parameters").and_then(Value::as_array_mut) {
        items.retain(keep);
    }
}
