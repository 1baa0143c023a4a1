"""Models in their form for inference: weights packed and quantised for the processor that runs them."""
