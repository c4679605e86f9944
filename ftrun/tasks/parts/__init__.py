"""What tasks of a kind of data share: tables of text, windows, corpora, images."""
