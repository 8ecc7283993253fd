//! The client over TLS: it speaks to whom its CA file names, and to nobody else.

use std::{io::Write as _, net::SocketAddr, path::PathBuf};

use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A TLS server on loopback that answers one thing, with a certificate that it signed itself.
struct TlsServer {
    address: SocketAddr,
    certificate: String,
}

fn tls_server() -> TlsServer {
    let pair = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
    let certificate = params.self_signed(&pair).expect("a certificate");
    let key = PrivateKeyDer::try_from(pair.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("TLS 1.3").with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("it fits");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(serve(listener, tokio_rustls::TlsAcceptor::from(Arc::new(config))));
    });
    TlsServer { address, certificate: certificate.pem() }
}

async fn serve(listener: std::net::TcpListener, acceptor: tokio_rustls::TlsAcceptor) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        // A client that trusts somebody else ends the handshake.
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let mut request = [0; 4096];
        let length = stream.read(&mut request).await.expect("a request");
        assert!(length > 0);
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntrue";
        stream.write_all(answer.as_bytes()).await.expect("it is sent");
        stream.shutdown().await.expect("it is ended");
    }
}

fn file(pem: &str) -> (tempfile::NamedTempFile, PathBuf) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(pem.as_bytes()).expect("it is written");
    let path = file.path().into();
    (file, path)
}

fn client(server: &TlsServer, cacert: Option<PathBuf>) -> Result<Client, CliError> {
    Client::new(Connection { address: format!("https://{}", server.address), token: None, cacert })
}

#[tokio::test]
async fn a_server_of_the_trusted_ca_is_spoken_to() {
    let server = tls_server();
    let (_file, path) = file(&server.certificate);
    let client = client(&server, Some(path)).expect("a client");
    assert_eq!(client.read("/v1/a", &[]).await.expect("an answer"), Value::Bool(true));
}

#[tokio::test]
async fn a_server_of_another_ca_is_not() {
    let (server, other) = (tls_server(), tls_server());
    let (_file, path) = file(&other.certificate);
    let error = client(&server, Some(path)).expect("a client").read("/v1/a", &[]).await.expect_err("it is not trusted");
    assert!(matches!(error, CliError::Unreachable { .. }));
    assert!(error.report().contains("invalid peer certificate"), "{}", error.report());
}

#[test]
fn without_a_ca_or_with_a_useless_file_nothing_is_sent() {
    let server = TlsServer { address: ([127, 0, 0, 1], 1).into(), certificate: String::new() };
    assert_eq!(client(&server, None).err().map(|error| error.exit_code()), Some(2));
    let (_file, path) = file("no certificate");
    let error = client(&server, Some(path)).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.ends_with("it holds no certificate"), "{error}");
}
