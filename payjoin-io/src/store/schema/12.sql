-- The operator's words for a code, and whether coins of ours may make up for a payment smaller than the channels.
ALTER TABLE invoices ADD COLUMN top_up INTEGER NOT NULL DEFAULT 0;
ALTER TABLE invoices ADD COLUMN label TEXT;
ALTER TABLE invoices ADD COLUMN own_id TEXT;

-- What the Original pays the code, and what the payjoin saved once it was mined.
ALTER TABLE exchanges ADD COLUMN amount INTEGER;
ALTER TABLE exchanges ADD COLUMN saved INTEGER;

-- What became of payments and channels, written with the change itself. Without a gap: numbers are never given again.
CREATE TABLE journal (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    time     INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    invoice  TEXT,
    exchange INTEGER,
    payment  INTEGER,
    intent   INTEGER,
    txid     TEXT,
    hash     BLOB,
    amount   INTEGER,
    detail   TEXT
);

-- How far readers of the journal have come, and until when codes were looked at that expire.
CREATE TABLE readers (
    name  TEXT NOT NULL PRIMARY KEY,
    entry INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO readers VALUES ('expired codes', CAST(strftime('%s') AS INTEGER));

-- Payments over Lightning: those that we make, those to us that came, and those to us that may come. `fee` is in
-- millisatoshis.
CREATE TABLE lightning_payments (
    hash     BLOB NOT NULL PRIMARY KEY,
    outgoing INTEGER NOT NULL,
    amount   INTEGER,
    about    TEXT,
    state    TEXT NOT NULL CHECK (state IN ('begun', 'received', 'sent', 'failed')),
    fee      INTEGER,
    reason   TEXT
) WITHOUT ROWID;

-- Everything that moves money, in one order: each row names a row of another table.
CREATE TABLE movements (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    created  INTEGER NOT NULL,
    exchange INTEGER UNIQUE REFERENCES exchanges (id),
    payment  INTEGER UNIQUE REFERENCES payments (id),
    hash     BLOB UNIQUE REFERENCES lightning_payments (hash),
    intent   INTEGER UNIQUE REFERENCES intents (id)
);
INSERT INTO movements (created, exchange, payment, intent)
    SELECT created, exchange, payment, intent FROM (
        SELECT created, id AS exchange, NULL AS payment, NULL AS intent FROM exchanges
        UNION ALL SELECT created, NULL, id, NULL FROM payments
        UNION ALL SELECT coalesce(ended, 0), NULL, NULL, id FROM intents WHERE state = 'closed')
    ORDER BY created;
-- Channels that the wallet alone pays for: an exchange of our own has nobody's Original, and `open_by` says when a queued
-- intent is opened so if no payment did it before; 0: a payment was mined that opened none.
ALTER TABLE exchanges ADD COLUMN own INTEGER NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN open_by INTEGER;
CREATE INDEX intents_due ON intents (open_by) WHERE state = 'queued' AND open_by IS NOT NULL;
-- How a channel closed.
ALTER TABLE intents ADD COLUMN how TEXT;
-- Programs that ask over the network. Of a token only the SHA-256 is kept. `rights`: words, as they were given.
CREATE TABLE tokens (
    name    TEXT NOT NULL PRIMARY KEY,
    hash    BLOB NOT NULL UNIQUE,
    rights  TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;

-- Calls that are made once, by the key that the caller gives. One without an answer runs, or was cut by a crash.
CREATE TABLE calls (
    token   BLOB NOT NULL,
    key     TEXT NOT NULL,
    body    BLOB NOT NULL,
    created INTEGER NOT NULL,
    answer  TEXT,
    PRIMARY KEY (token, key)
) WITHOUT ROWID;
CREATE INDEX calls_created ON calls (created);
