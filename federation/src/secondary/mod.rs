//! A secondary's life: what its leader follows of the primary, asks of it, and tells it.

mod machine;
mod status;
mod task;

pub use self::{
    machine::{Action, Input, Machine, Verdict},
    status::{SecondaryStatus, StreamStatus},
    task::run,
};
