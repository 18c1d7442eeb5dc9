//! Moves bytes between the stream and the state; decides nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};

use super::{Duplex, Options, Shared, frame};
use crate::clock;
use crate::task::{self, Task};

/// Small answers are read together; what is larger goes straight to its own frame.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Starts moving bytes. The task ends when the stream does, or when the connection is closed.
pub(super) fn start(duplex: Duplex, shared: Arc<Shared>, options: &Options) -> Task<()> {
    let (frame_bytes_max, idle_max) = (options.frame_bytes_max, options.idle_max);
    task::spawn("connection", async move {
        let Duplex { read, write } = duplex;
        // Reading comes first: what was answered while this thread was busy is not overdue.
        let reason = tokio::select! { biased;
            reason = read_all(read, &shared, frame_bytes_max) => reason,
            reason = write_all(write, &shared) => reason,
            reason = watch_deadlines(&shared, idle_max) => reason,
            () = shared.closing.notified() => "it was closed here".to_owned(),
        };
        shared.close(&reason);
    })
}

/// Reads until something ends it; says what.
async fn read_all(
    read: Box<dyn AsyncRead + Send + Sync + Unpin>,
    shared: &Shared,
    frame_bytes_max: usize,
) -> String {
    let mut stream = BufReader::with_capacity(READ_BUFFER_BYTES, read);
    loop {
        let frame = match frame::read(&mut stream, frame_bytes_max, || shared.buffers.get()).await {
            Ok(frame) => frame,
            Err(error) => {
                shared.garbled.store(error.is_garbled(), Ordering::Relaxed);
                return error.to_string();
            }
        };
        if let Err(problem) = hand_over(frame, shared) {
            return problem;
        }
    }
}

/// Gives a frame to whoever waits for it.
fn hand_over(frame: Bytes, shared: &Shared) -> Result<(), String> {
    let id = match frame.first_chunk::<4>() {
        Some(id) => i32::from_be_bytes(*id),
        None => return Err("a frame without a correlation id came".to_owned()),
    };
    let answered = shared.lock().answered(id);
    let (written_at, waiter) = answered.map_err(|error| error.to_string())?;
    shared.round_trip.answered(clock::now() - written_at);
    if let Some(waiter) = waiter {
        waiter.tell(Ok(frame));
    }
    Ok(())
}

/// Writes what is queued until something ends it; says what.
async fn write_all(
    mut write: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    shared: &Shared,
) -> String {
    loop {
        let next = shared.lock().take_to_write(clock::now());
        let Some((mut outbound, unanswered)) = next else {
            shared.work.notified().await;
            continue;
        };
        shared.awaiting.notify_one();
        if let Err(error) = frame::write(&mut write, &mut outbound.segments).await {
            return error.to_string();
        }
        if let Some(waiter) = unanswered {
            waiter.tell(Ok(Bytes::new()));
        }
    }
}

/// Ends when an answer is overdue; also one that nobody waits for any more, because all answers
/// behind it are stuck as well. Ends too when nobody has asked anything for long.
async fn watch_deadlines(shared: &Shared, idle_max: Duration) -> String {
    loop {
        let deadline = shared.lock().next_deadline();
        match deadline {
            Some(at) if at <= clock::now() => return "a request was not answered in time".into(),
            Some(at) => tokio::time::sleep_until(at).await,
            None => tokio::select! {
                () = shared.awaiting.notified() => {}
                () = clock::sleep(idle_max) => {
                    if shared.lock().close_if_idle() {
                        return "it was idle".to_owned();
                    }
                }
            },
        }
    }
}
