-- Sessions that outlive a process, and their events in JSON, oldest first. Events hold secret keys.
CREATE TABLE sessions (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('receive', 'send')),
    name TEXT NOT NULL,
    open INTEGER NOT NULL DEFAULT 1,
    UNIQUE (kind, name)
);
CREATE INDEX sessions_open ON sessions (kind, id) WHERE open = 1;

CREATE TABLE session_events (
    session INTEGER NOT NULL REFERENCES sessions (id),
    number  INTEGER NOT NULL,
    event   TEXT NOT NULL,
    PRIMARY KEY (session, number)
) WITHOUT ROWID;
