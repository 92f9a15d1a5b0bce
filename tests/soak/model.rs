//! The mirrors, and the content of SSM: what every target must contain once the faults end.

use std::collections::BTreeMap;
use std::time::Duration;

use parameter_mirror_test_support::{Ssm, fleet};
use serde_json::{Value, json};

/// The source of most mirrors.
pub const MAIN: &str = "soak";
/// The source that changes and is deleted at times.
pub const OTHER: &str = "soak-other";
/// The number of paths that many mirrors share.
const SHARED: usize = 7;
/// The parameters of a path.
const LEAVES: [&str; 5] = ["a", "b", "c", "d", "secret"];
/// The parameter of a path that is created and deleted.
const EXTRA: &str = "extra";

/// The selection of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Everything below a path.
    Path(String),
    /// One parameter. Names of different mirrors share requests.
    Name(String),
}

/// One mirror, which may be deleted at the moment.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub namespace: String,
    pub name: String,
    pub selection: Selection,
    source: &'static str,
    deletes: bool,
    pub exists: bool,
}

/// All mirrors and all parameters.
pub struct Model {
    pub namespaces: Vec<String>,
    pub mirrors: Vec<Mirror>,
    /// The content of SSM.
    values: BTreeMap<String, String>,
    /// The number of writes, which makes every value unique.
    writes: u64,
}

impl Model {
    /// The interval of a new mirror, the shortest possible one.
    const INTERVAL: Duration = Duration::from_secs(10);
    /// The longest interval of any mirror.
    pub const LONGEST_INTERVAL: Duration = Duration::from_secs(15);

    /// Creates a model with this many mirrors: one fifth with their own path, one tenth with a shared one,
    /// the others with one name each.
    pub fn new(mirrors: usize, namespaces: Vec<String>) -> Self {
        let mut model = Self { namespaces, mirrors: Vec::new(), values: BTreeMap::new(), writes: 0 };
        for number in 0..mirrors {
            let selection = match number % 10 {
                0 | 1 => Selection::Path(format!("/soak/own/{number}")),
                2 => Selection::Path(format!("/soak/shared/{}", number % SHARED)),
                _ => Selection::Name(format!("/soak/names/{number}")),
            };
            model.mirrors.push(Mirror {
                namespace: model.namespaces[number % model.namespaces.len()].clone(),
                name: format!("m{number}"),
                selection,
                source: if number % 50 == 7 { OTHER } else { MAIN },
                deletes: number % 2 == 0,
                exists: true,
            });
        }
        let names: Vec<_> = model.mirrors.iter().flat_map(|mirror| mirror.selection.names()).collect();
        for name in names {
            let value = model.next_value();
            model.values.insert(name, value);
        }
        model
    }

    pub fn len(&self) -> usize {
        self.mirrors.len()
    }

    /// Returns the number of SSM requests for one read of every mirror, if half of the possible sharing
    /// between names happens.
    pub fn requests_per_cycle(&self) -> f64 {
        let paths =
            self.mirrors.iter().filter(|mirror| matches!(mirror.selection, Selection::Path(_))).count();
        let names = self.mirrors.len() - paths;
        f64::from(u32::try_from(paths + names / 5).unwrap())
    }

    /// Writes everything to SSM.
    pub fn write_parameters(&self, ssm: &Ssm) {
        for (name, value) in &self.values {
            put(ssm, name, value);
        }
    }

    /// Writes a new value of one parameter of a mirror.
    pub fn change(&mut self, ssm: &Ssm, mirror: usize, random: &mut fastrand::Rng) {
        let names = self.mirrors[mirror].selection.names();
        let name = names[random.usize(..names.len())].clone();
        let value = self.next_value();
        put(ssm, &name, &value);
        self.values.insert(name, value);
    }

    /// Writes or deletes the extra parameter of a path. The guard never withholds a single removal.
    pub fn toggle_extra(&mut self, ssm: &Ssm, mirror: usize) {
        let Selection::Path(path) = &self.mirrors[mirror].selection else { return };
        let name = format!("{path}/{EXTRA}");
        if self.values.remove(&name).is_some() {
            ssm.delete(&name);
        } else {
            let value = self.next_value();
            put(ssm, &name, &value);
            self.values.insert(name, value);
        }
    }

    /// Returns the objects of all mirrors.
    pub fn objects(&self) -> Vec<Value> {
        self.mirrors.iter().map(Mirror::object).collect()
    }

    /// Returns the object of a source.
    pub fn source(&self, name: &str) -> Value {
        fleet::source(name, &self.namespaces, &["/soak"])
    }

    /// Returns the data that the Secret of a mirror must have.
    pub fn secret_of(&self, mirror: &Mirror) -> BTreeMap<String, String> {
        let key = |name: &str| match &mirror.selection {
            Selection::Path(path) => name[path.len() + 1..].to_uppercase(),
            Selection::Name(_) => "VALUE".to_owned(),
        };
        self.values_of(mirror).into_iter().map(|(name, value)| (key(&name), value)).collect()
    }

    /// Returns the values that the hash of a mirror must serve, by parameter name.
    pub fn values_of(&self, mirror: &Mirror) -> BTreeMap<String, String> {
        match &mirror.selection {
            Selection::Name(name) => BTreeMap::from([(name.clone(), self.values[name].clone())]),
            Selection::Path(path) => {
                let below = format!("{path}/");
                let named =
                    self.values.range(below.clone()..).take_while(|(name, _)| name.starts_with(&below));
                named.map(|(name, value)| (name.clone(), value.clone())).collect()
            }
        }
    }

    /// Returns a random valid interval.
    pub fn any_interval(random: &mut fastrand::Rng) -> String {
        let range = Self::INTERVAL.as_secs_f64()..Self::LONGEST_INTERVAL.as_secs_f64();
        interval(Duration::from_secs_f64(range.start + (range.end - range.start) * random.f64()))
    }

    fn next_value(&mut self) -> String {
        self.writes += 1;
        format!("value {}", self.writes)
    }
}

impl Selection {
    /// Returns the parameters that always exist.
    fn names(&self) -> Vec<String> {
        match self {
            Self::Path(path) => LEAVES.iter().map(|leaf| format!("{path}/{leaf}")).collect(),
            Self::Name(name) => vec![name.clone()],
        }
    }
}

impl Mirror {
    pub fn object(&self) -> Value {
        let selection = match &self.selection {
            Selection::Path(path) => json!({"path": path}),
            Selection::Name(name) => json!({"name": name, "key": "VALUE"}),
        };
        let target = if self.deletes { json!({"deletionPolicy": "Delete"}) } else { json!({}) };
        let spec = json!({
            "sourceRef": {"name": self.source}, "interval": interval(Model::INTERVAL), "parameters": [selection],
            "secret": target, "redis": target,
        });
        fleet::mirror(&self.namespace, &self.name, &spec)
    }

    /// Returns the key of its hash.
    pub fn redis_key(&self) -> String {
        format!("pm:{{{}/{}}}", self.namespace, self.name)
    }
}

/// Formats a duration for a spec.
fn interval(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

fn put(ssm: &Ssm, name: &str, value: &str) {
    if name.ends_with("/secret") {
        ssm.put_secure(name, value)
    } else {
        ssm.put(name, value)
    };
}
