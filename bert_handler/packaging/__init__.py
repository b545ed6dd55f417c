"""From a model directory to something that runs: archives, settings, manifests, deployment."""
