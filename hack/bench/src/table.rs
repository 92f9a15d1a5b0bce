//! Rows for people, and the same figures as one line of JSON for programs.

use serde_json::{Map, Value, json};

/// Prints one row: the median, the goal, and all figures.
pub fn line(what: &str, figures: &[f64], goal: &str) {
    let all: Vec<_> = figures.iter().map(|figure| format!("{figure:.2}")).collect();
    println!("{what:<70}{:>10.2}{goal:>10}   {}", median(figures), all.join(" "));
}

/// Returns the median.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The figures of one run. Each is printed as soon as it is known.
pub struct Table {
    part: String,
    figures: Map<String, Value>,
    /// Whether there are figures of External Secrets Operator for comparison.
    is_compared: bool,
}

impl Table {
    /// Creates an empty table and prints its header.
    pub fn new(part: &str, is_compared: bool) -> Self {
        let eso = if is_compared { "ESO 2.9" } else { "" };
        println!("\n{part:<78}{:>10}{:>10}{eso:>12}", "measured", "limit");
        Self { part: part.to_owned(), figures: Map::new(), is_compared }
    }

    /// Adds a figure without a limit.
    pub fn figure(&mut self, key: &str, what: &str, figure: f64, eso: &str) {
        self.row(key, what, figure, None, eso);
    }

    /// Adds a figure and the least possible value, given the request limit or the breaker.
    pub fn limited(&mut self, key: &str, what: &str, figure: f64, limit: f64, eso: &str) {
        self.row(key, what, figure, Some(limit), eso);
    }

    fn row(&mut self, key: &str, what: &str, figure: f64, limit: Option<f64>, eso: &str) {
        let eso = if self.is_compared { eso } else { "" };
        let text = limit.map(|limit| format!("{limit:.1}")).unwrap_or_default();
        println!("{what:<78}{:>10}{text:>10}{eso:>12}", short(figure));
        self.figures.insert(key.to_owned(), json!({"measured": figure, "limit": limit}));
    }

    /// Prints all figures as one line of JSON, with a description of the machine.
    pub fn end(self, machine: &Value) {
        println!("{}", json!({"part": self.part, "machine": machine, "figures": self.figures}));
    }
}

/// Formats counts without a fraction, everything else with two decimals.
fn short(figure: f64) -> String {
    if figure.fract() == 0.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}
