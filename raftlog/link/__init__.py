"""Links: authenticated connections between processes that carry frames of items."""
