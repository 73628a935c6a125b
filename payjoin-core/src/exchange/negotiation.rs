//! Which of the planned channels go on: those that peers accept, and where one is not signed, the others once more.

use bitcoin::ScriptBuf;

use super::state::{Admitted, State};
use super::{Exchange, plain};
use crate::{Left, Timestamp};

impl Exchange {
    /// Channels that nobody accepted are left out. The amounts of the others stand; what the missing ones would have taken
    /// stays with the payment.
    pub(super) fn opened(
        &self,
        mut admitted: Box<Admitted>,
        answers: Vec<Result<ScriptBuf, String>>,
    ) -> State {
        let wanted = std::mem::take(&mut admitted.wanted);
        if wanted.len() != answers.len() {
            admitted.note("not every channel was answered for");
            return State::Abandon("the funding scripts cannot be used", Some(admitted));
        }
        for (channel, answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok(script) => admitted.open.push((channel, script)),
                Err(why) => admitted.note(&why),
            }
        }
        self.fund(admitted)
    }

    /// The real proposal with the real funding scripts.
    fn fund(&self, mut admitted: Box<Admitted>) -> State {
        if admitted.open.is_empty() {
            let reason = admitted.reason.take();
            return plain(*admitted, reason);
        }
        let (channels, scripts): (Vec<_>, Vec<_>) = admitted.open.iter().cloned().unzip();
        admitted.plan.channels = channels;
        let draft = self
            .drafter(&admitted.vetted)
            .channels(&admitted.plan, &scripts, &admitted.own)
            .and_then(|draft| draft.stable().map(|stable| (draft, stable)));
        match draft {
            Ok((draft, stable)) => State::Fund(admitted, Box::new(draft), stable),
            Err(error) => {
                admitted.note(&error.to_string());
                State::Abandon("the funding scripts cannot be used", Some(admitted))
            }
        }
    }

    /// A channel was not signed. Those that were not given the transaction wait for the next one, and those that were come
    /// back as new channels, all with the coins that were admitted. There is one more round at most, and none once a peer
    /// without a slot to spare has signed: what it holds is lost, and more would be risked for less (money rule 12).
    pub(super) fn short(&self, now: Timestamp, mut admitted: Box<Admitted>, left: Vec<Left>) -> State {
        let mut lost = admitted.again || now >= self.channel_deadline(admitted.begun);
        for ((channel, script), left) in std::mem::take(&mut admitted.open).into_iter().zip(left) {
            match left {
                Left::Open => admitted.open.push((channel, script)),
                Left::Abandoned => {
                    lost |= admitted.scarce.contains(&channel.intent);
                    admitted.wanted.push(channel);
                }
                Left::Failed(failure) => admitted.note(&failure.to_string()),
            }
        }
        if lost || admitted.open.is_empty() && admitted.wanted.is_empty() {
            return State::Abandon("a channel was not signed", Some(admitted));
        }
        admitted.again = true;
        if admitted.wanted.is_empty() { self.fund(admitted) } else { State::Open(admitted) }
    }
}
