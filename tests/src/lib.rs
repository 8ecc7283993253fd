//! The harness that runs real `carrack` processes for the black-box tests and benches.
