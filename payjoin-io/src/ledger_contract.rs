//! What every [`Ledger`] must do: tests that any implementation runs.
//!
//! ```ignore
//! payjoin_io::ledger_contract!(MyHome::new());
//! ```
//!
//! makes a `#[tokio::test]` of each, with a fresh [`Home`] for each ledger.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

#[doc(hidden)]
pub mod claims;
#[doc(hidden)]
pub mod exchanges;
#[doc(hidden)]
pub mod intents;
#[doc(hidden)]
pub mod journal;
#[doc(hidden)]
pub mod own;
#[doc(hidden)]
pub mod payments;
#[doc(hidden)]
pub mod peers;
#[doc(hidden)]
pub mod plain;
#[doc(hidden)]
pub mod prune;
#[doc(hidden)]
pub mod state;
#[doc(hidden)]
pub mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use payjoin_core::{
    Admission, AdmitOutcome, ChannelAmount, ChannelEnd, ChannelFailure, ChannelLimits, ChannelSpec, Claim,
    Closure, Entry, EntryId, EntryKind, ExchangeId, ExchangeRecord, ExchangeState, FORGOTTEN_AFTER, Fact,
    FailureKind, FundedChannel, Holder, IntentId, IntentState, Invoice, InvoiceId, Ledger, LedgerError,
    LightningEnd, LightningPayment, LightningRecord, Moved, Movement, OriginalId, Paid, PeerRecord, Release,
    SessionKey, SessionKind, Settled, StateWrite, Timestamp,
};

use self::state::kv;

/// Where a ledger lives.
#[async_trait]
pub trait Home: Send + Sync {
    /// The ledger, with all that is durable in it. Called again after a process died: the one before is dropped.
    async fn open(&self) -> Arc<dyn Ledger>;
}

/// Gives a home without a ledger in it.
pub type NewHome<'a> = &'a (dyn Fn() -> Box<dyn Home> + Sync);

/// Makes a test of each rule; see [`ledger_contract`](crate::ledger_contract).
#[macro_export]
macro_rules! ledger_contract {
    ($home:expr) => {
        $crate::ledger_contract!(@ $home, exchanges:
            an_invoice_is_found_by_its_name an_exchange_needs_an_invoice_that_exists
            money_rule_8_an_original_with_one_seen_input_writes_nothing
            money_rule_8_the_same_original_is_answered_with_the_same_bytes_after_a_crash
            money_rule_8_coins_and_offers_of_an_invoice_are_those_shown_for_it
            an_offer_is_admitted_and_released_in_one_write_or_not_at_all
            an_original_whose_exchange_failed_takes_it_over_and_keeps_its_deadline
            money_rule_7_coins_stay_locked_until_the_obligation_ends
            money_rule_7_a_coin_is_shared_by_attempts_at_one_invoice_only
            money_rule_7_a_proposal_cannot_spend_a_coin_that_was_never_locked
            money_rule_1_the_nodes_state_is_written_with_the_proposal_or_neither
            an_original_is_owed_from_admission_until_it_is_settled
            an_interrupted_exchange_frees_its_coins_and_intents
            what_was_mined_is_kept_and_forgotten_with_the_block an_exchange_is_shown_with_its_channels
            a_transaction_id_that_a_signature_may_change_is_not_shown an_exchange_is_released_or_fails_once
            an_exchange_stands_where_the_writes_before_left_it
            a_number_is_given_once_and_never_that_of_another_exchange
        );
        $crate::ledger_contract!(@ $home, claims:
            a_code_that_was_paid_over_lightning_admits_no_original
            a_code_of_which_an_original_is_kept_takes_no_lightning_payment
            a_lightning_payment_for_no_code_is_nobodys_business
        );
        $crate::ledger_contract!(@ $home, tokens:
            a_token_is_kept_under_one_name_until_it_is_revoked
            a_call_begins_once_and_has_one_answer
            a_revoked_token_begins_nothing
        );
        $crate::ledger_contract!(@ $home, plain:
            a_payment_without_payjoin_is_an_exchange_with_an_outcome
            a_payment_without_payjoin_is_recorded_once_whatever_is_told_again
            what_spends_an_input_of_an_exchange_at_the_same_invoice_is_its_outcome
            a_payment_that_was_given_up_and_comes_back_has_its_number_again
        );
        $crate::ledger_contract!(@ $home, prune:
            what_settled_long_ago_keeps_no_transactions_and_all_that_is_told_of_it
            what_was_pruned_is_recognised_when_it_is_told_again
            cancelled_intents_leave_and_their_numbers_are_not_given_again
            a_payjoin_is_lost_once_another_spend_lies_deep_enough values_move_together_to_another_namespace
        );
        $crate::ledger_contract!(@ $home, intents:
            money_rule_9_an_intent_is_taken_by_one_exchange
            money_rule_9_an_intent_goes_from_the_queue_to_an_open_channel
            money_rule_9_an_intent_whose_payjoin_lost_is_queued_with_the_reason
            an_intent_that_failed_keeps_its_place_in_the_queue
            an_intent_is_given_back_as_it_was_queued a_cancelled_intent_is_never_taken
            money_rule_9_a_channel_that_closes_ends_its_intent_once_its_payjoin_is_buried
            money_rule_9_a_channel_that_closed_before_its_payjoin_lost_is_queued_again
        );
        $crate::ledger_contract!(@ $home, own:
            money_rule_1_an_opening_of_our_own_is_kept_with_its_transaction
            money_rule_9_an_opening_of_our_own_that_was_interrupted_owes_nothing
            what_comes_back_of_an_opening_is_no_payment
            an_intent_is_due_at_its_moment_and_only_while_it_is_queued
            a_payment_that_is_mined_without_a_channel_makes_intents_due
        );
        $crate::ledger_contract!(@ $home, payments:
            money_rule_7_the_coins_of_a_payment_are_locked_until_it_is_settled_across_a_restart
            a_log_keeps_its_order_and_its_end_across_a_restart
        );
        $crate::ledger_contract!(@ $home, peers:
            money_rule_12_a_slot_is_taken_before_the_peer_hears_of_it_and_kept_across_a_crash
            money_rule_12_a_slot_ends_with_the_burial_or_when_the_peer_forgets
            money_rule_12_a_slot_that_no_peer_was_asked_to_fund_is_given_back
            money_rule_12_a_second_channel_for_an_intent_takes_a_second_slot_unless_the_peer_is_full
            money_rule_12_slots_that_peers_have_forgotten_leave_with_the_next_admission
            money_rule_12_a_peer_that_is_full_has_the_room_that_is_taken
            money_rule_12_a_peer_that_accepts_more_has_more_room
            an_intent_whose_channel_failed_waits_behind_those_that_failed_less
            an_intent_that_failed_three_times_is_paused_until_its_peer_connects
            a_peer_takes_openings_side_by_side_until_it_refuses_one
            a_peer_is_busy_while_a_channel_with_it_is_opened
            proposals_with_channels_that_came_to_nothing_are_counted
        );
        $crate::ledger_contract!(@ $home, journal:
            what_becomes_of_a_payment_is_told_in_its_order_and_across_a_restart
            a_payment_that_does_not_arrive_is_told_as_lost
            a_write_that_fails_tells_nothing words_of_the_operator_for_a_code_are_with_what_is_told_of_it
            a_code_that_nobody_pays_expires_once old_entries_leave_and_their_numbers_are_not_given_again
            a_reader_goes_on_where_it_was_and_is_woken_by_the_next_entry
            a_payment_over_lightning_ends_once_and_well_for_good
        );
        $crate::ledger_contract!(@ $home, state:
            a_stale_channel_manager_never_replaces_a_newer_one values_of_the_node_are_read_listed_and_removed
            changes_of_the_wallet_keep_their_order_and_can_be_summed_up
        );
    };
    (@ $home:expr, $topic:ident: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::ledger_contract::$topic::$case(&|| Box::new($home)).await;
            }
        )*
    };
}

const NOW: Timestamp = Timestamp(1_800_000_000);
/// Of the best block then.
const HEIGHT: u32 = 900_000;

/// A ledger with two invoices and three queued intents.
struct Fixture {
    home: Box<dyn Home>,
    ledger: Arc<dyn Ledger>,
    intents: Vec<IntentId>,
}

impl Fixture {
    async fn new(new: NewHome<'_>) -> Self {
        let home = new();
        let ledger = home.open().await;
        for name in ["a", "b"] {
            ledger.insert_invoice(&invoice(name)).await.unwrap();
        }
        let mut intents = Vec::new();
        for _ in 0..3 {
            intents.push(ledger.queue_intent(wish(), LIMITS, None).await.unwrap());
        }
        Self { home, ledger, intents }
    }

    /// As after kill -9 and a new start: nothing of the old ledger's memory is used again.
    async fn reopened(self) -> Self {
        let Self { home, ledger, intents } = self;
        drop(ledger);
        let ledger = home.open().await;
        Self { home, ledger, intents }
    }

    async fn number(&self, admission: &Admission) -> ExchangeId {
        let failed = self.ledger.failed_exchange(&admission.original_id).await.unwrap();
        failed.unwrap_or_else(|| self.ledger.new_exchange())
    }

    async fn admit(&self, admission: &Admission) -> Result<AdmitOutcome, LedgerError> {
        self.ledger.admit(self.number(admission).await, admission).await
    }

    async fn admitted(&self, admission: &Admission) -> ExchangeId {
        let id = self.number(admission).await;
        assert_eq!(self.ledger.admit(id, admission).await.unwrap(), AdmitOutcome::Admitted);
        id
    }

    async fn state(&self, intent: usize) -> IntentState {
        self.ledger.intent(self.intents[intent]).await.unwrap().unwrap().state
    }

    async fn queued(&self) -> Vec<IntentId> {
        self.ledger.waiting().await.unwrap().iter().map(|waiting| waiting.wish.id).collect()
    }

    /// A coin for each holder of it.
    async fn locked(&self) -> Vec<OutPoint> {
        self.ledger.holds().await.unwrap().into_iter().flat_map(|(_, coins)| coins).collect()
    }

    /// Whatever changes when an exchange is admitted.
    async fn picture(&self) -> String {
        let (holds, owed) = (self.ledger.holds().await.unwrap(), self.ledger.obligations().await.unwrap());
        let (exchanges, intents) =
            (self.ledger.exchanges(None, 10).await.unwrap(), self.ledger.intents().await.unwrap());
        format!("{holds:?} {owed:?} {exchanges:?} {intents:?}")
    }
}

fn invoice(name: &str) -> Invoice {
    Invoice {
        id: InvoiceId(name.into()),
        script: ScriptBuf::from_bytes(vec![0x51]),
        amount: Some(Amount::from_sat(100_000)),
        created: NOW,
        expires: NOW.plus(3600),
        payer_is_me: false,
        top_up: false,
        label: None,
        own_id: None,
    }
}

fn wish() -> ChannelSpec {
    let peer = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:9735";
    let (peer, amount) = (peer.parse().unwrap(), ChannelAmount::Exact(Amount::from_sat(50_000)));
    ChannelSpec { peer, amount, push: Amount::from_sat(7), announced: true }
}

const LIMITS: ChannelLimits =
    ChannelLimits { min: Amount::from_sat(1_000), max: Amount::from_sat(10_000_000) };

/// Coin number `n` of whoever.
fn coin(n: u32) -> OutPoint {
    OutPoint { txid: Txid::all_zeros(), vout: n }
}

fn spend(coins: &[u32]) -> Transaction {
    let input = |n: &u32| TxIn {
        previous_output: coin(*n),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: vec![output],
    }
}

/// The Original named `name` spends these inputs to invoice `a`.
fn admission(name: &str, inputs: &[u32]) -> Admission {
    Admission {
        invoice: InvoiceId("a".into()),
        original_id: OriginalId(name.into()),
        original: spend(inputs),
        fee: Amount::from_sat(1_000),
        coins: Vec::new(),
        intents: Vec::new(),
        now: NOW,
        height: HEIGHT,
        fallback_at: NOW.plus(600),
    }
}

fn release() -> Release {
    Release {
        proposal: "cHNidP8=".into(),
        txid: payjoin().compute_txid(),
        is_final: true,
        fee: Amount::from_sat(2_000),
        channels: Vec::new(),
        reason: None,
        coins: Vec::new(),
        partitions: Some(2),
        fallback_at: NOW.plus(700),
        signed: None,
    }
}

fn payjoin() -> Transaction {
    spend(&[1, 101])
}

fn channel(intent: IntentId, vout: u32) -> FundedChannel {
    FundedChannel { intent, vout, amount: Amount::from_sat(50_000) }
}
