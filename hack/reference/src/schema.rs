//! Describes the parts of a schema in words.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Returns the heading of an object, e.g. `ParameterMirror: spec.secret`.
pub fn title(kind: &str, path: &str) -> String {
    format!("{kind}: {path}")
}

/// Returns the anchor of a heading.
fn anchor(kind: &str, path: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || *c == ' ';
    title(kind, path).to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

/// Formats text as one line that is safe in a table cell.
pub fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Returns the schema of a list's items.
fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(schema) => Some(schema),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

/// Returns the object of a field or of its items, if it has its own fields, and the path to it.
pub fn object_in<'a>(
    path: &str,
    name: &str,
    field: &'a JSONSchemaProps,
) -> Option<(String, &'a JSONSchemaProps)> {
    let object = items(field).unwrap_or(field);
    object.properties.is_some().then(|| (format!("{path}.{name}"), object))
}

/// Returns the table row of a field.
pub fn row(kind: &str, path: &str, name: &str, field: &JSONSchemaProps, required: bool) -> String {
    let default = match &field.default {
        _ if required => "**required**".to_owned(),
        Some(value) => match value.0.as_str() {
            Some(text) if !text.is_empty() => format!("`{text}`"),
            _ => format!("`{}`", value.0),
        },
        None => String::new(),
    };
    let mut meaning = line(field.description.as_deref().unwrap_or_default());
    let limits = limits(field);
    if !limits.is_empty() {
        let limits = limits.join("; ");
        let (first, rest) = limits.split_at(1);
        meaning = format!("{meaning} *{}{rest}.*", first.to_uppercase());
    }
    format!("| `{name}` | {} | {default} | {} |\n", kind_of(kind, path, name, field), meaning.trim())
}

fn kind_of(kind: &str, path: &str, name: &str, field: &JSONSchemaProps) -> String {
    let link = || format!("[{name}](#{})", anchor(kind, &format!("{path}.{name}")));
    let plain = |schema: &JSONSchemaProps| match schema.format.as_deref() {
        Some("date-time") => "time".to_owned(),
        _ => schema.type_.clone().unwrap_or_default(),
    };
    if field.properties.is_some() {
        return link();
    }
    if let Some(items) = items(field) {
        let item = if items.properties.is_some() { link() } else { plain(items) };
        return format!("list of {item}");
    }
    match &field.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => format!("map of {}", plain(values)),
        _ => plain(field),
    }
}

fn limits(field: &JSONSchemaProps) -> Vec<String> {
    let mut limits = Vec::new();
    if let Some(values) = &field.enum_ {
        let values: Vec<_> =
            values.iter().filter_map(|value| value.0.as_str()).map(|value| format!("`{value}`")).collect();
        limits.push(format!("one of {}", values.join(", ")));
    }
    limits.extend(range(field.minimum, field.maximum));
    limits.extend(range(field.min_length, field.max_length).map(|range| format!("{range} characters")));
    limits.extend(range(field.min_items, field.max_items).map(|range| format!("{range} items")));
    limits.extend(range(field.min_properties, field.max_properties).map(|range| format!("{range} entries")));
    if let Some(each) = items(field).filter(|items| items.properties.is_none()) {
        limits.extend(self::limits(each).into_iter().map(|limit| format!("each {limit}")));
    }
    limits
}

/// "1 to 100", "at least 1", "at most 100".
fn range<T: std::fmt::Display>(least: Option<T>, most: Option<T>) -> Option<String> {
    match (least, most) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) => Some(format!("at least {least}")),
        (None, Some(most)) => Some(format!("at most {most}")),
        (None, None) => None,
    }
}

/// Returns the rules of a schema as their messages; for a field, prefixed with its name.
pub fn rules(schema: &JSONSchemaProps, field: Option<&str>) -> Vec<String> {
    // The rules of an object with its own section are listed there.
    if field.is_some() && schema.properties.is_some() {
        return Vec::new();
    }
    let own = schema.x_kubernetes_validations.iter().flatten();
    let messages = own.map(|rule| {
        let message = rule.message.as_deref().unwrap_or(&rule.rule);
        field.map_or_else(|| message.to_owned(), |field| format!("`{field}`: {message}"))
    });
    let each = items(schema).filter(|items| items.properties.is_none());
    messages.chain(each.into_iter().flat_map(|items| rules(items, field))).collect()
}
