use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{Memory, MemoryConnector, Rate, Tcp};

/// Knows one word, and says what it was sent.
struct Echo;

#[async_trait]
impl Clerk for Echo {
    async fn look(&self, head: &Head) -> Look {
        match (head.path.as_str(), head.header("authorization")) {
            ("/open", _) => Look::Answer(Told { body: b"open".to_vec(), ..Told::bare(200) }),
            (_, Some("word")) => Look::Body(10),
            _ => Look::Stranger,
        }
    }

    async fn answer(&self, head: Head, body: Vec<u8>) -> Told {
        let headers = vec![("content-type", "text/plain".to_owned())];
        Told { status: 200, headers, body: [head.path.as_bytes(), b" ", &body].concat() }
    }
}

fn limits() -> Limits {
    Limits { per_peer: Some(Rate { per_minute: 1, burst: 2 }), ..Limits::default() }
}

/// A desk that runs as long as the test.
fn desk() -> MemoryConnector {
    let (listener, connector) = Memory::new(true);
    tokio::spawn(async move {
        let desk = Desk::new(Arc::new(Echo), limits());
        desk.run(&listener, std::future::pending(), Duration::ZERO).await;
    });
    connector
}

async fn ask(connector: &MemoryConnector, request: &str) -> String {
    let mut stream = connector.connect().await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).await.unwrap();
    told
}

#[tokio::test]
async fn whoever_has_the_word_is_answered_and_nobody_else() {
    let desk = desk();
    let post = |word: &str, body: &str| {
        format!(
            "POST /a?b HTTP/1.1\r\nhost: x\r\nauthorization: {word}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let told = ask(&desk, &post("word", "hello")).await;
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.ends_with("\r\n\r\n/a hello"), "{told}");
    let stranger = ask(&desk, &post("guess", &"x".repeat(50_000))).await;
    assert!(stranger.starts_with("HTTP/1.1 401 ") && stranger.ends_with("\r\n\r\n"), "{stranger}");
    let open = ask(&desk, "GET /open HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(open.ends_with("open"), "{open}");
    let twice = "POST / HTTP/1.1\r\nhost: x\r\nauthorization: word\r\nauthorization: word\r\n\r\n";
    assert!(ask(&desk, twice).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn a_body_is_no_longer_than_it_may_be() {
    let desk = desk();
    let head = "POST /a HTTP/1.1\r\nhost: x\r\nauthorization: word\r\n";
    let long = ask(&desk, &format!("{head}content-length: 11\r\n\r\nhello world")).await;
    assert!(long.starts_with("HTTP/1.1 413 "), "{long}");
    let chunks =
        ask(&desk, &format!("{head}transfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n")).await;
    assert!(chunks.starts_with("HTTP/1.1 413 "), "{chunks}");
    let short = ask(&desk, &format!("{head}transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")).await;
    assert!(short.ends_with("/a hi"), "{short}");
    let nonsense = ask(&desk, "nonsense\r\n\r\n").await;
    assert!(nonsense.starts_with("HTTP/1.1 400 ") && nonsense.ends_with("\r\n\r\n"), "{nonsense}");
}

#[tokio::test]
async fn a_stranger_is_told_to_ask_less_and_holds_nobody_else_up() {
    let listener = Tcp::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let desk = Desk::new(Arc::new(Echo), limits());
    let running = tokio::spawn(async move {
        desk.run(&listener, async { drop(stopped.await) }, Duration::from_secs(5)).await;
    });
    let ask = |head: &'static str| async move {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).await.unwrap();
        told.split(' ').nth(1).unwrap().to_owned()
    };
    let stranger = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!([ask(stranger).await, ask(stranger).await, ask(stranger).await], ["401", "401", "429"]);
    assert_eq!(ask("GET / HTTP/1.1\r\nhost: x\r\nauthorization: word\r\n\r\n").await, "200");
    stop.send(()).unwrap();
    running.await.unwrap();
}
