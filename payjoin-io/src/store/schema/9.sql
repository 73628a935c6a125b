-- Channels cost their peers something until their funding is buried (money rule 12). A slot without an exchange is one that
-- the peer holds and we do not know of. `room`: how many a peer takes, where it refused once.
CREATE TABLE slots (
    id       INTEGER PRIMARY KEY,
    peer     TEXT NOT NULL,
    height   INTEGER NOT NULL,
    exchange INTEGER REFERENCES exchanges (id),
    intent   INTEGER REFERENCES intents (id),
    txid     TEXT
);
CREATE INDEX slots_peer ON slots (peer, height);
CREATE INDEX slots_exchange ON slots (exchange) WHERE exchange IS NOT NULL;

CREATE TABLE peers (
    peer    TEXT NOT NULL PRIMARY KEY,
    room    INTEGER,
    several INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The last failure of each intent that failed. `until` is a time: no payment tries the intent before.
CREATE TABLE troubles (
    intent INTEGER PRIMARY KEY REFERENCES intents (id),
    reason TEXT NOT NULL,
    said   TEXT,
    until  INTEGER
);

-- What each payment asks, without a look at what is over.
CREATE INDEX exchanges_with_channels ON exchanges (created) WHERE channels <> '[]';
CREATE INDEX exchanges_channel_offers ON exchanges (invoice) WHERE channels <> '[]';
CREATE INDEX intents_negotiating ON intents (peer) WHERE state = 'negotiating';
