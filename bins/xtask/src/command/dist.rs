//! `cargo xtask dist`: the released binary. It is linked statically, shown to be so, started in an
//! empty root file system, and packed with its unit file, container file and checksums.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use xtask::workspace;

use super::Outcome;
use crate::say;

/// Build the static binary, check it, and pack it into target/dist.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The platform to build for.
    #[arg(long, default_value = "x86_64-unknown-linux-gnu")]
    target: String,
    /// Check and pack a binary that was built before.
    #[arg(long)]
    no_build: bool,
}

/// `crt-static` links the C library in; the random numbers must then come from the system call,
/// because the default way looks the function up in a shared library.
const RUSTFLAGS: &str = "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"";

/// Why the binary cannot be released.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{step} ended with {status}")]
    Step { step: &'static str, status: String },
    #[error("run {program}")]
    Run { program: String, source: std::io::Error },
    #[error("{} is not static: {ldd}", path.display())]
    Dynamic { path: PathBuf, ldd: String },
    #[error("in an empty root file system the binary said {said:?}, not its version")]
    Start { said: String },
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let dist = workspace::target_directory().join("dist");
    create(&dist)?;
    if !arguments.no_build {
        build(&arguments.target)?;
    }
    // A directory of its own: flags that differ must not rebuild everything each time.
    let binary = build_directory().join(&arguments.target).join("dist/kmirror");
    check_static(&binary)?;
    let version = check_alone(&binary, &dist)?;
    say::result(&format!("static, and starts alone: {version}"));
    let archive = pack(&binary, &dist, &arguments.target)?;
    say::result(&archive.display().to_string());
    Ok(ExitCode::SUCCESS)
}

fn build_directory() -> PathBuf {
    workspace::target_directory().join("static")
}

fn build(target: &str) -> Result<(), Error> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args([
        "build",
        "--profile",
        "dist",
        "--locked",
        "--package",
        "kmirror-cli",
        "--target",
        target,
    ]);
    cargo.arg("--target-dir").arg(build_directory()).env("RUSTFLAGS", RUSTFLAGS);
    step("build", cargo.current_dir(workspace::root()))
}

/// `ldd` says `statically linked` or `not a dynamic executable` of a static binary.
fn check_static(binary: &Path) -> Result<(), Error> {
    let mut ldd = Command::new("ldd");
    ldd.arg(binary).env("LC_ALL", "C");
    let output = ldd.output().map_err(|source| Error::Run { program: "ldd".to_owned(), source })?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if said.contains("statically linked") || said.contains("not a dynamic executable") {
        return Ok(());
    }
    Err(Error::Dynamic { path: binary.to_owned(), ldd: said })
}

/// Starts the binary where there is no other file: as root with chroot, as anybody else in a user
/// namespace of their own.
fn check_alone(binary: &Path, dist: &Path) -> Result<String, Error> {
    let root = dist.join("empty-root");
    create(&root)?;
    copy(binary, &root.join("kmirror"))?;
    let own = fs::metadata("/proc/self");
    let is_root = own.is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = Command::new(if is_root { "chroot" } else { "unshare" });
    if !is_root {
        command.args(["--user", "--map-root-user", "chroot"]);
    }
    let output = command.arg(&root).args(["/kmirror", "--version"]).output();
    let output = output.map_err(|source| Error::Run { program: "chroot".to_owned(), source })?;
    fs::remove_dir_all(&root).map_err(file("remove", &root))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() && said.starts_with("kmirror ") {
        return Ok(said);
    }
    Err(Error::Start { said })
}

/// Packs the binary, the licence, the unit file and the container file, with checksums beside.
fn pack(binary: &Path, dist: &Path, target: &str) -> Result<PathBuf, Error> {
    let name = format!("kmirror-{}-{target}", env!("CARGO_PKG_VERSION"));
    let tree = dist.join(&name);
    create(&tree)?;
    copy(binary, &tree.join("kmirror"))?;
    let root = workspace::root();
    for path in ["LICENSE", "README.md", "dist/Containerfile", "dist/kmirror.service"] {
        let file_name = Path::new(path).file_name().unwrap_or_default();
        copy(&root.join(path), &tree.join(file_name))?;
    }
    let archive = format!("{name}.tar.gz");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--owner=0", "--group=0", "--sort=name", "--file", &archive]);
    step("tar", tar.arg(&name).current_dir(dist))?;
    let script = format!("sha256sum '{archive}' '{name}/kmirror' > '{name}.sha256'");
    step("sha256sum", Command::new("sh").arg("-c").arg(script).current_dir(dist))?;
    Ok(dist.join(archive))
}

fn step(step: &'static str, command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().display().to_string();
    let status = command.status().map_err(|source| Error::Run { program, source })?;
    if status.success() { Ok(()) } else { Err(Error::Step { step, status: status.to_string() }) }
}

fn create(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(file("create", path))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::copy(from, to).map(drop).map_err(file("copy", from))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}
