"""What the user types: vocabularies, lists of names, prompts, text embeddings."""
