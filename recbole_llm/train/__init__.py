"""Training: RecBole's trainers, saving without pickle, resuming exactly, and the run from a name to a report."""
