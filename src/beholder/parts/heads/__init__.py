"""What hidden states become."""
