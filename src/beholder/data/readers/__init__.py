"""Data files that people have: where rows stand (JSON, parquet, arrow, tar shards, folders), and what a row says."""
