-- Channels that the wallet alone pays for: an exchange of our own has nobody's Original, and `open_by` says when a queued
-- intent is opened so if no payment did it before; 0: a payment was mined that opened none.
ALTER TABLE exchanges ADD COLUMN own INTEGER NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN open_by INTEGER;
CREATE INDEX intents_due ON intents (open_by) WHERE state = 'queued' AND open_by IS NOT NULL;
-- How a channel closed.
ALTER TABLE intents ADD COLUMN how TEXT;
