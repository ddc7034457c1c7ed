//! Evidence: what a run claims, it says twice: as a table for people, and as
//! `target/report/NAME.json` for programs, written by the run itself.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// What one run saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Its name, as in `make NAME`.
    pub name: String,
    /// The command that repeats it.
    pub command: String,
    /// Cores, memory and kernel.
    pub machine: String,
    /// Versions of what was measured.
    pub versions: String,
    /// What was seen.
    pub rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub case: String,
    /// Its unit.
    pub unit: String,
    /// What was seen.
    pub value: f64,
    /// What something else reached in the same run.
    pub other: Option<f64>,
    /// What that is.
    pub other_name: Option<String>,
    /// `value / other`.
    pub ratio: Option<f64>,
    /// What `value` (or `ratio`, if there is one) must be.
    pub target: Option<Target>,
    /// Whether it is; computed, never set by hand.
    pub ok: bool,
    /// What helps to understand `value`: which probes were lost, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", content = "bound", rename_all = "snake_case")]
pub enum Target {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
    /// Exactly (counts).
    Exactly(f64),
}

impl Target {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
            Self::Exactly(bound) => (value - bound).abs() < f64::EPSILON,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::Exactly(bound) => write!(f, "= {bound}"),
        }
    }
}

impl Report {
    /// An empty report of this machine.
    #[must_use]
    pub fn new(name: &str, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            command: command.to_owned(),
            machine: machine(),
            versions: versions(),
            rows: Vec::new(),
        }
    }

    /// Adds a figure without a bound.
    pub fn note(&mut self, case: &str, unit: &str, value: f64) {
        self.add(case, unit, value, None);
    }

    /// Adds a figure and whether it is what it should be.
    pub fn claim(&mut self, case: &str, unit: &str, value: f64, target: Target) {
        self.add(case, unit, value, Some(target));
    }

    /// Puts a figure of something else beside the last row, from another run: there is no ratio.
    pub fn beside(&mut self, other: f64, other_name: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.other = Some(other);
            row.other_name = Some(other_name.to_owned());
        }
    }

    /// Adds a figure beside what something else reached in the same run, and whether their ratio is
    /// what it should be.
    pub fn compare(&mut self, case: &str, unit: &str, value: f64, other: (&str, f64)) {
        let (other_name, other) = other;
        self.add(case, unit, value, None);
        if let Some(row) = self.rows.last_mut() {
            row.other = Some(other);
            row.other_name = Some(other_name.to_owned());
            row.ratio = Some(value / other);
        }
    }

    /// Says what the last row's ratio must be.
    pub fn ratio_must_be(&mut self, target: Target) {
        if let Some(row) = self.rows.last_mut() {
            row.target = Some(target);
            row.ok = row.ratio.is_some_and(|ratio| target.holds(ratio));
        }
    }

    /// Says more of the last row; a row that is not `ok` fails with these words.
    pub fn details(&mut self, details: Vec<String>) {
        if let Some(row) = self.rows.last_mut() {
            row.details = details;
        }
    }

    fn add(&mut self, case: &str, unit: &str, value: f64, target: Option<Target>) {
        self.rows.push(Row {
            case: case.to_owned(),
            unit: unit.to_owned(),
            value,
            other: None,
            other_name: None,
            ratio: None,
            target,
            ok: target.is_none_or(|target| target.holds(value)),
            details: Vec::new(),
        });
    }

    /// The cases that are not what they should be.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let failed = self.rows.iter().filter(|row| !row.ok);
        let words = |row: &Row| {
            format!("{}: {} {} {}", row.case, row.value, row.unit, row.details.join(", "))
        };
        failed.map(|row| words(row).trim_end().to_owned()).collect()
    }

    /// Merges the report into `target/report/NAME.json`: rows of the same case are replaced.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, or a value is no number.
    pub fn save(&self) -> anyhow::Result<()> {
        if let Some(row) = self.rows.iter().find(|row| !row.value.is_finite()) {
            anyhow::bail!("{} of the report {} is {}", row.case, self.name, row.value);
        }
        let dir = dir();
        std::fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{}.json", self.name));
        let mut merged = self.clone();
        if let Ok(text) = std::fs::read_to_string(&path) {
            let earlier: Self = serde_json::from_str(&text)
                .with_context(|| format!("{} is no report; remove it", path.display()))?;
            let cases: Vec<&str> = self.rows.iter().map(|row| row.case.as_str()).collect();
            let mut kept = earlier.rows;
            kept.retain(|row| !cases.contains(&row.case.as_str()));
            kept.append(&mut merged.rows);
            merged.rows = kept;
        }
        let temporary = dir.join(format!(".{}.{}", self.name, std::process::id()));
        std::fs::write(&temporary, serde_json::to_string_pretty(&merged)? + "\n")?;
        Ok(std::fs::rename(temporary, path)?)
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text =
            format!("{} ({})\n{}; {}\n", self.name, self.command, self.machine, self.versions);
        let wide = self.rows.iter().map(|row| row.case.chars().count()).max().unwrap_or(0);
        for row in &self.rows {
            let pad = wide - row.case.chars().count();
            let target = row.target.map(|it| format!("  (target {it})")).unwrap_or_default();
            let other = row.other_name.iter().zip(row.other);
            let other: String = other.map(|(name, it)| format!("  ({name}: {it:.3})")).collect();
            let ratio = row.ratio.map(|it| format!("  = {it:.2} ×")).unwrap_or_default();
            let mark = if row.ok { "ok " } else { "NOT" };
            let value = format!("{:.3}", row.value);
            let value = value.trim_end_matches('0').trim_end_matches('.');
            let _ = writeln!(
                text,
                "  {mark} {}{}  {value} {}{other}{ratio}{target}",
                row.case,
                " ".repeat(pad),
                row.unit
            );
        }
        text
    }
}

/// All reports that exist, by name.
///
/// # Errors
///
/// A file is no report.
pub fn load_all() -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir()) else { return Ok(reports) };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let report = serde_json::from_str(&text);
        reports.push(report.with_context(|| format!("{} is no report", path.display()))?);
    }
    Ok(reports)
}

/// Where reports are.
#[must_use]
pub fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/report")
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let first = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = first("/proc/meminfo");
    let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let gib = memory.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / (1024 * 1024);
    let kernel = first("/proc/sys/kernel/osrelease");
    format!("{cores} cores, {gib} GiB, Linux {}", kernel.trim())
}

fn versions() -> String {
    let first_line = |program: &str| {
        let output = std::process::Command::new(program).arg("--version").output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.and_then(|text| text.lines().next().map(ToOwned::to_owned)).unwrap_or_default()
    };
    let ours = env!("CARGO_PKG_VERSION");
    format!("atoll {ours}, {}, {}", first_line("ovn-northd"), first_line("ovs-vswitchd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_not_ok_and_is_named() {
        let mut report = Report::new("x", "make x");
        report.claim("lost probes", "probes", 3.0, Target::Exactly(0.0));
        report.claim("up", "s", 12.0, Target::AtMost(20.0));
        report.note("gap", "ms", 7.5);
        assert_eq!(report.failures(), ["lost probes: 3 probes"]);
        assert!(report.table().contains("NOT lost probes"));
        assert!(report.table().contains("12 s  (target ≤ 20)"));
    }
}
