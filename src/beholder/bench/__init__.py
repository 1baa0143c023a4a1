"""Measures how fast systems answer and what memory they take, beside other libraries and beside what the machine could do."""
