-- The log: entry 0 is the genesis, its hash the vault id.
CREATE TABLE log (
    seq  INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    by   TEXT NOT NULL,
    body BLOB NOT NULL,
    sig  BLOB NOT NULL
) STRICT;

-- Age files. `seq` is the entry that brought one; without it the blob is parked by `machine`, a
-- machine's number. `readers` are those that it is encrypted to, as the log lists them, if that is
-- known. `replaced_at` is set once no version refers to it: it stays for some days.
CREATE TABLE blob (
    hash        BLOB PRIMARY KEY,
    seq         INTEGER REFERENCES log (seq),
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
CREATE INDEX blob_parked ON blob (parked_at) WHERE seq IS NULL;
CREATE INDEX blob_replaced ON blob (replaced_at) WHERE replaced_at IS NOT NULL;

-- Latest signed seen-record of every active machine, by its number, and the text of its targets.
CREATE TABLE report (
    machine INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    by      TEXT NOT NULL,
    body    BLOB NOT NULL,
    sig     BLOB NOT NULL
) STRICT;
CREATE TABLE targets (
    machine INTEGER PRIMARY KEY,
    text    TEXT NOT NULL
) STRICT;

-- Number of the next local read due from the last run of every active machine's agent.
CREATE TABLE access (
    machine INTEGER PRIMARY KEY,
    run     BLOB NOT NULL,
    next    INTEGER NOT NULL
) STRICT;

-- What audit records are looked for by, each combination once: few, beside the records.
CREATE TABLE audit_kind (
    id      INTEGER PRIMARY KEY,
    machine TEXT,
    path    TEXT,
    op      TEXT NOT NULL,
    denied  INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_kind_whole ON audit_kind (path, machine, op, denied);

-- Audit records: the very bytes, the chain's value after each, its kind and its time. `total` are
-- the bytes of all records up to this one, of which only differences count.
CREATE TABLE audit (
    n       INTEGER PRIMARY KEY,
    chain   BLOB NOT NULL,
    time    INTEGER NOT NULL,
    kind    INTEGER NOT NULL,
    total   INTEGER NOT NULL,
    record  BLOB NOT NULL
) STRICT;

-- The first and the last time in each full block of audit records, and its kinds: who looks for
-- some passes over the blocks without. Times are set back, so that a search by halves would miss
-- some; an index of the records by kind would cost every record a page. `block` is the number of
-- its last record by the block's size.
CREATE TABLE audit_block (
    block  INTEGER PRIMARY KEY,
    oldest INTEGER NOT NULL,
    newest INTEGER NOT NULL
) STRICT;
CREATE TABLE audit_block_kind (
    kind  INTEGER NOT NULL,
    block INTEGER NOT NULL,
    PRIMARY KEY (kind, block)
) STRICT, WITHOUT ROWID;

-- Runs of audit records that have left the database for a file, with the chain's value before and
-- after each, and the time of the last one. `bytes` is the file's size; one row with 0 stands for
-- all whose files were deleted. Records up to the last `last` do not count in `audit` any more.
CREATE TABLE segment (
    first  INTEGER PRIMARY KEY,
    last   INTEGER NOT NULL,
    before BLOB NOT NULL,
    after  BLOB NOT NULL,
    until  INTEGER NOT NULL,
    bytes  INTEGER NOT NULL
) STRICT;

-- SHA-256 of the one-time claim code, until it is used.
CREATE TABLE claim (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    hash BLOB NOT NULL
) STRICT;

-- A signed head that a database which was set back lacks, whether a caller showed it or the file
-- beside the database did, and SHA-256 of the one-time code to go on without it.
CREATE TABLE restored (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    caller INTEGER NOT NULL,
    lacks  TEXT NOT NULL,
    code   BLOB NOT NULL
) STRICT;

-- Epochs that the log does not know and heads were shown of while the database was set back.
-- `given_up` once an owner has resumed without them: such heads tell nothing new any more.
CREATE TABLE lost_epoch (
    epoch    BLOB PRIMARY KEY,
    given_up INTEGER NOT NULL
) STRICT;

-- The folded state after entry `seq`, to start from, in pieces that need little memory to write.
CREATE TABLE snapshot (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    format TEXT NOT NULL,
    seq    INTEGER NOT NULL REFERENCES log (seq),
    head   BLOB NOT NULL,
    digest BLOB NOT NULL
) STRICT;
CREATE TABLE snapshot_piece (
    n     INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;
