//! lightningd's wallet as the wallet of an exchange.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bitcoin::psbt::Input;
use bitcoin::{OutPoint, Psbt, ScriptBuf, TxOut};
use payjoin_core::{
    CheckedProposal, Coin, Holder, LedgerError, Reserve, ResourceRequest, Wallet, WalletError,
};
use serde_json::{Value, json};

use super::Cln;
use super::error::RpcError;
use super::purse::{Purse, RESERVED, naming};
use super::reply;
use crate::lock::lock;
use crate::witness;

/// More blocks than any reservation has.
const ALL: u32 = 1_000_000;

impl From<RpcError> for WalletError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Away(why) | RpcError::Access(why) => Self::Away(why),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl Cln {
    /// Makes lightningd's reservations what the locks say: new ones are taken, those that end soon are taken anew, those that
    /// nobody needs are given back.
    pub(super) async fn keep_locks(&self) -> Result<(), WalletError> {
        let _turn = self.turn.lock().await;
        let ((new, again), freed, mut pledged) = {
            let purse = lock(&self.purse);
            (purse.to_take(), purse.to_free(), purse.taken.iter().copied().collect::<BTreeSet<_>>())
        };
        let failed = |error: LedgerError| WalletError::Refused(error.to_string());
        if !new.is_empty() {
            pledged.extend(&new);
            self.pledges.write(&pledged).await.map_err(failed)?;
            self.reserve_inputs(&new, true).await?;
        }
        if !again.is_empty() {
            self.reserve_inputs(&again, false).await?;
        }
        if !freed.is_empty()
            && let Some(psbt) = naming(&freed)
        {
            let params = json!({ "psbt": psbt.to_string(), "reserve": ALL });
            self.rpc.call("unreserveinputs", params).await?;
            {
                let mut purse = lock(&self.purse);
                for coin in &freed {
                    purse.taken.remove(coin);
                    purse.reserved.entry(*coin).and_modify(|until| *until = None);
                }
            }
            pledged.retain(|coin| !freed.contains(coin));
            self.pledges.write(&pledged).await.map_err(failed)?;
        }
        Ok(())
    }

    /// `exclusive`: only coins that nobody has reserved.
    async fn reserve_inputs(&self, coins: &[OutPoint], exclusive: bool) -> Result<(), RpcError> {
        const METHOD: &str = "reserveinputs";
        let Some(psbt) = naming(coins) else { return Ok(()) };
        let params = json!({ "psbt": psbt.to_string(), "exclusive": exclusive, "reserve": RESERVED });
        let answer = self.rpc.call(METHOD, params).await?;
        let rows =
            answer.get("reservations").and_then(Value::as_array).ok_or(RpcError::Unexpected(METHOD))?;
        let until = |row: &Value| u32::try_from(row.get("reserved_to_block")?.as_u64()?).ok();
        let mut purse = lock(&self.purse);
        for (coin, row) in coins.iter().zip(rows) {
            purse.taken.insert(*coin);
            purse.reserved.insert(*coin, until(row));
        }
        Ok(())
    }

    /// Coins that are offered or committed are ours again after a restart, also where an earlier process reserved them. What
    /// it reserved for nothing that is left is given back.
    pub(super) async fn retake(&self, held: Vec<(Holder, Vec<OutPoint>)>) -> Result<(), WalletError> {
        let pledged = self.pledges.read().map_err(|error| WalletError::Refused(error.to_string()))?;
        {
            let mut purse = lock(&self.purse);
            for (holder, coins) in held {
                purse.coins.hold(holder, &coins);
            }
            let Purse { taken, reserved, .. } = &mut *purse;
            let kept = |coin: &OutPoint| matches!(reserved.get(coin), Some(Some(_)));
            taken.extend(pledged.into_iter().filter(kept));
        }
        self.keep_locks().await
    }

    /// Whether lightningd gives each of these coins to nobody else.
    fn are_taken(&self, coins: impl Iterator<Item = OutPoint>) -> bool {
        let purse = lock(&self.purse);
        let mut coins = coins;
        coins.all(|coin| purse.taken.contains(&coin))
    }

    async fn signed(&self, bare: &Psbt, ours: &[usize]) -> Result<Psbt, WalletError> {
        const METHOD: &str = "signpsbt";
        let params = json!({ "psbt": bare.to_string(), "signonly": ours });
        let answer = self.rpc.call(METHOD, params).await?;
        let signed = reply::text(&answer, "signed_psbt").and_then(|psbt| psbt.parse::<Psbt>().ok());
        let signed = signed.ok_or(RpcError::Unexpected(METHOD))?;
        match signed.unsigned_tx == bare.unsigned_tx && signed.inputs.len() == bare.inputs.len() {
            true => Ok(signed),
            false => Err(WalletError::Refused("Core Lightning signed another transaction".to_owned())),
        }
    }
}

/// What each input spends. lightningd ends with a failure of its signer when one is missing beside a taproot coin: it is
/// never asked then.
fn prevouts(psbt: &Psbt) -> Result<Vec<TxOut>, WalletError> {
    let spent = |at| psbt.spend_utxo(at).cloned();
    let spent = (0..psbt.inputs.len()).map(spent).collect::<Result<_, _>>();
    spent.map_err(|_| WalletError::Refused("an input lacks the output that it spends".to_owned()))
}

/// The transaction, and of each input what it spends.
fn bare(psbt: &Psbt, prevouts: &[TxOut]) -> Result<Psbt, WalletError> {
    let mut bare = Psbt::from_unsigned_tx(psbt.unsigned_tx.clone())
        .map_err(|_| WalletError::Refused("the transaction is signed already".to_owned()))?;
    for (input, spent) in bare.inputs.iter_mut().zip(prevouts) {
        input.witness_utxo = Some(spent.clone());
    }
    Ok(bare)
}

#[async_trait]
impl Wallet for Cln {
    async fn owns(&self, scripts: &[ScriptBuf]) -> Result<Vec<bool>, WalletError> {
        if let Some(trouble) = self.trouble_now() {
            return Err(WalletError::Away(trouble));
        }
        let purse = lock(&self.purse);
        Ok(scripts.iter().map(|script| purse.owns(script)).collect())
    }

    async fn reserve(
        &self,
        holder: Holder,
        request: &ResourceRequest,
        shown: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), WalletError> {
        if let Some(trouble) = self.trouble_now() {
            return Err(WalletError::Away(trouble));
        }
        let mut purse = lock(&self.purse);
        let coins = purse.coins.offer(holder, &request.payer_script, shown);
        let offered = coins.iter().map(|coin| coin.txout.value).sum();
        let balance = purse.coins.free().value + offered;
        let (existing, per_channel) = self.kept_back();
        Ok((coins, Reserve { balance, existing, per_channel, stock: None }))
    }

    async fn hold(&self, holder: Holder, coins: &[OutPoint]) -> Result<(), WalletError> {
        lock(&self.purse).coins.hold(holder, coins);
        let kept = self.keep_locks().await;
        if kept.is_err() {
            // Perhaps somebody else was faster.
            self.stale.notify_one();
        }
        kept
    }

    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, WalletError> {
        let (psbt, ours) = (proposal.psbt(), proposal.our_inputs());
        if ours.is_empty() {
            return Ok(psbt.clone());
        }
        let coins = || {
            let inputs = ours.iter().filter_map(|at| psbt.unsigned_tx.input.get(*at));
            inputs.map(|input| input.previous_output)
        };
        if !self.are_taken(coins()) {
            self.keep_locks().await?;
        }
        if !self.are_taken(coins()) {
            self.stale.notify_one();
            return Err(WalletError::Refused("Core Lightning has given a coin to somebody else".to_owned()));
        }
        let prevouts = prevouts(psbt)?;
        let answer =
            self.signed(&bare(psbt, &prevouts)?, ours).await.inspect_err(|_| self.stale.notify_one())?;
        let refused = |error: witness::WitnessError| WalletError::Refused(error.to_string());
        let mut signed = psbt.clone();
        for &at in ours {
            let (Some(given), Some(input)) = (answer.inputs.get(at), signed.inputs.get_mut(at)) else {
                return Err(WalletError::Refused(format!("there is no input {at}")));
            };
            let witness = witness::witness(given, at).map_err(refused)?;
            witness::check(&psbt.unsigned_tx, &prevouts, at, &witness).map_err(refused)?;
            // BIP 174, finalizer: only the spent output and the final witness stay.
            *input = Input {
                witness_utxo: prevouts.get(at).cloned(),
                non_witness_utxo: input.non_witness_utxo.take(),
                final_script_witness: Some(witness),
                ..Input::default()
            };
        }
        Ok(signed)
    }
}
