use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A server that answers every connection with these bytes and keeps what it read.
async fn server(answer: &'static [u8]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            requests.lock().unwrap().push(String::from_utf8_lossy(&buffer[..read]).into_owned());
            stream.write_all(answer).await.unwrap();
        }
    });
    (address, seen)
}

fn get(url: String) -> HttpRequest {
    let timeout = Duration::from_millis(500);
    HttpRequest {
        url,
        accept: None,
        headers: vec![("Event-Id", "7".to_owned())],
        body: None,
        timeout,
        limit: 10,
        tunnel: None,
        fresh: false,
    }
}

fn direct() -> DirectClient {
    DirectClient::new(DirectSettings::default()).unwrap()
}

#[tokio::test]
async fn a_body_makes_a_post_with_its_content_type() {
    let (address, seen) = server(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok").await;
    let body = Some(("text/plain", b"hello".to_vec()));
    let answer = direct().send(HttpRequest { body, ..get(format!("http://{address}/a")) }).await.unwrap();
    assert_eq!(answer, HttpResponse { status: 201, body: b"ok".to_vec() });
    let sent = seen.lock().unwrap()[0].to_lowercase();
    assert!(sent.starts_with("post /a http/1.1\r\n") && sent.ends_with("\r\n\r\nhello"), "{sent}");
    assert!(
        sent.contains("content-type: text/plain\r\n") && sent.contains("content-length: 5\r\n"),
        "{sent}"
    );
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (target, reached) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: http://{target}/\r\ncontent-length: 0\r\n\r\n");
    let (address, _) = server(answer.leak().as_bytes()).await;
    assert_eq!(direct().send(get(format!("http://{address}/"))).await.unwrap().status, 302);
    assert!(reached.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    for answer in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n12345678901".as_slice(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
    ] {
        let (address, _) = server(answer).await;
        assert_eq!(direct().send(get(format!("http://{address}/"))).await, Err(HttpError::TooLong(10)));
    }
}

#[tokio::test]
async fn silence_is_a_timeout_and_a_closed_port_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret", listener.local_addr().unwrap());
    assert_eq!(direct().send(get(url.clone())).await, Err(HttpError::Timeout));
    drop(listener);
    let error = direct().send(get(url)).await.unwrap_err();
    assert!(matches!(&error, HttpError::Transport(text) if !text.contains("secret")), "{error}");
}

#[tokio::test]
async fn a_request_is_sent_once_even_when_the_connection_breaks() {
    let (address, seen) = server(b"").await;
    let error = direct().send(get(format!("http://{address}/"))).await.unwrap_err();
    assert_eq!(error, HttpError::Closed);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

/// A server that keeps its first connection for one answer, and closes it when the second request has arrived there.
/// Other connections it serves to their end. It gives the number of the connection and the request's last byte.
async fn closes_when_asked_again(reset: bool) -> (String, Arc<Mutex<Vec<(usize, u8)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = seen.clone();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                for turn in 0.. {
                    let read = stream.read(&mut buffer).await.unwrap_or(0);
                    if read == 0 {
                        return;
                    }
                    requests.lock().unwrap().push((number, buffer[read - 1]));
                    if number == 0 && turn == 1 {
                        stream.set_zero_linger().unwrap();
                        if !reset {
                            stream.shutdown().await.unwrap();
                        }
                        return;
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
            });
        }
    });
    (url, seen)
}

#[tokio::test]
async fn a_request_whose_kept_connection_closes_goes_out_once_more_on_a_new_one_where_it_may() {
    for reset in [false, true] {
        for may in [false, true] {
            let (url, seen) = closes_when_asked_again(reset).await;
            let client = direct();
            let post = |text: &str| HttpRequest {
                body: Some(("text/plain", text.as_bytes().to_vec())),
                timeout: Duration::from_secs(10),
                ..get(url.clone())
            };
            assert_eq!(client.send(post("a")).await.unwrap().status, 200);
            let second = if may { client.send_again(post("b")).await } else { client.send(post("b")).await };
            if may {
                assert_eq!(second.unwrap().body, b"ok");
                assert_eq!(*seen.lock().unwrap(), [(0, b'a'), (0, b'b'), (1, b'b')]);
            } else {
                assert_eq!(second, Err(HttpError::Closed));
                assert_eq!(*seen.lock().unwrap(), [(0, b'a'), (0, b'b')]);
            }
        }
    }
}

#[tokio::test]
async fn a_fresh_request_takes_no_kept_connection_and_leaves_none() {
    let (url, seen) = closes_when_asked_again(false).await;
    let client = direct();
    for fresh in [false, true, true] {
        let request = HttpRequest { fresh, timeout: Duration::from_secs(10), ..get(url.clone()) };
        client.send(request).await.unwrap();
    }
    assert_eq!(seen.lock().unwrap().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn a_tunnel_is_asked_to_connect_and_learns_no_path() {
    let (relay, seen) = server(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    let tunnel = Some(format!("http://{relay}"));
    let request = HttpRequest { tunnel, ..get("https://directory.example/secret".into()) };
    assert!(matches!(direct().send(request).await, Err(HttpError::Transport(_))));
    let asked = seen.lock().unwrap()[0].clone();
    assert!(asked.starts_with("CONNECT directory.example:443 HTTP/1.1\r\n"), "{asked}");
    assert!(!asked.contains("secret"));
}

#[tokio::test]
async fn a_target_without_tls_is_not_tunnelled_to() {
    let (relay, seen) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let request =
        HttpRequest { tunnel: Some(format!("http://{relay}")), ..get("http://directory.example/".into()) };
    assert!(matches!(direct().send(request).await, Err(HttpError::Invalid(_))));
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn names_are_left_to_the_socks_proxy() {
    let (socks, seen) = server(b"\x05\x00").await;
    let settings = DirectSettings { socks: Some(socks), root: None };
    let client = DirectClient::new(settings).unwrap();
    client.send(get("http://name.onion/".into())).await.unwrap_err();
    assert_eq!(seen.lock().unwrap()[0].as_bytes()[0], 5);
}

/// A `CONNECT` proxy for one connection to anywhere.
async fn proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        let read = client.read(&mut buffer).await.unwrap();
        let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
        let target = request.split(' ').nth(1).unwrap();
        let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
    });
    address
}

#[tokio::test]
async fn a_tunnel_carries_tls_to_a_target_with_a_trusted_certificate() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let root = made.cert.der().to_vec();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut buffer = vec![0; 4096];
            drop(stream.read(&mut buffer).await);
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nkeys").await);
        }
    });
    let url = format!("https://localhost:{port}/");
    for (root, trusted) in [(Some(root), true), (None, false)] {
        let client = DirectClient::new(DirectSettings { socks: None, root }).unwrap();
        let tunnel = Some(format!("http://{}", proxy().await));
        let request = HttpRequest { tunnel, timeout: Duration::from_secs(5), ..get(url.clone()) };
        let answer = client.send(request).await;
        assert_eq!(answer.is_ok_and(|answer| answer.body == b"keys"), trusted);
    }
}

#[test]
fn an_onion_service_is_known_by_its_name() {
    let is_onion = |url: &str, tunnel: Option<&str>| {
        HttpRequest { tunnel: tunnel.map(str::to_owned), ..get(url.to_owned()) }.is_onion()
    };
    for onion in ["http://aaa.onion", "https://AAA.ONION:81/x?v=1", "http://b.aaa.onion./"] {
        assert!(is_onion(onion, None), "{onion}");
        assert!(is_onion("https://directory.example", Some(onion)), "{onion}");
    }
    for other in ["http://aaa.example/b.onion", "http://onion/", "http://127.0.0.1:8080/", "aaa.onion"] {
        assert!(!is_onion(other, None), "{other}");
    }
}

#[tokio::test]
async fn the_name_of_an_onion_service_is_given_to_the_proxy_and_to_nobody_else() {
    let refused = direct().send(get("http://aaa.onion/".to_owned())).await;
    assert!(matches!(&refused, Err(HttpError::Invalid(why)) if why.contains("Tor")), "{refused:?}");
    let (address, seen) = server(b"").await;
    let socks = DirectClient::new(DirectSettings { socks: Some(address), root: None }).unwrap();
    assert!(socks.send(get("http://aaa.onion/".to_owned())).await.is_err());
    assert_eq!(seen.lock().unwrap().len(), 1);
}
