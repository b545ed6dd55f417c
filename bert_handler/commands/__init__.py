"""The commands of `bert-handler`, one file each; each imports what is heavy when it runs."""
