//! The ports of cryptography with randomness from the seed: keys, signatures, sealing, TLS. The same seed gives the same bytes.
