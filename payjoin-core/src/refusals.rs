//! Every refusal that a payer can read, in one table: `docs/errors.md` is made from it.

use crate::{ErrorCode, Reply};

/// One refusal: what the payer reads, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code of BIP 78.
    pub code: ErrorCode,
    /// HTTP status that a v1 server sends with it.
    pub status: u16,
    /// What the payer's wallet gets to read, in its log or on its screen.
    pub message: &'static str,
    /// How it comes to that.
    pub cause: &'static str,
    /// What the operator or the payer does about it.
    pub remedy: &'static str,
}

impl Refusal {
    const fn reply(self) -> Reply {
        Reply::Error { code: self.code, message: self.message, status: self.status }
    }
}

/// Names each refusal as the reply that it is, and lists them all.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:ident $status:literal, $message:literal, $cause:literal, $remedy:literal;)*) => {
        /// Refusals.
        impl Reply {
            $($(#[$doc])* pub const $name: Self = Refusal {
                code: ErrorCode::$code, status: $status, message: $message, cause: $cause, remedy: $remedy,
            }.reply();)*
        }

        /// All refusals, in the order in which a request meets them.
        pub const REFUSALS: &[Refusal] = &[$(Refusal {
            code: ErrorCode::$code, status: $status, message: $message, cause: $cause, remedy: $remedy,
        }),*];
    };
}

refusals! {
    /// No request of BIP 78 at all.
    NO_REQUEST = OriginalPsbtRejected 400, "This is not a request of BIP 78.",
        "The method is not POST, the path is no code of ours, or it is not HTTP.",
        "Usually a scanner or a browser. From a wallet: compare the `pj` of the code with `public_endpoint`, and what a proxy makes of the path.";
    /// A head that did not come to its end in time.
    LATE_HEAD = Unavailable 408, "The request took too long.",
        "The payer's connection is slow, or somebody holds connections open.",
        "The wallet tries again. Many of them: see `limits` of `payjoind status`, and put a proxy in front.";
    /// More headers than anybody needs.
    LONG_HEAD = Unavailable 431, "The headers are too long.",
        "A proxy or a browser adds very much.",
        "No wallet does that: look at what the proxy adds.";
    /// Another method.
    NO_POST = Unavailable 405, "Use POST.",
        "Somebody opened the `pj` address in a browser, or a wallet uses another method.",
        "Nothing: payments come by POST.";
    /// No code of this name.
    NO_CODE = Unavailable 404, "There is no such invoice.",
        "The code is of another node or database, or the path was changed on the way.",
        "Compare the `pj` of the code with `public_endpoint`, and what a proxy makes of the path.";
    /// More than one payer needs.
    TOO_MANY = Unavailable 429, "Too many requests.",
        "So many requests from this address, or for this code, in so short a time.",
        "An honest wallet waits and tries again.";
    /// Transfer-Encoding.
    NO_TRANSFER_ENCODING = Unavailable 411, "Send a Content-Length and no Transfer-Encoding.",
        "A proxy passes the body on in chunks.",
        "Let the proxy buffer the request: nginx does with `proxy_http_version 1.1` and `proxy_request_buffering on`.";
    /// More than a PSBT needs.
    LONG_BODY = Unavailable 413, "The body is too long.",
        "The PSBT is larger than what is taken.",
        "The payer pays with fewer coins, or plainly.";
    /// A body that did not come to its end in time.
    LATE_BODY = Unavailable 408, "The body took too long.",
        "The payer's connection is slow, or broke.",
        "The wallet tries again.";
    /// The header is there and says something else, to a server that speaks HTTP.
    UNKNOWN_TYPE = OriginalPsbtRejected 415, "Content-Type must be text/plain.",
        "The wallet or a proxy sends another `Content-Type`.",
        "BIP 78 asks for `text/plain`: tell the authors of the wallet, or let the proxy pass it on.";
    /// The same in a message that was read already.
    WRONG_TYPE = OriginalPsbtRejected 400, "Content-Type must be text/plain.",
        "As above, in a request that came by another way than our server.",
        "As above.";
    /// There is no `Content-Length`.
    NO_LENGTH = OriginalPsbtRejected 400, "Content-Length is missing.",
        "BIP 78 asks for it, and some proxies remove it.",
        "Let the proxy pass requests on unbuffered, with their `Content-Length`.";
    /// It is not that of the body.
    WRONG_LENGTH = OriginalPsbtRejected 400, "Content-Length is wrong.",
        "The body was changed on the way, or the wallet counted wrongly.",
        "Look for a proxy that rewrites bodies.";
    /// A query that cannot be decoded.
    MALFORMED_QUERY = OriginalPsbtRejected 400, "The query is malformed.",
        "Percent-encoding that is none, or bytes that no URL has.",
        "A fault of the wallet: tell its authors.";
    /// The same parameter twice.
    REPEATED_PARAMETER = OriginalPsbtRejected 400, "A query parameter is repeated.",
        "Two readers could disagree on which of the two counts.",
        "A fault of the wallet, or somebody who tries something.";
    /// `minfeerate` is no number.
    NO_FEE_RATE = OriginalPsbtRejected 400, "minfeerate is not a fee rate.",
        "It is no number of sat/vB, or below zero.",
        "A fault of the wallet: tell its authors.";
    /// Another version of the protocol.
    UNKNOWN_VERSION = VersionUnsupported 400, "This version of payjoin is not supported.",
        "The `v` of the query is not 1.",
        "The reply names the versions that we speak; the wallet may try again with one of them.";
    /// Bytes that are no text.
    NOT_UTF8 = OriginalPsbtRejected 400, "The body is not UTF-8.",
        "The PSBT was sent in binary.",
        "BIP 78 asks for base64.";
    /// Text that is no PSBT.
    NO_PSBT = OriginalPsbtRejected 400, "The body is not a PSBT in base64.",
        "It is no PSBT, a PSBT of version 2, or damaged.",
        "A fault of the wallet, or of what is on the way.";
    /// It tells more than it should.
    LEAKS_KEYS = OriginalPsbtRejected 400, "The PSBT leaks extended keys or key paths.",
        "BIP 78 forbids it: they would tell us the payer's whole wallet.",
        "A fault of the wallet. The payer's keys were seen by nobody but us, and are not kept.";
    /// Nothing is spent.
    NO_INPUTS = OriginalPsbtRejected 400, "The PSBT has no inputs.",
        "Nothing is paid.",
        "A fault of the wallet.";
    /// The same output twice.
    SPENT_TWICE = OriginalPsbtRejected 400, "The PSBT spends an output twice.",
        "No such transaction is valid.",
        "A fault of the wallet.";
    /// Not signed.
    NOT_FINAL = OriginalPsbtRejected 400, "The PSBT is not finalized.",
        "The payer has not signed, or not all signatures were put in their place.",
        "The Original must be ready to be broadcast: the wallet has to sign and finalize it first.";
    /// Signed for less than the whole.
    SIGHASH = OriginalPsbtRejected 400, "The PSBT declares a sighash type other than ALL.",
        "Such a signature lets others change the transaction.",
        "The wallet has to sign with SIGHASH_ALL.";
    /// More than 21 million bitcoin.
    TOO_MUCH_MONEY = OriginalPsbtRejected 400, "The outputs exceed all money there is.",
        "No such transaction is valid.",
        "A fault of the wallet, or somebody who tries something.";
    /// An OP_RETURN with an amount.
    BURNS_MONEY = OriginalPsbtRejected 400, "The PSBT burns money.",
        "An output that nobody can spend has an amount: bitcoind would not broadcast it.",
        "The payer pays without that output.";
    /// Not to the script of this code.
    NOT_PAID = OriginalPsbtRejected 400, "The PSBT does not pay the invoice.",
        "No output has the script of this code.",
        "The payment was made for another code: scan this one again.";
    /// To the script more than once.
    PAID_TWICE = OriginalPsbtRejected 400, "The PSBT pays the invoice more than once.",
        "Two outputs have the script of this code; which one is to be replaced nobody can tell.",
        "The payer pays in one output.";
    /// Less than the code says.
    TOO_LITTLE = OriginalPsbtRejected 400, "The PSBT pays less than the invoice asks for.",
        "The amount of the code was changed in the wallet.",
        "The payer pays what the code asks for, or you make a code for another amount.";
    /// Less than can be spent.
    DUST = OriginalPsbtRejected 400, "The payment is dust.",
        "So little is not relayed.",
        "Make a code for a greater amount.";
    /// What is spent is not in it.
    NO_UTXOS = OriginalPsbtRejected 400, "The PSBT has no valid data on the outputs it spends.",
        "A witness or non-witness UTXO of an input is missing, or not the one that is spent.",
        "A fault of the wallet: tell its authors.";
    /// The code is too old.
    EXPIRED = Unavailable 503, "The invoice has expired.",
        "The code can no longer be paid by payjoin. Its address is good: the wallet usually pays it plainly.",
        "Make a new code; `receive --expires` gives it longer.";
    /// The chain does not have what is spent.
    NO_SUCH_INPUT = OriginalPsbtRejected 400, "An input does not exist, is not confirmed or is spent.",
        "bitcoind's UTXO set lacks it. Unconfirmed inputs are refused on purpose (ADR 12).",
        "The payer waits for a confirmation of his own coins, or pays with others. If bitcoind is behind, `payjoind status` says so.";
    /// More out than in.
    OVERSPENT = OriginalPsbtRejected 400, "The PSBT spends more than it has.",
        "Its outputs are worth more than its inputs.",
        "A fault of the wallet.";
    /// A fee that can be no intention.
    ABSURD_FEE = OriginalPsbtRejected 400, "The fee is absurd.",
        "It is above 25,000 sat/vB.",
        "The payer looks at his fee.";
    /// Below what we take or bitcoind relays.
    LOW_FEE = OriginalPsbtRejected 400, "The fee rate is too low.",
        "It is below `min_fee_rate` under [policy], or below what bitcoind's mempool takes.",
        "The payer pays a higher rate, or you lower `min_fee_rate`.";
    /// The payer asks for more than he pays.
    LEAST_RATE = NotEnoughMoney 400, "minfeerate is above the fee rate of the PSBT.",
        "The payer demands a rate that his own transaction does not have.",
        "A setting of the wallet.";
    /// bitcoind says no.
    NO_BROADCAST = OriginalPsbtRejected 400, "The PSBT cannot be broadcast.",
        "bitcoind's `testmempoolaccept` refuses the Original; the log has its word.",
        "As bitcoind says: often a signature that is wrong, or a conflict in the mempool.";
    /// What it says of outputs is not so.
    MISSTATED = OriginalPsbtRejected 400, "The PSBT misstates an output it spends.",
        "Amount or script of a UTXO in the PSBT are not those in the chain.",
        "A fault of the wallet, or somebody who wants more signed than is there.";
    /// It spends what is ours.
    SPENDS_OURS = OriginalPsbtRejected 400, "The PSBT spends an output of the receiver.",
        "An input belongs to our wallet.",
        "You pay yourself from the same wallet: pay from another one. From a stranger it is an attack, and nothing came of it.";
    /// Seen in another payment.
    OFFERED_BEFORE = OriginalPsbtRejected 400, "An input was offered before.",
        "Another request, for this code or another, spends one of these inputs (money rule 8): somebody may be probing the wallet.",
        "The payer sends the same transaction again and gets the same answer, or pays plainly.";
    /// The same payment, and what was answered does not do.
    OTHER_TERMS = OriginalPsbtRejected 400, "This payment was answered before, on other terms.",
        "The same transaction came with other limits, which the proposal of then does not keep.",
        "The payer pays plainly, or signs the proposal that he has.";
    /// The code was paid.
    PAID = Unavailable 503, "The invoice has been paid.",
        "On chain or over Lightning: a code is paid once.",
        "Make a new code for another payment.";
    /// No payjoin can be made.
    NO_PAYJOIN = Unavailable 503, "The receiver cannot make a payjoin now.",
        "No coin can be spared and no channel opened, or what was tried failed: `exchange show` has the reason.",
        "The wallet usually pays plainly, which opens no channel; see the note of `receive` for what would.";
    /// Something of ours is away, or all places are taken.
    TRY_LATER = Unavailable 503, "Try again later.",
        "bitcoind, the wallet or the database does not answer, or every place for an exchange is taken.",
        "`payjoind status` and the log say which. The wallet may try again, or pay plainly.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_sentence_that_says_nothing_of_our_insides() {
        for refusal in REFUSALS {
            let Refusal { message, cause, remedy, status, .. } = *refusal;
            assert!(message.ends_with('.') && cause.ends_with('.') && remedy.ends_with('.'), "{refusal:?}");
            assert!(!message.contains("bitcoind"), "{message}");
            assert!((400..=503).contains(&status), "{message}");
        }
        assert_eq!(Reply::TRY_LATER, Reply::unavailable("Try again later."));
    }
}
