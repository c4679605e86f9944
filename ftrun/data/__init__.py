"""Rows, sentences, questions and documents: read from any file or data set, split, described and checked."""
