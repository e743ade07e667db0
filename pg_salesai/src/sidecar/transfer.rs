//! A call that is fed while it runs: what it sends is read from the database by this very thread, in the
//! pauses between two rounds of the call, when no future runs.

use std::pin::pin;
use std::time::Instant;

use pgrx::check_for_interrupts;
use proto::client::{ClientError, SidecarClient};
use proto::limits::ADAPTER_PART_BYTES_MAX;
use proto::model::AdapterHeader;
use tokio::sync::mpsc;

use super::call::{Deadline, runtime};
use super::interrupts::{self, Waited};
use crate::config;
use crate::errand;
use crate::error::Error;
use crate::usage;

/// Pieces that may lie between the table and the socket: two stored parts of at most 4 MiB.
const PIECES_MAX: usize = 8;
/// Pieces of one stored part.
const PIECES_PER_PART: usize = 4;

/// What ended one round.
enum Round<T> {
    Waited(Waited<T>),
    /// The next part would fit.
    HasRoom,
}

/// Sends an adapter; `next_part` returns its stored parts in order, then None. Returns the generation that the
/// sidecar has then. Cancels as [`super::call`] does; an error of `next_part` ends the transfer unfinished.
pub fn send_adapter(
    deadline: Deadline,
    header: AdapterHeader,
    mut next_part: impl FnMut() -> Result<Option<Vec<u8>>, Error>,
) -> Result<u64, Error> {
    deadline.check()?;
    let socket = config::sidecar_socket();
    let connect_timeout = config::connect_timeout().min(deadline.remaining());
    let runtime = runtime()?;
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let mut sender = Some(sender);
    let start = Instant::now();
    let mut answer = pin!(async {
        let mut client = SidecarClient::connect(&socket, connect_timeout).await?;
        client
            .load_adapter_as_read(header, pieces, deadline.remaining())
            .await
    });
    loop {
        let round = runtime.block_on(async {
            tokio::select! {
                biased;
                waited = interrupts::wait(answer.as_mut()) => Round::Waited(waited),
                () = has_room(sender.as_ref()) => Round::HasRoom,
            }
        });
        match round {
            Round::Waited(Waited::Answered(answer)) => {
                usage::count_wait(start);
                return Ok(answer?);
            }
            Round::Waited(Waited::Interrupted) => {
                check_for_interrupts!();
            }
            Round::Waited(Waited::LookDue) => errand::look()?,
            Round::HasRoom => match (next_part()?, sender.as_ref()) {
                (Some(part), Some(sender)) => push(sender, &part)?,
                // Without a sender the stream ends, and only the answer is waited for.
                _ => sender = None,
            },
        }
    }
}

/// Waits until a whole part fits; for ever once there is nothing more to send, or nobody who takes it.
async fn has_room(sender: Option<&mpsc::Sender<Vec<u8>>>) {
    if let Some(sender) = sender
        && sender.reserve_many(PIECES_PER_PART).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn push(sender: &mpsc::Sender<Vec<u8>>, part: &[u8]) -> Result<(), ClientError> {
    for piece in part.chunks(ADAPTER_PART_BYTES_MAX) {
        match sender.try_send(piece.to_vec()) {
            // A sidecar that has it already, or refuses it, does not listen to the end.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(ClientError::Failed {
                    detail: "A stored part of the adapter has more than 4 MiB.".to_owned(),
                });
            }
        }
    }
    Ok(())
}
