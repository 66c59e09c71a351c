"""From files of sentences and pairs of sentences to a prepared store."""
