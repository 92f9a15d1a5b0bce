//! `remoteRef`: one parameter, by its name and selector.

use crate::commands::convert::fields::SpecFields;
use crate::commands::convert::notes::Notes;

/// Names below this are secrets of Secrets Manager. SSM only passes them on: they are in no listing, have no ARN of a parameter
/// to grant, and no versions of a parameter.
const SECRETS_MANAGER: &str = "/aws/reference/secretsmanager/";

/// Returns the name to select for `key`; `None` if the mirror would hold another value than ESO.
pub fn name(mut remote: SpecFields, prefix: &str, key: &str, notes: &mut Notes) -> Option<String> {
    remote.take("conversionStrategy"); // It applies to generated keys, and this key is explicit.
    let at = remote.path.clone();
    let mut is_same = true;
    if let Some(property) = remote.text("property") {
        let why = format!(
            "{key} is the member {property} of JSON in a parameter; values are mirrored whole. Put it into a parameter of its own"
        );
        notes.lost(&remote.at("property"), &why);
        is_same = false;
    }
    let as_in_ssm = "values are mirrored as SSM has them";
    is_same &= remote.only("decodingStrategy", "None", as_in_ssm, notes);
    is_same &= remote.only("metadataPolicy", "None", "tags are not mirrored", notes);
    remote.only("nullBytePolicy", "Ignore", as_in_ssm, notes);
    let (name, version) = (remote.text("key"), remote.text("version"));
    remote.rest(notes);
    let selector = version.map(|version| format!(":{version}")).unwrap_or_default();
    let Some(name) = name else {
        notes.lost(&format!("{at}.key"), &format!("{key} names no parameter"));
        return None;
    };
    if name.starts_with("arn:") {
        notes.lost(&format!("{at}.key"), &by_name(&name, &selector));
        return None;
    }
    let full = format!("{prefix}{name}");
    if full.starts_with(SECRETS_MANAGER) {
        let why = format!(
            "{full} is a secret of Secrets Manager that SSM passes on, and no parameter: keep External Secrets Operator for it"
        );
        notes.lost(&format!("{at}.key"), &why);
        return None;
    }
    if !is_same {
        return None;
    }
    if !prefix.is_empty() && prefix.ends_with('/') == name.starts_with('/') {
        let what = format!(
            "the prefix {prefix} of the store and the key {name} make {full}, and that is what ESO asks for. Check that it is the \
             parameter that you mean"
        );
        notes.know(&format!("{at}.key"), &what);
    }
    if selector == ":latest" {
        let what = format!(
            "SSM has a label `latest` only if somebody has attached it; without one, {full}:latest does not exist. Without a version \
             the newest is read"
        );
        notes.know(&format!("{at}.version"), &what);
    }
    Some(format!("{full}{selector}"))
}

/// Says what to write in place of an ARN.
fn by_name(arn: &str, selector: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let &[_, _, "ssm", _, account, resource] = parts.as_slice() else {
        return format!("{arn} is not the ARN of a parameter");
    };
    let Some(rest) = resource.strip_prefix("parameter/") else {
        return format!("{arn} is not the ARN of a parameter");
    };
    let name = if rest.contains('/') {
        format!("/{rest}{selector}")
    } else {
        format!("{rest}{selector} (or /{rest}{selector}: both look the same in an ARN)")
    };
    let of_account = if account.is_empty() {
        String::new()
    } else {
        format!(
            ". It is a parameter of account {account}: the source must read that account, with spec.roleArn if it is another"
        )
    };
    format!("an ARN: write the name {name}{of_account}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::with_a_path(
        "arn:aws:ssm:us-east-1:111122223333:parameter/shop/db",
        ":2",
        "write the name /shop/db:2."
    )]
    #[case::flat("arn:aws:ssm:us-east-1:111122223333:parameter/db", "", "write the name db (or /db: ")]
    #[case::public("arn:aws:ssm:us-east-1::parameter/aws/service/x", "", "write the name /aws/service/x")]
    #[case::another_service(
        "arn:aws:secretsmanager:us-east-1:111122223333:secret:db",
        "",
        "not the ARN of a parameter"
    )]
    #[case::another_resource(
        "arn:aws:ssm:us-east-1:111122223333:document/x",
        "",
        "not the ARN of a parameter"
    )]
    fn an_arn_is_answered_with_the_name(#[case] arn: &str, #[case] selector: &str, #[case] expected: &str) {
        let said = by_name(arn, selector);
        assert!(said.contains(expected), "{said}");
    }
}
