//! Where the workspace and its build directory are.

use std::path::{Path, PathBuf};

/// The root of the workspace, where the first `Cargo.toml` is.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// The build directory: `CARGO_TARGET_DIR`, or `target` in the root.
#[must_use]
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
