//! The routes, asked as clients ask them, on a server that is a whole datacenter of its own.

mod acl;
mod agent;
mod ca;
mod ca_rotation;
mod datacenter;
mod intentions;
mod own;
mod security;
mod topics;
