-- States that checkpoints name, the bytes in pieces: the newest one and, until that takes its place, the one that the
-- log begins after, as the entries up to it are dropped (`begins`).
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
