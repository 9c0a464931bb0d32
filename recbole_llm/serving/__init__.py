"""What a trained model says to a user: recommendations and why."""
