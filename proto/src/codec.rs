//! The codec of streams that are many and at rest: a buffer is as long as the longest message that went through it, and none is made
//! before the first one. tonic's own takes 8 KiB each way for every stream.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;

/// Messages that are ready at once go together up to this: tonic's own bound.
const TOGETHER_BYTES_MAX: usize = 32 * 1024;

/// Protobuf messages in buffers no longer than they are.
#[derive(Clone, Copy, Debug)]
pub struct SparingCodec<T, U>(PhantomData<(T, U)>);

/// Encodes.
#[derive(Debug)]
pub struct SparingEncoder<T>(PhantomData<T>);

fn settings() -> BufferSettings {
    BufferSettings::new(0, TOGETHER_BYTES_MAX)
}

impl<T, U> Default for SparingCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SparingCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = SparingEncoder<T>;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> SparingEncoder<T> {
        SparingEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(settings())
    }
}

impl<T: Message> Encoder for SparingEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.reserve(item.encoded_len());
        item.encode(into).map_err(|error| Status::internal(format!("a message does not fit: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}
