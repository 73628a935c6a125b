//! A host that plays chain, wallet, store and Lightning node by script.

use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, TxOut, Witness};
use payjoin_core::{
    Acceptance, Admission, Answer, ChannelWish, CheckedProposal, Exchange, ExchangeId, Inspection, IntentId,
    Invoice, Left, Output, PlannedChannel, Policy, Question, Release, Reply, Request, Reserve, Resources,
    StableProposal, Timestamp,
};

use super::{Kind, NOW, Spend, funding_script, invoice, script, sign, txout};

/// How the Lightning node behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lightning {
    #[default]
    Works,
    OpenFails,
    FundFails,
    /// The channels at these places are not accepted.
    SomeFail(Vec<usize>),
    /// Gives these funding scripts.
    Scripts(Vec<ScriptBuf>),
    /// This is what is left of the channels, each time that they are funded; afterwards it works.
    Short(Vec<Vec<Left>>),
}

/// How the wallet signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Signing {
    #[default]
    Works,
    Fails,
    /// Leaves our inputs unsigned.
    Nothing,
    /// Signs with a type that binds no outputs.
    SighashNone,
    /// Signs an input of the payer.
    Theirs,
    /// Takes a satoshi from an output first.
    OtherTransaction,
    /// Writes a scriptSig into the transaction, which leaves its id without scriptSigs as it was.
    ScriptSig,
}

/// Answers every question, and keeps what was asked.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) prevouts: Vec<Option<TxOut>>,
    pub(crate) acceptable: Acceptance,
    /// The least that the mempool takes.
    pub(crate) floor: FeeRate,
    pub(crate) ours: Vec<ScriptBuf>,
    pub(crate) wishes: Vec<ChannelWish>,
    pub(crate) coins: Vec<Spend>,
    /// Coins that an unfinished attempt at the invoice holds.
    pub(crate) shown: Vec<OutPoint>,
    pub(crate) reserve: Reserve,
    pub(crate) recall: Option<String>,
    pub(crate) seen: bool,
    /// The invoice was paid over Lightning.
    pub(crate) paid: bool,
    pub(crate) lightning: Lightning,
    pub(crate) signing: Signing,
    pub(crate) release_fails: bool,
    pub(crate) no_scripts: bool,
    pub(crate) real: bool,
    /// What the operator says of the invoice.
    pub(crate) payer_is_me: bool,
    pub(crate) now: Timestamp,
    /// Names of the questions, in order.
    pub(crate) asked: Vec<&'static str>,
    pub(crate) channels_offered: Option<bool>,
    pub(crate) admission: Option<Admission>,
    /// Scripts of ours for what was split off the change.
    pub(crate) own: Vec<ScriptBuf>,
    pub(crate) opened: Vec<PlannedChannel>,
    /// How many scripts it gave.
    pub(crate) scripts: u32,
    pub(crate) stable: Option<StableProposal>,
    /// Intents that were to be funded last.
    pub(crate) last: Vec<IntentId>,
    /// Intents whose peers have no slot to spare.
    pub(crate) scarce: Vec<IntentId>,
    pub(crate) checked: Option<CheckedProposal>,
    pub(crate) release: Option<Release>,
    pub(crate) abandoned: Vec<&'static str>,
}

impl Host {
    pub(crate) fn new(spends: &[Spend]) -> Self {
        Self {
            prevouts: spends.iter().map(|spend| Some(spend.txout.clone())).collect(),
            acceptable: Acceptance::Yes,
            floor: FeeRate::BROADCAST_MIN,
            ours: Vec::new(),
            wishes: Vec::new(),
            coins: Vec::new(),
            shown: Vec::new(),
            reserve: Reserve::default(),
            recall: None,
            seen: false,
            paid: false,
            lightning: Lightning::Works,
            signing: Signing::Works,
            release_fails: false,
            no_scripts: false,
            real: true,
            payer_is_me: false,
            now: NOW,
            asked: Vec::new(),
            channels_offered: None,
            admission: None,
            own: Vec::new(),
            opened: Vec::new(),
            scripts: 0,
            stable: None,
            last: Vec::new(),
            scarce: Vec::new(),
            checked: None,
            release: None,
            abandoned: Vec::new(),
        }
    }

    /// Gives the wallet coins, and a balance that holds them.
    pub(crate) fn with_coins(mut self, coins: &[Spend]) -> Self {
        self.coins = coins.to_vec();
        self.reserve.balance = coins.iter().map(|coin| coin.txout.value).sum();
        self
    }

    pub(crate) fn with_wishes(mut self, wishes: &[ChannelWish]) -> Self {
        self.wishes = wishes.to_vec();
        self
    }

    fn answer(&mut self, question: Question) -> (&'static str, Answer) {
        match question {
            Question::Recall(_) => ("recall", Answer::Recalled(self.recall.clone())),
            Question::Inspect(_) => {
                let (acceptable, prevouts) = (self.acceptable.clone(), self.prevouts.clone());
                ("inspect", Answer::Inspected(Inspection { acceptable, prevouts, floor: self.floor }))
            }
            Question::Owns(scripts) => {
                ("owns", Answer::Owned(scripts.iter().map(|script| self.ours.contains(script)).collect()))
            }
            Question::Resources(request) => {
                self.channels_offered = Some(request.channels);
                let coins = self.coins.iter().map(Spend::coin).collect();
                let resources = Resources {
                    wishes: self.wishes.clone(),
                    scarce: self.scarce.clone(),
                    coins,
                    shown: self.shown.clone(),
                    reserve: self.reserve,
                    ..Resources::default()
                };
                ("resources", Answer::Resources(resources))
            }
            Question::Admit(_) if self.seen => ("admit", Answer::Seen),
            Question::Admit(_) if self.paid => ("admit", Answer::Paid),
            Question::Admit(admission) => {
                self.admission = Some(admission);
                ("admit", Answer::Admitted(ExchangeId(1)))
            }
            Question::Scripts(_) if self.no_scripts => ("scripts", Answer::Failed("the disk is full".into())),
            Question::Scripts(count) => {
                self.own = (0..count as u32).map(|index| script(Kind::P2wpkh, 20_000 + index)).collect();
                ("scripts", Answer::Scripts(self.own.clone()))
            }
            Question::OpenChannels(channels) => ("open", self.open(channels)),
            Question::Fund(stable, last) => {
                (self.stable, self.last) = (Some(stable), last);
                let answer = match &mut self.lightning {
                    Lightning::FundFails => Answer::ChannelsFailed("the peer hung up".into()),
                    Lightning::Short(left) if !left.is_empty() => Answer::Short(left.remove(0)),
                    _ => Answer::Funded,
                };
                ("fund", answer)
            }
            Question::Abandon(reason) => {
                self.abandoned.push(reason);
                ("abandon", Answer::Abandoned)
            }
            Question::Sign(checked) => ("sign", self.sign(checked)),
            Question::Release(..) if self.release_fails => ("release", Answer::Failed("disk full".into())),
            Question::Offer(..) if self.release_fails => ("offer", Answer::Failed("disk full".into())),
            Question::Offer(..) if self.seen => ("offer", Answer::Seen),
            Question::Offer(..) if self.paid => ("offer", Answer::Paid),
            Question::Release(_, release) => {
                self.release = Some(release);
                ("release", Answer::Released)
            }
            Question::Offer(admission, release) => {
                (self.admission, self.release) = (Some(*admission), Some(release));
                ("offer", Answer::Released)
            }
        }
    }

    fn open(&mut self, channels: Vec<PlannedChannel>) -> Answer {
        self.opened = channels;
        match &self.lightning {
            Lightning::OpenFails => Answer::ChannelsFailed("the peer is offline".into()),
            Lightning::Scripts(scripts) => Answer::Opened(scripts.iter().cloned().map(Ok).collect()),
            Lightning::SomeFail(failing) => {
                let answer = |index: usize| match failing.contains(&index) {
                    true => Err(format!("number {index} is away")),
                    false => Ok(funding_script(index as u32)),
                };
                Answer::Opened((0..self.opened.len()).map(answer).collect())
            }
            Lightning::Works | Lightning::FundFails | Lightning::Short(_) => {
                // No channel has the script of another one.
                let first = self.scripts;
                self.scripts += self.opened.len() as u32;
                Answer::Opened((first..self.scripts).map(|index| Ok(funding_script(index))).collect())
            }
        }
    }

    fn sign(&mut self, checked: CheckedProposal) -> Answer {
        let mut psbt = checked.psbt().clone();
        let prevouts: Vec<TxOut> = psbt
            .iter_funding_utxos()
            .map(|utxo| utxo.cloned().unwrap_or_else(|_| txout(0, ScriptBuf::new())))
            .collect();
        sign(&mut psbt, &self.coins, &prevouts, self.real);
        let ours = checked.our_inputs().to_vec();
        let theirs = (0..psbt.inputs.len()).find(|index| !ours.contains(index)).unwrap();
        match self.signing {
            Signing::Works => {}
            Signing::Fails => return Answer::Failed("the signer is gone".into()),
            Signing::Nothing => ours.iter().for_each(|index| psbt.inputs[*index].final_script_witness = None),
            Signing::SighashNone => {
                for index in &ours {
                    let mut items = psbt.inputs[*index].final_script_witness.as_ref().unwrap().to_vec();
                    *items[0].last_mut().unwrap() = 2;
                    psbt.inputs[*index].final_script_witness = Some(Witness::from_slice(&items));
                }
            }
            Signing::Theirs => {
                psbt.inputs[theirs].final_script_witness = Some(Witness::from_slice(&[[1; 64]]))
            }
            Signing::OtherTransaction => psbt.unsigned_tx.output[0].value -= Amount::ONE_SAT,
            Signing::ScriptSig => psbt.unsigned_tx.input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]),
        }
        self.checked = Some(checked);
        Answer::Signed(Box::new(psbt))
    }

    /// Answers one question; gives the reply when there is none left.
    pub(crate) fn step(&mut self, exchange: &mut Exchange) -> Option<Reply> {
        match exchange.poll_output() {
            Output::Done(reply) => Some(reply),
            Output::Ask(question) => {
                let (name, answer) = self.answer(question);
                self.asked.push(name);
                exchange.handle_input(self.now, answer).unwrap();
                None
            }
        }
    }

    /// Runs an exchange to its end.
    pub(crate) fn run(&mut self, exchange: &mut Exchange) -> Reply {
        loop {
            if let Some(reply) = self.step(exchange) {
                return reply;
            }
        }
    }

    /// Runs one request against the usual invoice and the default policy.
    pub(crate) fn exchange(&mut self, request: Request) -> Reply {
        let invoice = Invoice { payer_is_me: self.payer_is_me, ..invoice() };
        self.run(&mut Exchange::new(NOW, invoice, request, Policy::default()))
    }
}
