-- How often the channel failed: intents that failed least often are tried first.
ALTER TABLE intents ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
