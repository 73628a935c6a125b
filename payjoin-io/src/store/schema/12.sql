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
