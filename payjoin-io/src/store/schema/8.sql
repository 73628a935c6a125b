-- The operator's word that payer and operator are one person belongs to a code.
ALTER TABLE invoices ADD COLUMN payer_is_me INTEGER NOT NULL DEFAULT 0;
CREATE INDEX invoices_expire ON invoices (expires);

-- A payment without payjoin is an exchange in the state 'plain': `original` is how it was seen first, and `plain` what it
-- pays. Of an exchange that settled at `settled_at` the transactions are dropped one day; their ids stay.
CREATE TABLE exchanges_8 (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    invoice       TEXT NOT NULL REFERENCES invoices (id),
    original_id   TEXT NOT NULL UNIQUE,
    original      BLOB,
    state         TEXT NOT NULL CHECK (state IN ('admitted', 'failed', 'released', 'plain', 'settled')),
    proposal      TEXT,
    payjoin       TEXT,
    channels      TEXT NOT NULL DEFAULT '[]',
    reason        TEXT,
    offered       INTEGER NOT NULL DEFAULT 0,
    fallback_at   INTEGER NOT NULL,
    mined         BLOB,
    mined_height  INTEGER,
    outcome       TEXT,
    created       INTEGER NOT NULL,
    original_fee  INTEGER NOT NULL DEFAULT 0,
    payjoin_fee   INTEGER NOT NULL DEFAULT 0,
    signed        BLOB,
    plain         INTEGER,
    original_txid TEXT,
    payjoin_txid  TEXT,
    mined_txid    TEXT,
    settled_at    INTEGER
);
INSERT INTO exchanges_8
    SELECT id, invoice, original_id, original, state, proposal, payjoin, channels, reason, offered, fallback_at, mined,
        mined_height, outcome, created, original_fee, payjoin_fee, signed, NULL, NULL, NULL, NULL,
        CASE WHEN state = 'settled' THEN CAST(strftime('%s') AS INTEGER) END
    FROM exchanges;
-- Numbers are never given again, those that never came to be written neither.
UPDATE sqlite_sequence SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'exchanges')
    WHERE name = 'exchanges_8';
DROP TABLE exchanges;
ALTER TABLE exchanges_8 RENAME TO exchanges;
CREATE INDEX exchanges_unsettled ON exchanges (id) WHERE state <> 'settled';
CREATE INDEX exchanges_offered ON exchanges (invoice) WHERE offered = 1;
CREATE INDEX exchanges_payjoin ON exchanges (payjoin) WHERE payjoin IS NOT NULL;
CREATE INDEX exchanges_whole ON exchanges (settled_at) WHERE state = 'settled' AND original IS NOT NULL;

-- Without that word, and with an end: `closing` is the transaction that spent the channel's funding, and `ended` says since
-- when a channel is closed or cancelled.
CREATE TABLE intents_8 (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    amount    INTEGER,
    min       INTEGER NOT NULL,
    max       INTEGER NOT NULL,
    peer      TEXT NOT NULL,
    push      INTEGER NOT NULL,
    announced INTEGER NOT NULL,
    state     TEXT NOT NULL
        CHECK (state IN ('queued', 'negotiating', 'released', 'confirming', 'open', 'closed', 'cancelled')),
    reason    TEXT,
    failures  INTEGER NOT NULL DEFAULT 0,
    exchange  INTEGER REFERENCES exchanges (id),
    txid      TEXT,
    vout      INTEGER,
    closing   TEXT,
    ended     INTEGER
);
INSERT INTO intents_8
    SELECT id, amount, min, max, peer, push, announced, state,
        CASE WHEN payer_is_me AND state = 'queued'
            THEN 'its payer-is-me counts no more: make the code with `receive --payer-is-me`' ELSE reason END,
        failures, exchange, txid, vout, NULL,
        CASE WHEN state = 'cancelled' THEN CAST(strftime('%s') AS INTEGER) END
    FROM intents;
DROP TABLE intents;
ALTER TABLE intents_8 RENAME TO intents;
CREATE INDEX intents_queued ON intents (id) WHERE state = 'queued';
CREATE INDEX intents_exchange ON intents (exchange) WHERE exchange IS NOT NULL;
CREATE INDEX intents_cancelled ON intents (ended) WHERE state = 'cancelled';
CREATE INDEX intents_funding ON intents (txid) WHERE txid IS NOT NULL;
CREATE INDEX intents_unspent ON intents (id) WHERE txid IS NOT NULL AND closing IS NULL;
