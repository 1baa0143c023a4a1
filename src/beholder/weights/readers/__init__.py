"""Official `config.json` files to cards and bindings, composed by `model_type`."""
