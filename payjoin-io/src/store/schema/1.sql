-- Everything that must change together lives in this one file. Outpoints are `txid:vout`, transactions are consensus
-- bytes, times are seconds since the Unix epoch, amounts are satoshis.

CREATE TABLE invoices (
    id      TEXT NOT NULL UNIQUE,
    script  BLOB NOT NULL,
    change  BLOB NOT NULL,
    amount  INTEGER,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
);

CREATE TABLE exchanges (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    invoice      TEXT NOT NULL REFERENCES invoices (id),
    original_id  TEXT NOT NULL UNIQUE,
    original     BLOB NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('admitted', 'failed', 'released', 'settled')),
    proposal     TEXT,
    payjoin      TEXT,
    channels     TEXT NOT NULL DEFAULT '[]',
    reason       TEXT,
    offered      INTEGER NOT NULL DEFAULT 0,
    fallback_at  INTEGER NOT NULL,
    mined        BLOB,
    mined_height INTEGER,
    outcome      TEXT,
    created      INTEGER NOT NULL
);
CREATE INDEX exchanges_unsettled ON exchanges (id) WHERE state <> 'settled';
CREATE INDEX exchanges_offered ON exchanges (invoice) WHERE offered = 1;

-- Inputs of every Original that was ever admitted (money rule 8).
CREATE TABLE seen (
    outpoint TEXT NOT NULL PRIMARY KEY,
    exchange INTEGER NOT NULL REFERENCES exchanges (id)
) WITHOUT ROWID;

-- Coins of ours that an unsettled exchange may spend (money rule 7). Attempts at one invoice share coins.
CREATE TABLE locks (
    coin     TEXT NOT NULL,
    exchange INTEGER NOT NULL REFERENCES exchanges (id),
    invoice  TEXT NOT NULL,
    PRIMARY KEY (coin, exchange)
) WITHOUT ROWID;
CREATE INDEX locks_exchange ON locks (exchange);
CREATE INDEX locks_invoice ON locks (invoice);

-- Channels the operator wants. `exchange` is the one that holds the intent (money rule 9).
CREATE TABLE intents (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    amount      INTEGER,
    min         INTEGER NOT NULL,
    max         INTEGER NOT NULL,
    payer_is_me INTEGER NOT NULL,
    spec        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('queued', 'negotiating', 'released', 'confirming', 'open', 'cancelled')),
    reason      TEXT,
    exchange    INTEGER REFERENCES exchanges (id),
    txid        TEXT,
    vout        INTEGER
);
CREATE INDEX intents_queued ON intents (id) WHERE state = 'queued';
CREATE INDEX intents_exchange ON intents (exchange) WHERE exchange IS NOT NULL;

-- The Lightning node's key-value data. A write with a generation never replaces one of the same or a later generation.
CREATE TABLE kv (
    primary_ns   TEXT NOT NULL,
    secondary_ns TEXT NOT NULL,
    key          TEXT NOT NULL,
    value        BLOB NOT NULL,
    generation   INTEGER NOT NULL,
    PRIMARY KEY (primary_ns, secondary_ns, key)
);

-- The wallet's changes, oldest first.
CREATE TABLE wallet_changes (
    id     INTEGER PRIMARY KEY,
    change BLOB NOT NULL
);
