//! The replicated log of one datacenter: openraft on sled behind one handle.
