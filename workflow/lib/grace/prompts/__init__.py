"""From templates to messages, and what no text of a prompt may hold."""
