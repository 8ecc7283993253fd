//! Stories of the built binary: each is a file, and speaks to real processes only.

mod bad_input;
mod clocks;
mod command_line;
mod formation;
mod leader_kill;
mod restart;
mod secrets;
