"""Sentence tasks over one encoder: sentiment, paraphrase and similarity, each on batches of its own."""
