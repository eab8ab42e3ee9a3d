"""Piles of unlabelled pictures: folders, lists and tars, their embeddings, and the search in them."""
