//! What every gRPC client of this server's has: connections of our own dialers, and an end to each request.

use std::{io, time::Duration};

use super::task::chain_of;
use carrack_raft::ports::BoxedStream;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Uri},
};

/// The name that connections are asked for. It is not looked at: the dialer knows whom it dials and how to know it again.
const ANY_SERVER: &str = "https://server.carrack.invalid";

/// A channel over a connection of our own, with the settings of `endpoint`.
pub(crate) async fn connect<D, F>(
    settings: impl FnOnce(Endpoint) -> Endpoint,
    dial: D,
) -> Result<Channel, tonic::transport::Error>
where
    D: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = io::Result<BoxedStream>> + Send + 'static,
{
    let connect = tower::service_fn(move |_: Uri| {
        let dialing = dial();
        async move { dialing.await.map(TokioIo::new) }
    });
    settings(Endpoint::from_static(ANY_SERVER)).connect_with_connector(connect).await
}

/// A request that ends after this time, whatever becomes of its connection. The time in its metadata tells the server; it does not
/// end an answer of which a part has come.
pub(crate) async fn within<T, R, F>(
    duration: Duration,
    message: T,
    call: impl FnOnce(Request<T>) -> F,
) -> Result<R, Status>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    let mut request = Request::new(message);
    request.set_timeout(duration);
    match timeout(duration, call(request)).await {
        Ok(answered) => answered.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} s", duration.as_secs()))),
    }
}

/// Why a request failed, for people. A failure of the connection is the status's source: the status itself only repeats it.
pub(crate) fn reason(status: &Status) -> String {
    std::error::Error::source(status).map_or_else(|| status.message().into(), chain_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_whatever_becomes_of_its_connection() {
        let never = |request: Request<()>| {
            assert!(request.metadata().contains_key("grpc-timeout"), "the server is told");
            std::future::pending::<Result<Response<()>, Status>>()
        };
        let ended = within(Duration::from_secs(7), (), never).await.unwrap_err();
        assert_eq!((ended.code(), ended.message()), (tonic::Code::DeadlineExceeded, "no answer within 7 s"));
        let answered =
            within(Duration::from_secs(7), 3, |request| async move { Ok(Response::new(request.into_inner() + 1)) });
        assert_eq!(answered.await.unwrap(), 4);
    }
}
