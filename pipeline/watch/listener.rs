//! A listener that answers `GET /metrics` and `GET /health` over HTTP/1.1, one answer per connection.
//!
//! It knows no names and no passwords, so it listens on addresses of this machine only. A request may be 8 KiB long, and
//! an exchange takes five seconds at most; sixteen are under way at once, others wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::board::Board;
use crate::error::{Context, Error, Result};
use crate::metrics;

/// Longest request.
const REQUEST_BYTES: usize = 8 << 10;
/// Longest exchange.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Exchanges at once.
const EXCHANGES: usize = 16;

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
    pub async fn start(address: SocketAddr, board: Board) -> Result<Self> {
        if !address.ip().is_loopback() {
            return Err(Error::invalid(format!(
                "metrics are served on this machine only, and {address} is no such address"
            ))
            .hint("listen on 127.0.0.1 or [::1], and let an agent or a proxy on this machine pass them on"));
        }
        let listener = TcpListener::bind(address).await.context(format!("could not listen on {address}"))?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(serve(listener, board)) })
    }
}

async fn serve(listener: TcpListener, board: Board) {
    let exchanges = Arc::new(Semaphore::new(EXCHANGES));
    loop {
        let Ok(permit) = exchanges.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let board = board.clone();
                tokio::spawn(async move {
                    // A client that is slow or gone is dropped, and has nobody to tell.
                    let _ = timeout(EXCHANGE, exchange(stream, &board)).await;
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

async fn exchange(mut stream: TcpStream, board: &Board) -> std::io::Result<()> {
    let mut request = Vec::new();
    let answer = loop {
        if ends(&request) {
            break answer(&request, board);
        }
        if request.len() >= REQUEST_BYTES {
            break Answer::plain("431 Request Header Fields Too Large", "the request is too long\n");
        }
        let room = REQUEST_BYTES - request.len();
        if (&mut stream).take(room as u64).read_buf(&mut request).await? == 0 {
            break Answer::bad_request();
        }
    };
    stream.write_all(&answer.bytes()).await?;
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

struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: String,
    /// The body is told of and left out.
    is_head: bool,
}

impl Answer {
    fn plain(status: &'static str, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into(), is_head: false }
    }

    fn bad_request() -> Self {
        Self::plain("400 Bad Request", "expected an HTTP/1.1 request such as GET /metrics\n")
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { status, content_type, body, is_head } = self;
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}Cache-Control: no-store\r\n\
             Connection: close\r\n\r\n"
        );
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

fn answer(request: &[u8], board: &Board) -> Answer {
    let line = request.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Answer::bad_request() };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Answer::bad_request();
    }
    if method != "GET" && method != "HEAD" {
        return Answer::plain("405 Method Not Allowed", "only GET and HEAD are answered\n");
    }
    let mut answer = match target.split('?').next() {
        Some("/metrics") => Answer { content_type: metrics::CONTENT_TYPE, ..Answer::plain("200 OK", &board.metrics()) },
        Some("/health") => match board.health() {
            Ok((body, is_well)) => {
                let status = if is_well { "200 OK" } else { "503 Service Unavailable" };
                Answer { content_type: "application/json", ..Answer::plain(status, &body) }
            }
            Err(error) => Answer::plain("500 Internal Server Error", &format!("{error}\n")),
        },
        _ => Answer::plain("404 Not Found", "there are /metrics and /health\n"),
    };
    answer.is_head = method == "HEAD";
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::health::{Condition, Health};

    fn board() -> Board {
        Board::new(Health::starting(0, Duration::from_secs(10)), None, None)
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
        let listener = Listener::start("127.0.0.1:0".parse().unwrap(), board()).await.unwrap();
        let too_long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000));
        for (request, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200 OK"),
            ("GET /health HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /../etc/passwd HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 Method Not Allowed"),
            ("GET /metrics\r\n\r\n", "400 Bad Request"),
            ("GET /metrics SMTP/1.1\r\n\r\n", "400 Bad Request"),
            ("\u{16}\u{3}\u{1}\r\n\r\n", "400 Bad Request"),
            ("\r\n\r\n", "400 Bad Request"),
            (too_long.as_str(), "431 Request Header Fields Too Large"),
        ] {
            let answer = ask(listener.address, request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:.40}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        }
        let head = ask(listener.address, b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[tokio::test]
    async fn health_is_an_error_while_something_is_wrong() {
        let board = board();
        let listener = Listener::start("[::1]:0".parse().unwrap(), board.clone()).await;
        let Ok(listener) = listener else {
            println!("skipped: this machine has no IPv6");
            return;
        };
        for (condition, status) in [(Condition::Ok, "200"), (Condition::Failed, "503"), (Condition::Waiting, "503")] {
            board.state().health.condition = condition;
            let answer = ask(listener.address, b"GET /health HTTP/1.1\r\n\r\n").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_slow_client_is_dropped_and_keeps_nobody_waiting_for_long() {
        let listener = Listener::start("127.0.0.1:0".parse().unwrap(), board()).await.unwrap();
        let mut slow = Vec::new();
        for _ in 0..EXCHANGES {
            let mut stream = TcpStream::connect(listener.address).await.unwrap();
            stream.write_all(b"GET /metrics HT").await.unwrap();
            slow.push(stream);
        }
        let asked = std::time::Instant::now();
        let answer = ask(listener.address, b"GET /health HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(asked.elapsed() < EXCHANGE * 2, "{:?}", asked.elapsed());
        let mut rest = Vec::new();
        slow[0].read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "a slow client gets nothing");
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_is_refused() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9464"] {
            let error = Listener::start(address.parse().unwrap(), board()).await.unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid);
            assert!(error.remedy().unwrap().contains("127.0.0.1"));
        }
    }
}
