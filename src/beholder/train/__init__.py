"""Training: a stage's rules, samples packed into batches, and the one loop."""
