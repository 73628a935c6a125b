//! Slots at peers, and what was learned of them.

use super::*;

/// The peer of every intent of the fixture.
fn peer() -> bitcoin::secp256k1::PublicKey {
    wish().peer.node_id()
}

fn failure(intent: IntentId, kind: FailureKind) -> ChannelFailure {
    ChannelFailure { intent, kind, text: "it does not want to".into(), said: Some("no".into()) }
}

impl Fixture {
    /// Takes these intents for an exchange with an Original of this name.
    async fn taking(&self, name: &str, input: u32, which: &[usize]) -> ExchangeId {
        let intents = which.iter().map(|n| self.intents[*n]).collect();
        self.admitted(&Admission { intents, ..admission(name, &[input]) }).await
    }

    async fn release_channels(&self, exchange: ExchangeId, which: &[usize]) {
        let channels = which.iter().map(|n| channel(self.intents[*n], 0)).collect();
        let released = Release { channels, ..release() };
        self.ledger.release(exchange, &released, Vec::new()).await.unwrap();
    }

    async fn fails(&self, exchange: ExchangeId, which: usize, kind: FailureKind) {
        let failures = [failure(self.intents[which], kind)];
        self.ledger.record_failures(exchange, &failures, NOW, HEIGHT).await.unwrap();
    }

    /// What is known of the peer at this height.
    async fn known(&self, height: u32) -> Option<PeerRecord> {
        let records = self.ledger.peer_records(height).await.unwrap();
        records.into_iter().find(|record| record.peer == peer())
    }

    async fn taken(&self, height: u32) -> u32 {
        self.known(height).await.map_or(0, |record| record.taken)
    }

    async fn is_full(&self) -> bool {
        self.known(HEIGHT).await.is_some_and(|record| record.is_full())
    }
}

pub async fn money_rule_12_a_slot_is_taken_before_the_peer_hears_of_it_and_kept_across_a_crash(
    new: NewHome<'_>,
) {
    let fixture = Fixture::new(new).await;
    fixture.taking("first", 1, &[0, 1]).await;
    let fixture = fixture.reopened().await;
    fixture.ledger.recover().await.unwrap();
    let free_at = Some(HEIGHT + FORGOTTEN_AFTER);
    let known = PeerRecord { peer: peer(), room: None, taken: 2, free_at, several: false, busy: false };
    assert_eq!(fixture.known(HEIGHT).await, Some(known));
    // What is taken anew counts beside it.
    fixture.taking("second", 2, &[0]).await;
    assert_eq!(fixture.taken(HEIGHT).await, 3);
}

pub async fn money_rule_12_a_slot_ends_with_the_burial_or_when_the_peer_forgets(new: NewHome<'_>) {
    for (outcome, taken) in [(Settled::Payjoin, 0), (Settled::Original, 1), (Settled::Conflict, 1)] {
        let fixture = Fixture::new(new).await;
        let id = fixture.taking("first", 1, &[0]).await;
        fixture.release_channels(id, &[0]).await;
        assert_eq!(fixture.taken(HEIGHT).await, 1);
        fixture.ledger.settle(id, outcome, NOW).await.unwrap();
        let fixture = fixture.reopened().await;
        assert_eq!(fixture.taken(HEIGHT + FORGOTTEN_AFTER - 1).await, taken, "{outcome:?}");
        assert_eq!(fixture.taken(HEIGHT + FORGOTTEN_AFTER).await, 0);
    }
}

pub async fn money_rule_12_a_slot_that_no_peer_was_asked_to_fund_is_given_back(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.taking("first", 1, &[0, 1]).await;
    fixture.ledger.free_slots(id, &fixture.intents[..1]).await.unwrap();
    assert_eq!(fixture.taken(HEIGHT).await, 1);
    fixture.release_channels(id, &[1]).await;
    fixture.ledger.free_slots(id, &fixture.intents).await.unwrap();
    assert_eq!(fixture.taken(HEIGHT).await, 1, "a payer has it");
    // One of an earlier attempt that may have been funded stays.
    let again = fixture.taking("second", 2, &[0]).await;
    fixture.ledger.fail(again, "interrupted").await.unwrap();
    let again = fixture.taking("second", 2, &[0]).await;
    fixture.ledger.free_slots(again, &fixture.intents[..1]).await.unwrap();
    assert_eq!(fixture.taken(HEIGHT).await, 2);
}

pub async fn money_rule_12_a_second_channel_for_an_intent_takes_a_second_slot_unless_the_peer_is_full(
    new: NewHome<'_>,
) {
    let fixture = Fixture::new(new).await;
    let [first, second, third] = fixture.intents[..] else { panic!("three intents") };
    let id = fixture.taking("first", 1, &[0, 1]).await;
    let take = |intents: &'static [usize]| {
        let intents: Vec<_> = intents.iter().map(|n| fixture.intents[*n]).collect();
        async { fixture.ledger.take_slots(id, &{ intents }, HEIGHT).await.unwrap() }
    };
    assert_eq!(take(&[0]).await, [first]);
    assert_eq!(fixture.taken(HEIGHT).await, 3);
    // That one comes back, the first one does not.
    fixture.ledger.free_slots(id, &[first]).await.unwrap();
    assert_eq!(fixture.taken(HEIGHT).await, 2);
    fixture.ledger.record_answer(peer(), 0, HEIGHT).await.unwrap();
    assert_eq!(take(&[0, 1]).await, [], "it is full");
    fixture.ledger.record_answer(peer(), 1, HEIGHT).await.unwrap();
    assert_eq!(take(&[0, 1]).await, [first], "it has room for one more");
    assert_eq!(fixture.taken(HEIGHT).await, 3);
    // The slot of the payjoin is the last one; the other is lost.
    fixture.release_channels(id, &[0, 1]).await;
    fixture.ledger.settle(id, Settled::Payjoin, NOW).await.unwrap();
    assert_eq!(fixture.taken(HEIGHT).await, 1);
    let _ = (second, third);
}

pub async fn money_rule_12_slots_that_peers_have_forgotten_leave_with_the_next_admission(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    fixture.taking("first", 1, &[0]).await;
    let later = HEIGHT + FORGOTTEN_AFTER;
    let intents = vec![fixture.intents[1]];
    fixture.admitted(&Admission { intents, height: later, ..admission("second", &[2]) }).await;
    // The chain that was longer is not the best one: what has left stays away.
    assert_eq!(fixture.taken(HEIGHT).await, 1);
}

pub async fn money_rule_12_a_peer_that_is_full_has_the_room_that_is_taken(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let first = fixture.taking("first", 1, &[0]).await;
    fixture.release_channels(first, &[0]).await;
    assert!(!fixture.is_full().await, "it never refused");
    let second = fixture.taking("second", 2, &[1]).await;
    fixture.fails(second, 1, FailureKind::Full).await;
    fixture.ledger.fail(second, "it is full").await.unwrap();
    assert!(fixture.is_full().await);
    let known = fixture.known(HEIGHT).await.unwrap();
    assert_eq!((known.room, known.taken, known.free_at), (Some(1), 1, Some(HEIGHT + FORGOTTEN_AFTER)));
    let fixture = fixture.reopened().await;
    assert!(fixture.is_full().await);
    fixture.ledger.settle(first, Settled::Payjoin, NOW).await.unwrap();
    assert!(!fixture.is_full().await, "the channel is confirmed");
    // It holds one that we do not know of.
    let third = fixture.taking("third", 3, &[1]).await;
    fixture.fails(third, 1, FailureKind::Full).await;
    assert!(fixture.is_full().await);
    assert_eq!(fixture.taken(HEIGHT + FORGOTTEN_AFTER).await, 0);
}

pub async fn money_rule_12_a_peer_that_accepts_more_has_more_room(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    fixture.ledger.record_answer(peer(), 0, HEIGHT).await.unwrap();
    assert!(fixture.is_full().await);
    // What it held is gone, or was never ours to count.
    fixture.ledger.record_answer(peer(), 1, HEIGHT).await.unwrap();
    assert!(!fixture.is_full().await);
    let first = fixture.taking("first", 1, &[0]).await;
    fixture.release_channels(first, &[0]).await;
    assert!(fixture.is_full().await, "one is its room as far as it is known");
    fixture.ledger.record_answer(peer(), 1, HEIGHT).await.unwrap();
    assert!(!fixture.is_full().await);
    let second = fixture.taking("second", 2, &[1]).await;
    fixture.release_channels(second, &[1]).await;
    assert_eq!(fixture.known(HEIGHT).await.unwrap().room, Some(2));
    let third = fixture.taking("third", 3, &[2]).await;
    fixture.release_channels(third, &[2]).await;
    assert_eq!(fixture.known(HEIGHT).await.unwrap().room, Some(3));
}

pub async fn an_intent_whose_channel_failed_waits_behind_those_that_failed_less(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let [first, second, third] = fixture.intents[..] else { panic!("three intents") };
    let id = fixture.taking("first", 1, &[0]).await;
    fixture.fails(id, 0, FailureKind::Unreachable).await;
    fixture.ledger.fail(id, "it is gone").await.unwrap();
    assert_eq!(fixture.queued().await, [second, third, first]);
    let waiting = fixture.ledger.waiting().await.unwrap().pop().unwrap();
    let trouble = waiting.trouble.unwrap();
    assert_eq!((waiting.failures, waiting.peer), (1, wish().peer));
    assert_eq!((&*trouble.reason, trouble.said.as_deref()), ("it does not want to", Some("no")));
    assert_eq!(trouble.until, None);
    // A channel that a payer has failed no more.
    let id = fixture.taking("second", 2, &[0]).await;
    fixture.release_channels(id, &[0]).await;
    fixture.ledger.settle(id, Settled::Original, NOW).await.unwrap();
    assert_eq!(fixture.queued().await, fixture.intents);
    assert!(fixture.ledger.waiting().await.unwrap().iter().all(|waiting| waiting.trouble.is_none()));
}

pub async fn an_intent_that_failed_three_times_is_paused_until_its_peer_connects(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let mut pauses = Vec::new();
    for input in 1..=4 {
        let id = fixture.taking(&format!("number {input}"), input, &[0]).await;
        fixture.fails(id, 0, FailureKind::Late).await;
        fixture.ledger.fail(id, "it is slow").await.unwrap();
        pauses.push(fixture.ledger.waiting().await.unwrap().pop().unwrap().trouble.unwrap().until);
    }
    assert_eq!(pauses, [None, None, Some(NOW.plus(600)), Some(NOW.plus(1_200))]);
    let until = |fixture: Fixture| async move {
        let waiting = fixture.ledger.waiting().await.unwrap().pop().unwrap();
        (waiting.trouble.unwrap().until, waiting.failures, fixture)
    };
    let (paused, _, fixture) = until(fixture.reopened().await).await;
    assert_eq!(paused, Some(NOW.plus(1_200)));
    let stranger = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5".parse().unwrap();
    fixture.ledger.resume(&[stranger]).await.unwrap();
    let (paused, _, fixture) = until(fixture).await;
    assert!(paused.is_some());
    fixture.ledger.resume(&[peer()]).await.unwrap();
    let (paused, failures, _) = until(fixture).await;
    assert_eq!((paused, failures), (None, 4));
}

pub async fn a_peer_takes_openings_side_by_side_until_it_refuses_one(new: NewHome<'_>) {
    let several = |fixture: Fixture| async move {
        let several = fixture.known(HEIGHT).await.is_some_and(|record| record.several);
        (several, fixture)
    };
    for kind in [FailureKind::Full, FailureKind::Refused, FailureKind::Closed] {
        let fixture = Fixture::new(new).await;
        fixture.ledger.record_answer(peer(), 1, HEIGHT).await.unwrap();
        let (one, fixture) = several(fixture).await;
        fixture.ledger.record_answer(peer(), 2, HEIGHT).await.unwrap();
        let (two, fixture) = several(fixture.reopened().await).await;
        let id = fixture.taking("first", 1, &[0]).await;
        fixture.fails(id, 0, FailureKind::Unreachable).await;
        let (away, fixture) = several(fixture).await;
        fixture.fails(id, 0, kind).await;
        assert_eq!((one, two, away, several(fixture).await.0), (false, true, true, false), "{kind:?}");
    }
}

pub async fn a_peer_is_busy_while_a_channel_with_it_is_opened(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    assert_eq!(fixture.known(HEIGHT).await, None);
    let id = fixture.taking("first", 1, &[0]).await;
    assert!(fixture.known(HEIGHT).await.unwrap().busy);
    fixture.release_channels(id, &[0]).await;
    assert!(!fixture.known(HEIGHT).await.unwrap().busy);
}

pub async fn proposals_with_channels_that_came_to_nothing_are_counted(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let a = InvoiceId("a".into());
    let wasted = |since, now| fixture.ledger.wasted_offers(since, now);
    let plain = fixture.admitted(&admission("plain", &[9])).await;
    fixture.ledger.release(plain, &release(), Vec::new()).await.unwrap();
    assert_eq!(fixture.ledger.channel_offers(&a).await.unwrap(), 0);
    let first = fixture.taking("first", 1, &[0]).await;
    fixture.release_channels(first, &[0]).await;
    assert_eq!(fixture.ledger.channel_offers(&a).await.unwrap(), 1);
    assert_eq!(fixture.ledger.channel_offers(&InvoiceId("b".into())).await.unwrap(), 0);
    let due = release().fallback_at;
    assert_eq!(wasted(NOW, Timestamp(due.0 - 1)).await.unwrap(), 0);
    assert_eq!(wasted(NOW, due).await.unwrap(), 1);
    assert_eq!(wasted(NOW.plus(1), due).await.unwrap(), 0, "it is long ago");
    fixture.ledger.record_signed(first, &payjoin()).await.unwrap();
    assert_eq!(wasted(NOW, due).await.unwrap(), 0, "the payer signed");
    fixture.ledger.settle(first, Settled::Conflict, NOW).await.unwrap();
    assert_eq!(wasted(NOW, NOW).await.unwrap(), 1);
    let second = fixture.taking("second", 2, &[1]).await;
    fixture.release_channels(second, &[1]).await;
    fixture.ledger.settle(second, Settled::Payjoin, NOW).await.unwrap();
    assert_eq!(wasted(NOW, due).await.unwrap(), 1);
}
