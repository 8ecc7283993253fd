//! Bodies are read whole, up to a bound and for a bounded time, before anything of them is parsed.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use bytes::BytesMut;
use futures::StreamExt;
use tokio::time::timeout;

use super::error::HttpError;

/// The longest body of most routes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The longest body that holds a policy: its rules alone may have 64 KiB, and JSON escapes quotes.
pub const POLICY_BODY_BYTES_MAX: usize = 96 * 1024;
/// The longest body that holds a config entry. It may be passed on to another datacenter, whose requests have at most 256 KiB.
pub const CONFIG_ENTRY_BODY_BYTES_MAX: usize = 240 * 1024;
/// The longest body that holds one intention: a row has up to 64 KiB, and JSON escapes quotes.
pub const INTENTION_BODY_BYTES_MAX: usize = 128 * 1024;
/// How long a body may take: the longest one needs about as much at 200 kbit/s.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Reads a body of at most `bytes_max`.
pub async fn read(body: Body, headers: &HeaderMap, bytes_max: usize) -> Result<Bytes, HttpError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > bytes_max as u64) {
        return Err(HttpError::BodyTooLarge { bytes_max });
    }
    match timeout(BODY_WITHIN, collect(body, bytes_max)).await {
        Ok(collected) => collected,
        Err(_) => Err(HttpError::BodyTimeout(BODY_WITHIN)),
    }
}

async fn collect(body: Body, bytes_max: usize) -> Result<Bytes, HttpError> {
    let mut stream = body.into_data_stream();
    let mut collected = BytesMut::new();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|_| HttpError::BadRequest("the body broke off".into()))?;
        if collected.len() + part.len() > bytes_max {
            return Err(HttpError::BodyTooLarge { bytes_max });
        }
        collected.extend_from_slice(&part);
    }
    Ok(collected.freeze())
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused_with_and_without_its_length() {
        let limit = BODY_BYTES_MAX;
        let too_large = Err(HttpError::BodyTooLarge { bytes_max: limit });
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, "65537".parse().unwrap())]);
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(never, &headers, limit).await, too_large);
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'a'; 1024])));
        assert_eq!(read(Body::from_stream(endless), &HeaderMap::new(), limit).await, too_large);
        assert_eq!(read(Body::from("{}"), &HeaderMap::new(), limit).await, Ok(Bytes::from_static(b"{}")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_given_up() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let error = read(never, &HeaderMap::new(), BODY_BYTES_MAX).await;
        assert_eq!(error, Err(HttpError::BodyTimeout(BODY_WITHIN)));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_the_caller_s_mistake() {
        let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("reset"))]);
        let error = read(Body::from_stream(broken), &HeaderMap::new(), BODY_BYTES_MAX).await;
        assert!(matches!(error, Err(HttpError::BadRequest(_))));
    }
}
