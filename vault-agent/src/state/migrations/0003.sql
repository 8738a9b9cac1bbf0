-- The AI agent that a process works for, and why it asked, both empty where that is not known.
ALTER TABLE access ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE access ADD COLUMN reason TEXT NOT NULL DEFAULT '';
