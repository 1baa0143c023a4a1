"""Maps from an encoder's tokens to the language model's width."""
