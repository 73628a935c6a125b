-- What was asked for is kept once: in columns, not in JSON beside them. A peer is `node_id@host:port`.
ALTER TABLE intents ADD COLUMN peer TEXT NOT NULL DEFAULT '';
ALTER TABLE intents ADD COLUMN push INTEGER NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN announced INTEGER NOT NULL DEFAULT 0;
UPDATE intents SET
    peer = json_extract(spec, '$.peer'),
    push = coalesce(json_extract(spec, '$.push'), 0),
    announced = json_extract(spec, '$.announced');
ALTER TABLE intents DROP COLUMN spec;
