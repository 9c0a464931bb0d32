"""Many trainings: models beside models, a model without its parts, searches; each on the road of ``train.run``."""
