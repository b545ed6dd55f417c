"""V2 clients for any server of the protocol, over REST and gRPC, with retries where they help."""

from bert_handler.client.base import Retry
from bert_handler.client.rest import Client

__all__ = ["Client", "Retry"]
