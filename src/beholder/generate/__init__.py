"""From scores to text: sampling and the generation loop."""
