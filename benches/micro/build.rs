//! Notes what the benchmark is compiled with: instruction counts mean nothing beside those of
//! another compiler.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().replace('\u{1f}', " ");
    let compiler = format!("{} {flags}", version.unwrap_or_default());
    emit(&format!("cargo::rustc-env=KMIRROR_MICRO_COMPILER={}", compiler.trim()));
    emit("cargo::rerun-if-changed=build.rs");
}

fn emit(line: &str) {
    println!("{line}");
}
