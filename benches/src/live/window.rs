//! The window that is measured while records are sent as scheduled.

use std::time::Duration;

use kmirror_client::clock;
use tokio::time::Instant;

use super::{receiver::Receiver, sender::Sender, stamp::Schedule};
use crate::Error;

/// How long records may still be on the way after the last was sent.
const FAREWELL: Duration = Duration::from_secs(30);

/// What was seen at both ends of the window.
pub(super) struct Window<T> {
    pub(super) before: T,
    pub(super) after: T,
    /// How late the sender was.
    pub(super) lateness: Duration,
}

/// Sends as scheduled, looks when the window opens and when it closes, and waits for what is still
/// on the way.
///
/// # Errors
/// When sending, receiving or looking fails.
pub(super) async fn measure<T>(
    sender: Sender,
    receiver: &mut Receiver,
    schedule: Schedule,
    look: impl Fn() -> Result<T, Error>,
) -> Result<Window<T>, Error> {
    let begin = clock::now() + Duration::from_millis(200);
    let sending = tokio::task::spawn_blocking(move || sender.send(&schedule, begin));
    let opens = begin + Duration::from_secs(schedule.warm_up.into());
    tokio::time::sleep_until(opens).await;
    let before = look()?;
    tokio::time::sleep_until(opens + length(&schedule)).await;
    let after = look()?;
    let lateness = sending.await.expect("invariant: sending does not panic")?;
    arrive(receiver, clock::now() + FAREWELL).await?;
    Ok(Window { before, after, lateness })
}

/// Waits until everything has arrived; what has not by the deadline counts as missing.
async fn arrive(receiver: &mut Receiver, deadline: Instant) -> Result<(), Error> {
    while !receiver.look()?.is_complete() && clock::now() < deadline {
        clock::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Processor time between both ends of the window, in percent of a core.
pub(super) fn percent_of_a_core((before, after): (Duration, Duration), schedule: &Schedule) -> f64 {
    after.saturating_sub(before).as_secs_f64() / length(schedule).as_secs_f64() * 100.0
}

fn length(schedule: &Schedule) -> Duration {
    Duration::from_secs(schedule.seconds.into())
}
