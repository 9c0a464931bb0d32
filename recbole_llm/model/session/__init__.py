"""Session models: each session is read as a graph of its items, all sessions of a batch at once."""
