//! A listener that answers `GET` over HTTP/1.1, one answer per connection.
//!
//! It knows no names and no passwords, so it listens on addresses of this machine only. A request may be 8 KiB long, and
//! an exchange takes five seconds at most; sixteen are under way at once, others wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::{Context, Error, Result};

/// Longest request.
const REQUEST_BYTES: usize = 8 << 10;
/// Longest exchange.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Exchanges at once.
const EXCHANGES: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The path, without what follows a question mark.
    pub path: &'a str,
    head: &'a str,
}

impl<'a> Request<'a> {
    /// The value of a header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.head.split("\r\n").skip(1).filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        values.next().filter(|_| values.next().is_none())
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Code and reason.
    pub status: &'static str,
    /// Type of the body.
    pub content_type: &'static str,
    /// Headers beyond those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Found, and of a type.
    pub fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { content_type, ..Self::plain("200 OK", body) }
    }

    /// Plain text.
    pub fn plain(status: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", headers: Vec::new(), body: body.into() }
    }

    fn bad_request() -> Self {
        Self::plain("400 Bad Request", "expected an HTTP/1.1 request such as GET /\n")
    }

    /// The answer as it is sent; one to HEAD tells of the body and leaves it out.
    fn bytes(&self, is_head: bool) -> Vec<u8> {
        let Self { status, content_type, headers, body } = self;
        let mut head = format!("HTTP/1.1 {status}\r\n");
        // That nothing is modified tells nothing of the body that the asker has (RFC 9110, section 15.4.5).
        if !status.starts_with("304 ") {
            head.push_str(&format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Cache-Control: no-store\r\nConnection: close\r\n\r\n");
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

/// Knows the answers.
pub trait Responder: Send + Sync + 'static {
    /// Answers a request at once.
    fn answer(&self, request: Request<'_>) -> Answer;
}

impl<F: Fn(Request<'_>) -> Answer + Send + Sync + 'static> Responder for F {
    fn answer(&self, request: Request<'_>) -> Answer {
        self(request)
    }
}

/// Answers until it is dropped.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Listens at `address`, at a free port if its port is 0. An address that others can reach is refused.
    pub async fn start(address: SocketAddr, responder: impl Responder) -> Result<Self> {
        if !address.ip().is_loopback() {
            return Err(Error::invalid(format!("expected an address of this machine only, and {address} is none"))
                .hint(
                    "listen on 127.0.0.1 or [::1], and let an agent or a proxy on this machine pass on what is asked",
                ));
        }
        let listener = TcpListener::bind(address).await.context(format!("could not listen on {address}"))?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(serve(listener, Arc::new(responder))) })
    }
}

async fn serve(listener: TcpListener, responder: Arc<impl Responder>) {
    let exchanges = Arc::new(Semaphore::new(EXCHANGES));
    loop {
        let Ok(permit) = exchanges.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let responder = responder.clone();
                tokio::spawn(async move {
                    // A client that is slow or gone is dropped, and has nobody to tell.
                    let _ = timeout(EXCHANGE, exchange(stream, &*responder)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn exchange(mut stream: TcpStream, responder: &impl Responder) -> std::io::Result<()> {
    let mut request = Vec::new();
    let answer = loop {
        if ends(&request) {
            break answer(&request, responder);
        }
        if request.len() >= REQUEST_BYTES {
            break Answer::plain("431 Request Header Fields Too Large", "the request is too long\n").bytes(false);
        }
        let room = REQUEST_BYTES - request.len();
        if (&mut stream).take(room as u64).read_buf(&mut request).await? == 0 {
            break Answer::bad_request().bytes(false);
        }
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    // What the client has sent beyond is read, since closing on it would take the answer away again.
    let mut rest = [0; 1024];
    let mut left = 64 * rest.len();
    while left > 0 {
        match stream.read(&mut rest).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// Whether a request is there up to the empty line. Bodies are not read.
fn ends(request: &[u8]) -> bool {
    request.windows(4).any(|window| window == b"\r\n\r\n")
}

fn answer(request: &[u8], responder: &impl Responder) -> Vec<u8> {
    let head = std::str::from_utf8(request).unwrap_or_default();
    let words: Vec<&str> = head.split("\r\n").next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Answer::bad_request().bytes(false) };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Answer::bad_request().bytes(false);
    }
    if method != "GET" && method != "HEAD" {
        let mut answer = Answer::plain("405 Method Not Allowed", "only GET and HEAD are answered\n");
        answer.headers.push(("Allow", "GET, HEAD".into()));
        return answer.bytes(false);
    }
    let path = target.split('?').next().unwrap_or_default();
    responder.answer(Request { path, head }).bytes(method == "HEAD")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(request: Request<'_>) -> Answer {
        match request.path {
            "/found" => Answer::plain("200 OK", "it is here\n"),
            "/host" => Answer::plain("200 OK", request.header("host").unwrap_or("none").to_string()),
            _ => Answer::plain("404 Not Found", "there is /found\n"),
        }
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn it_answers_what_it_knows_and_refuses_the_rest() {
        let listener = Listener::start("127.0.0.1:0".parse().unwrap(), found).await.unwrap();
        let too_long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000));
        for (request, status) in [
            ("GET /found HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
            ("GET /found?x=1 HTTP/1.0\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /../etc/passwd HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /found HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 Method Not Allowed"),
            ("GET /found\r\n\r\n", "400 Bad Request"),
            ("GET /found SMTP/1.1\r\n\r\n", "400 Bad Request"),
            ("\u{16}\u{3}\u{1}\r\n\r\n", "400 Bad Request"),
            ("\r\n\r\n", "400 Bad Request"),
            (too_long.as_str(), "431 Request Header Fields Too Large"),
        ] {
            let answer = ask(listener.address, request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:.40}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        }
        let head = ask(listener.address, b"HEAD /found HTTP/1.1\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[tokio::test]
    async fn what_is_not_modified_has_no_length() {
        let same = |_: Request<'_>| Answer::plain("304 Not Modified", "");
        let listener = Listener::start("127.0.0.1:0".parse().unwrap(), same).await.unwrap();
        let answer = ask(listener.address, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 304 Not Modified\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(!answer.contains("Content-"), "{answer}");
    }

    #[tokio::test]
    async fn a_header_that_is_there_twice_is_as_good_as_none() {
        let listener = Listener::start("127.0.0.1:0".parse().unwrap(), found).await.unwrap();
        for (headers, host) in [
            ("Host: localhost:80\r\n", "localhost:80"),
            ("X: y\r\nhOST:one\r\n", "one"),
            ("Host: one\r\nHost: two\r\n", "none"),
            ("", "none"),
        ] {
            let answer = ask(listener.address, format!("GET /host HTTP/1.1\r\n{headers}\r\n").as_bytes()).await;
            assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, host, "{headers}");
        }
    }

    #[tokio::test]
    async fn a_slow_client_is_dropped_and_keeps_nobody_waiting_for_long() {
        let listener = Listener::start("127.0.0.1:0".parse().unwrap(), found).await.unwrap();
        let mut slow = Vec::new();
        for _ in 0..EXCHANGES {
            let mut stream = TcpStream::connect(listener.address).await.unwrap();
            stream.write_all(b"GET /found HT").await.unwrap();
            slow.push(stream);
        }
        let asked = std::time::Instant::now();
        let answer = ask(listener.address, b"GET /found HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(asked.elapsed() < EXCHANGE * 2, "{:?}", asked.elapsed());
        let mut rest = Vec::new();
        slow[0].read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "a slow client gets nothing");
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_is_refused() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9464"] {
            let error = Listener::start(address.parse().unwrap(), found).await.unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid);
            assert!(error.remedy().unwrap().contains("127.0.0.1"));
        }
    }
}
