//! Tokens of programs that ask over the network, and what they ask once.

use async_trait::async_trait;
use payjoin_core::{Begun, Call, LedgerError, Token, Tokens};

use super::MemoryLedger;
use super::data::Data;

#[async_trait]
impl Tokens for MemoryLedger {
    async fn add_token(&self, token: &Token) -> Result<(), LedgerError> {
        self.write(|data| {
            if data.tokens.contains_key(&token.name) {
                return Err(LedgerError::Conflict(format!("there is a token {}", token.name)));
            }
            data.tokens.insert(token.name.clone(), token.clone());
            Ok(())
        })
    }

    async fn tokens(&self) -> Result<Vec<Token>, LedgerError> {
        self.read(|data| data.tokens.values().cloned().collect())
    }

    async fn revoke_token(&self, name: &str) -> Result<bool, LedgerError> {
        self.write(|data| Ok(data.tokens.remove(name).is_some()))
    }

    async fn begin_call(&self, call: &Call) -> Result<Begun, LedgerError> {
        self.write(|data| Ok(data.begin_call(call)))
    }

    async fn end_call(&self, token: &[u8; 32], key: &str, answer: &str) -> Result<(), LedgerError> {
        self.change(|data| {
            if let Some((_, kept)) = data.calls.get_mut(&(*token, key.to_owned())) {
                *kept = Some(answer.to_owned());
            }
        })
    }
}

impl Data {
    fn begin_call(&mut self, call: &Call) -> Begun {
        if !self.tokens.values().any(|token| token.hash == call.token) {
            return Begun::Revoked;
        }
        self.calls.retain(|_, (made, _)| made.now >= call.forget);
        let name = (call.token, call.key.clone());
        match self.calls.get(&name) {
            None => {
                self.calls.insert(name, (call.clone(), None));
                Begun::New
            }
            Some((made, _)) if made.body != call.body => Begun::Other,
            Some((_, Some(answer))) => Begun::Answered(answer.clone()),
            Some((_, None)) => Begun::Unanswered,
        }
    }
}
