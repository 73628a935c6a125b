-- Codes that can be paid over Lightning, too. Of one that was `claimed` no Original is admitted any more.
CREATE TABLE lightning (
    hash    BLOB NOT NULL PRIMARY KEY,
    invoice TEXT NOT NULL REFERENCES invoices (id),
    claimed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX lightning_claimed ON lightning (invoice) WHERE claimed = 1;
CREATE INDEX exchanges_invoice ON exchanges (invoice);

-- In how many ways the amounts of the payjoin can be split, where that was counted.
ALTER TABLE exchanges ADD COLUMN partitions INTEGER;
