-- What the two transactions of an exchange pay the miners, and the payjoin with all signatures once it was seen: with them
-- a payment is defended against a payer who spends his coins elsewhere.
ALTER TABLE exchanges ADD COLUMN original_fee INTEGER NOT NULL DEFAULT 0;
ALTER TABLE exchanges ADD COLUMN payjoin_fee INTEGER NOT NULL DEFAULT 0;
ALTER TABLE exchanges ADD COLUMN signed BLOB;
