//! The partitions of AWS, which differ in their ARNs and in the ending of their host names.
//!
//! The SDK knows them, but its table is private to it. A test compares this one with the endpoints that the SDK resolves.

/// A partition of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The second part of its ARNs.
    pub name: &'static str,
    /// The ending of its host names.
    pub dns_suffix: &'static str,
    /// The beginning of the names of its Regions.
    regions: &'static str,
}

/// The partition of every Region that is in no other one, as for the SDKs.
const COMMERCIAL: Partition = Partition { name: "aws", dns_suffix: "amazonaws.com", regions: "" };

/// All other partitions (botocore, `partitions.json`).
const OTHERS: [Partition; 7] = [
    Partition { name: "aws-cn", dns_suffix: "amazonaws.com.cn", regions: "cn-" },
    Partition { name: "aws-us-gov", dns_suffix: "amazonaws.com", regions: "us-gov-" },
    Partition { name: "aws-eusc", dns_suffix: "amazonaws.eu", regions: "eusc-" },
    Partition { name: "aws-iso", dns_suffix: "c2s.ic.gov", regions: "us-iso-" },
    Partition { name: "aws-iso-b", dns_suffix: "sc2s.sgov.gov", regions: "us-isob-" },
    Partition { name: "aws-iso-e", dns_suffix: "cloud.adc-e.uk", regions: "eu-isoe-" },
    Partition { name: "aws-iso-f", dns_suffix: "csp.hci.ic.gov", regions: "us-isof-" },
];

impl Partition {
    /// Returns the partition of a Region.
    #[must_use]
    pub fn of(region: &str) -> Self {
        OTHERS.into_iter().find(|partition| region.starts_with(partition.regions)).unwrap_or(COMMERCIAL)
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ssm::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("us-east-1", "aws")]
    #[case("eu-central-2", "aws")]
    #[case("us-future-1", "aws")]
    #[case("cn-northwest-1", "aws-cn")]
    #[case("us-gov-west-1", "aws-us-gov")]
    #[case("eusc-de-east-1", "aws-eusc")]
    #[case("us-iso-east-1", "aws-iso")]
    #[case("us-isob-east-1", "aws-iso-b")]
    #[case("eu-isoe-west-1", "aws-iso-e")]
    #[case("us-isof-south-1", "aws-iso-f")]
    #[tokio::test]
    async fn a_region_has_the_partition_that_the_sdk_resolves(#[case] region: &str, #[case] name: &str) {
        let partition = Partition::of(region);
        assert_eq!(partition.name, name);
        let params = Params::builder().region(region).build().unwrap();
        let endpoint = DefaultResolver::new().resolve_endpoint(&params).await.unwrap();
        assert_eq!(endpoint.url(), format!("https://ssm.{region}.{}", partition.dns_suffix));
    }
}
