//! The one task that lets time pass for groups and transactions.
//!
//! Always true: it sleeps until the next deadline there is, so paused time may jump straight to it.

use std::sync::Arc;

use crate::clock;
use crate::shared::Shared;

/// Runs until the cluster ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let deadline = {
            let state = shared.state();
            let groups = state.groups.next_deadline();
            groups.into_iter().chain(state.transactions.next_deadline()).min()
        };
        // `notify_one` keeps a permit: a deadline set after the look above still wakes this task.
        match deadline {
            None => shared.deadlines.notified().await,
            Some(deadline) => {
                tokio::select! {
                    () = shared.deadlines.notified() => {}
                    () = tokio::time::sleep_until(deadline) => {}
                }
            }
        }
        let now = clock::now();
        let now_ms = shared.clock.unix_ms();
        let mut state = shared.state();
        state.groups.tick(now);
        state.expire_transactions(now, now_ms);
    }
}
