use super::*;

#[tokio::test]
async fn the_same_original_sent_again_gets_the_same_bytes() {
    let (served, connector) = in_memory(quick()).await;
    served.stage.queue_channel().await;
    let first = send(&mut connector.connect().await.unwrap(), &honest("a", 1)).await.unwrap();
    let second = send(&mut connector.connect().await.unwrap(), &honest("a", 1)).await.unwrap();
    assert_eq!((first.status, &first.body), (200, &second.body));
    assert!(first.head.contains("content-type: text/plain"));
    served.stop().await;
}

#[tokio::test]
async fn a_payer_who_leaves_finds_its_proposal_when_it_comes_back() {
    let (served, connector) = in_memory(quick()).await;
    served.stage.world.stalled.store(true, Ordering::SeqCst);
    let mut payer = connector.connect().await.unwrap();
    payer.write_all(&honest("a", 1)).await.unwrap();
    until(|| served.stage.world.inspecting.load(Ordering::SeqCst) == 1).await;
    drop(payer);
    served.stage.world.inspections.add_permits(1);
    until(|| {
        ready(served.stage.host.store.exchanges(None, 1)).unwrap().iter().any(|x| x.payjoin_txid.is_some())
    })
    .await;
    until(|| served.server.inner.host.serving().is_empty()).await;
    let acts = served.stage.world.acts();
    let answer = send(&mut connector.connect().await.unwrap(), &honest("a", 1)).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(served.stage.world.acts(), acts, "the second exchange did nothing anew");
    served.stop().await;
}

/// Gone is also who closed his sending side: he cannot be told from one who left.
#[tokio::test]
async fn money_rule_12_no_channel_is_risked_for_a_payer_who_has_hung_up() {
    for (leaves, fundings) in [(true, 0), (false, 1)] {
        let served = Served::start(Tcp::bind("127.0.0.1:0").await.unwrap(), quick()).await;
        served.stage.queue_channel().await;
        served.stage.world.stalled.store(true, Ordering::SeqCst);
        let mut payer = TcpStream::connect(served.listener.local_addr().unwrap()).await.unwrap();
        payer.write_all(&honest("a", 1)).await.unwrap();
        until(|| served.stage.world.inspecting.load(Ordering::SeqCst) == 1).await;
        if leaves {
            payer.shutdown().await.unwrap();
            // It arrives before our answer.
            sleep(Duration::from_millis(100)).await;
        } else {
            payer.write_all(b"more than he said").await.unwrap();
        }
        served.stage.world.inspections.add_permits(1);
        assert_eq!(send(&mut payer, b"").await.unwrap().status, 200);
        let acts = served.stage.world.acts();
        assert_eq!(acts.iter().filter(|act| *act == "fund").count(), fundings, "{acts:?}");
        served.stop().await.assert_nothing_leaks();
    }
}

#[tokio::test]
async fn a_panic_ends_its_exchange_only() {
    let (served, connector) = in_memory(quick()).await;
    served.stage.invoice("b").await;
    served.stage.world.stalled.store(true, Ordering::SeqCst);
    let mut other = connector.connect().await.unwrap();
    other.write_all(&honest("b", 2)).await.unwrap();
    until(|| served.stage.world.inspecting.load(Ordering::SeqCst) == 1).await;
    served.stage.world.fault("inspect", Fault::Panic);
    let answer = send(&mut connector.connect().await.unwrap(), &honest("a", 1)).await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("unavailable"));
    served.stage.world.heal();
    served.stage.world.inspections.add_permits(2);
    assert_eq!(send(&mut other, b"").await.unwrap().status, 200);
    // Its invoice is free again.
    assert_eq!(send(&mut connector.connect().await.unwrap(), &honest("a", 1)).await.unwrap().status, 200);
    served.stop().await.assert_nothing_leaks();
}

#[tokio::test]
async fn the_seventeenth_exchange_at_once_is_told_to_come_back() {
    let (served, connector) = in_memory(Limits { exchanges: 16, ..quick() }).await;
    served.stage.world.stalled.store(true, Ordering::SeqCst);
    let mut payers = Vec::new();
    for n in 0..16 {
        let invoice = format!("invoice{n}");
        served.stage.invoice(&invoice).await;
        let mut payer = connector.connect().await.unwrap();
        payer.write_all(&honest(&invoice, n)).await.unwrap();
        payers.push(payer);
    }
    until(|| served.stage.world.inspecting.load(Ordering::SeqCst) == 16).await;
    let refused = send(&mut connector.connect().await.unwrap(), &honest("a", 99)).await.unwrap();
    assert_eq!((refused.status, refused.body.contains("unavailable")), (503, true));
    served.stage.world.inspections.add_permits(17);
    for payer in &mut payers {
        // The wallet has three coins; what is left over gets no proposal, but an answer.
        assert!([200, 503].contains(&send(payer, b"").await.unwrap().status));
    }
    assert_eq!(
        send(&mut connector.connect().await.unwrap(), &post("/a?v=1", "x")).await.unwrap().status,
        400
    );
    served.stop().await.assert_nothing_leaks();
}

#[tokio::test]
async fn an_invoice_is_served_to_one_payer_at_a_time() {
    let (served, connector) = in_memory(quick()).await;
    served.stage.world.stalled.store(true, Ordering::SeqCst);
    let mut first = connector.connect().await.unwrap();
    first.write_all(&honest("a", 1)).await.unwrap();
    until(|| served.stage.world.inspecting.load(Ordering::SeqCst) == 1).await;
    let second = send(&mut connector.connect().await.unwrap(), &honest("a", 2)).await.unwrap();
    assert_eq!(second.status, 503);
    served.stage.world.inspections.add_permits(2);
    assert_eq!(send(&mut first, b"").await.unwrap().status, 200);
    assert_eq!(send(&mut connector.connect().await.unwrap(), &honest("a", 2)).await.unwrap().status, 200);
    served.stop().await.assert_nothing_leaks();
}

#[tokio::test]
async fn an_exchange_past_its_time_is_answered_and_goes_on() {
    let limits = Limits { exchange_time: Duration::from_millis(300), ..quick() };
    let (served, connector) = in_memory(limits).await;
    served.stage.world.stalled.store(true, Ordering::SeqCst);
    let late = send(&mut connector.connect().await.unwrap(), &honest("a", 1)).await.unwrap();
    assert_eq!(late.status, 503);
    served.stage.world.inspections.add_permits(1);
    until(|| !ready(served.stage.host.store.exchanges(None, 1)).unwrap().is_empty()).await;
    until(|| served.server.inner.host.serving().is_empty()).await;
    assert_eq!(send(&mut connector.connect().await.unwrap(), &honest("a", 1)).await.unwrap().status, 200);
    served.stop().await;
}

#[tokio::test]
async fn stopping_lets_exchanges_end_and_takes_no_new_ones() {
    let (served, connector) = in_memory(quick()).await;
    served.stage.world.stalled.store(true, Ordering::SeqCst);
    let mut staying = connector.connect().await.unwrap();
    staying.write_all(&honest("a", 1)).await.unwrap();
    let mut leaving = connector.connect().await.unwrap();
    served.stage.invoice("b").await;
    leaving.write_all(&honest("b", 2)).await.unwrap();
    until(|| served.stage.world.inspecting.load(Ordering::SeqCst) == 2).await;
    drop(leaving);
    let world = served.stage.world.clone();
    let stopping = tokio::spawn(served.stop());
    sleep(Duration::from_millis(100)).await;
    assert!(!stopping.is_finished());
    let mut late = connector.connect().await.unwrap();
    late.write_all(&honest("a", 3)).await.unwrap();
    world.inspections.add_permits(2);
    assert_eq!(send(&mut staying, b"").await.unwrap().status, 200);
    let stage = stopping.await.unwrap();
    assert_eq!(
        stage.host.store.exchanges(None, 9).await.unwrap().len(),
        2,
        "with the payer who left, without the late one"
    );
    stage.assert_nothing_leaks();
}
