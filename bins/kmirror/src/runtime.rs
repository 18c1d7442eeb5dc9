//! The command's own runtime: one thread, since the mirror's streams bring theirs.

use std::future::Future;

use crate::exit::Failure;

/// Runs a command to its end.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::runtime)?;
    let outcome = runtime.block_on(command);
    // A look-up of a name may still block one of the runtime's threads; nobody waits for it.
    runtime.shutdown_background();
    outcome
}
