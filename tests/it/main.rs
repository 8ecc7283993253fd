//! Stories of the built binary: each is a file, and speaks to real processes only.

mod command_line;
