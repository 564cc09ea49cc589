//! The page live: over HTTP on this machine, made anew whenever a run has published.
//!
//! | path | answers |
//! | --- | --- |
//! | `/` | the page, which asks for the document every few seconds |
//! | `/document.json` | the document, with a tag; 304 when the asker has it already |
//!
//! A request that names another host is refused: a page of a stranger whose name leads here must not read along.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::page::{live, live_policy};
use super::tiles::Tiles;
use super::{Document, FILE_NAME, LeftOut, build};
use crate::error::{Error, Result};
use crate::listener::{Answer, Listener, Request, Responder};
use crate::marts::Catalog;
use crate::workspace::Workspace;

/// How often the lake is asked for something new. The page asks as often.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Receives what a person serving the page may want to see.
pub trait Witness {
    /// The page is at this address.
    fn listens(&mut self, address: SocketAddr);
    /// The document was made anew, without these tiles.
    fn built(&mut self, document: &Document, left_out: &[LeftOut]);
    /// The document could not be made; the one before stays.
    fn failed(&mut self, error: &Error);
}

/// Serves the page for as long as it is polled.
///
/// Errors: an address that is not of this machine or in use, or a first document that cannot be made.
pub async fn serve(
    workspace: &Workspace,
    as_of: Option<i64>,
    address: SocketAddr,
    witness: &mut dyn Witness,
) -> Result<Infallible> {
    let mut edition = edition(workspace).await?;
    let (document, left_out) = build(&workspace.renewed()?, as_of).await?;
    let board = Board::default();
    board.show(&document)?;
    let listener = Listener::start(address, board.clone()).await?;
    board.state().address = Some(listener.address);
    witness.listens(listener.address);
    witness.built(&document, &left_out);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match look(workspace, as_of, &mut edition).await {
            Ok(None) => {}
            Ok(Some((document, left_out))) => {
                board.show(&document)?;
                witness.built(&document, &left_out);
            }
            Err(error) => witness.failed(&error),
        }
    }
}

/// A new document, if what it is made of has changed.
async fn look(
    workspace: &Workspace,
    as_of: Option<i64>,
    edition: &mut Edition,
) -> Result<Option<(Document, Vec<LeftOut>)>> {
    let newest = self::edition(workspace).await?;
    if newest == *edition {
        return Ok(None);
    }
    // What cannot be made is not tried again until something changes; a store out of reach is.
    let built = build(&workspace.renewed()?, as_of).await;
    if !built.as_ref().is_err_and(Error::may_pass) {
        *edition = newest;
    }
    built.map(Some)
}

/// What a document is made of: the last run that published, the declared tiles, and the files with their queries.
#[derive(Debug, PartialEq, Eq)]
struct Edition {
    run_id: String,
    tiles: Option<Vec<u8>>,
    queries: Vec<Option<Vec<u8>>>,
}

async fn edition(workspace: &Workspace) -> Result<Edition> {
    let run_id = Catalog::load(&workspace.lake).await?.run_id;
    let folder = &workspace.project.folder;
    let tiles = read(&folder.join(FILE_NAME));
    // Tiles that are wrong are told when the document is made.
    let text = tiles.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    let declared = text.and_then(|text| Tiles::parse(text).ok());
    let queries = declared.iter().flat_map(Tiles::files).map(|file| read(&folder.join(file))).collect();
    Ok(Edition { run_id, tiles, queries })
}

fn read(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

/// What is answered at the moment.
#[derive(Debug, Clone, Default)]
struct Board(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    address: Option<SocketAddr>,
    page: Bytes,
    document: Bytes,
    tag: String,
}

impl Board {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Whoever stopped while holding it left whole values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, document: &Document) -> Result<()> {
        let bytes = serde_json::to_vec(document)?;
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&bytes)[..16]));
        let mut state = self.state();
        state.page = live(&document.title).into();
        (state.document, state.tag) = (bytes.into(), tag);
        Ok(())
    }
}

impl Responder for Board {
    fn answer(&self, request: Request<'_>) -> Answer {
        let state = self.state();
        if !request.header("host").is_some_and(|host| is_ours(host, state.address)) {
            return Answer::plain(
                "421 Misdirected Request",
                "this page answers to localhost and its own address, at any port; a proxy rewrites the Host header\n",
            );
        }
        let mut answer = match request.path {
            "/" => Answer::ok("text/html; charset=utf-8", state.page.clone()),
            "/document.json" if request.header("if-none-match") == Some(&state.tag) => {
                Answer { status: "304 Not Modified", ..Answer::ok("application/json", "") }
            }
            "/document.json" => Answer::ok("application/json", state.document.clone()),
            _ => Answer::plain("404 Not Found", "there is /\n"),
        };
        answer.headers.extend([
            ("ETag", state.tag.clone()),
            ("Content-Security-Policy", format!("{}; frame-ancestors 'none'", live_policy())),
            ("X-Content-Type-Options", "nosniff".into()),
            ("Referrer-Policy", "no-referrer".into()),
            ("Cross-Origin-Resource-Policy", "same-origin".into()),
        ]);
        answer
    }
}

/// Whether a host is a name of this machine, or our address. The port is whatever leads here, as through a tunnel: a
/// page of a stranger comes by a name of its own, whatever the port.
fn is_ours(host: &str, address: Option<SocketAddr>) -> bool {
    let Some(address) = address else { return false };
    // Browsers leave out the port that the scheme implies.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let own = match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    };
    name.eq_ignore_ascii_case("localhost") || name == own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::About;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn only_names_of_this_machine_are_ours_at_any_port() {
        let four = "127.0.0.1:8123".parse().ok();
        let six = "[::1]:8123".parse().ok();
        let web = "127.0.0.1:80".parse().ok();
        for (host, address, is_one) in [
            ("127.0.0.1:8123", four, true),
            ("localhost:8123", four, true),
            ("LOCALHOST:8123", six, true),
            ("[::1]:8123", six, true),
            ("127.0.0.1", web, true),
            ("localhost", web, true),
            ("[::1]", six, true),
            ("127.0.0.1", four, true),
            ("127.0.0.1:80", four, true),
            ("localhost:9000", four, true),
            ("[::1]:9000", six, true),
            ("127.0.0.1:8123", six, false),
            ("127.0.0.2:8123", four, false),
            ("[::1]:8123:80", six, false),
            ("localhost:evil", four, false),
            ("localhost:99999", four, false),
            ("localhost:8123@evil.example", four, false),
            ("evil.example:localhost", four, false),
            ("evil.example", four, false),
            ("evil.example:9000", four, false),
            ("evil.example:8123", four, false),
            ("localhost.evil.example:8123", four, false),
            ("127.0.0.1.evil.example:8123", four, false),
            ("evil.example", web, false),
            ("", four, false),
            ("localhost:8123", None, false),
        ] {
            assert_eq!(is_ours(host, address), is_one, "{host}");
        }
    }

    #[tokio::test]
    async fn a_changed_query_makes_a_new_edition() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("wayline.toml", "[lake]\nurl = \"lake\"\n");
        write("dashboard.toml", "[[tiles]]\nname = 'own'\ntitle = 'Own'\nkind = 'table'\nfile = 'own.sql'\n");
        let workspace = Workspace::open(crate::config::Project::load(folder.path()).unwrap()).unwrap();
        let mut before = edition(&workspace).await.unwrap();
        assert_eq!(before, edition(&workspace).await.unwrap());
        for text in ["select 1", "select 2"] {
            write("own.sql", text);
            let after = edition(&workspace).await.unwrap();
            assert_ne!(before, after, "{text}");
            before = after;
        }
        write("other.sql", "select 3");
        assert_eq!(before, edition(&workspace).await.unwrap());
        std::fs::remove_file(folder.path().join("own.sql")).unwrap();
        assert_ne!(before, edition(&workspace).await.unwrap());
    }

    #[tokio::test]
    async fn the_page_is_answered_to_this_machine_and_the_document_once() {
        let board = Board::default();
        let document =
            Document { title: "Shop".into(), about: About::default(), tiles: Vec::new(), sections: Vec::new() };
        board.show(&document).unwrap();
        let listener = Listener::start("127.0.0.1:0".parse().unwrap(), board.clone()).await.unwrap();
        board.state().address = Some(listener.address);
        let (port, tag) = (listener.address.port(), board.state().tag.clone());
        for (path, headers, status) in [
            ("/", format!("Host: localhost:{port}"), "200"),
            ("/document.json", format!("Host: 127.0.0.1:{port}"), "200"),
            ("/document.json", "Host: localhost:9000".into(), "200"),
            ("/document.json", format!("Host: 127.0.0.1:{port}\r\nIf-None-Match: {tag}"), "304"),
            ("/document.json", format!("Host: 127.0.0.1:{port}\r\nIf-None-Match: \"x\""), "200"),
            ("/", format!("Host: evil.example:{port}"), "421"),
            ("/", "Host: evil.example:9000".into(), "421"),
            ("/document.json", "Accept: */*".into(), "421"),
            ("/wayline.toml", format!("Host: localhost:{port}"), "404"),
        ] {
            let mut stream = tokio::net::TcpStream::connect(listener.address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {headers}: {answer:.80}");
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            match status {
                "200" => assert!(body.contains("Shop") && answer.contains("frame-ancestors 'none'")),
                _ => assert!(!body.contains("Shop"), "{path} {headers}"),
            }
        }
    }
}
