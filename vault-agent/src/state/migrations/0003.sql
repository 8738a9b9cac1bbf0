-- The AI agent that a process works for, and why it asked, both empty where that is not known; and
-- what is told of a target file that has got another version: JSON, null for all other accesses.
ALTER TABLE access ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE access ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE access ADD COLUMN applied TEXT;
