//! Files, names and numbers that are made to break a reader or a terminal.
