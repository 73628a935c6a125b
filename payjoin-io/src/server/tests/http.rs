use super::*;

/// The answer to bytes that are no honest request: their name, the bytes, the status or `None` for silence.
type Row = (&'static str, Vec<u8>, Option<u16>);

fn with_headers(headers: &str) -> Vec<u8> {
    format!("POST /a?v=1 HTTP/1.1\r\nHost: localhost\r\n{headers}\r\nbody").into_bytes()
}

fn hostile() -> Vec<Row> {
    let many: String = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let few: String = (0..65).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(64 * 1024));
    let plain = "Content-Type: text/plain\r\n";
    let by = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    vec![
        ("no length", with_headers(plain), Some(411)),
        ("chunked", with_headers(&format!("{plain}Transfer-Encoding: chunked\r\n")), Some(411)),
        (
            "chunked with a length",
            with_headers(&format!("{plain}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n")),
            Some(411),
        ),
        (
            "two lengths",
            with_headers(&format!("{plain}Content-Length: 4\r\nContent-Length: 5\r\n")),
            Some(400),
        ),
        ("a list of lengths", with_headers(&format!("{plain}Content-Length: 4, 5\r\n")), Some(400)),
        ("a negative length", with_headers(&format!("{plain}Content-Length: -4\r\n")), Some(400)),
        ("a length in words", with_headers(&format!("{plain}Content-Length: four\r\n")), Some(400)),
        ("a length of 2^70", with_headers(&format!("{plain}Content-Length: {}\r\n", 1u128 << 70)), Some(400)),
        ("one byte too many", with_headers(&format!("{plain}Content-Length: 2000001\r\n")), Some(413)),
        ("a terabyte", with_headers(&format!("{plain}Content-Length: 1000000000000\r\n")), Some(413)),
        ("a body that does not come", with_headers(&format!("{plain}Content-Length: 5\r\n")), Some(408)),
        ("no type", with_headers("Content-Length: 4\r\n"), Some(415)),
        ("another type", with_headers("Content-Type: text/html\r\nContent-Length: 4\r\n"), Some(415)),
        ("10,000 headers", with_headers(&format!("{many}Content-Length: 4\r\n")), Some(431)),
        ("65 headers", with_headers(&few), Some(431)),
        ("a header of 64 KiB", with_headers(&long), Some(431)),
        ("a NUL in a header", with_headers("X: a\0b\r\n"), Some(400)),
        ("a header without a name", with_headers(": x\r\n"), Some(400)),
        ("a header that is not UTF-8", b"POST /a HTTP/1.1\r\n\xff\xfe: x\r\n\r\n".to_vec(), Some(400)),
        ("a target that is not UTF-8", b"POST /\xff\xfe HTTP/1.1\r\n\r\n".to_vec(), Some(400)),
        ("bytes", (0..=255).collect(), Some(400)),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Some(400)),
        ("half a request", b"POST /a HTTP/1.1\r\nHost".to_vec(), Some(408)),
        ("nothing", Vec::new(), Some(408)),
        ("GET", by("GET", "/a"), Some(405)),
        ("GET of nothing", by("GET", "/"), Some(404)),
        ("DELETE", by("DELETE", "/a"), Some(405)),
        ("an unknown method", by("PAY", "/a"), Some(405)),
        ("CONNECT", by("CONNECT", "example.com:80"), Some(404)),
        ("no invoice", post("/nothing", "x"), Some(404)),
        ("the root", post("/", "x"), Some(404)),
        ("a folder", post("/a/", "x"), Some(404)),
        ("two slashes", post("//a", "x"), Some(404)),
        ("SQL", post("/a'--", "x"), Some(404)),
        ("a body of NULs", post("/a?v=1", "\0\0\0\0"), Some(400)),
        ("a body of words", post("/a?v=1", "pay me"), Some(400)),
        ("a path in capitals, as QR codes carry it", post("/A?v=1", "pay me"), Some(400)),
        ("a version of tomorrow", post("/a?v=2", &original(1).to_string()), Some(400)),
    ]
}

async fn check_all(served: &Stage, rows: Vec<Row>, answers: &[Option<Answer>]) {
    for ((name, _, expected), answer) in rows.iter().zip(answers) {
        assert_eq!(answer.as_ref().map(|answer| answer.status), *expected, "{name}: {answer:?}");
    }
    assert_eq!(served.host.store.exchanges(None, 9).await.unwrap(), [], "something was admitted");
    served.assert_nothing_leaks();
}

#[tokio::test]
async fn hostile_requests_over_tcp_get_one_readable_refusal_each() {
    let limits = Limits { per_peer: None, ..quick() };
    let served = Served::start(Tcp::bind("127.0.0.1:0").await.unwrap(), limits).await;
    let address = served.listener.local_addr().unwrap();
    let mut answers = Vec::new();
    for (_, bytes, _) in hostile() {
        answers.push(send(&mut TcpStream::connect(address).await.unwrap(), &bytes).await);
    }
    check_all(&served.stop().await, hostile(), &answers).await;
}

#[tokio::test]
async fn hostile_requests_over_memory_get_one_readable_refusal_each() {
    let (served, connector) = in_memory(quick()).await;
    let mut answers = Vec::new();
    for (_, bytes, _) in hostile() {
        answers.push(send(&mut connector.connect().await.unwrap(), &bytes).await);
    }
    check_all(&served.stop().await, hostile(), &answers).await;
}

#[tokio::test]
async fn a_body_that_is_not_utf_8_is_rejected() {
    let (served, connector) = in_memory(quick()).await;
    let mut bytes = post("/a?v=1", "xx");
    bytes.truncate(bytes.len() - 2);
    bytes.extend([0xff, 0xfe]);
    let answer = send(&mut connector.connect().await.unwrap(), &bytes).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("original-psbt-rejected"));
    served.stop().await;
}

#[tokio::test]
async fn a_body_past_the_limit_is_refused_before_it_is_read_and_the_payer_reads_why() {
    let served = Served::start(Tcp::bind("127.0.0.1:0").await.unwrap(), quick()).await;
    let mut payer = TcpStream::connect(served.listener.local_addr().unwrap()).await.unwrap();
    // Sent before the answer is read, as simple clients do: closing with unread bytes would reset the connection.
    let answer = send(&mut payer, &post("/a?v=1", &"x".repeat(3_000_000))).await.unwrap();
    assert_eq!(answer.status, 413);
    served.stop().await;
}

#[tokio::test]
async fn the_longest_body_is_read() {
    let (served, connector) = in_memory(quick()).await;
    let answer = send(&mut connector.connect().await.unwrap(), &post("/a?v=1", &"x".repeat(2_000_000))).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.body.contains("original-psbt-rejected")), (400, true));
    served.stop().await;
}

#[tokio::test]
async fn a_slow_loris_is_cut_and_holds_nobody_up() {
    let served = Served::start(Tcp::bind("127.0.0.1:0").await.unwrap(), quick()).await;
    let address = served.listener.local_addr().unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    let began = Instant::now();
    let dripping = tokio::spawn(async move {
        for byte in b"POST /a HTTP/1.1\r\nX-Slow: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz".iter() {
            if slow.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        let mut answer = Vec::new();
        drop(slow.read_to_end(&mut answer).await);
        Answer::parse(&answer)
    });
    let quick = send(&mut TcpStream::connect(address).await.unwrap(), &honest("a", 1)).await.unwrap();
    assert_eq!(quick.status, 200);
    let answer = dripping.await.unwrap().unwrap();
    answer.check();
    assert_eq!(answer.status, 408);
    assert!(began.elapsed() < Duration::from_secs(5));
    served.stop().await;
}

#[tokio::test]
async fn a_web_page_may_ask_first() {
    let (served, connector) = in_memory(quick()).await;
    let preflight = b"OPTIONS /a HTTP/1.1\r\nHost: x\r\nOrigin: null\r\n\r\n";
    let answer = send(&mut connector.connect().await.unwrap(), preflight).await.unwrap();
    assert_eq!(answer.status, 204);
    assert!(answer.head.contains("access-control-allow-methods: post"));
    assert!(answer.head.contains("access-control-allow-headers: content-type"));
    served.stop().await;
}

#[tokio::test]
async fn a_connection_serves_one_request() {
    let (served, connector) = in_memory(quick()).await;
    let twice = [honest("a", 1), honest("a", 1)].concat();
    let mut payer = connector.connect().await.unwrap();
    payer.write_all(&twice).await.unwrap();
    let mut answer = Vec::new();
    payer.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8(answer).unwrap();
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
    assert!(text.to_ascii_lowercase().contains("connection: close"));
    served.stop().await;
}

#[tokio::test]
async fn a_payer_may_close_its_sending_side_after_the_request() {
    let served = Served::start(Tcp::bind("127.0.0.1:0").await.unwrap(), quick()).await;
    let mut payer = TcpStream::connect(served.listener.local_addr().unwrap()).await.unwrap();
    payer.write_all(&honest("a", 1)).await.unwrap();
    payer.shutdown().await.unwrap();
    assert_eq!(send(&mut payer, b"").await.unwrap().status, 200);
    served.stop().await;
}

#[tokio::test]
async fn an_address_past_its_rate_is_told_so() {
    let served = Served::start(Tcp::bind("127.0.0.1:0").await.unwrap(), quick()).await;
    let address = served.listener.local_addr().unwrap();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = send(&mut TcpStream::connect(address).await.unwrap(), &post("/a?v=1", "x")).await;
        statuses.push(answer.unwrap().status);
    }
    assert_eq!(statuses, [400, 400, 400, 429]);
    served.stop().await;
}

#[tokio::test]
async fn behind_a_proxy_addresses_are_nobodys_and_outputs_may_be_substituted() {
    let served = Served::start(Tcp::behind_tls_proxy("127.0.0.1:0").await.unwrap(), quick()).await;
    let intent = served.stage.queue_channel().await;
    let address = served.listener.local_addr().unwrap();
    for _ in 0..5 {
        let answer = send(&mut TcpStream::connect(address).await.unwrap(), &post("/a?v=1", "x")).await;
        assert_eq!(answer.unwrap().status, 400);
    }
    let answer = send(&mut TcpStream::connect(address).await.unwrap(), &honest("a", 1)).await.unwrap();
    assert_eq!(answer.status, 200);
    let stage = served.stop().await;
    let state = stage.host.store.intent(intent).await.unwrap().unwrap().state;
    assert!(matches!(state, payjoin_core::IntentState::Released { .. }));
}

#[tokio::test]
async fn money_rule_10_over_plain_tcp_no_output_is_substituted() {
    let served = Served::start(Tcp::bind("127.0.0.1:0").await.unwrap(), quick()).await;
    served.stage.queue_channel().await;
    let address = served.listener.local_addr().unwrap();
    let answer = send(&mut TcpStream::connect(address).await.unwrap(), &honest("a", 1)).await.unwrap();
    assert_eq!(answer.status, 200);
    let proposal: bitcoin::Psbt = answer.body.parse().unwrap();
    let stage = served.stop().await;
    let invoice = stage.host.store.invoice(&payjoin_core::InvoiceId("a".into())).await.unwrap().unwrap();
    let mut outputs = proposal.unsigned_tx.output.iter();
    let paid = outputs.find(|output| output.script_pubkey == invoice.script).unwrap();
    assert!(paid.value >= crate::testing::PAYMENT);
    assert!(stage.world.acts().contains(&"open".to_owned()), "our coin pays for a channel beside it");
}

/// The head of a request whose body of so many bytes does not come.
fn head(length: usize) -> Vec<u8> {
    with_headers(&format!("Content-Type: text/plain\r\nContent-Length: {length}\r\n"))
}

/// Whether it was closed without a word.
async fn is_cut(mut stream: impl AsyncRead + Unpin) -> bool {
    let mut told = Vec::new();
    timeout(Duration::from_secs(5), stream.read_to_end(&mut told)).await.expect("not closed").is_ok()
        && told.is_empty()
}

#[tokio::test]
async fn the_oldest_connection_without_a_whole_head_gives_way_to_a_new_one() {
    let limits = Limits { connections: 2, header_time: Duration::from_secs(60), ..quick() };
    let (served, connector) = in_memory(limits).await;
    let (mut old, mut young) = (connector.connect().await.unwrap(), connector.connect().await.unwrap());
    old.write_all(b"POST /a HTTP/1.1\r\nHost").await.unwrap();
    assert_eq!(send(&mut connector.connect().await.unwrap(), &honest("a", 1)).await.unwrap().status, 200);
    assert!(is_cut(old).await);
    let preflight = b"OPTIONS /a HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(send(&mut young, preflight).await.unwrap().status, 204, "the younger one goes on");
    served.stop().await;
}

#[tokio::test]
async fn a_connection_with_a_whole_head_does_not_give_way() {
    let limits = Limits { connections: 1, body_time: Duration::from_secs(2), ..quick() };
    let (served, connector) = in_memory(limits).await;
    let mut first = connector.connect().await.unwrap();
    first.write_all(&head(9_000)).await.unwrap();
    until(|| served.server.inner.bodies.taken() > 0).await;
    assert_eq!(send(&mut connector.connect().await.unwrap(), b"").await.unwrap().status, 503);
    assert_eq!(send(&mut first, b"").await.unwrap().status, 408);
    served.stop().await;
}

#[tokio::test]
async fn each_listener_has_connections_of_its_own() {
    let limits = Limits { connections: 1, body_time: Duration::from_secs(60), ..quick() };
    let (served, connector) = in_memory(limits).await;
    let mut first = connector.connect().await.unwrap();
    first.write_all(&head(9_000)).await.unwrap();
    until(|| served.server.inner.bodies.taken() > 0).await;
    let (other, to_other) = Memory::new(true);
    let server = served.server.clone();
    let serving = tokio::spawn(async move { server.run(&other, std::future::pending()).await });
    assert_eq!(send(&mut to_other.connect().await.unwrap(), &honest("a", 1)).await.unwrap().status, 200);
    drop((first, to_other));
    timeout(Duration::from_secs(20), serving).await.unwrap().unwrap();
    served.stop().await;
}

#[tokio::test]
async fn bodies_are_bounded_in_total_and_the_largest_that_is_not_whole_gives_way() {
    let limits = Limits { bodies_bytes: 10_000, body_time: Duration::from_secs(60), ..quick() };
    let (served, connector) = in_memory(limits).await;
    let begin = async |length| {
        let mut stream = connector.connect().await.unwrap();
        let before = served.server.inner.bodies.taken();
        stream.write_all(&head(length)).await.unwrap();
        until(|| served.server.inner.bodies.taken() > before).await;
        stream
    };
    let mut large = begin(9_500).await;
    let small = begin(400).await;
    assert_eq!(send(&mut connector.connect().await.unwrap(), &head(10_000)).await.unwrap().status, 503);
    assert_eq!(send(&mut connector.connect().await.unwrap(), &honest("a", 1)).await.unwrap().status, 200);
    assert_eq!(send(&mut large, b"").await.unwrap().status, 503);
    assert_eq!(served.server.inner.bodies.taken(), 400);
    drop(small);
    served.stop().await;
}

#[tokio::test]
async fn an_address_that_holds_its_share_of_connections_is_refused_another() {
    let limits = Limits { connections_per_peer: 2, header_time: Duration::from_secs(60), ..quick() };
    let served = Served::start(Tcp::bind("127.0.0.1:0").await.unwrap(), limits).await;
    let address = served.listener.local_addr().unwrap();
    let connect = || async { TcpStream::connect(address).await.unwrap() };
    // Accepted in their order.
    let idle = (connect().await, connect().await);
    assert_eq!(send(&mut connect().await, b"").await.unwrap().status, 503);
    drop(idle);
    let status = async || send(&mut connect().await, &honest("a", 1)).await.unwrap().status;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) && status().await != 200 {}
    assert_eq!(status().await, 200, "and again the same");
    served.stop().await;
}

#[tokio::test]
async fn no_reply_tells_the_time() {
    let (served, connector) = in_memory(quick()).await;
    for request in [honest("a", 1), post("/nothing", "x"), b"nonsense\r\n\r\n".to_vec()] {
        let answer = send(&mut connector.connect().await.unwrap(), &request).await.unwrap();
        assert!(!answer.head.contains("date:"), "{answer:?}");
    }
    served.stop().await;
}
