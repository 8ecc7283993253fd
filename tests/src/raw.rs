//! Bytes on a socket, for requests that no well-behaved client sends.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No peer is waited for longer: above every limit that a server sets for slow clients.
const PATIENCE: Duration = Duration::from_secs(90);

/// A connection on which a test writes what it wants.
pub struct Raw(TcpStream);

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// Panics if the server does not accept.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self(stream)
    }

    /// Writes; a peer that has had enough and closed is no failure.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // What the peer says about it is read afterwards.
        let _ = self.0.write_all(bytes.as_ref());
        self
    }

    /// Says that nothing follows.
    pub fn finish(&mut self) -> &mut Self {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
        self
    }

    /// Reads until the peer closes.
    ///
    /// # Panics
    /// Panics if the peer keeps the connection open for ever.
    pub fn read_to_end(&mut self) -> String {
        String::from_utf8_lossy(&self.read_bytes_to_end()).into_owned()
    }

    /// Reads until the peer closes.
    ///
    /// # Panics
    /// Panics if the peer keeps the connection open for ever.
    pub fn read_bytes_to_end(&mut self) -> Vec<u8> {
        let mut read = Vec::new();
        match self.0.read_to_end(&mut read) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the peer keeps the connection open; it said {:?}", String::from_utf8_lossy(&read))
            }
            // A reset ends a connection as well.
            Ok(_) | Err(_) => read,
        }
    }
}

/// Sends one HTTP/1.1 request with this line and these headers, and gives status and the whole answer.
///
/// # Panics
/// Panics if the peer does not answer in HTTP.
pub fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let mut head = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let answer = Raw::connect(address).write(head).write("\r\n").write(body).read_to_end();
    (status(&answer), answer)
}

/// The status of an answer.
///
/// # Panics
/// Panics if it is none.
pub fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no HTTP answer: {answer:?}"))
}
