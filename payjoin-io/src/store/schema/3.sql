-- Payments of ours. `original` is a PSBT in base64; its inputs are locked until `settled`. `paid` is what was broadcast:
-- a payjoin, or with a reason in `fallback` the Original.
CREATE TABLE payments (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    uri      TEXT NOT NULL UNIQUE,
    original TEXT NOT NULL,
    fee_rate INTEGER NOT NULL,
    paid     BLOB,
    fallback TEXT,
    settled  INTEGER NOT NULL DEFAULT 0,
    created  INTEGER NOT NULL
);
CREATE INDEX payments_unsettled ON payments (id) WHERE settled = 0;
