//! The wire (protobuf) and the store (versioned, checksummed envelopes).

pub mod codec;
pub mod convert;
pub mod stored;

/// The services and messages between the servers of one datacenter.
pub mod raft {
    #![expect(missing_docs, reason = "generated from proto/raft.proto")]
    tonic::include_proto!("carrack.raft.v1");
}

/// The services and messages that a server offers to joiners, agents and clients.
pub mod server {
    #![expect(missing_docs, reason = "generated from proto/server.proto")]
    tonic::include_proto!("carrack.server.v1");
}

/// The services and messages that a server offers to agents.
pub mod agent {
    #![expect(missing_docs, reason = "generated from proto/agent.proto")]
    tonic::include_proto!("carrack.agent.v1");
}

/// The services and messages between the servers of different datacenters.
pub mod wan {
    #![expect(missing_docs, reason = "generated from proto/wan.proto")]
    tonic::include_proto!("carrack.wan.v1");
}
