"""From messages to token ids: typed parts, tokenizers, chat formats."""
