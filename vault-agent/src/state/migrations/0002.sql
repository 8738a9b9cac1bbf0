-- Ciphertext of the versions that a target goes back to when its hook fails, with what opening it needs once the log
-- has dropped the version.
CREATE TABLE retained (
    path     TEXT NOT NULL,
    ver      INTEGER NOT NULL,
    hash     BLOB NOT NULL,
    promise  BLOB NOT NULL,
    count    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    bytes    BLOB NOT NULL,
    PRIMARY KEY (path, ver)
) STRICT;
