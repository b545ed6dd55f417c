"""Scoring of whole files: the same rows in the same order, whatever the format, the runner and the interruptions."""

from bert_handler.bulk.scoring import Job, score

__all__ = ["Job", "score"]
