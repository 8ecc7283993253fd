//! Stories of the built binary: each is a file, and speaks to real processes only.

mod acl;
mod agent;
mod agent_answers;
mod agent_in_trouble;
mod bad_input;
mod clocks;
mod command_line;
mod consul_api;
mod dev;
mod federation;
mod formation;
mod independence;
mod intentions;
mod leader_kill;
mod restart;
mod rotation;
mod secrets;
