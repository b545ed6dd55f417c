"""Do the words that an explanation names matter to the model?"""

from __future__ import annotations

import random

import numpy as np

from bert_handler import Predictor
from bert_handler.packaging.demo_data import held_out_reviews

MARGIN = 0.15
"""Of the predicted label's probability, on average over the reviews."""


def without(text: str, offsets: list[list[int]], chosen: list[int]) -> str:
    for start, end in sorted((offsets[i] for i in chosen), reverse=True):
        text = text[:start] + text[end:]
    return text


def test_deleting_important_words_lowers_the_score_more_than_deleting_random_ones(demo_dir):
    predictor = Predictor.load(demo_dir, device="cpu")
    texts = [text for text in held_out_reviews()[0] if 8 <= len(text.split()) <= 30][:20]
    draw = random.Random(7)
    important, arbitrary, labels = [], [], []
    for text, explanation in zip(texts, predictor.explain(texts, n_steps=30)):
        words = [i for i, word in enumerate(explanation["words"]) if word[0].isalnum()]
        ranked = sorted(words, key=lambda i: -explanation["importances"][i])
        important.append(without(text, explanation["offsets"], ranked[:3]))
        arbitrary.append([without(text, explanation["offsets"], draw.sample(words, 3)) for _ in range(5)])
        labels.append(predictor.task.model.labels.index(explanation["target"]))
    own = [found["probabilities"][label] for found, label in zip(predictor.predict(texts), labels)]
    left = [found["probabilities"][label] for found, label in zip(predictor.predict(important), labels)]
    chance = [
        np.mean([found["probabilities"][label] for found in predictor.predict(tries)])
        for tries, label in zip(arbitrary, labels)
    ]
    drop, chance_drop = np.mean(own) - np.mean(left), np.mean(own) - np.mean(chance)
    print(f"mean drop: {drop:.3f} without the three most important words, {chance_drop:.3f} without three random ones")
    assert drop - chance_drop > MARGIN
