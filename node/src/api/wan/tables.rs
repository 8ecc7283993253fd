//! A followed table as a stream of messages.

use std::pin::Pin;

use carrack_federation::{Heard, primary::PrimaryError};
use carrack_proto::{convert::wan::heard_to_wire, wan::FollowResponse};
use futures::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tonic::Status;

use super::{ended, stopping};

/// The messages of a stream, which keeps its place among the followers while it lasts: until this server stops.
pub(super) fn responses(
    heard: impl Stream<Item = Result<Heard, PrimaryError>> + Send + 'static,
    place: OwnedSemaphorePermit,
    stopped: watch::Receiver<bool>,
) -> Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>> {
    let messages = heard.map(move |heard| {
        let _place = &place;
        let Heard { change, to, is_all, primary_revision } = heard.map_err(super::status)?;
        Ok(heard_to_wire(&change, &to, is_all, primary_revision))
    });
    let last = ended(stopped.clone());
    let farewell = stream::once(async move { Err(stopping()) }).filter(move |_| {
        let stops = *stopped.borrow();
        async move { stops }
    });
    Box::pin(messages.take_until(last).chain(farewell))
}
