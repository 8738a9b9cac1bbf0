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

-- Entries that the vault has gone on without, until somebody on this host has looked at them.
CREATE TABLE set_aside (
    hash BLOB PRIMARY KEY,
    seq  INTEGER NOT NULL,
    by   TEXT NOT NULL,
    body BLOB NOT NULL,
    sig  BLOB NOT NULL,
    own  INTEGER NOT NULL,
    at   INTEGER NOT NULL
) STRICT;

-- Entries of other branches that are known of beside them: that the server has signed them is no news.
CREATE TABLE known_branch (
    hash BLOB PRIMARY KEY
) STRICT;

-- Versions that they wrote; base is the last version of the path that the vault knew when it went on.
CREATE TABLE set_aside_version (
    hash     BLOB PRIMARY KEY,
    path     TEXT NOT NULL,
    ver      INTEGER NOT NULL,
    base     INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    promise  BLOB NOT NULL,
    count    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    bytes    BLOB
) STRICT;
