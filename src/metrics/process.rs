//! The metrics of the process under their standard names, which dashboards for every exporter use
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>), from `/proc`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Ticks of the CPU times per second: `USER_HZ`, which is 100 in the interface of Linux to programs on every architecture.
const TICKS: f64 = 100.0;

/// Reads `/proc` at each scrape. What cannot be read is left out.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let encoder = &mut encoder;
        if let Some(seconds) = cpu_seconds(&stat) {
            let help = "CPU time of the process";
            encode(encoder, "process_cpu", help, Some(&Unit::Seconds), &ConstCounter::new(seconds))?;
        }
        let boot = std::fs::read_to_string("/proc/stat").ok().and_then(|stat| boot_time(&stat));
        if let Some(seconds) = boot.zip(start_ticks(&stat)).map(|(boot, ticks)| boot + ticks / TICKS) {
            let help = "Unix time of the start of the process";
            encode(encoder, "process_start_time", help, Some(&Unit::Seconds), &ConstGauge::new(seconds))?;
        }
        let status = std::fs::read_to_string("/proc/self/status").ok();
        if let Some(bytes) = status.as_deref().and_then(resident_bytes) {
            let help = "Memory of the process that is in RAM";
            encode(encoder, "process_resident_memory", help, Some(&Unit::Bytes), &ConstGauge::new(bytes))?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let open = i64::try_from(open.count()).unwrap_or(i64::MAX);
            encode(encoder, "process_open_fds", "Open file descriptors", None, &ConstGauge::new(open))?;
        }
        let limits = std::fs::read_to_string("/proc/self/limits").ok();
        if let Some(most) = limits.as_deref().and_then(most_files) {
            encode(encoder, "process_max_fds", "Most open file descriptors", None, &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    let metric_encoder = encoder.encode_descriptor(name, help, unit, metric.metric_type())?;
    metric.encode(metric_encoder)
}

/// The fields of `stat` from the third on. The second is the name of the program, in brackets, and may hold blanks.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut times = after_name(stat).skip(11).map(str::parse::<f64>);
    Some((times.next()?.ok()? + times.next()?.ok()?) / TICKS)
}

fn start_ticks(stat: &str) -> Option<f64> {
    after_name(stat).nth(19)?.parse().ok()
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn resident_bytes(status: &str) -> Option<i64> {
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())?;
    Some(kilobytes.parse::<i64>().ok()? * 1_024)
}

fn most_files(limits: &str) -> Option<i64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a b) c) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 3 0 12345 1000 200";

    #[test]
    fn fields_are_counted_behind_the_name_whatever_it_is() {
        assert_eq!(cpu_seconds(STAT), Some(3.0));
        assert_eq!(start_ticks(STAT), Some(12_345.0));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        assert_eq!(resident_bytes("Name: x\nVmRSS:\t    200 kB\n"), Some(204_800));
        assert_eq!(
            most_files("Max cpu time  unlimited\nMax open files            1024   4096 files\n"),
            Some(1_024)
        );
    }
}
