//! What a watch answers over HTTP: `GET /metrics` and `GET /health`.

use super::board::Board;
use crate::listener::{Answer, Request, Responder};
use crate::metrics;

impl Responder for Board {
    fn answer(&self, request: Request<'_>) -> Answer {
        match request.path {
            "/metrics" => Answer::ok(metrics::CONTENT_TYPE, self.metrics()),
            "/health" => match self.health() {
                Ok((body, is_well)) => {
                    let status = if is_well { "200 OK" } else { "503 Service Unavailable" };
                    Answer { status, ..Answer::ok("application/json", body) }
                }
                Err(error) => Answer::plain("500 Internal Server Error", format!("{error}\n")),
            },
            _ => Answer::plain("404 Not Found", "there are /metrics and /health\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::listener::Listener;
    use crate::watch::health::{Condition, Health};

    async fn ask(listener: &Listener, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(listener.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn health_is_an_error_while_something_is_wrong() {
        let board = Board::new(Health::starting(0, Duration::from_secs(10)), None, None);
        let listener = Listener::start("[::1]:0".parse().unwrap(), board.clone()).await;
        let Ok(listener) = listener else {
            println!("skipped: this machine has no IPv6");
            return;
        };
        for (condition, status) in [(Condition::Ok, "200"), (Condition::Failed, "503"), (Condition::Waiting, "503")] {
            board.state().health.condition = condition;
            let answer = ask(&listener, "/health").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        assert!(ask(&listener, "/metrics?x=1").await.contains("wayline_"));
        assert!(ask(&listener, "/").await.starts_with("HTTP/1.1 404"));
    }
}
