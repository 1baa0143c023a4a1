"""Language models and text towers."""
