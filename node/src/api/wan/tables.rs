//! A followed table as a stream of messages.

use std::pin::Pin;

use carrack_federation::{Heard, primary::PrimaryError};
use carrack_proto::{convert::wan::heard_to_wire, wan::FollowResponse};
use futures::{Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

/// The messages of a stream, which keeps its place among the followers while it lasts.
pub(super) fn responses(
    heard: impl Stream<Item = Result<Heard, PrimaryError>> + Send + 'static,
    place: OwnedSemaphorePermit,
) -> Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>> {
    Box::pin(heard.map(move |heard| {
        let _place = &place;
        let Heard { change, to, is_all, primary_revision } = heard.map_err(super::status)?;
        Ok(heard_to_wire(&change, &to, is_all, primary_revision))
    }))
}
