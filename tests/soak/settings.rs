//! Settings from the environment, which `make soak` sets.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The limits of requests per second to SSM; each is used by one operator after the other.
const BUDGETS: [u32; 3] = [60, 1_000, 10];
/// The time under faults without `SOAK_MINUTES`: as long as CI permits.
const SHORT: Duration = Duration::from_secs(45);
const MIRRORS: usize = 1_000;
/// The longest time between two checks of all mirrors.
const STORM: Duration = Duration::from_mins(1);
const SHORTEST_STORM: Duration = Duration::from_secs(15);

/// The settings of a run.
pub struct Settings {
    /// The operator's program.
    pub program: PathBuf,
    /// The request limits to test.
    pub budgets: Vec<u32>,
    /// The time for each request limit, besides the minimum for starting and settling.
    pub share: Duration,
    /// The number of mirrors.
    pub mirrors: usize,
    /// The seed of all random choices.
    pub seed: u64,
}

impl Settings {
    pub fn from_environment() -> Self {
        let budgets = variable("SOAK_BUDGET").map_or(BUDGETS.to_vec(), |budget| vec![budget]);
        let minutes: Option<f64> = variable("SOAK_MINUTES");
        let total = minutes.map_or(SHORT, |minutes| Duration::from_secs_f64(minutes * 60.0));
        let built = Path::new(env!("CARGO_BIN_EXE_parameter-mirror"));
        // Relative paths are relative to the folder of the package, where cargo runs tests.
        let program = variable("SOAK_PROGRAM").map_or(built.to_owned(), |path: PathBuf| {
            path.canonicalize().unwrap_or_else(|error| panic!("PROGRAM={}: {error}", path.display()))
        });
        Self {
            program,
            share: total / u32::try_from(budgets.len()).unwrap(),
            budgets,
            mirrors: variable("SOAK_MIRRORS").unwrap_or(MIRRORS),
            seed: variable("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000)),
        }
    }

    /// Returns the duration of faults before all mirrors are checked.
    pub fn storm(&self) -> Duration {
        self.share.div_f64(2.0).clamp(SHORTEST_STORM, STORM)
    }
}

impl Display for Settings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { program, budgets, share, mirrors, seed } = self;
        let (program, share) = (program.display(), share.as_secs());
        write!(f, "SEED={seed} PROGRAM={program}: {mirrors} mirrors, budgets {budgets:?}, {share} s each")
    }
}

/// Returns an environment variable. An empty one counts as unset, because make passes variables that are not
/// set.
fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} cannot be used")))
}
