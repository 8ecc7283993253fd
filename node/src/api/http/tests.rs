//! The routes, asked as clients ask them, on a server that is a whole datacenter of its own.

mod ca;
mod datacenter;
