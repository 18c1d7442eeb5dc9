//! The rest before a measurement: what one mirror leaves to be done must not slow the next one.

use std::{process::Command, time::Duration};

use kmirror_client::clock;

use crate::{Error, process::machine_busy};

/// How long the processors are watched at once, and how often at most.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS_MAX: u32 = 20;

/// Waits until what was written is on the disk and the processors have little to do, but not for
/// ever.
///
/// # Errors
/// When the machine cannot be asked.
pub async fn settle() -> Result<(), Error> {
    let flushed = tokio::task::spawn_blocking(|| Command::new("sync").status()).await;
    let flushed = flushed.expect("invariant: waiting for a process does not panic");
    flushed.map_err(|source| Error::Run { program: "sync".to_owned(), source })?;
    for _ in 0..LOOKS_MAX {
        let before = machine_busy()?;
        clock::sleep(LOOK).await;
        if machine_busy()?.saturating_sub(before) < LOOK / 10 {
            break;
        }
    }
    Ok(())
}
