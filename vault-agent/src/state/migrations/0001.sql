-- The signed log; row 0 is the genesis. The server's signature of the head that an entry made is there for the last
-- one of each batch: it vouches for all below.
CREATE TABLE log (
    seq        INTEGER PRIMARY KEY,
    by         TEXT NOT NULL,
    body       BLOB NOT NULL,
    sig        BLOB NOT NULL,
    hash       BLOB NOT NULL,
    server_sig BLOB
) STRICT;

-- Where the log stands; written with every entry.
CREATE TABLE head (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- The state after some entry, as this machine verified it.
CREATE TABLE snapshot (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    state  BLOB NOT NULL
) STRICT;

-- Ciphertext of the newest version of every path this machine may read: the newest that opens, with
-- what opening it needs once the log has dropped the version.
CREATE TABLE blob (
    path     TEXT PRIMARY KEY,
    ver      INTEGER NOT NULL,
    hash     BLOB NOT NULL,
    promise  BLOB NOT NULL,
    count    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    bytes    BLOB NOT NULL
) STRICT;

-- How many readers a blob has that was made for them, and this machine's place among them.
CREATE TABLE readers (
    hash     BLOB PRIMARY KEY,
    count    INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT;

-- Signed entries that were sent, or are about to be, and not yet seen in the log; n tells their order.
CREATE TABLE pending (
    n       INTEGER PRIMARY KEY,
    hash    BLOB NOT NULL UNIQUE,
    request BLOB NOT NULL
) STRICT;

-- The newest verified seen-record of every other machine.
CREATE TABLE peer (
    machine INTEGER PRIMARY KEY,
    by      TEXT NOT NULL,
    body    BLOB NOT NULL,
    sig     BLOB NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

-- Targets as they were last fetched, and the number of the record that names them.
CREATE TABLE targets (
    machine INTEGER PRIMARY KEY,
    n       INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    agent   TEXT NOT NULL,
    text    TEXT NOT NULL
) STRICT;

-- Audit heads that verified seen-records have anchored.
CREATE TABLE anchor (
    machine INTEGER NOT NULL,
    epoch   BLOB NOT NULL,
    n       INTEGER NOT NULL,
    hash    BLOB NOT NULL,
    PRIMARY KEY (machine, epoch, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX anchor_n ON anchor (n);

-- Local accesses that the server has not acknowledged; numbers are never used twice.
CREATE TABLE access (
    n      INTEGER PRIMARY KEY AUTOINCREMENT,
    run    BLOB NOT NULL,
    time   INTEGER NOT NULL,
    who    TEXT NOT NULL,
    op     TEXT NOT NULL,
    path   TEXT NOT NULL,
    ver    INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    result TEXT NOT NULL
) STRICT;

-- Single values, by name.
CREATE TABLE fact (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
