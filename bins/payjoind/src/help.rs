//! What `--help` says after the options: meaning, the fields of the JSON answer, an example.

/// Heading of the options that every command has.
pub(crate) const COMMON: &str = "Options of every command";

pub(crate) const FIRST_STEPS: &str = include_str!("help/first_steps.txt").trim_ascii_end();

/// The settings are shown as `payjoin-node` knows them.
pub(crate) fn run() -> String {
    let example = payjoin_node::Settings::example();
    let settings: String = example.lines().map(|line| format!("  {line}\n")).collect();
    let taken = payjoin_node::Settings::taken_while_running().join(", ").replace("[policy] ", "");
    let after = RUN_HELP_AFTER.replace("TAKEN", &taken);
    format!("{RUN_HELP_BEFORE}\n\n{settings}\n{after}")
}

const RUN_HELP_BEFORE: &str = include_str!("help/run_help_before.txt").trim_ascii_end();
const RUN_HELP_AFTER: &str = include_str!("help/run_help_after.txt").trim_ascii_end();
pub(crate) const RECOVER_HELP: &str = include_str!("help/recover.txt").trim_ascii_end();
pub(crate) const COMPLETIONS_HELP: &str = include_str!("help/completions.txt").trim_ascii_end();
pub(crate) const RECEIVE_HELP: &str = include_str!("help/receive.txt").trim_ascii_end();
pub(crate) const QUEUE_HELP: &str = include_str!("help/queue.txt").trim_ascii_end();
pub(crate) const OPEN_HELP: &str = include_str!("help/open.txt").trim_ascii_end();
pub(crate) const CHANNELS_HELP: &str = include_str!("help/channels.txt").trim_ascii_end();
pub(crate) const CLOSE_HELP: &str = include_str!("help/close.txt").trim_ascii_end();
pub(crate) const BALANCE_HELP: &str = include_str!("help/balance.txt").trim_ascii_end();
pub(crate) const COINS_HELP: &str = include_str!("help/coins.txt").trim_ascii_end();
pub(crate) const CONNECT_HELP: &str = include_str!("help/connect.txt").trim_ascii_end();
pub(crate) const PEERS_HELP: &str = include_str!("help/peers.txt").trim_ascii_end();
pub(crate) const INVOICE_HELP: &str = include_str!("help/invoice.txt").trim_ascii_end();
pub(crate) const PAY_HELP: &str = include_str!("help/pay.txt").trim_ascii_end();
pub(crate) const SHOW_HELP: &str = include_str!("help/show.txt").trim_ascii_end();
pub(crate) const BUMP_HELP: &str = include_str!("help/bump.txt").trim_ascii_end();
pub(crate) const EXCHANGES_HELP: &str = include_str!("help/exchanges.txt").trim_ascii_end();
pub(crate) const PAYMENTS_HELP: &str = include_str!("help/payments.txt").trim_ascii_end();
pub(crate) const EVENTS_HELP: &str = include_str!("help/events.txt").trim_ascii_end();
pub(crate) const WAIT_HELP: &str = include_str!("help/wait.txt").trim_ascii_end();
pub(crate) const INIT_HELP: &str = include_str!("help/init.txt").trim_ascii_end();
pub(crate) const DOCTOR_HELP: &str = include_str!("help/doctor.txt").trim_ascii_end();
pub(crate) const RESCUE_HELP: &str = include_str!("help/rescue.txt").trim_ascii_end();
pub(crate) const STATUS_HELP: &str = include_str!("help/status.txt").trim_ascii_end();
pub(crate) const TOKEN_ADD_HELP: &str = include_str!("help/token_add.txt").trim_ascii_end();
pub(crate) const TOKENS_HELP: &str = include_str!("help/tokens.txt").trim_ascii_end();
pub(crate) const SEND_HELP: &str = include_str!("help/send.txt").trim_ascii_end();
pub(crate) const SESSIONS_HELP: &str = include_str!("help/sessions.txt").trim_ascii_end();
pub(crate) const SESSION_HELP: &str = include_str!("help/session.txt").trim_ascii_end();
pub(crate) const SESSION_CANCEL_HELP: &str = include_str!("help/session_cancel.txt").trim_ascii_end();
