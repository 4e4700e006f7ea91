"""Text as bytes: files for language models, tables with labels, masking and noise."""
