"""Explanations of predictions: options, words, methods, and the page to look at them."""
