"""Ways in which features meet the language model."""
