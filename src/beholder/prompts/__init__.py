"""From messages to token ids: typed parts, tokenizers, chat formats. User text can never become a control token."""
