-- Epochs that the log does not hold: an owner resumed without them. Heads of theirs that machines
-- still show tell of nothing new.
CREATE TABLE given_up (
    epoch BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
