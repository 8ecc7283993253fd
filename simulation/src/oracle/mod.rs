//! What clients saw, and whether it can have happened.
