//! The rules for the crates: which of ours may depend on which, and that the shipped binary is
//! built without any C.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde::Deserialize;

use super::{Error, Finding, Report, output};

/// What each crate may never depend on, however indirectly. The two ends of the wire must not
/// share a bug, so the fake cluster does not know the client.
const NEVER: &[(&str, &[&str])] = &[
    ("kmirror-client", &["kmirror", "kmirror-fake", "kmirror-discovery", "kmirror-cli"]),
    ("kmirror-fake", &["kmirror-client", "kmirror", "kmirror-discovery", "kmirror-cli"]),
    ("kmirror-discovery", &["kmirror", "kmirror-fake", "kmirror-cli"]),
    ("kmirror", &["kmirror-fake", "kmirror-discovery", "kmirror-cli"]),
    ("xtask", &["kmirror", "kmirror-client", "kmirror-fake", "kmirror-cli"]),
];

const SHIPPED: &str = "kmirror-cli";
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// Crates that build or bring C, or that exist to find it.
const C: &[&str] = &["cc", "cmake", "bindgen", "pkg-config", "ring", "vcpkg", "openssl"];
const C_PREFIXES: &[&str] = &["aws-lc"];
/// Names that end in `-sys` and hold no C.
const SYS_WITHOUT_C: &[&str] = &["linux-raw-sys", "js-sys", "web-sys", "windows-sys"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

pub(super) fn check(root: &Path, report: &mut Report) -> Result<(), Error> {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args(arguments).current_dir(root);
        output(command)
    };
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).map_err(|source| Error::Metadata { source })?;
    report.findings.extend(check_direction(&metadata));

    let tree = ["tree", "--target", PLATFORM, "--edges", "normal,build", "--prefix", "none"];
    let shipped = [&tree[..], &["--package", SHIPPED, "--format", "{p}"]].concat();
    report.findings.extend(check_c(&cargo(&shipped)?));
    let duplicates = [&tree[..], &["--duplicates", "--depth", "0", "--package", SHIPPED]].concat();
    report.notes.extend(duplicate_notes(&cargo(&duplicates)?));
    Ok(())
}

/// Follows the normal and build dependencies among our own crates.
fn check_direction(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, never) in NEVER {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![*name];
        while let Some(next) = waiting.pop() {
            let package = metadata.packages.iter().find(|package| package.name == next);
            let dependencies = package.map_or(&[][..], |package| &package.dependencies);
            for dependency in dependencies.iter().filter(|one| one.kind.as_deref() != Some("dev")) {
                if reached.insert(dependency.name.as_str()) {
                    waiting.push(&dependency.name);
                }
            }
        }
        for crate_name in never.iter().filter(|never| reached.contains(**never)) {
            findings.push(Finding {
                place: (*name).to_owned(),
                line: 0,
                message: format!("must not depend on {crate_name}"),
            });
        }
    }
    findings
}

fn check_c(tree: &str) -> Vec<Finding> {
    let names: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let brings_c = |name: &&str| {
        C.contains(name)
            || C_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || (name.ends_with("-sys") && !SYS_WITHOUT_C.contains(name))
    };
    names
        .into_iter()
        .filter(brings_c)
        .map(|name| Finding {
            place: SHIPPED.to_owned(),
            line: 0,
            message: format!("depends on {name}, which brings C"),
        })
        .collect()
}

fn duplicate_notes(tree: &str) -> Vec<String> {
    let lines: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)").trim())
        .filter(|line| !line.is_empty() && !line.starts_with('['))
        .collect();
    lines.into_iter().map(|line| format!("in several versions: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(edges: &[(&str, &str, Option<&str>)]) -> Metadata {
        let packages = NEVER
            .iter()
            .map(|(name, _)| Package {
                name: (*name).to_owned(),
                dependencies: edges
                    .iter()
                    .filter(|(from, ..)| from == name)
                    .map(|(_, to, kind)| Dependency {
                        name: (*to).to_owned(),
                        kind: kind.map(str::to_owned),
                    })
                    .collect(),
            })
            .collect();
        Metadata { packages }
    }

    #[test]
    fn dependencies_point_one_way_even_through_others() {
        let good = workspace(&[("kmirror", "kmirror-client", None)]);
        assert!(check_direction(&good).is_empty());
        let bad = workspace(&[
            ("kmirror-fake", "kmirror-discovery", None),
            ("kmirror-discovery", "kmirror-client", None),
        ]);
        let found: Vec<String> = check_direction(&bad).iter().map(ToString::to_string).collect();
        assert!(found.contains(&"kmirror-fake: must not depend on kmirror-client".to_owned()));
    }

    #[test]
    fn a_crate_may_be_tested_with_what_it_may_not_depend_on() {
        let dev = workspace(&[("kmirror-client", "kmirror-fake", Some("dev"))]);
        assert!(check_direction(&dev).is_empty());
    }

    #[test]
    fn crates_that_bring_c_are_found() {
        let tree = "kmirror-cli v0.1.0\nzstd-sys v2.0.0\nlinux-raw-sys v0.9.0\naws-lc-rs v1\ncc v1";
        let found: Vec<String> = check_c(tree).iter().map(|one| one.message.clone()).collect();
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
