"""Key tables: official checkpoints' names to ours."""
