"""Models as they are loaded and asked: identity, files, hub, chat template."""
