//! The agent's SQLite database, on its own thread.
