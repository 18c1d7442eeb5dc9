//! What figures depend on besides the code.

use std::process::Command;

use serde::{Deserialize, Serialize};

/// Where figures were measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// The compiler and the flags it was given.
    pub(crate) compiler: String,
    /// The processor, as far as code is chosen by it at run time. Under valgrind every processor
    /// with AVX2 looks the same.
    pub(crate) processor: String,
    /// The C library, which has the allocator and `memcpy`.
    pub(crate) libc: String,
    /// Valgrind, which shows programs the processor.
    pub(crate) valgrind: String,
}

impl Environment {
    /// This one; without valgrind's version if that is not used.
    pub(crate) fn here(has_valgrind: bool) -> Self {
        Self {
            compiler: env!("KMIRROR_MICRO_COMPILER").to_owned(),
            processor: processor(),
            libc: says("getconf", "GNU_LIBC_VERSION"),
            valgrind: if has_valgrind { says("valgrind", "--version") } else { String::new() },
        }
    }

    /// Whether code compiled from the same source is the same.
    pub(crate) fn has_same_code(&self, other: &Self) -> bool {
        self.compiler == other.compiler && self.processor == other.processor
    }

    /// Whether the C library's own work counts the same as well.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

fn processor() -> String {
    let mut name = std::env::consts::ARCH.to_owned();
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        name.push_str(" with avx2");
    }
    name
}

fn says(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
