"""Released weights into our models and back: two-way names, checked files, strict loading."""
