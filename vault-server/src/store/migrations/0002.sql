-- Entries before a checkpoint go, those that brought a blob among them: `seq` refers to none any
-- more.
CREATE TABLE blob_new (
    hash        BLOB PRIMARY KEY,
    seq         INTEGER,
    path        TEXT,
    ver         INTEGER,
    machine     INTEGER NOT NULL,
    parked_at   INTEGER NOT NULL,
    readers     TEXT,
    replaced_at INTEGER,
    bytes       BLOB NOT NULL,
    CHECK ((seq IS NULL) = (path IS NULL) AND (seq IS NULL) = (ver IS NULL)),
    CHECK (seq IS NOT NULL OR (readers IS NULL AND replaced_at IS NULL))
) STRICT;
INSERT INTO blob_new SELECT * FROM blob;
DROP TABLE blob;
ALTER TABLE blob_new RENAME TO blob;
CREATE INDEX blob_parked ON blob (parked_at) WHERE seq IS NULL;
CREATE INDEX blob_replaced ON blob (replaced_at) WHERE replaced_at IS NOT NULL;

DELETE FROM snapshot_piece;
DROP TABLE snapshot;
CREATE TABLE snapshot (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    format TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    head   BLOB NOT NULL,
    digest BLOB NOT NULL
) STRICT;

-- States that checkpoints name, the bytes in pieces: the newest one and, until that takes its place,
-- the one that the log begins after, as the entries up to it are dropped (`begins`).
CREATE TABLE checkpoint (
    seq    INTEGER PRIMARY KEY,
    state  BLOB NOT NULL,
    size   INTEGER NOT NULL,
    begins INTEGER NOT NULL
) STRICT;
CREATE TABLE checkpoint_piece (
    seq   INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (seq, n)
) STRICT;

-- By which root changes who the owners are: some of these are kept for ever.
CREATE INDEX log_root ON log (seq) WHERE by = 'root';
